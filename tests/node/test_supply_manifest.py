"""Reading metadata from sources that fail, lack, lie, or serve a hostile archive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from blake3 import blake3
from tests.node.simulator import MTIME, Publisher, content, pack_rows
from tests.node.swarm_sim import Arena, Clock, SimSource, virtual

from p2psync.chunking import cut_object
from p2psync.errors import FormatError, PartialError
from p2psync.format.ids import Ref, object_id
from p2psync.format.limits import LISTING_BYTES_MAX
from p2psync.format.listing import decode_listing, encode_listing, file_entry
from p2psync.format.recipe import Recipe
from p2psync.supply.manifest import BATCH_BYTES, Manifest

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    return virtual(monkeypatch)


@pytest.fixture
def arena(tmp_path: Path) -> Iterator[Arena]:
    made = Arena(tmp_path, Publisher())
    yield made
    made.close()


def listing(arena: Arena, count: int, *, changed: int | None = None) -> tuple[Ref, Recipe]:
    """Publish a directory object of ``count`` entries, one of them perhaps different."""
    entries = [
        file_entry(b"package-%06d.deb" % n, 0o644, MTIME + (n == changed), Ref(9, blake3(b"%d" % n).digest()))
        for n in range(count)
    ]
    ref = arena.publisher.put(encode_listing(entries))
    return ref, cut_object(arena.publisher.objects[ref.digest])[1]


def test_many_small_objects_take_few_requests(arena: Arena, run: Run) -> None:
    refs = [
        arena.publisher.put(encode_listing([file_entry(b"%03d" % n, 0o644, MTIME, Ref(9, bytes(32)))]))
        for n in range(600)
    ]
    source = SimSource("only", arena.publisher)
    arena.join(source)
    assert run(arena.manifest.load(refs)) == []
    assert source.requests == 2
    assert [arena.manifest.listing(ref)[0].name for ref in refs] == [b"%03d" % n for n in range(600)]


def test_no_request_is_for_more_than_a_few_mib_of_them(
    arena: Arena, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer is in memory as a whole, and more than once, until it is stored."""
    refs = [listing(arena, n)[0] for n in range(600)]
    source = SimSource("only", arena.publisher)
    arena.join(source)
    sizes: list[int] = []
    metas = source.metas

    async def noting(asked: Sequence[Ref]) -> list[bytes | None]:
        sizes.append(sum(ref.size for ref in asked))
        return await metas(asked)

    monkeypatch.setattr(source, "metas", noting)
    assert run(arena.manifest.load(refs)) == []
    assert [len(arena.manifest.listing(ref)) for ref in refs] == list(range(600))
    assert sum(sizes) == sum(ref.size for ref in refs)
    assert max(sizes) <= BATCH_BYTES
    assert len(sizes) == 1 + sum(sizes) // BATCH_BYTES


def test_what_is_known_is_not_asked_for(arena: Arena, run: Run) -> None:
    ref, _ = listing(arena, 3)
    source = SimSource("only", arena.publisher)
    arena.join(source)
    run(arena.manifest.load([ref, ref]))
    run(arena.manifest.load([ref]))
    assert source.asked == [ref.digest]


def test_nobody_is_looked_for_when_all_is_known(arena: Arena, run: Run) -> None:
    ref, _ = listing(arena, 3)
    arena.state.meta.put(ref, arena.publisher.objects[ref.digest])

    async def never() -> None:
        raise AssertionError("looked for sources")

    manifest = Manifest(arena.state, arena.swarm, never)
    assert run(manifest.load([ref])) == []


def test_one_changed_entry_of_a_large_directory_costs_one_chunk(arena: Arena, run: Run) -> None:
    before, _ = listing(arena, 20_000)
    after, recipe = listing(arena, 20_000, changed=777)
    arena.state.meta.put(before, arena.publisher.objects[before.digest])
    source = SimSource("only", arena.publisher)
    arena.join(source)
    assert run(arena.manifest.load([after], {after: before})) == []
    assert arena.state.meta.get(after.digest) == arena.publisher.objects[after.digest]
    largest = max(length for _, length in recipe)
    assert source.received < 2 * largest + len(recipe.encode()) + 2000
    assert source.received < after.size / 5


