"""What is asked of sources, and the errors that a fetch tells apart.

Retry, limits, bans and caches are layers around a source (``p2psync.sources.interfaces``), not branches in
it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from p2psync.errors import NetworkError, P2psyncError

T = TypeVar("T")


class NotHere(P2psyncError):
    """The source answered, and does not have what was asked for; another may."""

    exit_code = NetworkError.exit_code


class NotOffered(P2psyncError):
    """Sources of this kind, or this server, never answer such a request; do not ask again."""

    exit_code = NetworkError.exit_code


class Unreachable(NetworkError):
    """The other node tried to reach us where we said that we serve, and could not."""


class Busy(NetworkError):
    """The other node has too much to do for this address just now; it will take the request later."""


class Later(NetworkError):
    """A server has too much to do just now, and may have said when to ask again."""

    def __init__(self, message: str, seconds: float) -> None:
        """``seconds`` from now on; 0: it did not say."""
        super().__init__(message)
        self.seconds = seconds


def wish_of(error: P2psyncError) -> float:
    """In how many seconds a source that failed wants to be asked again; 0 where it did not say."""
    return error.seconds if isinstance(error, Later) else 0.0


class Span(NamedTuple):
    """``length`` bytes (at least one) from ``offset`` of the object that ``digest`` names.

    ``path`` is where the object stands in the archive, for sources that know paths only: below the archive's
    root, whatever part of it is fetched and wherever to. ``size`` is the object's size, where known, by which
    those sources notice that a path holds another version.
    """

    digest: bytes
    offset: int
    length: int
    path: bytes | None = None
    size: int | None = None


class Made(NamedTuple, Generic[T]):
    """An answer that is made for who asks."""

    rows: list[T | None]
    """What there is of each piece that was asked for; None where it is not there."""
    seconds: float
    """How long the source says that it worked for it."""


def places(pieces: Sequence[Span], into: memoryview) -> list[memoryview]:
    """The part of ``into`` that belongs to each piece. Raises ValueError unless they fill it."""
    made: list[memoryview] = []
    position = 0
    for piece in pieces:
        if piece.length < 1 or piece.offset < 0:
            raise ValueError("a span has at least one byte and begins within its object")
        made.append(into[position : position + piece.length])
        position += piece.length
    if position != into.nbytes:
        raise ValueError(f"a buffer of {into.nbytes} bytes for spans of {position}")
    return made


def runs(pieces: Sequence[Span]) -> Iterator[range]:
    """Indices of neighbours that are one stretch of one object, and so can be asked for by one range."""
    start = 0
    for index in range(1, len(pieces) + 1):
        if index == len(pieces) or not _continues(pieces[index - 1], pieces[index]):
            yield range(start, index)
            start = index


def _continues(one: Span, other: Span) -> bool:
    return one.digest == other.digest and one.path == other.path and one.offset + one.length == other.offset


async def together(jobs: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Run ``jobs`` at once; the first failure cancels the others and is raised by itself."""
    if len(jobs) == 1:
        await jobs[0]
        return
    try:
        async with asyncio.TaskGroup() as group:
            for job in jobs:
                group.create_task(job)
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
