"""rsync from a daemon: ``rsync -a rsync://HOST:PORT/tree/ DEST``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar

from bench.contestants.contestant import Contestant, Server, free_port
from bench.processes import HERE, Place, need, serve


class Rsync(Contestant):
    """rsync. It knows one source: the first."""

    name: ClassVar[str] = "rsync"
    keeps_times: ClassVar[bool] = True
    programs: ClassVar[tuple[str, ...]] = ("rsync",)

    def serve(self, stack: ExitStack, tree: Path, place: Place = HERE) -> Server:
        port = free_port()
        config = self.home / f"rsyncd-{port}.conf"
        identity = f"uid = {os.geteuid()}\ngid = {os.getegid()}\n" if os.geteuid() == 0 else ""
        settings = f"use chroot = no\nreverse lookup = no\n{identity}"
        config.write_text(f"{settings}[tree]\npath = {tree}\nread only = yes\n")
        argv = [need("rsync"), "--daemon", "--no-detach", f"--address={place.address}", f"--port={port}"]
        running = serve(stack, [*place.before, *argv, f"--config={config}"], self.log("daemon"))
        running.listens(port)
        return Server(running, place.address, port)

    def command(self, servers: Sequence[Server], dest: Path) -> list[str]:
        return [need("rsync"), "-a", f"rsync://{servers[0].address}/tree/", f"{dest}/"]
