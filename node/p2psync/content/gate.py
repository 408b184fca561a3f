"""Where those wait who may not go on all at once, in turns (`turns`). For the event loop's thread."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Final

from p2psync.content.debts import Debts
from p2psync.content.turns import Turn, Turns


class Gate:
    """Lets so many through at once, and fewer of clients that owe something."""

    def __init__(self, debts: Debts, at_once: int, owing_at_once: int) -> None:
        self._turns = Turns[Pass](debts, owing_at_once)
        self._at_once = at_once
        self._through = 0

    async def enter(self, client: str) -> Pass:
        """Wait for a turn, which the pass that is returned ends."""
        made = Pass(self)
        self._turns.put(client, made)
        self.admit()
        try:
            await made.called
        except asyncio.CancelledError:
            made.leave()
            raise
        return made

    def admit(self) -> None:
        """Call those whose turn it is."""
        while self._through < self._at_once and (turn := self._turns.take()) is not None:
            if turn.item.called.cancelled():
                self._turns.done(turn)
                continue
            self._through += 1
            turn.item.call(turn)

    def end(self, turn: Turn[Pass], took: float) -> None:
        """A turn has ended, or rests."""
        if (rest := self._turns.rest_of(turn, took)) > 0:
            asyncio.get_running_loop().call_later(rest, self._ended, turn)
        else:
            self._ended(turn)

    def _ended(self, turn: Turn[Pass]) -> None:
        self._through -= 1
        self._turns.done(turn)
        self.admit()


class Pass:
    """Of one who waits at a gate, or is through."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._turn: Turn[Pass] | None = None
        self.called: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def call(self, turn: Turn[Pass]) -> None:
        """It is one's turn."""
        self._turn = turn
        self.called.set_result(None)

    def leave(self, took: float = 0.0) -> None:
        """End the turn, if there is one that has not ended; it may rest after so many seconds of work."""
        if self._turn is not None:
            turn, self._turn = self._turn, None
            self._gate.end(turn, took)


pass_now: Final[ContextVar[Pass | None]] = ContextVar("pass_now", default=None)
"""With which a task came through a gate."""
