"""What a source of bulk bytes is asked for, and the facts that it gives back. Pure values.

An order is one request: spans of objects, where in the arena their bytes go, and how each chunk of them is
verified. Whoever carries it out (a thread that blocks on a socket, a simulation) receives the whole answer,
verifies every chunk, and only then tells what came. The event loop draws the consequences.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from blake3 import blake3

from p2psync.arena import Extent
from p2psync.errors import P2psyncError
from p2psync.sources.source import Span

ROW_HEAD: int = 4
"""Bytes that a batch puts in front of each row: its length."""


class Check(NamedTuple):
    """One chunk of an order: it is ``length`` bytes from ``offset`` of span ``span``, and must have this
    id.
    """

    span: int
    offset: int
    length: int
    digest: bytes


class Order(NamedTuple):
    """One request. ``extent`` has room for all spans and, where they go as a batch, ``ROW_HEAD`` bytes for
    each.

    ``checks`` are in the order of the spans and cover every byte of them.
    """

    token: int
    spans: list[Span]
    checks: list[Check]
    extent: Extent


class Answer(NamedTuple):
    """What came of an order, verified.

    ``positions``: for each span where in the arena its bytes lie, -1 if the source does not have it.
    ``wrong``: indices of the checks that failed (their spans have a position all the same). ``seconds``
    from the moment when the answer could begin: the request sent, and the answer before it complete.
    ``error``: nothing came, for this reason; the other fields are then empty, but for ``begun``: the answer
    had begun when it broke off.
    """

    token: int
    positions: list[int]
    wrong: list[int]
    seconds: float
    error: P2psyncError | None = None
    begun: bool = False

    @property
    def complete(self) -> bool:
        """Whether all that was asked for came, and was right."""
        return self.error is None and not self.wrong and min(self.positions, default=0) >= 0


def failure(order: Order, error: P2psyncError, *, begun: bool = False) -> Answer:
    """The answer that says that nothing came. ``begun``: it broke off."""
    # An error that was raised holds on to the frames it went through, and they to the arena.
    return Answer(order.token, [], [], 0.0, error.with_traceback(None), begun)


def wrong_checks(order: Order, positions: list[int], memory: memoryview) -> list[int]:
    """Indices of the checks whose bytes came, to ``positions`` in ``memory``, and are not what they should
    be.
    """
    failed: list[int] = []
    for index, (span, offset, length, digest) in enumerate(order.checks):
        begin = positions[span]
        if begin >= 0:
            begin += offset
            if blake3(memory[begin : begin + length]).digest() != digest:
                failed.append(index)
    return failed


class Bulk(Protocol):
    """A source of content. All methods are called in the event loop's thread and do not block."""

    @property
    def name(self) -> str:
        """``HOST:PORT`` or the URL, as people are shown it."""

    @property
    def received(self) -> int:
        """Every byte read from its bulk sockets so far."""

    @property
    def spans_max(self) -> int:
        """How many spans an order may have; one stretch of neighbouring chunks is one span."""

    @property
    def by_path(self) -> bool:
        """Whether it finds content by its path in the archive, and so needs the paths of spans."""

    def ask(self, order: Order, tell: Callable[[Answer], None]) -> None:
        """Carry out ``order`` behind those that are under way; ``tell`` is called once, in the event loop."""

    def cancel(self, token: int) -> None:
        """The order is no longer wanted: its answer may come early, as an error, but comes all the same,
        and only after nothing is written into its extent any more.
        """

    async def close(self) -> None:
        """Close the connection; orders under way are answered with an error first. Returns when nothing of it
        runs any more.
        """
