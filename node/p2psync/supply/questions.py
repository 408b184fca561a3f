"""Asking sources for metadata: small objects and recipes, several in one request, and chunks of large
objects. What comes is verified, and who failed, lacked something or lied is told to the swarm.

Keeping what came is ``manifest``'s, and asking another while one is late ``hedge``'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from typing import Final

from p2psync.errors import FormatError, NetworkError
from p2psync.format.ids import Ref, chunk_id
from p2psync.format.recipe import Recipe
from p2psync.sources.interfaces import Metadata
from p2psync.sources.source import NotHere, Span, wish_of
from p2psync.sources.swarm import Member, Swarm
from p2psync.supply.hedge import Hedge

SPANS_BYTES: Final = 1 << 20
"""Bytes of one large metadata object asked for at once."""
SPANS_MAX: Final = 512
"""Chunks of it asked for at once."""
NO_CHUNK: Final = -1
"""For ``Swarm.lied``, where what was wrong is no chunk: a recipe, or an answer as a whole."""
EXPECTING_MAX: Final = 10.0
"""Seconds that others are waited for, who are being tried, where no source has what is wanted."""
LOOK: Final = 0.1
"""Seconds between looks for somebody who may be asked again."""


class Questions:
    """Asks the sources in ``swarm``."""

    def __init__(self, swarm: Swarm) -> None:
        self._swarm = swarm

    async def several(
        self,
        refs: Sequence[Ref],
        ask: Callable[[Metadata, list[Ref]], Awaitable[list[bytes | None]]],
        is_right: Callable[[Ref, bytes], bool],
        number: int,
        size: int,
    ) -> AsyncIterator[dict[Ref, bytes]]:
        """Ask for something of several objects in few requests, until all has come or nobody is left who may
        have it. Yields what came of each request and is right. ``number``: which chunk a source has lied
        about that sends something else (``Swarm.lied``). ``size``: about how many bytes that is.
        """
        left = list(refs)

        async def ask_one(member: Member) -> dict[Ref, bytes]:
            return await self._ask(member, left, ask, is_right, number)

        while left and await self._somebody_for(digests := [ref.digest for ref in left]):
            share = size * len(left) // len(refs)
            good = await Hedge(self._swarm, lambda: self._ready_for(digests), ask_one, share).first()
            if good:
                left = [ref for ref in left if ref not in good]
                yield good

    async def _ask(
        self,
        member: Member,
        refs: Sequence[Ref],
        ask: Callable[[Metadata, list[Ref]], Awaitable[list[bytes | None]]],
        is_right: Callable[[Ref, bytes], bool],
        number: int,
    ) -> dict[Ref, bytes]:
        asked = [ref for ref in refs if not self._swarm.lacks(member, ref.digest)]
        if member.metadata is None or not asked:
            return {}
        started = asyncio.get_running_loop().time()
        try:
            answers = await ask(member.metadata, asked)
        except NotHere:
            for ref in asked:
                self._swarm.missed(member, ref.digest)
            return {}
        except FormatError:
            self._swarm.lied(member, asked[0].digest, NO_CHUNK)
            return {}
        except NetworkError as error:
            self._swarm.failed(member, str(error), wish_of(error))
            return {}
        good: dict[Ref, bytes] = {}
        for ref, raw in zip(asked, answers, strict=True):
            if raw is None:
                self._swarm.missed(member, ref.digest)
            elif is_right(ref, raw):
                good[ref] = raw
            else:
                self._swarm.lied(member, ref.digest, number)
        seconds = asyncio.get_running_loop().time() - started
        self._swarm.succeeded(member, sum(map(len, good.values())), seconds)
        return good

    async def chunks(self, ref: Ref, recipe: Recipe, lacking: Sequence[int], made: memoryview) -> bool:
        """Fill in the ``lacking`` chunks of one large object; False if no source has all of them."""
        left = list(lacking)
        digests = [ref.digest]

        async def ask_one(member: Member) -> set[int]:
            return await self._ask_chunks(member, ref, recipe, asked, made)

        while left:
            if not await self._somebody_for(digests):
                return False
            asked, size = _some_chunks(recipe, left)
            done = await Hedge(self._swarm, lambda: self._ready_for(digests), ask_one, size).first()
            left = [index for index in left if not done or index not in done]
        return True

    async def _ask_chunks(
        self, member: Member, ref: Ref, recipe: Recipe, asked: Sequence[int], made: memoryview
    ) -> set[int]:
        """Ask one source for some chunks; those that came and are right."""
        if member.metadata is None or self._swarm.lacks(member, ref.digest):
            return set()
        spans = [Span(ref.digest, recipe.offsets[i], recipe.chunk(i)[1]) for i in asked]
        buffer = memoryview(bytearray(sum(span.length for span in spans)))
        started = asyncio.get_running_loop().time()
        try:
            there = await member.metadata.read(spans, buffer)
        except NotHere:
            self._swarm.missed(member, ref.digest)
            return set()
        except FormatError:
            self._swarm.lied(member, ref.digest, NO_CHUNK)
            return set()
        except NetworkError as error:
            self._swarm.failed(member, str(error), wish_of(error))
            return set()
        done: set[int] = set()
        position = 0
        for index, span, here in zip(asked, spans, there, strict=True):
            data = buffer[position : position + span.length]
            position += span.length
            if not here:
                self._swarm.missed(member, ref.digest)
            elif chunk_id(data) != recipe.chunk(index)[0]:
                self._swarm.lied(member, ref.digest, index)
            else:
                made[span.offset : span.offset + span.length] = data
                done.add(index)
        seconds = asyncio.get_running_loop().time() - started
        self._swarm.succeeded(member, sum(recipe.chunk(i)[1] for i in done), seconds)
        return done

    def _ready_for(self, digests: Collection[bytes]) -> list[Member]:
        """Who may have one of some objects and can be asked now, the best first."""
        return [member for member in self._swarm.ready() if self._may_have(member, digests)]

    def _may_have(self, member: Member, digests: Collection[bytes]) -> bool:
        return member.metadata is not None and any(not self._swarm.lacks(member, each) for each in digests)

    async def _somebody_for(self, digests: Collection[bytes]) -> bool:
        """Wait until there is somebody who may have one of some objects; False: nobody is left."""
        loop = asyncio.get_running_loop()
        until = loop.time() + EXPECTING_MAX
        while not self._ready_for(digests):
            later = any(self._may_have(member, digests) for member in self._swarm.alive())
            if not later and not (self._swarm.expecting() and loop.time() < until):
                return False
            await asyncio.sleep(LOOK)
        return True


def _some_chunks(recipe: Recipe, lacking: Sequence[int]) -> tuple[list[int], int]:
    """As many of the chunks that are lacking as one request takes, and their bytes."""
    asked: list[int] = []
    size = 0
    for index in lacking:
        asked.append(index)
        size += recipe.chunk(index)[1]
        if size >= SPANS_BYTES or len(asked) == SPANS_MAX:
            break
    return asked, size
