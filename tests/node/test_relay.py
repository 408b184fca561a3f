"""Events come from threads to the loop, many of them as one; and a cancelled program stops a thread."""

from __future__ import annotations

import asyncio
import threading

import pytest

from p2psync.errors import FileError, InterruptedFetch
from p2psync.events import SILENT, FileDone, Phase, Teller, Warned
from p2psync.progress import Progress
from p2psync.relay import ClientEvent, in_thread, relayed


async def test_events_come_in_order_in_the_loops_thread_and_progress_sums_them_up() -> None:
    heard: list[ClientEvent] = []
    threads: set[int] = set()

    def hear(event: ClientEvent) -> None:
        threads.add(threading.get_ident())
        if not isinstance(event, Progress):
            heard.append(event)
        else:
            last.append(event)

    last: list[Progress] = []

    def work(tell: Teller) -> None:
        tell.phase("reading", 5000, 1000)
        for number in range(1000):
            tell.advance(5, 1)
            if number % 100 == 0:
                tell.warn(f"warning {number}")
                tell.file_done(b"%d" % number, 5)

    async with relayed(hear, files=True) as tell:
        await in_thread(work, tell)
    assert threads == {threading.get_ident()}
    expected: list[ClientEvent] = [Phase("reading", 5000, 1000)]
    for number in range(0, 1000, 100):
        expected += [Warned(f"warning {number}"), FileDone(b"%d" % number, 5)]
    assert heard == expected
    assert (last[-1].bytes, last[-1].files, last[-1].fraction) == (5000, 1000, 1.0)


async def test_progress_has_what_the_displays_show() -> None:
    last: list[Progress] = []
    async with relayed(lambda event: last.append(event) if isinstance(event, Progress) else None) as tell:
        tell.phase("fetching", 1000, 10, done_bytes=500, done_files=5)
        tell.advance(200, 1, reused=150, path=b"a/b")
        tell.served(30, 2)
    now = last[-1]
    assert (now.bytes, now.files, now.reused, now.path) == (700, 6, 150, b"a/b")
    assert (now.sent, now.peers, now.stalled) == (30, 2, None)


async def test_progress_comes_while_the_work_goes_on() -> None:
    told = asyncio.Event()

    def hear(event: ClientEvent) -> None:
        if isinstance(event, Progress) and event.bytes == 7:
            told.set()

    async with relayed(hear) as tell:
        tell.phase("fetching")
        tell.advance(7, 0)
        await told.wait()


async def test_what_the_program_raises_ends_the_work_and_comes_out() -> None:
    calls: list[ClientEvent] = []

    def refuse(event: ClientEvent) -> None:
        calls.append(event)
        raise ZeroDivisionError("enough")

    with pytest.raises(ZeroDivisionError, match="enough"):
        async with relayed(refuse) as tell:
            tell.phase("fetching")
            tell.warn("one")
            await asyncio.Event().wait()
    assert calls == [Phase("fetching")], "nothing more is told to a program that has failed"


async def test_what_was_warned_of_is_heard_before_the_error_comes_out() -> None:
    heard: list[ClientEvent] = []
    with pytest.raises(FileError, match="the disk"):
        async with relayed(heard.append) as tell:
            tell.warn("careful")
            raise FileError("the disk is full")
    assert heard == [Warned("careful")]


async def test_cancelled_it_is_cancelled() -> None:
    began = asyncio.Event()

    async def work() -> None:
        async with relayed(lambda _: None):
            began.set()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(work())
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_without_an_ear_nothing_is_made_and_a_teller_is_used_as_it_is() -> None:
    async with relayed(None) as tell:
        assert tell is SILENT
    mine = Teller(print)
    async with relayed(mine) as tell:
        assert tell is mine


async def test_a_cancelled_thread_ends_where_it_next_tells_something_and_is_waited_for() -> None:
    loop = asyncio.get_running_loop()
    began, ended = asyncio.Event(), threading.Event()

    def work(tell: Teller) -> None:
        loop.call_soon_threadsafe(began.set)
        try:
            while True:
                tell.advance(1, 0)
        except InterruptedFetch:
            ended.set()
            raise

    task = asyncio.ensure_future(in_thread(work, SILENT))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
