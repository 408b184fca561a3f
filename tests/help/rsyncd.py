"""A real rsync daemon on a loopback port that the system picks, which counts what it sends.

Each connection gets an rsync of its own, as inetd would start it (rsync(1), CONNECTING TO AN RSYNC DAEMON).
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.e2e.harness import need

HOST = "127.0.0.1"
BLOCK = 64 << 10


class Rsyncd:
    """A running daemon."""

    def __init__(self, config: Path) -> None:
        self._config = config
        self._server = socket.create_server((HOST, 0))
        self.address = f"{HOST}:{self._server.getsockname()[1]}"
        self.sent = 0
        """Bytes sent to clients."""
        self.connections = 0
        self._program = need("rsync")
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def url(self, path: str = "") -> str:
        return f"rsync://{self.address}/{path}"

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        ours, theirs = socket.socketpair()
        argv = [self._program, "--daemon", f"--config={self._config}"]
        process = subprocess.Popen(
            argv, stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=subprocess.DEVNULL
        )
        theirs.close()
        upwards = threading.Thread(target=self._pass, args=(client, ours), daemon=True)
        upwards.start()
        self.sent += self._pass(ours, client)
        process.wait()
        client.close()

    def _pass(self, one: socket.socket, other: socket.socket) -> int:
        count = 0
        with contextlib.suppress(OSError):
            while data := one.recv(BLOCK):
                other.sendall(data)
                count += len(data)
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_WR)
        return count

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for client in self._open:
            client.close()
        self._thread.join(10)


@contextlib.contextmanager
def rsync_daemon(
    at: Path, modules: Mapping[str, Path], *, comment: str = "", motd: str | None = None
) -> Iterator[Rsyncd]:
    """A daemon with read-only modules; its configuration lies in the folder ``at``."""
    at.mkdir(exist_ok=True)
    lines = ["use chroot = no", f"log file = {at / 'log'}", f"lock file = {at / 'lock'}"]
    if motd is not None:
        (at / "motd").write_text(motd)
        lines.append(f"motd file = {at / 'motd'}")
    for name, path in modules.items():
        lines += [f"[{name}]", f"path = {path}", "read only = yes", f"comment = {comment}"]
        lines += ["uid = 0", "gid = 0"] if os.geteuid() == 0 else []
    config = at / "rsyncd.conf"
    config.write_text("\n".join(lines) + "\n")
    daemon = Rsyncd(config)
    try:
        yield daemon
    finally:
        daemon.close()
