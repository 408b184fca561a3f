"""One check of a holder, on real sockets: who passes, and as what each way to lie or to fail is taken."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from tests.node.publishing import write
from tests.node.wire_support import Served, says, scripted, served

from p2psync.checks import Suspect, Verdict
from p2psync.content.interface import Taken
from p2psync.content.library import StateLibrary
from p2psync.daemon import examine as examining
from p2psync.daemon.examine import Examined, Subject, examine
from p2psync.daemon.samples import Sample, Samples, draw
from p2psync.format.coverage import Coverage
from p2psync.format.head import ArchiveHead
from p2psync.publish import publish
from p2psync.sources.wire import ROW_LENGTH, Have, Row

ALL = Coverage(True, 0, 1)
PART = Coverage(False, 0, 0)
RANDOM = random.Random(3)


@pytest.fixture
async def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    monkeypatch.setattr(examining, "AGAIN", 0.0)
    for number in range(40):
        write(tmp_path / "t" / f"d{number % 3}" / f"f{number}", RANDOM.randbytes(2000))
    write(tmp_path / "t" / "large" / "l", RANDOM.randbytes(2_000_000))
    async with served(tmp_path, tmp_path / "t") as made:
        yield made


def head_of(node: Served) -> ArchiveHead:
    head = node.state.heads.newest(node.archive)
    assert head is not None
    return head


def samples_of(node: Served) -> Samples:
    made = draw(node.state, head_of(node).snapshot, random.Random(1))
    assert made is not None
    return made


async def check(
    node: Served,
    claim: Coverage,
    *,
    places: Sequence[str] = (),
    key: bytes | None = None,
    samples: Samples | None = None,
    newest: ArchiveHead | None = None,
    suspects: tuple[Suspect, ...] = (),
) -> Examined:
    where = tuple(places) or (node.address,)
    subject = Subject(node.archive, key or node.identity.public_key, where, claim, suspects)
    drawn = samples_of(node) if samples is None else samples
    return await examine(subject, newest or head_of(node), drawn, random.Random(2))


async def test_a_complete_holder_passes_and_its_rate_is_measured(node: Served) -> None:
    result, place = await check(node, ALL)
    assert place == node.address
    assert (result.verdict, result.complete, result.behind) == (Verdict.RIGHT, True, False)
    assert result.asked == result.came == examining.ASKED
    assert (result.epoch, result.seq) == (0, 1)
    assert result.rate > 0


async def test_another_node_at_the_address_is_asked_nothing_else(node: Served) -> None:
    result, place = await check(node, ALL, key=bytes(32))
    assert (result.verdict, place) == (Verdict.OTHER, "")
    assert node.server.counters.batches == 0


async def test_nobody_at_the_address(node: Served) -> None:
    async with scripted(says()) as gone:
        pass
    result, place = await check(node, ALL, places=[gone.address])
    assert (result.verdict, place) == (Verdict.FAILED, "")
    assert gone.address in result.reason


async def test_one_of_two_addresses_is_enough(node: Served) -> None:
    async with scripted(says()) as gone:
        pass
    result, place = await check(node, ALL, places=[gone.address, node.address])
    assert (result.verdict, place) == (Verdict.RIGHT, node.address)


async def test_nonsense_is_a_failure(node: Served) -> None:
    async with scripted(says(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc")) as nonsense:
        result, place = await check(node, ALL, places=[nonsense.address])
    assert (result.verdict, place) == (Verdict.FAILED, "")


async def test_one_that_takes_for_ever_is_given_up(node: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    monkeypatch.setattr(examining, "TIMEOUT", 0.1)
    async with scripted(silent) as mute:
        result, _ = await check(node, ALL, places=[mute.address])
    assert result.verdict == Verdict.FAILED
    assert result.reason.startswith(f"{mute.address}: took more than")


async def test_one_that_is_behind_may_lack_what_is_new_and_is_not_called_complete(node: Served) -> None:
    samples = samples_of(node)
    new = [one._replace(ref=one.ref._replace(digest=bytes(32))) for one in samples.anywhere]
    newest = head_of(node)._replace(record=head_of(node).record._replace(seq=2))
    result, _ = await check(node, ALL, samples=samples._replace(anywhere=new), newest=newest)
    assert (result.verdict, result.behind, result.complete) == (Verdict.RIGHT, True, False)
    assert result.came == 0


async def test_one_that_claims_the_newest_snapshot_and_lacks_some_of_it(node: Served) -> None:
    samples = samples_of(node)
    shutil.rmtree(node.tree)
    result, place = await check(node, ALL, samples=samples)
    assert (result.verdict, place) == (Verdict.LACKS, node.address)
    assert result.reason.startswith("lacks 8 chunks of 8 that it says it has, one of them of '")


async def test_one_that_has_a_later_snapshot_may_lack_what_was_only_in_this_one(node: Served) -> None:
    """It was published elsewhere, or a moment ago. A later claim without a signed head helps nobody."""
    samples, before = samples_of(node), head_of(node)
    gone = [one._replace(ref=one.ref._replace(digest=bytes(32))) for one in samples.anywhere]
    absent = samples._replace(anywhere=gone)
    result, _ = await check(node, Coverage(True, 0, 9), samples=absent)
    assert result.verdict == Verdict.LACKS
    write(node.tree / "new", b"new")
    publish(node.state, node.tree)
    result, _ = await check(node, Coverage(True, 0, 2), samples=absent, newest=before)
    assert (result.verdict, result.behind) == (Verdict.RIGHT, False)


class Falsified(StateLibrary):
    """Serves wrong bytes for everything but metadata; or says that it has what it has not."""

    wrong = False
    boasts = False

    def gather(self, rows: Sequence[Row], room: memoryview) -> Taken:
        taken = super().gather(rows, room)
        if self.wrong:
            room[ROW_LENGTH.size] ^= 1
        return taken

    def have(self, digests: Sequence[bytes]) -> list[Have]:
        return [True for _ in digests] if self.boasts else super().have(digests)


@pytest.fixture
def falsified(node: Served, monkeypatch: pytest.MonkeyPatch) -> Falsified:
    node.library.__class__ = Falsified
    assert isinstance(node.library, Falsified)
    return node.library


async def test_wrong_bytes_and_the_chunk_is_remembered(node: Served, falsified: Falsified) -> None:
    falsified.wrong = True
    samples = samples_of(node)
    result, _ = await check(node, ALL, samples=samples)
    assert result.verdict == Verdict.WRONG
    (suspect,) = result.suspects
    assert suspect.path in {sample.path for sample in samples.anywhere}
    assert f"'{suspect.path.decode()}'" in result.reason
    falsified.wrong = False
    assert (await check(node, ALL, suspects=(suspect,)))[0].verdict == Verdict.RIGHT
    still = suspect._replace(digest=bytes(32))
    assert (await check(node, ALL, suspects=(still,)))[0].verdict == Verdict.WRONG


async def test_of_one_that_has_parts_those_are_found_that_it_has(node: Served) -> None:
    samples = samples_of(node)
    there = samples._replace(anywhere=[], parts=_unknown(samples.parts, (b"d1", b"d2")))
    result, _ = await check(node, PART, samples=there)
    assert (result.verdict, result.complete) == (Verdict.RIGHT, False)
    assert result.parts == (b"d0", b"large")


def _unknown(samples: Sequence[Sample], parts: Sequence[bytes]) -> list[Sample]:
    """The samples, of which those of some parts are of objects that nobody has."""
    return [
        one._replace(ref=one.ref._replace(digest=bytes(32))) if one.part in parts else one for one in samples
    ]


async def test_one_that_has_nothing_yet_has_not_failed(node: Served) -> None:
    samples = samples_of(node)
    nothing = samples._replace(
        anywhere=[], parts=_unknown(samples.parts, [one.part for one in samples.parts])
    )
    assert (await check(node, PART, samples=nothing))[0].verdict == Verdict.EMPTY


async def test_one_that_says_it_has_parts_which_it_has_not(node: Served, falsified: Falsified) -> None:
    falsified.boasts = True
    samples = samples_of(node)
    boasted = samples._replace(anywhere=[], parts=_unknown(samples.parts, [b"d1"]))
    result, _ = await check(node, PART, samples=boasted)
    assert result.verdict == Verdict.LACKS
    assert "lacks 1 chunk of 4" in result.reason


async def test_one_that_does_not_serve_the_archive_has_nothing(node: Served) -> None:
    subject = Subject(bytes(32), node.identity.public_key, (node.address,), ALL)
    result, _ = await examine(subject, head_of(node), samples_of(node), random.Random(2))
    assert result.verdict == Verdict.EMPTY
