"""Metadata of an archive: snapshots, directory objects and recipes, from the state directory or else from the
sources.

Everything is verified before it is stored, so whatever the store returns can be used. A large directory
object is put together from the chunks of its predecessor, where it has them, and only the others are asked
for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final

from p2psync.chunking import cut_object
from p2psync.errors import FormatError, PartialError
from p2psync.format.ids import Ref, chunk_id, object_id
from p2psync.format.limits import LISTING_BYTES_MAX
from p2psync.format.listing import Entry, decode_listing, read_listing, without_special_bits
from p2psync.format.recipe import Recipe, recipe_bytes_max
from p2psync.format.snapshot import Snapshot
from p2psync.sources.swarm import Swarm
from p2psync.state import State
from p2psync.state.off_loop import off_loop
from p2psync.state.offers import ANYBODY
from p2psync.supply.by_blocks import ByBlocks
from p2psync.supply.older import OLD_MAX, Want, spans_of
from p2psync.supply.questions import NO_CHUNK, SPANS_MAX, Questions

BATCH_OBJECTS: Final = 512
BATCH_BYTES: Final = 4 << 20
"""Small objects, and bytes of them, in one request: one round trip for some 200 KiB of usual listings. Those
of directories with a thousand files would be 30 MiB, which are in memory several times until they are stored.
"""
RECIPES_AT_ONCE: Final = 256
"""Recipes asked for together: what a node takes in one request."""
RECIPES_BYTES: Final = 64 << 20
"""Bytes that recipes that are asked for together may have at the most: usual ones have a fraction of it."""
USUAL_RECIPE: Final = 4
"""How many times as long a recipe may be as one whose chunks have the average length."""


class Manifest:
    """Reads metadata objects; each is fetched once and kept."""

    def __init__(
        self,
        state: State,
        swarm: Swarm,
        need_sources: Callable[[], Awaitable[None]],
        *,
        special_bits: bool = True,
        archive: bytes = ANYBODY,
        by_blocks: ByBlocks | None = None,
    ) -> None:
        """``need_sources`` is awaited before anything is asked for: with nothing to ask, nobody is looked
        for. ``special_bits``: whether modes have setuid, setgid and sticky bits as they were published, or
        none. ``archive``: the one whose metadata it is, and for whose readers. ``by_blocks``: how older
        versions serve, beyond the chunks that they share.
        """
        self._by_blocks = by_blocks
        self._state = state
        self._archive = archive
        self._questions = Questions(swarm)
        self._need_sources = need_sources
        self._special_bits = special_bits

    def listing(self, ref: Ref) -> list[Entry]:
        """The entries of a directory object that ``load`` has seen to, or that is known from before."""
        entries = self._state.meta.read(ref, decode_listing)
        if entries is None:
            raise PartialError(
                "a directory object is missing from the state directory; run again to fetch it"
            )
        return self._modes(entries)

    def listing_again(self, ref: Ref) -> list[Entry]:
        """Like ``listing``, of one that ``listing`` has read before in this run: it is not checked once
        more.
        """
        raw = self._state.meta.get(ref.digest)
        return self.listing(ref) if raw is None else self._modes(read_listing(raw))

    def _modes(self, entries: list[Entry]) -> list[Entry]:
        return entries if self._special_bits else list(map(without_special_bits, entries))

    async def snapshot(self, ref: Ref) -> Snapshot:
        """The snapshot object that a head names."""
        await self.load([ref])
        snapshot = self._state.meta.read(ref, Snapshot.decode)
        if snapshot is None:
            raise PartialError("no source has the snapshot that the head names; try again later")
        return snapshot if self._special_bits else snapshot._replace(root=without_special_bits(snapshot.root))

    async def load(self, refs: Iterable[Ref], predecessors: dict[Ref, Ref] | None = None) -> list[Ref]:
        """See to it that the objects are in the store; those that no source has are returned.

        Args:
            predecessors: an older version of an object, whose chunks may serve again.
        """
        by_digest = {ref.digest: ref for ref in refs}
        wanted = [by_digest[digest] for digest in self._state.meta.missing(by_digest)]
        await self._note_known(by_digest.keys() - {ref.digest for ref in wanted})
        if wanted:
            await self._need_sources()
        small = [ref for ref in wanted if ref.is_single]
        if predecessors:
            for batch in _batches([ref for ref in small if ref in predecessors]):
                made = await self._from_older(batch, predecessors)
                small = [ref for ref in small if ref not in made]
        missing: list[Ref] = []
        for batch in _batches(small):
            missing += await self._load_small(batch)
        for ref in wanted:
            if not ref.is_single and not await self._load_large(ref, (predecessors or {}).get(ref)):
                missing.append(ref)
        return missing

    async def _note_known(self, digests: Collection[bytes]) -> None:
        """What is here, perhaps of another archive, is this one's too."""
        offers = self._state.offers
        if self._archive != ANYBODY and (new := offers.unnoted(self._archive, digests)):
            await off_loop(partial(offers.note, self._archive, new))

    async def recipes(self, refs: Iterable[Ref]) -> dict[Ref, Recipe]:
        """The recipes of content objects of several chunks; those that no source has are left out."""
        wanted = list(dict.fromkeys(refs))
        made = await off_loop(partial(self._state.meta.read_recipes, wanted))
        lacking = [ref for ref in wanted if ref not in made]
        if lacking:
            await self._need_sources()
            for some in _by_recipes(lacking):
                made |= await self._load_recipes(some)
        return made

    async def _load_recipes(self, refs: Sequence[Ref]) -> dict[Ref, Recipe]:
        """Ask for recipes, and keep them."""
        made: dict[Ref, Recipe] = {}
        async for good in self._questions.several(
            refs,
            lambda metadata, asked: metadata.recipes(asked),
            lambda ref, raw: object_id(raw) == ref.digest,
            NO_CHUNK,
            sum(recipe_bytes_max(ref.size) for ref in refs) // USUAL_RECIPE,
        ):
            # What is wrong with one now is the archive's fault, not the source's.
            made |= await off_loop(partial(self._keep_recipes, good))
        return made

    def _keep_recipes(self, good: dict[Ref, bytes]) -> dict[Ref, Recipe]:
        made = {ref: Recipe.decode(raw, ref) for ref, raw in good.items()}
        self._state.meta.put_recipes([(ref.digest, raw) for ref, raw in good.items()])
        return made

    async def _load_small(self, refs: Sequence[Ref]) -> list[Ref]:
        """Those that no source has."""
        left = list(refs)
        async for good in self._questions.several(
            refs,
            lambda metadata, asked: metadata.metas(asked),
            lambda ref, raw: len(raw) == ref.size and chunk_id(raw) == ref.digest,
            0,
            sum(ref.size for ref in refs),
        ):
            await off_loop(partial(self._state.meta.put_many, list(good.items()), archive=self._archive))
            left = [ref for ref in left if ref not in good]
        return left

    async def _from_older(self, refs: Sequence[Ref], predecessors: Mapping[Ref, Ref]) -> Collection[Ref]:
        """Put small objects together from older versions, as far as can be; those that are kept now."""
        if self._by_blocks is None or not self._by_blocks.on:
            return ()
        old = list(filter(None, (self._state.meta.get(predecessors[ref].digest) for ref in refs)))
        if not old or sum(map(len, old)) > OLD_MAX:
            return ()
        room = memoryview(bytearray(sum(ref.size for ref in refs)))
        wants = [Want(ref, ref.digest, spans_of(ref.digest, 0, ref.size)) for ref in refs]
        made = await self._by_blocks.make(old, wants, room, whole=True)
        good = {want.key: bytes(room[at : at + want.size]) for want, at in made.chunks}
        await off_loop(partial(self._state.meta.put_many, list(good.items()), archive=self._archive))
        return good.keys()

    async def _chunks_from_older(
        self, ref: Ref, recipe: Recipe, lacking: Sequence[int], known: Mapping[bytes, bytes], made: memoryview
    ) -> list[int]:
        """Put chunks of a large object together from those of an older version that it does not have
        (``known``, by their ids); those that are lacking still.
        """
        mine = {digest for digest, _ in recipe}
        old = [raw for digest, raw in known.items() if digest not in mine]
        done: set[int] = set()
        for start in range(0, len(lacking), SPANS_MAX):
            if self._by_blocks is None or not self._by_blocks.on or not old or sum(map(len, old)) > OLD_MAX:
                break
            wants = []
            for index in lacking[start : start + SPANS_MAX]:
                digest, length = recipe.chunk(index)
                begin = recipe.offsets[index]
                wants.append(Want(index, digest, spans_of(ref.digest, begin, begin + length)))
            room = memoryview(bytearray(min(sum(want.size for want in wants), BATCH_BYTES)))
            came = await self._by_blocks.make(old, wants, room, whole=True)
            for want, at in came.chunks:
                begin = recipe.offsets[want.key]
                made[begin : begin + want.size] = room[at : at + want.size]
                done.add(want.key)
        return [index for index in lacking if index not in done]

    async def _load_large(self, ref: Ref, predecessor: Ref | None) -> bool:
        """Put one object of several chunks together; False if no source has all of the rest."""
        if ref.size > LISTING_BYTES_MAX:
            raise FormatError(
                f"a directory object of {ref.size} bytes is over the limit of {LISTING_BYTES_MAX}"
            )
        recipe = (await self.recipes([ref])).get(ref)
        if recipe is None:
            return False
        known = self._chunks_of(predecessor)
        made = bytearray(ref.size)
        lacking: list[int] = []
        for index, (digest, length) in enumerate(recipe):
            held = known.get(digest)
            if held is not None and len(held) == length:
                made[recipe.offsets[index] : recipe.offsets[index] + length] = held
            else:
                lacking.append(index)
        if known and lacking:
            lacking = await self._chunks_from_older(ref, recipe, lacking, known, memoryview(made))
        if not await self._questions.chunks(ref, recipe, lacking, memoryview(made)):
            return False
        await off_loop(partial(self._state.meta.put, ref, bytes(made), archive=self._archive))
        return True

    def _chunks_of(self, ref: Ref | None) -> dict[bytes, bytes]:
        raw = self._state.meta.get(ref.digest) if ref is not None else None
        if raw is None:
            return {}
        _, recipe = cut_object(raw)
        return {
            digest: raw[recipe.offsets[i] : recipe.offsets[i] + length]
            for i, (digest, length) in enumerate(recipe)
        }


def _by_recipes(refs: Iterable[Ref]) -> Iterator[list[Ref]]:
    """Objects whose recipes are asked for together."""
    batch: list[Ref] = []
    size = 0
    for ref in refs:
        longest = recipe_bytes_max(ref.size)
        if batch and (len(batch) == RECIPES_AT_ONCE or size + longest > RECIPES_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(ref)
        size += longest
    if batch:
        yield batch


def _batches(refs: Iterable[Ref]) -> Iterator[list[Ref]]:
    """What is asked for in one request each."""
    batch: list[Ref] = []
    size = 0
    for ref in refs:
        if batch and (len(batch) == BATCH_OBJECTS or size + ref.size > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(ref)
        size += ref.size
    if batch:
        yield batch
