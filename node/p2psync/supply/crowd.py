"""Those who fetch the same at the same time, as mirrors do when something new was published: who of them
asks a source that has all for what, so that it sends everything about once and they give each other the
rest. Pure.

Nobody has a say in it and nothing is agreed upon: each works out the same shares from the keys that it knows,
and what somebody does not bring is asked for where it is.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from p2psync.sources.swarm import Member, Swarm
from p2psync.supply.jobs import Part

WORD: Final = 8
WORD_MASK: Final = (1 << 64) - 1
"""Bytes of ids that shares depend on, and the bits of a number of so many."""
SPREAD_SIZE: Final = 4 << 20
"""Bytes from which on an object is asked for in stretches in random order, so that those who fetch it at the
same time have different ones to give each other. Smaller ones are had before anybody hears of it.
"""
STRETCHES: Final = 64
STRETCH_MIN: Final = 1 << 20
STRETCH_MAX: Final = 64 << 20
"""An object is divided into so many stretches, as far as each has these bytes: long enough for a server to
read from a disk in one go.
"""
PATIENCE: Final = 3.0
"""Seconds from the first request on for which a mirror asks who has all for its own share alone: as long as
it takes until the others have some of theirs and it is known of them.
"""
ENOUGH: Final = 0.5
"""The part of what a source that has all could give that others have to bring for it to be spared: a new
snapshot may take up to twice as long, and comes from the origin about once.
"""


def stretch_of(size: int) -> int:
    """Bytes of a stretch of an object of ``size`` bytes."""
    return size if size < SPREAD_SIZE else min(max(size // STRETCHES, STRETCH_MIN), STRETCH_MAX)


def crowd_of(swarm: Swarm) -> list[bytes]:
    """The node keys of sources that do not have all of the snapshot, or do not say so: they may be fetching
    it.
    """
    others = (member for member in swarm.usable() if not swarm.has_all(member))
    return [member.node_key for member in others if member.node_key is not None]


def is_ours(part: Part, own: bytes, crowd: Sequence[bytes]) -> bool:
    """Whether the node with the key ``own`` is the one to bring ``part`` into its crowd: the one with the
    highest number for it (rendezvous hashing, Thaler and Ravishankar 1998).
    """
    job = part.job
    point = int.from_bytes(job.digest[:WORD], "big") + part.offset // stretch_of(job.size)
    mine = _number(point, own)
    return all(_number(point, key) < mine for key in crowd)


def _number(point: int, key: bytes) -> int:
    return (point * (int.from_bytes(key[:WORD], "big") | 1)) & WORD_MASK


def spares(swarm: Swarm, member: Member, others: Collection[Member], at_work: Collection[Member]) -> bool:
    """Whether a source that has all is asked for nothing but this node's share, since ``others``, who have
    said which parts they have, are ``at_work`` and bring the rest as quickly.
    """
    if not swarm.has_all(member):
        return False
    good = [other for other in others if other.is_reliable and other in at_work]
    # On a line that is slow for all, a source may have been quick only as long as nobody else was asked.
    return bool(good) and sum(other.rate for other in good) >= ENOUGH * min(member.rate, swarm.line)
