"""A source that is a p2psync node: objects by digest, large ones by range, small ones in batches.

The requests are those of docs/spec/wire.md. What is received is handed on unverified.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, Final, TypeVar, Unpack

from p2psync.errors import FormatError, NetworkError
from p2psync.format.ids import Ref
from p2psync.format.recipe import recipe_bytes_max
from p2psync.network.server import Server
from p2psync.sources import wire
from p2psync.sources.http.head import ResponseHead
from p2psync.sources.http.pool import Pool, Settings
from p2psync.sources.http.sinks import UNWANTED, BatchSink, CollectSink, IntoSink
from p2psync.sources.node_content import GONE, RANGE_MIN, refusal
from p2psync.sources.packing import packed_max, unpack
from p2psync.sources.posts import Posts
from p2psync.sources.source import Busy, Made, NotHere, NotOffered, Span, Unreachable, places, runs, together

T = TypeVar("T")

RECIPES_AT_ONCE: Final = 32
"""Recipes asked for at the same time, one by one: hides the delay of a distant node."""
SECONDS_MAX: Final = 60.0
"""What a node may say that it worked: more than any answer takes."""
_TIMING: Final = re.compile(r"\bmake;dur=([0-9]{1,8}(?:\.[0-9]{1,3})?)")
"""W3C Server Timing, of which nodes say one thing."""


class PeerSource:
    """The node at ``address`` (``HOST:PORT``, or an http:// or https:// URL). See
    ``p2psync.sources.interfaces`` for the methods.
    """

    def __init__(self, address: str, posts: Posts | None = None, **settings: Unpack[Settings]) -> None:
        """``posts``: what is known of the way there, by whoever else asks there."""
        self._posts = posts or Posts()
        self._pool = Pool(Server.node(address), **settings)
        self._batches_recipes = True

    @property
    def name(self) -> str:
        return self._pool.server.name

    @property
    def received(self) -> int:
        return self._pool.received

    async def info(self) -> wire.Info:
        """What the node says about itself."""
        return self._decoded(wire.decode_info, await self._collect(wire.INFO_PATH, wire.INFO_ANSWER_MAX))

    async def head(self, archive: bytes) -> bytes | None:
        try:
            return await self._collect(wire.head_path(archive), wire.HEAD_BYTES_MAX)
        except NotHere:
            return None

    async def newer_head(self, archive: bytes, known: bytes, seconds: int) -> bytes | None:
        """Wait for ``seconds`` at most until its newest head is another one than ``known``, which it may
        know as well or not: that head, unverified and perhaps an older one; None: it is ``known``. Silence
        has to be allowed for longer than that (``idle_timeout``).

        Raises NotOffered: it answers at once. NotHere: it knows no head.
        """
        sink = CollectSink(wire.HEAD_BYTES_MAX)
        headers = [("If-None-Match", wire.head_tag(known)), ("Prefer", f"wait={seconds}")]
        head = await self._pool.request("GET", wire.head_path(archive), sink, headers=headers)
        if head.status == 200:
            return bytes(sink.body)
        if head.status in GONE:
            raise NotHere(f"{self.name}: knows no head of this archive")
        if head.status != 304:
            raise self._refusal(head)
        if "preference-applied" not in head.headers:
            raise NotOffered(f"{self.name}: has no place for those who wait for a newer head")
        return None

    async def earlier(self, archive: bytes) -> list[bytes]:
        """A node keeps the newest head alone."""
        return []

    async def put_head(self, archive: bytes, raw: bytes) -> bool:
        """Hand on a head that the node may not have. True if it took it, False if it has one as new."""
        head = await self._pool.request("PUT", wire.head_path(archive), UNWANTED, body=raw)
        if head.status not in (200, 204):
            raise self._refusal(head)
        return head.status == 204

    async def metas(self, refs: Sequence[Ref]) -> list[bytes | None]:
        wanted = [ref for ref in refs if not ref.is_empty]
        buffer = memoryview(bytearray(sum(ref.size for ref in wanted)))
        spans = [Span(ref.digest, 0, ref.size) for ref in wanted]
        came = (
            iter(zip(await self.read(spans, buffer), places(spans, buffer), strict=True))
            if spans
            else iter(())
        )
        made: list[bytes | None] = []
        for ref in refs:
            here, view = (True, memoryview(b"")) if ref.is_empty else next(came)
            made.append(bytes(view) if here else None)
        return made

    async def recipe(self, ref: Ref) -> bytes:
        return await self._collect(wire.recipe_path(ref.digest), recipe_bytes_max(ref.size))

    async def recipes(self, refs: Sequence[Ref]) -> list[bytes | None]:
        """The encoded recipes of objects of several chunks; None where one is not there."""
        made: dict[Ref, bytes | None] = {}
        size = wire.RECIPES_DIGESTS_MAX
        groups = [refs[start : start + size] for start in range(0, len(refs), size)]
        await together([self._some_recipes(group, made) for group in groups])
        return [made[ref] for ref in refs]

    async def _some_recipes(self, refs: Sequence[Ref], made: dict[Ref, bytes | None]) -> None:
        """Put the recipes of as many objects as one request may have into ``made``."""
        done = 0
        while done < len(refs):
            asked = refs[done:]
            came: list[bytes | None] = []
            if self._batches_recipes and self._posts.allowed:
                raw = await self._ask_recipes(asked)
                if raw is not None:
                    came = self._decoded(wire.decode_recipes_answer, raw, len(asked))
            if not came:
                # No row: the first one alone is too long. No answer: the node knows single requests only.
                asked = asked[:1] if self._batches_recipes else asked
                came = await self._single_recipes(asked)
            made.update(zip(asked, came, strict=False))
            done += len(came)

    async def _ask_recipes(self, refs: Sequence[Ref]) -> bytes | None:
        """The answer to one request for many recipes; None from a node that does not know it."""
        longest = sum(wire.ROW_LENGTH.size + recipe_bytes_max(ref.size) for ref in refs)
        sink = CollectSink(min(longest, wire.RECIPES_ANSWER_MAX))
        body = wire.encode_recipes([ref.digest for ref in refs])
        head = await self._pool.request("POST", wire.RECIPES_PATH, sink, body=body)
        if head.status in (404, 405) or self._posts.are_refused(head.status):
            self._batches_recipes = False
            return None
        if head.status != 200:
            raise refusal(self.name, head.status)
        return bytes(sink.body)

    async def _single_recipes(self, refs: Sequence[Ref]) -> list[bytes | None]:
        gate = asyncio.Semaphore(RECIPES_AT_ONCE)
        made: list[bytes | None] = [None] * len(refs)

        async def one(index: int) -> None:
            async with gate:
                with contextlib.suppress(NotHere):
                    made[index] = await self.recipe(refs[index])

        await together([one(index) for index in range(len(refs))])
        return made

    async def read(self, pieces: Sequence[Span], into: memoryview) -> list[bool]:
        views = places(pieces, into)
        here = [False] * len(pieces)
        jobs: list[Coroutine[Any, Any, None]] = []
        small: list[int] = []
        position = 0
        for run in runs(pieces):
            length = sum(pieces[index].length for index in run)
            if length >= RANGE_MIN:
                stretch = Span(pieces[run.start].digest, pieces[run.start].offset, length)
                jobs.append(self._fill(stretch, into[position : position + length], run, here))
            else:
                small.extend(run)
            position += length
        jobs += [self._batch(group, pieces, views, here) for group in _groups(small, pieces)]
        await together(jobs)
        return here

    async def blocks(self, pieces: Sequence[Span]) -> Made[list[wire.Block]]:
        rows = _rows(pieces)
        raw, seconds = await self._made(wire.BLOCKS_PATH, rows, wire.blocks_answer_max(rows))
        return Made(self._decoded(wire.decode_blocks_answer, raw, rows), seconds)

    async def packed(self, pieces: Sequence[Span]) -> Made[memoryview]:
        rows = _rows(pieces)
        longest = sum(wire.ROW_LENGTH.size + length for _, _, length in rows)
        raw, seconds = await self._made(wire.PACKED_PATH, rows, longest)
        return Made(self._decoded(wire.decode_packed_answer, raw, rows), seconds)

    async def _made(self, path: str, rows: Sequence[wire.Row], longest: int) -> tuple[bytes, float]:
        """An answer of at most ``longest`` bytes, unpacked, and for how many seconds the node worked."""
        sink = CollectSink(packed_max(longest))
        head = await self._pool.request("POST", path, sink, body=wire.encode_batch(rows))
        if head.status in GONE or head.status == 405:
            raise NotOffered(f"{self.name}: knows nothing of {path}")
        if head.status != 200:
            raise self._refusal(head)
        raw = self._decoded(unpack, bytes(sink.body), longest, "a compressed answer")
        told = _TIMING.search(head.headers.get("server-timing", ""))
        return raw, min(float(told[1]) / 1000, SECONDS_MAX) if told else 0.0

    async def have(self, digests: Sequence[bytes]) -> list[wire.Have]:
        answers: list[wire.Have] = []
        for start in range(0, len(digests), wire.HAVE_DIGESTS_MAX):
            asked = digests[start : start + wire.HAVE_DIGESTS_MAX]
            if not self._posts.allowed:
                answers += [True] * len(asked)  # A hint: what it does not have, it will say when it is asked.
                continue
            sink = CollectSink(wire.HAVE_ANSWER_MAX)
            head = await self._pool.request("POST", wire.HAVE_PATH, sink, body=wire.encode_have(asked))
            if self._posts.are_refused(head.status):
                answers += [True] * len(asked)
            elif head.status in GONE:
                raise NotHere(f"{self.name}: does not have {wire.HAVE_PATH}")
            elif head.status != 200:
                raise self._refusal(head)
            else:
                answers += self._decoded(wire.decode_have_answer, bytes(sink.body), len(asked))
        return answers

    async def holders(self, archive: bytes) -> list[bytes]:
        try:
            raw = await self._collect(wire.holders_path(archive), wire.HOLDERS_ANSWER_MAX)
        except NotHere:
            return []
        return self._decoded(wire.decode_holders, raw)

    async def mirrors(self, archive: bytes) -> tuple[bytes, bytes] | None:
        """The list of recommended mirrors that the node has, with the record that names it, unverified."""
        try:
            raw = await self._collect(wire.mirrors_path(archive), wire.MIRRORS_ANSWER_MAX)
        except NotHere:
            return None
        return self._decoded(wire.decode_mirrors, raw)

    async def nominate(self, archive: bytes, raw: bytes) -> None:
        head = await self._pool.request("POST", wire.holders_path(archive), UNWANTED, body=raw)
        if head.status == 404:
            raise NotHere(str(self._refusal(head)))
        if head.status == 403:
            raise Unreachable(str(self._refusal(head)))
        if head.status == 429:
            raise Busy(str(self._refusal(head)))
        if head.status != 204:
            raise self._refusal(head)

    async def close(self) -> None:
        await self._pool.close()

    async def _collect(self, target: str, limit: int) -> bytes:
        """The body of a 200 answer to a GET. Raises NotHere for 404."""
        sink = CollectSink(limit)
        head = await self._pool.request("GET", target, sink)
        if head.status in GONE:
            raise NotHere(f"{self.name}: does not have {target}")
        if head.status != 200:
            raise self._refusal(head)
        return bytes(sink.body)

    async def _range(self, span: Span, view: memoryview) -> bool:
        sink = IntoSink(view, span.offset)
        last = span.offset + span.length - 1
        head = await self._pool.request(
            "GET", wire.object_path(span.digest), sink, headers=[("Range", f"bytes={span.offset}-{last}")]
        )
        if head.status in GONE:
            return False
        if head.status not in (200, 206):
            raise self._refusal(head)
        if not sink.matched:
            raise FormatError(f"{self.name}: sent another range of an object than was asked for")
        return True

    async def _fill(self, stretch: Span, view: memoryview, run: range, here: list[bool]) -> None:
        came = await self._range(stretch, view)
        for index in run:
            here[index] = came

    async def _batch(
        self, group: Sequence[int], pieces: Sequence[Span], views: Sequence[memoryview], here: list[bool]
    ) -> None:
        if not self._posts.allowed:
            await self._one_by_one(group, pieces, views, here)
            return
        rows = [(pieces[index].digest, pieces[index].offset, pieces[index].length) for index in group]
        sink = BatchSink([views[index] for index in group])
        head = await self._pool.request("POST", wire.BATCH_PATH, sink, body=wire.encode_batch(rows))
        if self._posts.are_refused(head.status):
            await self._one_by_one(group, pieces, views, here)
            return
        if head.status != 200:
            raise self._refusal(head)
        for index, came in zip(group, sink.here, strict=True):
            here[index] = came

    async def _one_by_one(
        self, group: Sequence[int], pieces: Sequence[Span], views: Sequence[memoryview], here: list[bool]
    ) -> None:
        """What would be a batch, by GET."""
        gate = asyncio.Semaphore(RECIPES_AT_ONCE)

        async def one(index: int) -> None:
            async with gate:
                here[index] = await self._range(pieces[index], views[index])

        await together([one(index) for index in group])

    def _decoded(self, decode: Callable[..., T], *arguments: object) -> T:
        try:
            return decode(*arguments)
        except FormatError as error:
            raise FormatError(f"{self.name}: sent what should be {error}") from None

    def _refusal(self, head: ResponseHead) -> NetworkError:
        return refusal(self.name, head.status)


def _rows(pieces: Sequence[Span]) -> list[wire.Row]:
    return [(piece.digest, piece.offset, piece.length) for piece in pieces]


def _groups(indices: Sequence[int], pieces: Sequence[Span]) -> Iterator[list[int]]:
    """Parts of ``indices`` that each fit one batch request."""
    group: list[int] = []
    size = 0
    for index in indices:
        length = pieces[index].length
        if group and (len(group) == wire.BATCH_ROWS_MAX or size + length > wire.BATCH_BYTES_MAX):
            yield group
            group, size = [], 0
        group.append(index)
        size += length
    if group:
        yield group
