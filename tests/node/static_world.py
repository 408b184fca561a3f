"""A publisher that writes static files, and mirrors of its tree behind web servers, for tests of these as
sources.
"""

from __future__ import annotations

import random
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.node.file_server import FileServer, Twist, file_server
from tests.node.publishing import OLD, write

from p2psync import Client, Warned
from p2psync.fetch.options import FetchSummary
from p2psync.publish import publish
from p2psync.state import State

RANDOM = random.Random(7)
LARGE = RANDOM.randbytes(600_000)
CHANGED = LARGE[:300_000] + b"an insertion" + LARGE[300_000:]


class World:
    """A publisher, its tree, and mirrors of it."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self.path = path
        self.tree = path / "tree"
        self._stack = stack
        self._state = stack.enter_context(State.open(path / "publisher"))
        self.archive = b""
        self.said: list[str] = []
        for number in range(40):
            write(self.tree / f"d{number % 7}" / "inner" / f"{number}", b"%d" % number)
        write(self.tree / "large", LARGE)
        write(self.tree / "d0" / "odd name?#%.gz", b"odd" * 100)
        write(self.tree / "empty", b"")

    def publish(self) -> None:
        self.archive = publish(self._state, self.tree, static=True).archive

    def change(self) -> None:
        """Make the second snapshot: a file in another version, a new one, one renamed, one gone."""
        write(self.tree / "large", CHANGED, OLD + 1)
        write(self.tree / "d1" / "new", b"new")
        (self.tree / "d2" / "inner" / "2").rename(self.tree / "d2" / "renamed")
        (self.tree / "d3" / "inner" / "3").unlink()
        self.publish()

    def mirror(self, name: str) -> Path:
        """A copy of the tree, as it is now."""
        return shutil.copytree(self.tree, self.path / name, symlinks=True)

    def serve(self, root: Path, twist: Twist | None = None) -> FileServer:
        return self._stack.enter_context(file_server(root, twist))

    async def fetch(self, *servers: FileServer | str, dest: str = "dest", **options: Any) -> FetchSummary:
        """Fetch from these alone, with a state directory that belongs to ``dest``."""
        self.said.clear()
        sources = [each if isinstance(each, str) else each.url for each in servers]
        async with Client(self.path / f"{dest}.state") as client:
            return await client.fetch(
                client.url_of(self.archive),
                self.path / dest,
                sources=sources,
                share=False,
                on_event=lambda event: self.said.append(event.text) if isinstance(event, Warned) else None,
                **options,
            )

    def is_equal(self, dest: str = "dest", tree: Path | None = None) -> bool:
        """Whether DEST has what the tree has, but for the static files."""
        return contents(self.path / dest) == contents(tree or self.tree)


def contents(tree: Path) -> dict[str, bytes]:
    return {
        path.relative_to(tree).as_posix(): path.read_bytes()
        for path in tree.rglob("*")
        if path.is_file() and "p2psync" not in path.relative_to(tree).parts
    }
