"""A swarm in memory: sources that serve a simulated archive over links with delay, rate and faults, on an
event loop whose clock jumps to whatever happens next. Runs of seconds take milliseconds, the same each time.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import pytest
from tests.node.simulator import Publisher

from p2psync.arena import Arena as Memory
from p2psync.errors import NetworkError, P2psyncError, TransferTimeout
from p2psync.events import Advanced, Event, Received, Teller, Warned
from p2psync.fetch import engine, transfer
from p2psync.fetch.destination import Destination
from p2psync.fetch.transfer import Context, open_transfer
from p2psync.format.head import ArchiveHead
from p2psync.format.ids import Ref
from p2psync.format.listing import Kind
from p2psync.plan.changes import Plan
from p2psync.plan.compare import Comparison
from p2psync.sources.compress import Compress
from p2psync.sources.finders import discovery, heads, joining, tryouts
from p2psync.sources.orders import Answer, Order, failure, wrong_checks
from p2psync.sources.source import NotHere, Span
from p2psync.sources.swarm import Member, Swarm
from p2psync.sources.wire import Have, Info
from p2psync.state import State
from p2psync.supply import download, ledger
from p2psync.supply.by_blocks import ByBlocks
from p2psync.supply.control import Control
from p2psync.supply.download import STALL_SECONDS
from p2psync.supply.manifest import Manifest
from p2psync.supply.result import Result
from p2psync.supply.share import Nothing
from p2psync.tree.beneath import Beneath

T = TypeVar("T")
IDLE_TIMEOUT = 15.0
"""Seconds of silence after which a request on a simulated link is given up, as the real sources do."""
STEP = 0.25
"""Seconds between the moments when more of a long answer has come."""
PROTOCOL_BYTES = 200
"""Bytes around an answer."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """When nothing is ready, it is at once the time of the next timer. No sockets, no threads."""

    def __init__(self) -> None:
        super().__init__()
        self._virtual = 1000.0
        self.set_default_executor(Inline())

    def time(self) -> float:
        return self._virtual

    def _run_once(self) -> None:
        if not self._ready:  # type: ignore[attr-defined]  # how asyncio keeps its timers, here and below
            # Those that were cancelled count for nothing: asyncio drops them, and waits for the next one.
            timers = [one for one in self._scheduled if not one.cancelled()]  # type: ignore[attr-defined]
            self._virtual = max(self._virtual, min((one.when() for one in timers), default=0.0))
        super()._run_once()  # type: ignore[misc]


class Inline(ThreadPoolExecutor):
    """Does at once what it is given: a disk that takes no time."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        done: Future[T] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except BaseException as error:
            done.set_exception(error)
        return done


class Clock:
    """Stands in for the module ``time`` where the code under test looks at it."""

    @staticmethod
    def monotonic() -> float:
        return asyncio.get_running_loop().time()

    @staticmethod
    def time() -> float:
        return 1_800_000_000 + asyncio.get_running_loop().time()

    @staticmethod
    def time_ns() -> int:
        return int(Clock.time() * 10**9)


def virtual(monkeypatch: pytest.MonkeyPatch) -> Callable[[Coroutine[Any, Any, T]], T]:
    """Let the fetch engine live in virtual time; what is returned runs a coroutine there."""
    for module in (download, discovery, heads, joining, tryouts, engine, ledger):
        monkeypatch.setattr(module, "time", Clock)
    monkeypatch.setattr(transfer, "ThreadPoolExecutor", Inline)

    def run(work: Coroutine[Any, Any, T]) -> T:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            return runner.run(work)

    return run


