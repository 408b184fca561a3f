"""How much a source is asked for near the end of a fetch: so much that all sources are done at the same time.
Otherwise a slow one takes a last request whose end all the others wait for. Pure.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from p2psync.sources.swarm import Member
from p2psync.supply.jobs import Part

WAITING_MAX: Final = 256
"""Parts that wait, up to which an end may be near: they are counted for each request, which takes some 20
microseconds for so many.
"""


def share(member: Member, size: int, left: int, own: int, alive: Collection[Member]) -> int:
    """Bytes to ask of ``member``, at most ``size``; 0 if it has enough to do.

    ``left``: bytes that wait or are under way; ``own``: those that are under way from this source; ``alive``:
    all sources. One that has nothing to do always gets something: it may be the only one that answers.
    """
    total = sum(other.rate for other in alive)
    if not member.rate or not total:
        return size
    room = int(left * member.rate / total) - own
    return min(size, room) if room > 0 else 0 if own else 1


def waiting_bytes(parts: Collection[Part]) -> int | None:
    """How much waits; None while it is too much for the end to be near."""
    return None if len(parts) > WAITING_MAX else sum(part.size for part in parts)
