"""Work in threads: who waits for it and is cancelled goes on only when it has ended, and nothing is lost."""

from __future__ import annotations

import ast
import asyncio
import threading
from pathlib import Path

import pytest
from tests.help.held import Held, cancel_while_held, turns

import p2psync
from p2psync.errors import FileError
from p2psync.state.off_loop import off_loop, to_its_end

PACKAGE = Path(p2psync.__path__[0])


async def test_what_the_work_returns_or_raises_comes_out() -> None:
    loop_thread = threading.get_ident()
    assert await off_loop(threading.get_ident) != loop_thread
    with pytest.raises(FileError, match="full"):
        await off_loop(_fail)


def _fail() -> None:
    raise FileError("the disk is full")


@pytest.mark.parametrize("times", [1, 2, 5])
async def test_who_is_cancelled_however_often_goes_on_when_the_work_has_ended(times: int) -> None:
    held = Held()
    await cancel_while_held(asyncio.create_task(off_loop(held.work)), held, times)


async def test_the_work_is_told_to_stop_at_once() -> None:
    held = Held()
    task = asyncio.create_task(off_loop(held.work, stop=held.let_go))
    await held.begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert held.ended


async def test_a_result_that_nobody_takes_is_given_back() -> None:
    held, lost = Held("opened"), list[object]()
    task = asyncio.create_task(off_loop(held.work, stop=held.let_go, lost=lost.append))
    await held.begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert lost == ["opened"]


async def test_a_result_that_came_in_the_turn_of_the_cancelling_is_given_back_too() -> None:
    coming, lost = asyncio.get_running_loop().create_future(), list[object]()
    task = asyncio.create_task(to_its_end(coming, lost=lost.append))
    await asyncio.sleep(0)
    coming.set_result("opened")
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert lost == ["opened"]


async def test_a_result_that_is_taken_is_not_given_back() -> None:
    lost: list[object] = []
    assert await off_loop(lambda: "opened", lost=lost.append) == "opened"
    assert lost == []


async def test_what_went_wrong_after_the_cancelling_is_nobodys_any_more() -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    held, lost = Held(FileError("the index is closed")), list[object]()
    task = asyncio.create_task(off_loop(held.work, stop=held.let_go, lost=lost.append))
    await held.begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await turns()
    assert (lost, complaints) == ([], [])


async def test_a_time_out_waits_for_the_work_and_is_a_time_out() -> None:
    held = Held()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await off_loop(held.work, stop=held.let_go)
    assert held.ended


def test_no_thread_is_left_to_itself() -> None:
    """Elsewhere only modules are loaded in threads that nobody needs to wait for."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                work = ast.unparse(node.args[0]) if node.args else ""
                if node.func.attr == "to_thread" and work != "importlib.import_module":
                    found.append(f"{path.relative_to(PACKAGE)}:{node.lineno}")
    assert found == []