@dataclass(eq=False)
class SimSource:
    """A holder of what ``publisher`` has published, behind a link of its own."""

    name: str
    publisher: Publisher
    rate: float = 6.25e6
    """Bytes a second, all answers together: they come one after the other, as when pipelined."""
    delay: float = 0.02
    lacks: Callable[[bytes], bool] = lambda digest: False
    """Whether it does not have an object, by digest."""
    lies: Callable[[bytes, int], bool] = lambda digest, offset: False
    """Whether bytes from this offset of an object come out wrong."""
    rotten: int | None = None
    """Where one byte of every object that is so long is wrong."""
    held: Callable[[bytes], Have] | None = None
    """What it says that it has of an object."""
    silent_from: float = float("inf")
    """Seconds of its life after which it never answers again."""
    dead_from: float = float("inf")
    """Seconds of its life after which its connections are refused."""
    failing: int = 0
    """Requests that break off before it works."""
    newest: bytes | None = None
    """The head that it knows; None: the publisher's newest."""
    received: int = 0
    asked: list[bytes] = field(default_factory=list)
    """Digests, in the order in which they were asked for."""
    requests: int = 0
    questions: list[str] = field(default_factory=list)
    """What it was asked about, in this order, by the method's name."""
    mute: tuple[str, ...] = ()
    """What it never answers."""
    open_requests: int = 0
    closed: bool = False
    key: bytes = bytes(32)
    """Of the node that it is."""
    web: bool = False
    """It knows paths only: no metadata, no holders, and one stretch of one file in a request."""
    memory: memoryview = field(default_factory=lambda: memoryview(b""))
    """Of the arena that its answers go to."""
    paths: list[bytes | None] = field(default_factory=list)
    """The archive paths that it was asked for."""
    _born: float | None = None
    _free_at: float = 0.0
    _orders: dict[int, asyncio.Future[None]] = field(default_factory=dict)

    # What an open source offers (``p2psync.sources.opening.OpenSource``).

    @property
    def content(self) -> SimSource:
        return self

    @property
    def heads(self) -> SimSource | None:
        return None if self.web else self

    @property
    def has_files(self) -> bool:
        return True

    @property
    def others(self) -> tuple[str, ...]:
        return ()

    @property
    def metadata(self) -> SimSource | None:
        return None if self.web else self

    @property
    def delta(self) -> None:
        return None

    @property
    def tracker(self) -> SimSource | None:
        return None if self.web else self

    @property
    def spans_max(self) -> int:
        return 1 if self.web else 4096

    @property
    def by_path(self) -> bool:
        return self.web

    def ask(self, order: Order, tell: Callable[[Answer], None]) -> None:
        self._orders[order.token] = asyncio.ensure_future(self._carry_out(order, tell))

    def cancel(self, token: int) -> None:
        if token in self._orders:
            self._orders[token].cancel()

    async def _carry_out(self, order: Order, tell: Callable[[Answer], None]) -> None:
        began = asyncio.get_running_loop().time()
        buffer = memoryview(bytearray(sum(span.length for span in order.spans)))
        try:
            here = await self.read(order.spans, buffer)
        except asyncio.CancelledError:
            tell(failure(order, NetworkError(f"{self.name}: given up")))
        except P2psyncError as error:
            tell(failure(order, error))
        else:
            begin = order.extent.offset
            self.memory[begin : begin + len(buffer)] = buffer
            positions: list[int] = []
            for span, came in zip(order.spans, here, strict=True):
                positions.append(begin if came else -1)
                begin += span.length
            wrong = wrong_checks(order, positions, self.memory)
            tell(Answer(order.token, positions, wrong, asyncio.get_running_loop().time() - began))
        finally:
            del self._orders[order.token]

    async def recipes(self, refs: Sequence[Ref]) -> list[bytes | None]:
        made: list[bytes | None] = []
        for digest in [ref.digest for ref in refs]:
            self.asked.append(digest)
            made.append(None if self.lacks(digest) else self.publisher.recipes.get(digest))
        await self._answer(sum(len(raw or b"") for raw in made), "recipes")
        return made

    async def info(self) -> Info:
        await self._answer(100, "info")
        return Info("0" * 40, self.key, "1", ())

    async def put_head(self, archive: bytes, raw: bytes) -> bool:
        await self._answer(0)
        return True

    # Its answers.

    async def _answer(self, size: int, what: str = "") -> None:
        """Wait as long as an answer of ``size`` bytes takes."""
        loop = asyncio.get_running_loop()
        self.questions.append(what)
        if what in self.mute:
            await asyncio.sleep(IDLE_TIMEOUT)
            raise TransferTimeout(f"{self.name}: silent")
        now = loop.time()
        if self._born is None:
            self._born = now
        self.requests += 1
        if now - self._born >= self.dead_from:
            raise NetworkError(f"{self.name}: connection refused")
        if self.failing:
            self.failing -= 1
            await asyncio.sleep(self.delay)
            raise NetworkError(f"{self.name}: connection reset")
        self._free_at = max(self._free_at, now + self.delay) + (size + PROTOCOL_BYTES) / self.rate
        until = self._free_at
        if until - self._born >= self.silent_from:
            await asyncio.sleep(IDLE_TIMEOUT)
            raise TransferTimeout(f"{self.name}: silent")
        if until - self._born >= self.dead_from:
            await asyncio.sleep(self.dead_from + self._born - now)
            raise NetworkError(f"{self.name}: connection reset")
        self.open_requests += 1
        try:
            await self._arrive(size + PROTOCOL_BYTES, until)
        finally:
            self.open_requests -= 1

    async def _arrive(self, size: int, until: float) -> None:
        """Let so many bytes come, the last one at ``until``."""
        loop = asyncio.get_running_loop()
        left = size
        while left:
            due = min(round(max(until - loop.time(), 0.0) * self.rate), left)
            self.received += left - due
            left = due
            await asyncio.sleep(min(until - loop.time(), max(until - loop.time() - size / self.rate, STEP)))

    def _bytes(self, digest: bytes, offset: int, length: int) -> bytes | None:
        self.asked.append(digest)
        whole = self.publisher.objects.get(digest)
        if whole is None or self.lacks(digest):
            return None
        data = whole[offset : offset + length]
        if self.rotten is not None and offset <= self.rotten < offset + len(data):
            at = self.rotten - offset
            return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        return bytes(len(data)) if self.lies(digest, offset) else data

    async def head(self, archive: bytes) -> bytes | None:
        await self._answer(300, "head")
        return self.newest if self.newest is not None else self.publisher.head.raw

    async def earlier(self, archive: bytes) -> list[bytes]:
        return []

    async def metas(self, refs: Sequence[Ref]) -> list[bytes | None]:
        made = [self._bytes(ref.digest, 0, ref.size) for ref in refs]
        await self._answer(sum(len(raw or b"") for raw in made), "metas")
        return made

    async def read(self, pieces: Sequence[Span], into: memoryview) -> list[bool]:
        here: list[bool] = []
        self.paths += [piece.path for piece in pieces]
        found: list[bytes | None] = [self._bytes(p.digest, p.offset, p.length) for p in pieces]
        await self._answer(sum(len(raw or b"") for raw in found), "read")
        position = 0
        for piece, raw in zip(pieces, found, strict=True):
            if raw is not None:
                into[position : position + piece.length] = raw
            position += piece.length
            here.append(raw is not None)
        return here

    async def have(self, digests: Sequence[bytes]) -> list[Have]:
        await self._answer(len(digests), "have")
        if self.held is None:
            raise NotHere(f"{self.name}: does not say")
        return [self.held(digest) for digest in digests]

    async def mirrors(self, archive: bytes) -> tuple[bytes, bytes] | None:
        return None

    async def holders(self, archive: bytes) -> list[bytes]:
        await self._answer(0, "holders")
        return []

    async def nominate(self, archive: bytes, raw: bytes) -> None:
        await self._answer(0, "nominate")

    async def close(self) -> None:
        self.closed = True


