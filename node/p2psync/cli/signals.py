"""How a command is stopped from outside: SIGINT, SIGTERM and SIGHUP end it in order, with rsync's exit code
20.

A SIGHUP that whoever started the command had it ignore (nohup(1)) stays ignored.

A command that computes is stopped by an exception in its main thread, one that runs an event loop by
cancelling its task, so that ``finally`` blocks and task groups leave the disk clean either way.
"""

from __future__ import annotations

import signal
from collections.abc import Coroutine
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")


class Stopped(BaseException):
    """A signal arrived. No Exception, as KeyboardInterrupt is none: only the program's frame may catch it."""


def stop_on_signals() -> None:
    """Make SIGTERM and SIGHUP raise Stopped in the main thread, as SIGINT raises KeyboardInterrupt."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise Stopped

    for number in _stopping() - {signal.SIGINT}:
        signal.signal(number, stop)


def _stopping() -> set[signal.Signals]:
    """The signals that stop a command."""
    hangup = set() if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else {signal.SIGHUP}
    return {signal.SIGINT, signal.SIGTERM, *hangup}


def run_async(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end; a signal that stops cancels it, and the second one is not waited for.

    Raises Stopped when a signal ended it. A coroutine that finishes in spite of being cancelled returns
    normally: that is how a daemon whose work is to run until told to stop ends well.
    """

    import asyncio  # a third of the time that --help takes

    async def guarded() -> T:
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(main)
        stopped = False
        stopping = _stopping()

        def stop() -> None:
            nonlocal stopped
            stopped = True
            for number in stopping:
                loop.remove_signal_handler(number)
            stop_on_signals()
            signal.signal(signal.SIGINT, signal.default_int_handler)
            task.cancel()

        for number in stopping:
            loop.add_signal_handler(number, stop)
        try:
            return await task
        except asyncio.CancelledError:
            if stopped:
                raise Stopped from None
            raise

    return asyncio.run(guarded())
