"""nginx and Apache in front of a directory, as Debian has them, each for one test."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.help.places import own_host
from tests.help.waiting import until
from tests.node.wire_support import program

MODULES = "/usr/lib/apache2/modules"
APACHE = [
    "mpm_event",
    "authz_core",
    "mime",
    "dir",
    "setenv_if:setenvif",
    "headers",
    "filter",
    "deflate",
    "alias",
    "rewrite",
]


@contextmanager
def nginx_at(path: Path, root: Path, port: int, extra: str = "") -> Iterator[str]:
    """nginx at an address of the test's own; its URL. ``extra`` goes into ``server``."""
    nginx = program("nginx", "nginx-light")
    path.mkdir()
    temporary = "".join(
        f"{kind}_temp_path {path}/{kind}; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (path / "conf").write_text(
        f"daemon off; {'user root; ' if os.geteuid() == 0 else ''}worker_processes 1; pid {path}/pid;\n"
        "events { worker_connections 64; }\n"
        f"http {{ access_log {path}/log; {temporary}\n"
        f"server {{ listen {own_host()}:{port}; root {root}; {extra} }} }}\n"
    )
    with _running([nginx, "-p", path, "-c", path / "conf", "-e", path / "error"], port) as url:
        yield url


@contextmanager
def apache_at(path: Path, root: Path, port: int, extra: str = "") -> Iterator[str]:
    """Apache at an address of the test's own; its URL. ``extra`` are further lines of its configuration."""
    apache = program("apache2", "apache2-bin")
    path.mkdir()
    modules = (name.split(":") for name in APACHE)
    lines = [
        f"LoadModule {name[0].replace('_if', 'if')}_module {MODULES}/mod_{name[-1]}.so" for name in modules
    ]
    (path / "conf").write_text(
        "\n".join(lines) + f"\nServerName localhost\nListen {own_host()}:{port}\nPidFile {path}/pid\n"
        f"ErrorLog {path}/error\nDefaultRuntimeDir {path}\nTypesConfig /dev/null\nDocumentRoot {root}\n"
        f"<Directory {root}>\nRequire all granted\n</Directory>\n{extra}\n"
    )
    with _running([apache, "-DFOREGROUND", "-f", path / "conf"], port) as url:
        yield url


@contextmanager
def _running(command: list[str | Path], port: int) -> Iterator[str]:
    process = subprocess.Popen(command)

    def answers() -> bool:
        assert process.poll() is None, f"{command[0]} ended with {process.returncode}"
        with suppress(OSError), socket.create_connection((own_host(), port)):
            return True
        return False

    try:
        until(answers, f"{command[0]} listens")
        yield f"http://{own_host()}:{port}/"
    finally:
        process.terminate()
        process.wait(30)
