"""What sources that have only parts have by now, asked again and again while a fetch runs.

Peers and mirrors that are still fetching get more every second. Asked for what they lack they answer so, but
that costs a round trip each time; asked what they have, they can be asked for just that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator
from itertools import islice
from typing import Final

from p2psync.errors import FormatError, NetworkError
from p2psync.sources.source import NotHere
from p2psync.sources.swarm import Member, Swarm
from p2psync.sources.wire import HAVE_DIGESTS_MAX
from p2psync.supply.jobs import Job, Part

ROUND: Final = 0.25
"""Seconds between questions to one source: a kilobyte or so each, for the objects under construction. Peers
of one crowd have something new for each other that often (measured with eight at once, together with quicker
searches: the origin sent 1.8 files and not 2.35).
"""
MANY: Final = 512
"""Objects in one question from which on the next one comes later: an object takes 34 bytes in each."""


async def keep_asking(member: Member, swarm: Swarm, jobs: Callable[[], Collection[Job]]) -> None:
    """Keep ``member.held`` current for the unfinished ``jobs``, until cancelled."""
    while not (member.banned or member.dead):
        asked = list(islice(_doubtful(member, swarm, jobs()), HAVE_DIGESTS_MAX))
        if asked:
            await _ask(member, swarm, asked)
            wanted = {job.digest for job in jobs()}
            member.held = {digest: held for digest, held in member.held.items() if digest in wanted}
        await asyncio.sleep(ROUND * (1 + len(asked) // MANY))


def _doubtful(member: Member, swarm: Swarm, jobs: Collection[Job]) -> Iterator[Job]:
    """Of which objects it is not known whether a source has all of them by now."""
    for job in jobs:
        whole = member.held.get(job.digest, b"").count(0xFF) == len(job.have)
        if not (whole or swarm.refused(member, job.digest)):
            yield job


async def _ask(member: Member, swarm: Swarm, jobs: list[Job]) -> None:
    assert member.metadata is not None  # noqa: S101 - only such are asked
    try:
        answers = await member.metadata.have([job.digest for job in jobs])
    except (NotHere, FormatError):
        member.held = {}  # It does not say; then it is simply asked for what is wanted.
        return
    except NetworkError as error:
        swarm.failed(member, str(error))
        return
    held = dict(member.held)
    for job, answer in zip(jobs, answers, strict=True):
        digest = job.digest
        held.pop(digest, None)
        if answer is True:
            held[digest] = b"\xff" * len(job.have)  # Spare bits are those of chunks that no part has.
        elif isinstance(answer, bytes) and len(answer) == len(job.have):
            held[digest] = answer
        useful = digest in held and Part(job, 0, job.chunks).within(held[digest])
        if swarm.refused(member, digest):
            continue  # It sent wrong bytes meanwhile.
        if useful:
            swarm.claimed(member, digest)
        else:
            swarm.without(member, digest)
    member.held = held
