"""nginx as a web server for others: it serves a tree as plain files."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from bench.contestants.contestant import Server, free_port
from bench.processes import HERE, Place, need, serve

CONFIG: Final = """
daemon off; pid {home}/pid; error_log stderr; worker_processes 2; {user}
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;
  client_body_temp_path {home}/body; proxy_temp_path {home}/proxy; fastcgi_temp_path {home}/fastcgi;
  uwsgi_temp_path {home}/uwsgi; scgi_temp_path {home}/scgi;
  server {{ listen {address}:{port} reuseport; root {tree}; }}
}}
"""


def web_server(stack: ExitStack, home: Path, tree: Path, place: Place = HERE) -> Server:
    """Serve a tree until ``stack`` ends; ``home`` is for nginx's own files."""
    port = free_port()
    own = home / f"nginx-{port}"
    own.mkdir(parents=True)
    user = "user root;" if os.geteuid() == 0 else ""
    config = own / "nginx.conf"
    config.write_text(CONFIG.format(home=own, user=user, address=place.address, port=port, tree=tree))
    argv = [*place.before, need("nginx"), "-c", os.fspath(config), "-e", "stderr"]
    running = serve(stack, argv, own / "log")
    running.listens(port)
    return Server(running, place.address, port)