@pytest.mark.parametrize("predecessor", ["none", "unknown", "unrelated"])
def test_a_large_directory_without_a_useful_predecessor(arena: Arena, run: Run, predecessor: str) -> None:
    ref, _ = listing(arena, 5_000)
    older = arena.publisher.put(content("other", 200_000))
    if predecessor == "unrelated":
        arena.state.meta.put(older, arena.publisher.objects[older.digest])
    arena.join(SimSource("only", arena.publisher))
    assert run(arena.manifest.load([ref], {} if predecessor == "none" else {ref: older})) == []
    assert len(arena.manifest.listing(ref)) == 5_000


def test_a_large_directory_from_two_who_lack_different_things(arena: Arena, run: Run) -> None:
    ref, _ = listing(arena, 5_000)
    arena.join(SimSource("without", arena.publisher, lacks=lambda digest: True))
    arena.join(SimSource("liar", arena.publisher, lies=lambda digest, offset: offset > 50_000))
    arena.join(SimSource("failing", arena.publisher, failing=3))
    assert run(arena.manifest.load([ref])) == []
    assert len(arena.manifest.listing(ref)) == 5_000


def test_who_lies_about_metadata_is_banned_and_the_truth_is_found(arena: Arena, run: Run) -> None:
    refs = [listing(arena, n)[0] for n in range(50)]
    liar = arena.join(SimSource("liar", arena.publisher, lies=lambda digest, offset: True))
    liar.rate = 1e9  # asked first
    arena.join(SimSource("good", arena.publisher))
    assert run(arena.manifest.load(refs)) == []
    assert liar.banned


def test_lying_recipes_are_refused(arena: Arena, run: Run) -> None:
    refs = [arena.publisher.put(content(n, 100_000 + n)) for n in range(5)]
    forged = Publisher(
        objects=arena.publisher.objects, recipes={ref.digest: b"\x92\x01\xc4\x00" for ref in refs}
    )
    liar = arena.join(SimSource("liar", forged))
    liar.rate = 1e9
    arena.join(SimSource("good", arena.publisher))
    recipes = run(arena.manifest.recipes(refs))
    assert set(recipes) == set(refs)
    assert liar.banned
    assert all(arena.state.meta.get_recipe(ref.digest) for ref in refs)


def test_an_invalid_recipe_under_the_right_hash_is_the_fault_of_the_archive(arena: Arena, run: Run) -> None:
    raw = Recipe(1, b"\0" * 35).encode()
    ref = Ref(100_000, object_id(raw))
    arena.publisher.recipes[ref.digest] = raw
    honest = [arena.join(SimSource(name, arena.publisher)) for name in ("a", "b")]
    with pytest.raises(FormatError, match="recipe"):
        run(arena.manifest.recipes([ref]))
    assert not any(member.strikes for member in honest)


def test_an_invalid_listing_under_the_right_hash_is_the_fault_of_the_archive(arena: Arena, run: Run) -> None:
    ref = arena.publisher.put(pack_rows([[b"..", 0, 0, 0, 0, b""]]))
    honest = arena.join(SimSource("honest", arena.publisher))
    assert run(arena.manifest.load([ref])) == []
    with pytest.raises(FormatError):
        arena.manifest.listing(ref)
    assert not honest.strikes


def test_a_directory_object_that_says_it_is_huge_is_not_asked_for(arena: Arena, run: Run) -> None:
    source = SimSource("only", arena.publisher)
    arena.join(source)
    with pytest.raises(FormatError, match="limit"):
        run(arena.manifest.load([Ref(LISTING_BYTES_MAX + 1, b"x" * 32)]))
    assert source.requests == 0


def test_what_no_source_has_is_returned(arena: Arena, run: Run) -> None:
    here, _ = listing(arena, 3)
    small = Ref(50, b"s" * 32)
    large = Ref(500_000, b"l" * 32)
    for name in ("a", "b"):
        arena.join(SimSource(name, arena.publisher), whole=name == "a")
    assert sorted(run(arena.manifest.load([small, here, large]))) == sorted([small, large])
    assert arena.state.meta.has(here.digest)
    with pytest.raises(PartialError):
        arena.manifest.listing(small)
    with pytest.raises(PartialError, match="snapshot"):
        run(arena.manifest.snapshot(small))


def test_without_sources_everything_is_missing(arena: Arena, run: Run) -> None:
    ref, _ = listing(arena, 3)
    large, _ = listing(arena, 5000)
    assert run(arena.manifest.load([ref, large])) == [ref, large]
    assert run(arena.manifest.recipes([large])) == {}


def test_a_source_that_fails_is_tried_again_where_it_is_the_only_one(arena: Arena, run: Run) -> None:
    refs = [listing(arena, n)[0] for n in range(5)]
    arena.join(SimSource("flaky", arena.publisher, failing=4))

    async def load() -> float:
        began = Clock.monotonic()
        assert await arena.manifest.load(refs) == []
        return Clock.monotonic() - began

    assert run(load()) > 1.0  # it was given time


