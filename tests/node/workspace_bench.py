"""A DEST with a workspace in it, for tests of how files are made."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.node.simulator import MTIME, content

from p2psync.chunking import cut_object
from p2psync.format.listing import Entry, file_entry
from p2psync.plan.compare import file_row
from p2psync.state import State
from p2psync.supply.jobs import Job, Target
from p2psync.supply.local import PARTIAL, LocalChunks
from p2psync.tree.beneath import Beneath
from p2psync.tree.writer import Workspace, job_for

OLD, NEW = content("old", 150_000), content("new", 200_000)


def entry(name: bytes, data: bytes, mode: int = 0o640) -> Entry:
    return file_entry(name, mode, MTIME, cut_object(data)[0])


class Bench:
    """A DEST with a workspace in it."""

    def __init__(self, folder: Path) -> None:
        self.dest = folder / "dest"
        self.dest.mkdir(exist_ok=True)
        self.state = State.open(folder / "state")
        self.tree = self.state.trees.ensure(bytes(self.dest), "fetch", b"a" * 32)
        self.begin()

    def begin(self) -> None:
        self.beneath = Beneath(bytes(self.dest))
        self.local = LocalChunks(self.state, self.tree, self.beneath)
        self.workspace = Workspace(self.state, self.tree, self.beneath)

    def end(self, *, complete: bool = False) -> None:
        self.workspace.close(complete=complete)
        self.local.close()
        self.beneath.close()

    def again(self, *, complete: bool = False) -> None:
        self.end(complete=complete)
        self.begin()

    def job(self, name: bytes, data: bytes, *, replaces: bool = False, directory: bytes = b"") -> Job:
        made = entry(name, data)
        recipe = cut_object(data)[1] if len(data) > 65536 else None
        return job_for(Target(directory, made, replaces), recipe)

    def index(self, path: Path, data: bytes) -> None:
        """What a comparison notes of a file that it found to be as it should."""
        row = file_row(os.fsencode(path.name), path.stat(), cut_object(data)[0].digest)
        self.state.trees.put_files(self.tree.id, b"", [row])

    def make(self, job: Job, data: bytes) -> None:
        """All that a download does for one object."""
        if not job.ref.is_single:
            self.workspace.open_job(job)
        self.workspace.fill(job, self.local)
        self.write(job, data)
        self.place(job)

    def write(self, job: Job, data: bytes, count: int | None = None) -> None:
        for index in list(job.missing())[:count]:
            start, length = job.recipe.offsets[index], job.recipe.chunk(index)[1]
            self.workspace.write(job, index, memoryview(data)[start : start + length])

    def place(self, job: Job) -> None:
        for position, target in enumerate(job.targets):
            self.workspace.place(target, job, self.local, position == len(job.targets) - 1)
        self.workspace.release(job)

    @property
    def partial(self) -> set[str]:
        folder = self.dest / PARTIAL.decode()
        return set(os.listdir(folder)) if folder.exists() else set()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.state.close()
