"""Work through a plan: make what can be made from this machine, ask the sources for the rest.

One task per request lane of a source takes work from the queue when it is free; one thread does all that
touches the disk (``making``). A request that fails, lacks something or brings wrong bytes goes back to the
queue, and its source bears the consequences (``swarm``).
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Protocol

from p2psync.errors import FormatError, NetworkError, TransferTimeout
from p2psync.events import Teller
from p2psync.format.limits import SINGLE_CHUNK_MAX
from p2psync.format.listing import Entry
from p2psync.plan.changes import DirWork, Plan
from p2psync.sources.source import NotHere, NotOffered
from p2psync.sources.swarm import REQUEST_FIRST, REQUEST_MAX, Member, Swarm
from p2psync.supply.control import Control
from p2psync.supply.holdings import keep_asking
from p2psync.supply.jobs import Job, Target
from p2psync.supply.local import LocalChunks
from p2psync.supply.making import Making, Result
from p2psync.supply.manifest import Manifest
from p2psync.supply.queue import Piece, Queue
from p2psync.tree.writer import Workspace

LANES: Final = 3
"""Requests under way to one source: one on the wire, one waiting there, one being verified and written
here.
"""
BUFFERS_MAX: Final = 48 << 20
"""Bytes of all request buffers together: with many sources, each asks for less at a time."""
UNDER_WAY_SHARE: Final = 64
"""Of small fetches, the part that may be under way at once: what a kill loses is asked for again."""
WINDOW_BYTES: Final = 96 << 20
"""Bytes of objects that are under construction at once, beyond the first."""
WINDOW_JOBS: Final = 4096
WINDOW_FILES: Final = 192
"""Unfinished files of several chunks that are open at once: well below the usual limit of 1,024
descriptors.
"""
BATCH_FILES: Final = 1024
BATCH_BYTES: Final = 2 << 30
"""Files and bytes whose recipes are asked for together: hides the delay of sources, holds some MiB of
recipes.
"""
SLICE_FILES: Final = 256
SLICE_BYTES: Final = 16 << 20
"""Files and bytes that are prepared in one go by the disk thread: short turns, so that it also writes what
comes.
"""
WAIT: Final = 0.1
"""Seconds between looks at the clock by those who wait."""
IDLE_LOOK: Final = 0.25
"""Seconds after which a lane without work looks for some in any case."""
HOPELESS_SECONDS: Final = 10.0
"""How long a fetch without any usable source waits for one to be found."""
STUCK_ROUNDS: Final = 3
"""How often sources and the head are looked for again before what nobody has counts as missing."""
STUCK_PAUSE: Final = 2.0
"""Seconds between these."""
STALL_SECONDS: Final = 60.0
"""Silence of all sources after which a fetch gives up, unless --timeout says otherwise."""


class Share(Protocol):
    """Who offers the chunks of unfinished objects to others while the fetch runs."""

    def offer(self, job: Job) -> None: ...
    def withdraw(self, job: Job) -> None: ...


class Nothing:
    """The share of a fetch that does not share."""

    def offer(self, job: Job) -> None:
        return

    def withdraw(self, job: Job) -> None:
        return


class Download:
    """One run through a plan."""

    def __init__(
        self,
        manifest: Manifest,
        swarm: Swarm,
        workspace: Workspace,
        local: LocalChunks,
        tell: Teller,
        disk: ThreadPoolExecutor,
        *,
        share: Share,
        look_again: Callable[[], Awaitable[bool]],
        timeout: float | None = None,
        control: Control | None = None,
    ) -> None:
        """``look_again`` searches for sources and a newer head; True if the head is newer than the one
        fetched.
        """
        self._manifest = manifest
        self._swarm = swarm
        self._workspace = workspace
        self._tell = tell
        self._disk = disk
        self._share = share
        self._look_again = look_again
        self._timeout = STALL_SECONDS if timeout is None else timeout or math.inf
        self._control = control or Control()
        self._queue = Queue(swarm, time.monotonic)
        self._jobs: dict[bytes, Job] = {}
        self._open_bytes = 0
        self._open_files = 0
        self._stuck_rounds = 0
        self._last_byte = time.monotonic()
        self._disk_busy = 0
        self._lanes: dict[str, list[asyncio.Task[None]]] = {}
        self._over = False
        self._changed = asyncio.Event()
        self._under_way_max = BUFFERS_MAX
        self._making = Making(workspace, local, swarm, tell, self._jobs)

    async def run(self, plan: Plan) -> Result:
        """Returns when all is in place, or nobody has what is missing.

        Raises:
            NetworkError: no source is left. FileError: the disk is full or refuses. What is done is kept.
        """
        self._under_way_max = min(BUFFERS_MAX, plan.size // UNDER_WAY_SHARE)
        try:
            async with asyncio.TaskGroup() as group:
                producer = group.create_task(self._produce(plan))
                supervisor = group.create_task(self._supervise(group))
                await producer
                self._queue.closed = True
                await supervisor
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        finally:
            # Their files are closed by the workspace, when the disk thread is done with what it has begun.
            for job in self._jobs.values():
                self._share.withdraw(job)
        return self._making.result

    async def _on_disk(self, work: Callable[..., Any], *arguments: Any) -> Any:
        self._disk_busy += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._disk, work, *arguments)
        finally:
            self._disk_busy -= 1

    # Making jobs.

    async def _produce(self, plan: Plan) -> None:
        batch: list[Target] = []
        size = 0
        for work in plan.dirs:
            entries = await asyncio.to_thread(self._manifest.listing, work.listing)
            await self._on_disk(self._making.make_dir, work, entries)
            for target in _targets(work, entries):
                batch.append(target)
                size += target.entry.size
                if len(batch) >= BATCH_FILES or size >= BATCH_BYTES:
                    await self._produce_batch(batch)
                    batch, size = [], 0
            if self._over:
                return
        await self._produce_batch(batch)

    async def _produce_batch(self, batch: list[Target]) -> None:
        several = [ref for ref in (target.entry.ref for target in batch) if ref.size > SINGLE_CHUNK_MAX]
        recipes = await self._manifest.recipes(several) if several else {}
        for group in _slices(batch):
            await self._control.going()
            while self._full() and not self._over:  # noqa: ASYNC110 - any of many lanes makes room
                await asyncio.sleep(WAIT / 20)
            if self._over:
                return
            for job in await self._on_disk(self._making.prepare, group, recipes):
                self._add(job)
            self._tell_change()

    def _full(self) -> bool:
        return (
            self._open_bytes > WINDOW_BYTES
            or len(self._jobs) > WINDOW_JOBS
            or self._open_files > WINDOW_FILES
        )

    def _add(self, job: Job) -> None:
        self._jobs[job.ref.digest] = job
        self._open_bytes += job.ref.size
        if job.fd is not None:
            self._open_files += 1
            self._share.offer(job)
        self._queue.add(job)

    # Asking sources.

    async def _supervise(self, group: asyncio.TaskGroup) -> None:
        """Keep lanes running for every usable source; end when there is nothing left to do."""
        hopeless_since: float | None = None
        parked_checked = -1.0
        while True:
            for member in self._swarm.alive():
                if member.name not in self._lanes:
                    lanes = [group.create_task(self._lane(member)) for _ in range(LANES)]
                    if member.metadata and not member.whole:
                        asking = keep_asking(member, self._swarm, self._jobs.values)
                        lanes.append(group.create_task(asking))
                    self._lanes[member.name] = lanes
            now = time.monotonic()
            self._queue.unpark()
            if self._queue.closed and not self._jobs:
                break
            if self._queue.parked and now - parked_checked > STUCK_PAUSE:
                parked_checked = now
                if await self._stuck():
                    break
            paused = self._control.paused
            if paused or not self._jobs or (self._queue.idle and self._queue.parked) or self._disk_busy:
                self._last_byte = now  # Nobody is asked for anything, or it is us who are slow.
            hopeless = self._swarm.hopeless() and self._jobs and not paused
            hopeless_since = (hopeless_since or now) if hopeless else None
            if hopeless_since is not None and now - hopeless_since > HOPELESS_SECONDS:
                raise NetworkError(self._nobody())
            if now - self._last_byte > self._timeout:
                raise TransferTimeout(
                    f"no source has sent anything for {self._timeout:.0f} seconds; "
                    "what is there is kept, run again"
                )
            await asyncio.sleep(WAIT)
        self._over = True
        for lanes in self._lanes.values():
            for lane in lanes:
                lane.cancel()

    def _nobody(self) -> str:
        banned = [f"{m.name} sent wrong bytes" for m in self._swarm.members if m.banned]
        failed = [m.last_error for m in self._swarm.members if m.last_error and not m.banned]
        reasons = "; ".join(banned + failed)[:500]
        return (
            f"no source is left that could be asked ({reasons or 'none was found'}); "
            "what is there is kept, run again"
        )

    async def _stuck(self) -> bool:
        """Something is parked: look for more sources and a newer head. True: this download is over."""
        version = self._swarm.version
        if await self._look_again():
            self._making.result.superseded = True
            return True
        if self._swarm.version != version or self._swarm.hopeless() or not self._queue.idle:
            return False
        if not (self._queue.closed or self._full()):
            return False
        self._stuck_rounds += 1
        if self._stuck_rounds < STUCK_ROUNDS:
            return False
        self._give_up_parked()
        return self._queue.closed and not self._jobs

    def _give_up_parked(self) -> None:
        """Nobody has it, again and again: it is missing."""
        parked, self._queue.parked = self._queue.parked, []
        for job in {id(part.job): part.job for part in parked}.values():
            self._making.result.missing += [target.path for target in job.targets]
            job.targets.clear()
            self._close_job(job)
            self._workspace.release(job)

    def _close_job(self, job: Job) -> None:
        if self._jobs.get(job.ref.digest) is job:
            del self._jobs[job.ref.digest]
            self._open_bytes -= job.ref.size
            if not job.ref.is_single:
                self._open_files -= 1
                self._share.withdraw(job)

    async def _lane(self, member: Member) -> None:
        buffer = bytearray()
        while not (self._over or member.banned or member.dead):
            pause = member.retry_at - time.monotonic()
            if pause > 0:
                await asyncio.sleep(min(pause, 1.0))
                continue
            await self._control.going()
            alive = max(len(self._swarm.alive()), 1)
            share = max(self._under_way_max // (alive * LANES), REQUEST_FIRST)
            piece = self._queue.take(member, min(REQUEST_MAX, share))
            if piece is None:
                await self._change(IDLE_LOOK)
                continue
            if len(buffer) < piece.size:
                buffer = bytearray(piece.size)
            try:
                await self._ask(member, piece, memoryview(buffer)[: piece.size])
            finally:
                self._queue.done(piece)
                self._tell_change()

    async def _change(self, seconds: float) -> None:
        """Wait until there may be work again, at most ``seconds``: what is overdue may be asked for twice."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    def _tell_change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _ask(self, member: Member, piece: Piece, view: memoryview) -> None:
        before = member.source.received
        try:
            there = await member.source.read(piece.spans(), view)
        except NotHere:
            there = [False] * len(piece.parts)
        except NotOffered as error:
            member.dead = True
            self._tell.warn(str(error))
            return
        except FormatError:
            self._swarm.lied(member, piece.parts[0].job.ref.digest, -1)
            return
        except NetworkError as error:
            self._swarm.failed(member, str(error))
            return
        finally:
            if member.source.received != before:
                self._last_byte = time.monotonic()
        seconds = time.monotonic() - piece.started
        good = await self._on_disk(self._making.deliver, member, piece, view, there)
        if good:
            self._stuck_rounds = 0
        self._swarm.succeeded(member, good, seconds)
        for job in {id(part.job): part.job for part in piece.parts}.values():
            if not job.left:
                self._close_job(job)


def _targets(work: DirWork, entries: list[Entry]) -> Iterator[Target]:
    replaced = set(work.replaced)
    return (Target(work.path, entries[i], i in replaced) for i in work.content)


def _slices(batch: list[Target]) -> Iterator[list[Target]]:
    """Parts of ``batch`` that are prepared in one go."""
    group: list[Target] = []
    size = 0
    for target in batch:
        group.append(target)
        size += target.entry.size
        if len(group) == SLICE_FILES or size >= SLICE_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group
