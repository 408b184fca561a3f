"""One check of one holder: is it the node that it says, which snapshot is it at, has it the chunks that it
says it has, are they right, and how quick is it. Nothing of what it says of itself is believed; it decides
only what is asked for.

What follows from a check is decided in ``p2psync.checks``, and when there is one in ``mirror_checks``.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from p2psync.checks import Result, Suspect, Verdict
from p2psync.daemon.samples import Chunk, Sample, Samples
from p2psync.errors import NetworkError, P2psyncError, show_path
from p2psync.format.coverage import Coverage
from p2psync.format.head import ArchiveHead, decode_head
from p2psync.format.ids import chunk_id
from p2psync.sources.node import PeerSource
from p2psync.sources.source import Span, places
from p2psync.text import count

TIMEOUT: Final = 30.0
"""Seconds for a check: 600 kB, and a dozen round trips, on a line that is worth recommending."""
CONNECT_TIMEOUT: Final = 5.0
IDLE_TIMEOUT: Final = 15.0
ASKED: Final = 8
"""Chunks that are asked for. One who lacks, or has falsified, half of an archive is found out by the first
check with 99.6 %, with a tenth of it by four checks with 97 %, with a hundredth by those of two days with
98 %.
"""
RATE_BYTES_MIN: Final = 64 << 10
"""Bytes of a request by which a rate is measured: of less, the round trip would be all that is seen."""
AGAIN: Final = 2.0
"""Seconds until what did not come is asked for once more: files may be changing places just then."""


class Subject(NamedTuple):
    """Who is checked, and what it says."""

    archive: bytes
    key: bytes
    places: tuple[str, ...]
    """HOST:PORT."""
    claim: Coverage
    suspects: tuple[Suspect, ...] = ()
    """Chunks that came wrong before."""


class Examined(NamedTuple):
    """What came of it, and where the holder proved its key; "" where it did not."""

    result: Result
    place: str = ""


class _Asked(NamedTuple):
    """A chunk that is asked for, and the path that it is told people by."""

    ref: bytes
    chunk: Chunk
    path: bytes

    @property
    def span(self) -> Span:
        return Span(self.ref, self.chunk[0], self.chunk[1])


class _WrongError(P2psyncError):
    """Chunks came that are something else."""

    def __init__(self, wrong: Sequence[_Asked]) -> None:
        super().__init__(f"sent wrong bytes for a chunk of {_name(wrong[0])}")
        self.wrong = tuple(Suspect(each.ref, *each.chunk, each.path) for each in wrong)


async def examine(subject: Subject, newest: ArchiveHead, samples: Samples, chance: random.Random) -> Examined:
    """Check a holder, at the first of its addresses where it is found."""
    said = "names no address"
    verdict = Verdict.FAILED
    for place in subject.places:
        source = PeerSource(place, connections=1, connect_timeout=CONNECT_TIMEOUT, idle_timeout=IDLE_TIMEOUT)
        proved = ""
        try:
            async with asyncio.timeout(TIMEOUT):
                if (await source.info()).key != subject.key:
                    verdict, said = Verdict.OTHER, f"another node answers at {place}"
                    continue
                proved = place
                return Examined(await _examine(source, subject, newest, samples, chance), place)
        except TimeoutError:
            said = f"{place}: took more than {TIMEOUT:.0f} s to answer"
        except P2psyncError as error:
            said = str(error)
        finally:
            await source.close()
        if proved:
            return Examined(Result(Verdict.FAILED, said), proved)
    return Examined(Result(verdict, said))


async def _examine(
    source: PeerSource, subject: Subject, newest: ArchiveHead, samples: Samples, chance: random.Random
) -> Result:
    """The check of a node that has proved its key. Raises NetworkError, FormatError, TrustError."""
    raw = await source.head(subject.archive)
    if raw is None:
        return Result(Verdict.EMPTY, "does not serve the archive")
    head = decode_head(raw)
    if head.archive != subject.archive:
        raise NetworkError(f"{source.name}: gave another archive's head")
    claim = subject.claim
    at = (claim.epoch, claim.seq) if claim.complete else (head.epoch, head.seq)
    ours = newest.epoch, newest.seq
    # One that has a later head, which nobody can make up, need not have what is of this one alone.
    whole = claim.complete and at >= ours and (head.epoch, head.seq) <= ours
    made = Result(Verdict.RIGHT, epoch=at[0], seq=at[1], behind=at < ours)
    try:
        if subject.suspects:
            await _read(source, [_suspected(suspect) for suspect in subject.suspects])
        if claim.complete:
            return await _whole(source, made, samples, chance, strict=whole)
        return await _parts(source, made, samples, chance)
    except _WrongError as error:
        return made._replace(verdict=Verdict.WRONG, reason=str(error), suspects=error.wrong)


async def _whole(
    source: PeerSource, made: Result, samples: Samples, chance: random.Random, *, strict: bool
) -> Result:
    """Check one that says that it has a snapshot in full; ``strict``: the newest one, so nothing may be
    missing.
    """
    some = _first_chunks(_some(samples.anywhere, chance))
    missing = await _read(source, some, again=strict)
    made = made._replace(asked=len(some), came=len(some) - len(missing))
    if missing and strict:
        lacks = f"lacks {count(len(missing), 'chunk')} of {len(some)} that it says it has"
        return made._replace(verdict=Verdict.LACKS, reason=f"{lacks}, one of them of {_name(missing[0])}")
    return made._replace(complete=strict, rate=await _rate(source, samples.anywhere, chance))


async def _parts(source: PeerSource, made: Result, samples: Samples, chance: random.Random) -> Result:
    """Check one that has parts: of which directories at the root, it says itself when it is asked, and must
    then give them.
    """
    known = [*samples.parts, *samples.anywhere]
    told = await source.have([sample.ref.digest for sample in known])
    # A bitmap says which chunks; what is asked for is whole files, and of the others nothing is held against
    # somebody who is just fetching.
    has = [sample for sample, have in zip(known, told, strict=True) if have is True]
    if not has:
        return made._replace(verdict=Verdict.EMPTY, reason="has nothing yet that it was asked for")
    some = _first_chunks(_some(has, chance))
    missing = await _read(source, some, again=True)
    made = made._replace(asked=len(some), came=len(some) - len(missing))
    if missing:
        lacks = f"lacks {count(len(missing), 'chunk')} of {len(some)} that it says it has"
        return made._replace(verdict=Verdict.LACKS, reason=f"{lacks}, one of them of {_name(missing[0])}")
    parts = tuple(sorted({sample.part for sample in has if b"/" in sample.path}))
    return made._replace(parts=parts, rate=await _rate(source, has, chance))


def _some(samples: Sequence[Sample], chance: random.Random) -> list[Sample]:
    return chance.sample(samples, min(ASKED, len(samples)))


def _first_chunks(samples: Sequence[Sample]) -> list[_Asked]:
    return [_Asked(sample.ref.digest, sample.chunks[0], sample.path) for sample in samples]


async def _rate(
    source: PeerSource,
    samples: Sequence[Sample],
    chance: random.Random,
    clock: Callable[[], float] = time.monotonic,
) -> float:
    """Bytes a second of one long request; 0 where nothing is large enough. Raises as `_read`."""
    long = [sample for sample in samples if sample.length >= RATE_BYTES_MIN]
    if not long:
        return 0.0
    sample = chance.choice(long)
    asked = [_Asked(sample.ref.digest, chunk, sample.path) for chunk in sample.chunks]
    began = clock()
    missing = await _read(source, asked)
    return 0.0 if missing else sample.length / max(clock() - began, 1e-6)


async def _read(source: PeerSource, asked: Sequence[_Asked], *, again: bool = False) -> list[_Asked]:
    """Ask for chunks and verify them; those that did not come, when they were asked for ``again`` as well.

    Raises _WrongError, NetworkError, FormatError.
    """
    spans = [each.span for each in asked]
    room = memoryview(bytearray(sum(span.length for span in spans)))
    came = await source.read(spans, room) if spans else []
    views = places(spans, room)
    wrong = [
        each
        for each, here, view in zip(asked, came, views, strict=True)
        if here and chunk_id(view) != each.chunk[2]
    ]
    if wrong:
        raise _WrongError(wrong)
    missing = [each for each, here in zip(asked, came, strict=True) if not here]
    if missing and again:
        await asyncio.sleep(AGAIN)
        return await _read(source, missing)
    return missing


def _suspected(suspect: Suspect) -> _Asked:
    chunk = suspect.offset, suspect.length, suspect.digest
    return _Asked(suspect.object, chunk, suspect.path)


def _name(asked: _Asked) -> str:
    return f"'{show_path(asked.path)}'"
