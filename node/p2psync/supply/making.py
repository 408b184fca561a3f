"""The disk thread's side of a download: making what needs no network, verifying and placing what comes.

Everything in ``Making`` runs in the one thread that touches the disk; the loop's side (``download``) calls it
there. What concerns one path alone is noted in the result and does not stop the others.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from p2psync.events import Teller
from p2psync.format.ids import Ref, chunk_id
from p2psync.format.listing import Entry
from p2psync.plan.changes import DirWork
from p2psync.sources.swarm import Member, Swarm
from p2psync.supply.jobs import Job, Part, Target
from p2psync.supply.local import LocalChunks
from p2psync.supply.queue import Piece
from p2psync.tree.beneath import ChangedMeanwhile, file_error
from p2psync.tree.way import InTheWay
from p2psync.tree.writer import Workspace, job_for

_ONE_PATH: Final = (
    ChangedMeanwhile,
    FileNotFoundError,
    InTheWay,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
)
"""What goes wrong with one path and says nothing of the others."""


@dataclass
class Result:
    """What a download leaves."""

    missing: list[bytes] = field(default_factory=list)
    """Paths that nobody had."""
    failed: list[str] = field(default_factory=list)
    """Paths that could not be put in place, each with its reason."""
    changed: int = 0
    superseded: bool = False
    """Stopped early, because a newer snapshot has come while something of this one is missing."""


class Making:
    """Makes files, links and directories of one plan."""

    def __init__(
        self,
        workspace: Workspace,
        local: LocalChunks,
        swarm: Swarm,
        tell: Teller,
        jobs: Mapping[bytes, Job],
    ) -> None:
        """``jobs`` are those under construction, by digest: the loop's side keeps them."""
        self._workspace = workspace
        self._local = local
        self._swarm = swarm
        self._tell = tell
        self._jobs = jobs
        self.result = Result()

    def make_dir(self, work: DirWork, entries: list[Entry]) -> None:
        """A directory, its links, and the files that lack nothing but their metadata."""
        try:
            self._workspace.open_dir(work)
        except OSError as error:
            raise file_error(error, work.path or b".", "making the directory") from None
        for position in work.symlinks:
            self._guarded(self._workspace.make_symlink, Target(work.path, entries[position]), self._local)
        for position in work.metadata:
            self._guarded(self._workspace.set_metadata, Target(work.path, entries[position]))

    def prepare(self, targets: list[Target], recipes: dict[Ref, Any]) -> list[Job]:
        """Make what can be made without the network; the jobs for the rest."""
        made: list[Job] = []
        fresh: dict[bytes, Job] = {}
        self._local.expect(target.entry.digest for target in targets if target.entry.size)
        for target in targets:
            entry = target.entry
            if not entry.size:
                if self._guarded(self._workspace.place_empty, target, self._local):
                    self._count(target)
                continue
            under_way = fresh.get(entry.digest) or self._jobs.get(entry.digest)
            if under_way is not None and under_way.left:
                under_way.targets.append(target)
                self._workspace.reused += entry.size
                self._tell.advance(entry.size, 0)
                continue
            recipe = recipes.get(entry.ref)
            if recipe is None and not entry.ref.is_single:
                self.result.missing.append(target.path)
                continue
            job = job_for(target, recipe)
            self._begin(job)
            if job.left:
                made.append(job)
                fresh[entry.digest] = job
            else:
                self._finish(job)
        return made

    def _begin(self, job: Job) -> None:
        try:
            if not job.ref.is_single:
                self._workspace.open_job(job)
            before = self._workspace.reused
            self._workspace.fill(job, self._local)
        except OSError as error:
            raise file_error(error, job.targets[0].path, "making") from None
        self._tell.advance(self._workspace.reused - before, 0)

    def _finish(self, job: Job) -> None:
        """All chunks are in place."""
        for position, target in enumerate(job.targets):
            last = position == len(job.targets) - 1
            if self._guarded(self._workspace.place, target, job, self._local, last):
                self._count(target)
        self._workspace.release(job)

    def _count(self, target: Target) -> None:
        self.result.changed += 1
        self._tell.advance(0, 1)
        if self._tell.wants_files:
            self._tell.file_done(target.path, target.entry.size)

    def _guarded(self, work: Callable[..., None], target: Target, *arguments: Any) -> bool:
        """Do one thing in DEST; what concerns one path alone does not stop the others. True if it is done."""
        try:
            work(target, *arguments)
        except _ONE_PATH as error:
            self.result.failed.append(f"{os.fsdecode(target.path)!r}: {error.strerror}")
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise file_error(error, target.path, "writing") from None
            self.result.failed.append(
                f"{os.fsdecode(target.path)!r}: a directory that is not empty is in the way"
            )
        else:
            return True
        return False

    def deliver(self, member: Member, piece: Piece, view: memoryview, there: Sequence[bool]) -> int:
        """Verify what came and put it in place; bytes that were right and new."""
        good = 0
        position = 0
        for part, here in zip(piece.parts, there, strict=True):
            data = view[position : position + part.size]
            position += part.size
            if not here:
                self._swarm.missed(member, part.job.ref.digest)
                continue
            good += self._deliver_part(member, part, data)
        if good:
            self._tell.advance(good, 0)
            self._tell.received(member.name, good)
        return good

    def _deliver_part(self, member: Member, part: Part, data: memoryview) -> int:
        job = part.job
        start = part.offset
        good = 0
        for index in range(part.first, part.last):
            if job.has(index):
                continue
            digest, length = job.recipe.chunk(index)
            at = job.recipe.offsets[index] - start
            chunk = data[at : at + length]
            if chunk_id(chunk) != digest:
                self._swarm.lied(member, job.ref.digest, index)
                continue
            try:
                self._workspace.write(job, index, chunk)
            except OSError as error:
                raise file_error(error, job.targets[0].path, "writing") from None
            good += length
        if good and not job.left:
            self._finish(job)
        return good