def test_the_dead_and_web_servers_are_not_asked(arena: Arena, run: Run) -> None:
    ref, _ = listing(arena, 3)
    web = SimSource("http://web/", arena.publisher, web=True)
    arena.join(web)
    arena.join(SimSource("dead", arena.publisher, dead_from=0.0))
    assert run(arena.manifest.load([ref])) == [ref]
    assert web.requests == 0
    assert arena.member("dead").dead


def test_what_is_stored_was_verified(arena: Arena, run: Run) -> None:
    """Bytes of the right length and the wrong hash never reach the store."""
    ref, _ = listing(arena, 30)
    arena.join(SimSource("liar", arena.publisher, lies=lambda digest, offset: True))
    assert run(arena.manifest.load([ref])) == [ref]
    assert not arena.state.meta.has(ref.digest)
    assert decode_listing(arena.publisher.objects[ref.digest])


def taken(arena: Arena, run: Run, refs: Sequence[Ref]) -> float:
    """Seconds until all of these are here."""

    async def load() -> float:
        began = Clock.monotonic()
        assert await arena.manifest.load(refs) == []
        return Clock.monotonic() - began

    return cast(float, run(load()))


def some_listings(arena: Arena) -> list[Ref]:
    """Small objects, and one of several chunks."""
    return [*(listing(arena, n)[0] for n in range(1, 40)), listing(arena, 5000)[0]]


def test_a_holder_that_drips_holds_metadata_up_for_seconds_and_not_for_hours(arena: Arena, run: Run) -> None:
    refs = some_listings(arena)
    arena.join(SimSource("dripping", arena.publisher, rate=300.0), given=True)
    # Once it was quick.
    arena.swarm.succeeded(arena.member("dripping"), 1000, 0.001)
    arena.join(SimSource("good", arena.publisher))
    assert taken(arena, run, refs) < 6


@pytest.mark.parametrize("count", [8, 23])
def test_a_swarm_of_silent_holders_holds_metadata_up_for_seconds(arena: Arena, run: Run, count: int) -> None:
    refs = some_listings(arena)
    for number in range(count):
        arena.join(SimSource(f"silent {number}", arena.publisher, silent_from=0.0))
    arena.join(SimSource("good", arena.publisher))
    assert taken(arena, run, refs) < 15


def test_who_was_late_with_metadata_is_asked_last_from_then_on(arena: Arena, run: Run) -> None:
    arena.join(SimSource("silent", arena.publisher, silent_from=0.0))
    arena.swarm.succeeded(arena.member("silent"), 1000, 0.001)
    arena.join(SimSource("good", arena.publisher))

    async def load() -> None:
        await arena.manifest.load([listing(arena, 3)[0]])
        assert [member.name for member in arena.swarm.alive()] == ["good", "silent"]
        began = Clock.monotonic()
        await arena.manifest.load([listing(arena, 4)[0]])
        assert Clock.monotonic() - began < 0.2

    run(load())


def test_on_a_line_that_is_slow_for_all_nothing_is_asked_twice(arena: Arena, run: Run) -> None:
    for name in ("one", "other"):
        source = arena.join(SimSource(name, arena.publisher, rate=20_000.0))
        arena.swarm.succeeded(source, 20_000, 1.0)
    refs = some_listings(arena)
    assert taken(arena, run, refs) > 2
    asked = [
        digest for name in ("one", "other") for digest in cast(SimSource, arena.member(name).source).asked
    ]
    large, recipe = listing(arena, 5000)
    assert asked.count(large.digest) == 1 + len(recipe)  # Its recipe, and each of its chunks.
    assert len(asked) == len(refs) + len(recipe)


def test_who_is_being_tried_is_waited_for(arena: Arena, run: Run) -> None:
    ref, _ = listing(arena, 3)
    arena.swarm.expecting = lambda: not arena.swarm.members

    async def load() -> list[Ref]:
        loading = asyncio.ensure_future(arena.manifest.load([ref]))
        await asyncio.sleep(5)
        arena.join(SimSource("late", arena.publisher))
        return await loading

    assert run(load()) == []


def test_who_is_being_tried_for_ever_is_not(arena: Arena, run: Run) -> None:
    ref, _ = listing(arena, 3)
    arena.swarm.expecting = lambda: True
    assert run(arena.manifest.load([ref])) == [ref]
