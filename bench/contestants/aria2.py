"""aria2c with a metalink (RFC 5854) of SHA-256 sums of pieces, from nginx: many sources, checked bytes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar, Final
from urllib.parse import quote
from xml.sax.saxutils import escape

from bench.contestants.contestant import Contestant, Server
from bench.contestants.nginx import web_server
from bench.data import files_of
from bench.processes import HERE, Place, need

PIECE: Final = 1 << 20
"""Bytes of a piece, aria2's usual size."""
DOWNLOADS: Final = 16
"""Files at once: aria2's limit of connections to a server."""


class Aria2(Contestant):
    """aria2c. A file of one piece has its sum as the file's, a larger one sums of its pieces."""

    name: ClassVar[str] = "aria2c"
    programs: ClassVar[tuple[str, ...]] = ("aria2c", "nginx")

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self._files: list[tuple[str, int, str]] = []

    def hold(self, tree: Path) -> None:
        if not self._files:
            self._files = [described(tree, path) for path in files_of(tree)]

    def serve(self, stack: ExitStack, tree: Path, place: Place = HERE) -> Server:
        return web_server(stack, self.home, tree, place)

    def command(self, servers: Sequence[Server], dest: Path) -> list[str]:
        link = self.home / "tree.meta4"
        link.write_text(metalink(self._files, [f"http://{server.address}" for server in servers]))
        return [
            need("aria2c"),
            f"--metalink-file={link}",
            f"--dir={dest}",
            f"--max-concurrent-downloads={DOWNLOADS}",
            f"--split={max(4, len(servers))}",
            "--min-split-size=1M",
            "--max-connection-per-server=4",
            "--file-allocation=none",
            "--no-conf",
            "--console-log-level=warn",
            "--summary-interval=0",
            "--show-console-readout=false",
            "--download-result=hide",
        ]


def described(tree: Path, path: Path) -> tuple[str, int, str]:
    """The name of a file in the tree, its size, and its sums in the words of a metalink."""
    name = os.fspath(path.relative_to(tree))
    with path.open("rb") as file:
        sums = [hashlib.sha256(piece).hexdigest() for piece in iter(lambda: file.read(PIECE), b"")]
    size = path.stat().st_size
    if len(sums) == 1:
        return name, size, f'<hash type="sha-256">{sums[0]}</hash>'
    hashes = "".join(f"<hash>{one}</hash>" for one in sums)
    return name, size, f'<pieces length="{PIECE}" type="sha-256">{hashes}</pieces>'


def metalink(files: Sequence[tuple[str, int, str]], roots: Sequence[str]) -> str:
    """A metalink of files at the same paths below several URLs."""
    made = ['<?xml version="1.0" encoding="UTF-8"?>\n<metalink xmlns="urn:ietf:params:xml:ns:metalink">\n']
    for name, size, sums in files:
        urls = "".join(f'<url priority="1">{escape(root)}/{quote(name)}</url>' for root in roots)
        made.append(f'<file name="{escape(name)}"><size>{size}</size>{sums}{urls}</file>\n')
    return "".join([*made, "</metalink>\n"])
