"""The writer as the event loop sees it: in a process, in a thread, or inline, it does the same."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.node.simulator import MTIME

from p2psync.arena import Arena
from p2psync.format.reserved import PARTIAL
from p2psync.tree.maker import NOTHING_DONE
from p2psync.tree.orders import (
    Broken,
    Done,
    Dress,
    DressDirectories,
    Fact,
    File,
    Link,
    MakeDirectory,
    MakeFiles,
    MakeLinks,
    MayReplace,
    Order,
    Remove,
    Tidy,
    WorkIn,
)
from p2psync.tree.worker import ROWS_AHEAD, Writer, WriterKind, open_writer
from p2psync.tree.worker_process import ProcessWriter

KINDS: tuple[WriterKind, ...] = ("process", "thread", "inline")
DATA = b"what lies in the arena"


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    made = tmp_path / "dest"
    made.mkdir()
    return made


@pytest.fixture
def arena() -> Iterator[Arena]:
    made = Arena(1 << 20)
    made.view[5000 : 5000 + len(DATA)] = DATA
    yield made
    made.close()


class Facts:
    """The facts of one writer, and waiting for them."""

    def __init__(self, writer: Writer) -> None:
        self.all: list[Fact] = []
        self._more = asyncio.Event()
        writer.on_fact = self._take

    def _take(self, fact: Fact) -> None:
        self.all.append(fact)
        self._more.set()

    async def until(self, count: int) -> list[Fact]:
        while len(self.all) < count:
            self._more.clear()
            await self._more.wait()
        return self.all


@contextlib.asynccontextmanager
async def opened(
    dest: Path, arena: Arena | None, kind: WriterKind, spared: frozenset[bytes] = frozenset()
) -> AsyncIterator[tuple[Writer, Facts]]:
    async with open_writer(bytes(dest), spared, arena, kind) as writer:
        yield writer, Facts(writer)


def files(token: int, count: int = 1, directory: bytes = b"", prefix: bytes = b"f") -> MakeFiles:
    rows = [File(prefix + b"%d" % n, 0o640, MTIME, 5000, len(DATA), False) for n in range(count)]
    return MakeFiles(token, directory, rows)


@pytest.mark.parametrize("kind", KINDS)
async def test_orders_are_carried_out_and_answered_in_order(
    dest: Path, arena: Arena, kind: WriterKind
) -> None:
    (dest / "way").mkdir()
    orders: list[Order] = [
        MayReplace({b"way": None}),
        WorkIn(dest.stat().st_dev, dest.stat().st_ino),
        MakeDirectory(1, b"d/\xff"),
        files(2, 10, b"d/\xff"),
        files(3, 1, b"", b"way"),
        MakeLinks(4, b"", [Link(b"way0", b"\xfe", -1)]),
        Remove(5, b"", [(b"none", True)]),
        Tidy(6, True),
        DressDirectories(7, [Dress(b"d/\xff", 0o500, -1), Dress(b"", None, -1)]),
    ]
    async with opened(dest, arena, kind) as (writer, facts):
        for order in orders:
            writer.send(order)
        assert writer.backlog == 1 + 10 + 1 + 1 + 1 + 2 + 1
        await facts.until(7)
        assert writer.backlog == 0
    assert [fact.token for fact in facts.all] == [1, 2, 3, 4, 5, 6, 7]
    for fact in facts.all:
        assert isinstance(fact, Done)
        assert not any(isinstance(result, str) for result in fact.results)
    place = os.path.join(bytes(dest), b"d/\xff")
    assert len(os.listdir(place)) == 10
    assert Path(os.fsdecode(place), "f3").read_bytes() == DATA
    assert os.stat(place).st_mtime_ns == dest.stat().st_mtime_ns == -1
    assert os.readlink(bytes(dest) + b"/way0") == b"\xfe"


@pytest.mark.parametrize("kind", KINDS)
async def test_what_made_way_is_told(dest: Path, arena: Arena, kind: WriterKind) -> None:
    (dest / "f0" / "inner").mkdir(parents=True)
    async with opened(dest, arena, kind) as (writer, facts):
        writer.send(MayReplace({b"f0": None}))
        writer.send(files(1))
    (fact,) = facts.all
    assert isinstance(fact, Done)
    assert (fact.displaced, fact.removed) == ([(b"f0", PARTIAL + b"/old-0")], 2)
    assert (dest / os.fsdecode(PARTIAL) / "old-0" / "inner").is_dir()


@pytest.mark.parametrize("kind", KINDS)
async def test_at_the_end_all_is_carried_out(dest: Path, arena: Arena, kind: WriterKind) -> None:
    async with opened(dest, arena, kind) as (writer, facts):
        for number in range(100):
            writer.send(files(number, 5, b"d%d" % (number % 7), b"%d-" % number))
    assert [fact.token for fact in facts.all] == list(range(100))
    assert sum(len(each) for _, _, each in os.walk(dest)) == 100 * 5
    with pytest.raises(ValueError, match="closed"):
        writer.send(files(1))


@pytest.mark.parametrize("kind", KINDS)
async def test_who_keeps_to_room_is_never_far_ahead(dest: Path, arena: Arena, kind: WriterKind) -> None:
    async with opened(dest, arena, kind) as (writer, facts):
        for number in range(12):
            await writer.room()
            assert writer.backlog < ROWS_AHEAD
            writer.send(Remove(number, b"", [(b"none", True)] * 1500))
        assert writer.backlog < ROWS_AHEAD + 1500
    assert len(facts.all) == 12


@pytest.mark.parametrize("kind", KINDS)
async def test_a_block_that_fails_drops_what_has_not_begun(
    dest: Path, arena: Arena, kind: WriterKind
) -> None:
    with pytest.raises(KeyError):
        async with opened(dest, arena, kind) as (writer, facts):
            writer.send(files(0))
            await facts.until(1)
            for number in range(1, 200):
                writer.send(files(number, 100, b"d%d" % number))
            raise KeyError
    made = len(os.listdir(dest)) - 1
    assert made < 199
    done = [fact.token for fact in facts.all]
    assert done == list(range(len(done)))
    assert len(done) == made + 1  # What was done, was told.
    assert writer.backlog == 0
    assert not (dest / os.fsdecode(PARTIAL)).exists()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_directory_that_is_not_there_is_told(tmp_path: Path, arena: Arena, kind: WriterKind) -> None:
    async with opened(tmp_path / "none", arena, kind) as (writer, facts):
        writer.send(files(1, 5))
        writer.send(files(2, 10_000))
        await facts.until(1)
        await writer.room()
        writer.send(files(3))
        await facts.until(2)
        assert facts.all == [writer.broken] * 2
    assert writer.broken == Broken(1, errno.ENOENT, b"", "opening the directory")


@pytest.mark.parametrize("kind", KINDS)
async def test_without_an_arena_there_is_work_too(dest: Path, kind: WriterKind) -> None:
    (dest / "state" / "inner").mkdir(parents=True)
    (dest / "other").mkdir()
    async with opened(dest, None, kind, frozenset([b"state"])) as (writer, facts):
        writer.send(Remove(1, b"", [(b"state", True), (b"other", True)]))
    (fact,) = facts.all
    assert isinstance(fact, Done)
    assert fact.results == ["Device or resource busy", (1, 0, 0, 0)]


async def test_a_block_that_does_nothing(dest: Path, arena: Arena) -> None:
    for kind in KINDS:
        async with open_writer(bytes(dest), frozenset(), arena, kind):
            pass
        with contextlib.suppress(asyncio.CancelledError):
            async with open_writer(bytes(dest), frozenset(), arena, kind):
                raise asyncio.CancelledError
    assert os.listdir(dest) == []


# The process.


@contextlib.asynccontextmanager
async def process(dest: Path, arena: Arena) -> AsyncIterator[tuple[ProcessWriter, Facts]]:
    async with opened(dest, arena, "process") as (writer, facts):
        assert isinstance(writer, ProcessWriter)
        yield writer, facts


async def test_the_death_of_the_process_is_told(dest: Path, arena: Arena) -> None:
    async with process(dest, arena) as (writer, facts):
        writer.send(files(1))
        await facts.until(1)
        os.kill(writer.pid, signal.SIGSTOP)
        writer.send(files(2))
        writer.send(files(3, 10_000))
        waiting = asyncio.ensure_future(writer.room())
        os.kill(writer.pid, signal.SIGKILL)
        await facts.until(2)
        await waiting
        writer.send(files(4))
    assert facts.all[1] == Broken(2, 0, b"", "writing")


async def test_its_death_is_told_again_to_whoever_sends_more(dest: Path, arena: Arena) -> None:
    """Who listens now may not have listened then; nobody waits for the answer of the dead."""
    async with process(dest, arena) as (writer, facts):
        os.kill(writer.pid, signal.SIGKILL)
        await facts.until(1)
        later = Facts(writer)
        writer.send(files(1))
        assert later.all == []
        assert await later.until(1) == facts.all == [Broken(NOTHING_DONE, 0, b"", "writing")]


async def test_its_death_at_the_end_is_told_too(dest: Path, arena: Arena) -> None:
    async with process(dest, arena) as (writer, facts):
        os.kill(writer.pid, signal.SIGKILL)
        writer.send(files(1, 1000))
    assert facts.all[-1] == Broken(1, 0, b"", "writing")


async def test_signals_that_end_p2psync_do_not_end_it(dest: Path, arena: Arena) -> None:
    """Sent at once, before it can have dealt with them, and later."""
    async with process(dest, arena) as (writer, facts):
        for count in (1, 2, 3):
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                os.kill(writer.pid, number)
            writer.send(files(count))
            await facts.until(count)
        assert os.getpgid(writer.pid) != os.getpgrp()  # Ctrl-C goes to a group.


async def test_it_is_gone_and_reaped_after_the_block(dest: Path, arena: Arena) -> None:
    async with process(dest, arena) as (writer, _):
        pid = writer.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_orders_that_do_not_fit_the_socket_do_not_block_the_loop(dest: Path, arena: Arena) -> None:
    async with process(dest, arena) as (writer, facts):
        os.kill(writer.pid, signal.SIGSTOP)
        for number in range(50):
            writer.send(files(number, 500, b"d"))
        os.kill(writer.pid, signal.SIGCONT)
        await facts.until(1)
        await writer.cancel()
    assert len(facts.all) < 50


def test_the_process_loads_no_more_than_it_needs() -> None:
    heavy = "asyncio", "sqlite3", "cryptography", "aiohttp", "ctypes", "multiprocessing", "p2psync.state"
    code = "import sys, p2psync.tree.writer_main; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert not {name for name in loaded.split() if name.startswith(heavy)}
