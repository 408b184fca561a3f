"""What a program does to a running transfer: it pauses, goes on, and changes its speed, from any thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from tests.node.download_arena import BIG, MIXED, RATE, Run, sources
from tests.node.swarm_sim import Arena

from p2psync.sources.http.rate import RATE_MIN, RateLimiter
from p2psync.supply.control import Control


async def test_who_waits_goes_on_when_another_thread_says_so() -> None:
    control = Control()
    control.pause()
    waiting = [asyncio.ensure_future(control.going()) for _ in range(3)]
    await asyncio.sleep(0)
    assert control.paused
    assert not any(task.done() for task in waiting)
    thread = threading.Thread(target=control.resume)
    thread.start()
    await asyncio.gather(*waiting)
    thread.join()
    await control.going()
    assert not control.paused


async def test_a_waiter_that_is_cancelled_is_forgotten() -> None:
    control = Control()
    control.pause()
    waiting = asyncio.ensure_future(control.going())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert control._waiting == set()
    control.resume()


async def test_paused_again_before_it_woke_it_waits_on() -> None:
    control = Control()
    control.pause()
    waiting = asyncio.ensure_future(control.going())
    await asyncio.sleep(0)
    control.resume()
    control.pause()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    control.resume()
    await waiting


def test_a_limit_can_be_set_changed_and_lifted() -> None:
    control = Control()
    assert control.limiter.take(1 << 30) == 0
    control.limit(1000)
    assert control.limiter.take(1000) > 0
    control.limit(None)
    assert control.limiter.take(1 << 30) == 0
    control.limit(1)
    assert control.limiter.rate == RATE_MIN


def test_what_is_owed_is_paid_at_the_new_rate() -> None:
    limiter = RateLimiter(1000, lambda: 0.0)
    owed = limiter.take(10_000)
    limiter.rate = 100_000
    assert 0 < limiter.take(0) <= owed / 90


def test_a_paused_download_asks_for_nothing_and_does_not_count_as_silent(
    make: Callable[..., Arena], run: Run
) -> None:
    arena = make(MIXED, *sources(2))
    control = Control()
    control.pause()

    async def hold() -> None:
        fetching = asyncio.ensure_future(arena.fetch(silence=5.0, control=control))
        await asyncio.sleep(3600)  # Seconds of the simulator.
        assert not fetching.done()
        assert arena.watcher.by_source == {}
        control.resume()
        await fetching

    run(hold())
    assert arena.differs() == []


def test_a_download_paused_half_way_keeps_what_came_and_asks_for_the_rest(
    make: Callable[..., Arena], run: Run
) -> None:
    arena = make(BIG, *sources(2, rate=RATE))
    control = Control()

    async def pause_half_way() -> int:
        fetching = asyncio.ensure_future(arena.fetch(control=control))
        await asyncio.sleep(1.0)
        control.pause()
        await asyncio.sleep(100)
        held = sum(arena.watcher.by_source.values())
        await asyncio.sleep(100)
        assert sum(arena.watcher.by_source.values()) == held, "what was under way has come, and no more"
        control.resume()
        await fetching
        return held

    held = run(pause_half_way())
    assert 0 < held < 24 << 20
    assert arena.differs() == []
    assert sum(arena.watcher.by_source.values()) < 1.05 * (24 << 20)
