"""Everything that a fetch of one snapshot works with, opened together and closed together: the arena, the
writer, the index's ledger, the reader of what is here.

What is opened follows from the size of the work: a process of its own for the writer costs some ten
milliseconds, a thread nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, NamedTuple

from p2psync.arena import Arena
from p2psync.events import Teller
from p2psync.fetch.destination import Destination
from p2psync.fetch.finish import Finish
from p2psync.format.listing import Totals
from p2psync.plan.changes import Plan
from p2psync.sources.swarm import Swarm
from p2psync.state import State
from p2psync.state.off_loop import off_loop, to_its_end
from p2psync.state.trees import FileRow, Tree
from p2psync.supply.by_blocks import ByBlocks
from p2psync.supply.change import Change
from p2psync.supply.control import Control
from p2psync.supply.download import STALL_SECONDS, Download
from p2psync.supply.jobs import Target
from p2psync.supply.ledger import Ledger
from p2psync.supply.local import LocalChunks, leftovers
from p2psync.supply.manifest import Manifest
from p2psync.supply.matching import Matching
from p2psync.supply.placing import Placing
from p2psync.supply.producer import Producer
from p2psync.supply.reader import LocalReader
from p2psync.supply.result import Result
from p2psync.supply.share import Share
from p2psync.tree import orders
from p2psync.tree.beneath import Beneath
from p2psync.tree.identity import identity
from p2psync.tree.worker import Writer, WriterKind, open_writer

PROCESS_FILES: Final = 2_000
PROCESS_BYTES: Final = 64 << 20
"""Files or bytes from which on the writer is a process of its own: below, it would not save its start."""


class Context(NamedTuple):
    """What all snapshots of one run have in common."""

    state: State
    swarm: Swarm
    arena: Arena
    tell: Teller
    control: Control
    by_blocks: ByBlocks
    timeout: float | None = STALL_SECONDS
    """Seconds of silence after which a download gives up; None: never."""
    writer: WriterKind | None = None
    """Which writer is used whatever the size of the work."""
    delays: bool = False
    """Whether files and links are put in place together, when all have come."""


class Transfer:
    """One snapshot's work."""

    def __init__(self, context: Context, dest: Destination, tree: Tree) -> None:
        self._context = context
        self._dest = dest
        self._tree = tree
        self._stack = contextlib.AsyncExitStack()
        self._opening: asyncio.Task[Writer] | None = None
        self._writer: Writer | None = None
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="disk")
        self._index = ThreadPoolExecutor(1, thread_name_prefix="index")
        self._local: LocalChunks | None = None
        self._reader: LocalReader | None = None
        self._way: dict[bytes, bytes | None] = {}
        self._leftovers: frozenset[bytes] = frozenset()
        self._removed = 0
        self.result = Result()

    @property
    def deleted(self) -> int:
        """Names that are gone from DEST."""
        return self.result.deleted + self._removed

    def forget_result(self) -> None:
        """Begin a new result: this one has been taken into account."""
        self.result, self._removed = Result(), 0

    async def close(self) -> None:
        """Close everything. Unfinished files stay for a later run."""
        if self._local is not None:
            self._local.stop()
        if self._opening is not None:
            await asyncio.gather(self._opening, return_exceptions=True)
        await self._stack.aclose()
        for threads in (self._disk, self._index):
            await off_loop(partial(threads.shutdown, wait=True, cancel_futures=True))
        if self._reader is not None:
            self._reader.close()
        if self._local is not None:
            self._local.close()

    def all_is_missing(self, totals: Totals) -> None:
        """DEST is not there, so so much will be made: a writer in a process of its own starts beside the
        comparison, which has one processor to itself.
        """
        if _is_large(totals.files, totals.bytes):
            self._begin_to_open("process")

    async def _open(self, kind: WriterKind) -> Writer:
        """The writer, opened when it is first needed."""
        return await asyncio.shield(self._begin_to_open(kind))

    def _begin_to_open(self, kind: WriterKind) -> asyncio.Task[Writer]:
        if self._opening is None:
            self._opening = asyncio.create_task(self._start_writer(self._context.writer or kind))
        return self._opening

    async def _start_writer(self, kind: WriterKind) -> Writer:
        opening = open_writer(self._dest.path, self._dest.spared, self._context.arena, kind=kind)
        self._writer = await self._stack.enter_async_context(opening)
        return self._writer

    # Carrying out.

    async def prepare(self, plan: Plan, beneath: Beneath, way: dict[bytes, bytes | None]) -> None:
        """Look for chunks that are here; ``way``: directories that may make way (``plan.deletions``)."""
        state, tree = self._context.state, self._tree
        self._way = way
        large = _is_large(plan.files, plan.size)
        opening = self._begin_to_open("process" if large else "thread")
        try:
            self._leftovers = leftovers(beneath)
            self._local = LocalChunks(state, tree, beneath)
            self._reader = LocalReader(self._local, beneath)
            if plan.files and plan.has_old_content:
                self._context.tell.phase("looking for chunks that are here", None, None)
                await self._on_disk(self._local.scan, plan)
        finally:
            await asyncio.wait([opening])
        delays = self._context.delays
        for work in plan.dirs if delays else ():
            work.leaves = True  # As it is until the end, when it gets its stamp.
        (await opening).send(orders.WorkIn(*identity(beneath.dir(b"")), delays))

    async def _on_disk(self, work: Callable[[Plan], None], plan: Plan) -> None:
        await asyncio.get_running_loop().run_in_executor(self._disk, work, plan)

    async def run(
        self,
        plan: Plan,
        manifest: Manifest,
        share: Share,
        *,
        look_again: Callable[[], Awaitable[bool]],
        archive_path: Callable[[Target], bytes],
    ) -> Result:
        """Get and place all that the plan names. See ``supply.download.Download``."""
        context = self._context
        writer, local, reader = self._writer, self._local, self._reader
        assert writer is not None and local is not None and reader is not None  # noqa: S101 - prepared
        change = Change()
        ledger = Ledger(context.state, self._tree, self._index)
        repeated = plan.repeated()
        placing = Placing(
            writer,
            context.arena,
            ledger,
            context.tell,
            share,
            change,
            moved=self._displaced,
            made=_not_there_yet if context.delays else local.made,
            repeated=repeated,
        )
        placing.result = self.result
        writer.on_fact = placing.take
        placing.may_replace(self._way)
        download = Download(
            context.swarm,
            context.arena,
            placing,
            change,
            context.tell,
            share=share,
            look_again=look_again,
            archive_path=archive_path,
            control=context.control,
            timeout=context.timeout,
        )
        producer = Producer(
            manifest,
            placing,
            ledger,
            download,
            local,
            reader,
            Matching(context.by_blocks, local, self._disk, context.arena.view),
            context.tell,
            self._disk,
            self._files_in,
            context.arena.view,
            leftovers=self._leftovers,
            repeated=repeated,
        )
        try:
            return await download.run(plan, producer)
        finally:
            local.stop()
            placing.stop()
            await ledger.flush()

    def _displaced(self, was: bytes, now: bytes) -> None:
        assert self._local is not None  # noqa: S101 - prepared before anything is displaced
        self._local.moved(was, now)

    def _files_in(self, directory: bytes) -> Mapping[bytes, FileRow]:
        return self._context.state.trees.files_in(self._tree.id, directory)

    async def finish(
        self, plan: Plan, manifest: Manifest, beneath: Beneath, *, removes: bool, complete: bool
    ) -> list[str]:
        """Remove what the plan says, set modes and times of directories, tidy up; what failed, each with
        its reason (``fetch.finish``).
        """
        writer = self._writer
        assert writer is not None  # noqa: S101 - opened by ``prepare``
        finish = Finish(self._context.state, self._tree, writer, self._index, beneath)
        failed = await finish.run(
            plan, manifest, removes=removes, complete=complete, delayed=self._context.delays
        )
        self._removed += finish.removed
        return failed


def _not_there_yet(digest: bytes, path: bytes) -> None:
    """What was made cannot be read in its place before all of it is put there."""


def _is_large(files: int, size: int) -> bool:
    return files >= PROCESS_FILES or size >= PROCESS_BYTES


@contextlib.asynccontextmanager
async def open_transfer(context: Context, dest: Destination, tree: Tree) -> AsyncIterator[Transfer]:
    """What the fetch of one snapshot works with."""
    transfer = Transfer(context, dest, tree)
    try:
        yield transfer
    finally:
        await to_its_end(transfer.close())
