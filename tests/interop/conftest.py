"""An nginx for the tests of web servers, and an archive in memory."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.interop.nginx_support import BIG, KEEPALIVE, ODD, Nginx
from tests.node.fetch_world import world
from tests.node.wire_support import program

__all__ = ["nginx", "world"]


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """An nginx of this module's own: a port with HTTP, a port with TLS."""
    nginx_program, openssl = program("nginx", "nginx-light"), program("openssl", "openssl")
    at = tmp_path_factory.mktemp("nginx")
    at.chmod(0o755)  # nginx's worker may be another user
    for parent in at.parents[:2]:
        if parent.name.startswith("pytest-"):
            parent.chmod(0o755)
    root = at / "root"
    (root / "pub/dir").mkdir(parents=True)
    (root / "pub/big").write_bytes(BIG)
    for name in ODD:
        (root / "pub/dir" / os.fsdecode(name)).write_bytes(name * 3)
    for index in range(200):
        (root / f"pub/{index}").write_bytes(b"%d" % index * 50)
    request = [
        openssl,
        "req",
        "-x509",
        "-newkey",
        "ed25519",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    names = ["-addext", "subjectAltName=DNS:localhost"]
    out: list[str | Path] = ["-keyout", at / "key.pem", "-out", at / "cert.pem"]
    subprocess.run([*request, *names, *out], check=True, capture_output=True)
    listening = [socket.create_server(("127.0.0.1", 0), backlog=512) for _ in range(2)]
    plain, tls = (sock.getsockname()[1] for sock in listening)
    temporary = "".join(
        f"{kind}_temp_path {at}/{kind}; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (at / "nginx.conf").write_text(
        f"daemon off; {'user root; ' if os.geteuid() == 0 else ''}"
        f"worker_processes 1; pid {at}/pid; error_log {at}/error.log;\n"
        "events { worker_connections 64; }\n"
        f"http {{ access_log off; sendfile on; keepalive_requests {KEEPALIVE}; {temporary}\n"
        f"server {{ listen 127.0.0.1:{plain}; listen 127.0.0.1:{tls} ssl; server_name localhost;\n"
        f"root {root};\n"
        f"ssl_certificate {at}/cert.pem; ssl_certificate_key {at}/key.pem;\n"
        "location /moved { return 301 https://elsewhere.example/; }\n"
        "location /broken { return 503; }\n"
        "location /norange { alias " + str(root) + "/pub; max_ranges 0; }\n"
        "} }\n"
    )
    # nginx takes over sockets that already listen, as when its program is replaced while it runs (nginx.org,
    # "Controlling nginx"): so the ports are its own before it starts, and connections wait until it does.
    sockets = [sock.fileno() for sock in listening]
    process = subprocess.Popen(
        [nginx_program, "-p", at, "-c", at / "nginx.conf", "-e", at / "error.log"],
        env=os.environ | {"NGINX": "".join(f"{number};" for number in sockets)},
        pass_fds=sockets,
    )
    for sock in listening:
        sock.close()
    try:
        context = ssl.create_default_context(cafile=at / "cert.pem")
        yield Nginx(root, f"http://localhost:{plain}", f"https://localhost:{tls}", context)
    finally:
        process.terminate()
        process.wait(20)