class Watcher:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.bytes = 0
        self.files = 0
        self.by_source: dict[str, int] = {}

    def __call__(self, event: Event) -> None:
        match event:
            case Advanced(bytes_done, files_done):
                self.bytes += bytes_done
                self.files += files_done
            case Received(source, count):
                self.by_source[source] = self.by_source.get(source, 0) + count
            case Warned(text):
                self.warnings.append(text)


class Arena:
    """A state directory, a DEST and a swarm, for fetching snapshots of a simulated archive."""

    def __init__(
        self,
        folder: Path,
        publisher: Publisher,
        sources: Sequence[SimSource] = (),
        chance: random.Random | None = None,
    ) -> None:
        self.publisher = publisher
        self.state = State.open(folder / "state")
        self.dest = folder / "dest"
        self.dest.mkdir(exist_ok=True)
        self.watcher = Watcher()
        self.tell = Teller(self.watcher)
        self.swarm = Swarm(Clock.monotonic, self.tell.warn, chance=chance)
        self.sources = list(sources)
        for source in sources:
            self.join(source)
        self.tree = self.state.trees.ensure(bytes(self.dest), "fetch", publisher.archive)
        self.manifest = Manifest(self.state, self.swarm, self._nothing)
        self.looked = 0
        self.memory = Memory()
        for source in sources:
            source.memory = self.memory.view

    async def _nothing(self) -> None:
        return

    def join(self, source: SimSource, **options: Any) -> Member:
        if hasattr(self, "memory"):
            source.memory = self.memory.view
        member = Member(source, **({"whole": True} | options))
        self.swarm.add(member)
        return member

    def member(self, name: str) -> Member:
        return next(member for member in self.swarm.members if member.name == name)

    def close(self) -> None:
        self.state.close()
        self.memory.close()

    def know_metadata(self) -> None:
        """Put all metadata of the archive into the state directory, so that only content is fetched."""
        for head in self.publisher.heads:
            self.state.meta.put(head.snapshot, self.publisher.objects[head.snapshot.digest])
            for _, entry, data in self.publisher.read(head):
                if entry.kind == Kind.DIR:
                    self.state.meta.put(entry.ref, data)
        self.state.meta.put_recipes(self.publisher.recipes.items())

    async def plan(self, head: ArchiveHead | None = None, **options: Any) -> Plan:
        """Compare DEST with a snapshot (the newest, if none is given)."""
        snapshot = await self.manifest.snapshot((head or self.publisher.head).snapshot)
        beneath = Beneath(bytes(self.dest))
        try:
            comparison = Comparison(self.state, self.manifest, self.tree, beneath, self.tell, **options)
            return await comparison.run(snapshot.root, None)
        finally:
            beneath.close()

    async def fetch(
        self,
        head: ArchiveHead | None = None,
        *,
        look_again: Callable[[], Awaitable[bool]] | None = None,
        silence: float | None = None,
        control: Control | None = None,
    ) -> Result:
        """Make DEST like a snapshot; nothing is removed."""
        plan = await self.plan(head)
        self.watcher.files = 0
        beneath = Beneath(bytes(self.dest))

        async def look() -> bool:
            self.looked += 1
            await asyncio.sleep(0.1)
            return await look_again() if look_again is not None else False

        context = Context(
            self.state,
            self.swarm,
            self.memory,
            self.tell,
            control or Control(),
            ByBlocks(self.swarm, Compress.OFF),
            STALL_SECONDS if silence is None else silence or None,
            writer="inline",
        )
        dest = cast(Destination, SimpleNamespace(path=bytes(self.dest), spared=frozenset()))
        try:
            async with open_transfer(context, dest, self.tree) as work:
                await work.prepare(plan, beneath, {})
                result = await work.run(
                    plan,
                    self.manifest,
                    Nothing(),
                    look_again=look,
                    archive_path=lambda target: target.path,
                )
                complete = not (result.missing or result.failed or result.superseded)
                await work.finish(plan, self.manifest, beneath, removes=True, complete=complete)
                return result
        finally:
            beneath.close()

    def differs(self, head: ArchiveHead | None = None) -> list[bytes]:
        """Paths in DEST that are not as the snapshot has them."""
        wrong: list[bytes] = []
        for path, entry, data in self.publisher.read(head or self.publisher.head):
            place = bytes(self.dest) + path
            try:
                if entry.kind == Kind.DIR:
                    same = Path(place.decode()).is_dir()
                elif entry.kind == Kind.FILE:
                    with open(place, "rb") as file:
                        same = file.read() == data
                    same = same and Path(place.decode()).stat().st_mtime_ns == entry.mtime_ns
                else:
                    same = str(Path(place.decode()).readlink()).encode() == entry.target
            except OSError:
                same = False
            if not same:
                wrong.append(path)
        return wrong
