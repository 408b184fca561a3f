"""The node's own requests below /p2psync/v1 (docs/spec/wire.md), as far as the HTTP library answers them.

Thin handlers: sizes are checked here, what is held is the library's, verification is the records' own. Bulk
bytes are usually sent by ``bulk``'s threads.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeVar

from aiohttp import web

from p2psync.content.answers import IMMUTABLE, Cut
from p2psync.content.counters import Counters
from p2psync.content.interface import Library
from p2psync.content.nominate import Nominations, Refused
from p2psync.content.packed import packed_blocks, packed_rows
from p2psync.content.rows import ROOM, RowsAnswer, batch_answer, recipes_answer
from p2psync.content.send import abort, send_body, send_content, write
from p2psync.content.subscribers import Subscribers
from p2psync.content.threads import Threads
from p2psync.errors import FormatError, TrustError, UsageError
from p2psync.format.url import parse_archive_text
from p2psync.sources import wire
from p2psync_dht import HolderRecord

BODY_TIMEOUT: Final = 30.0
"""Seconds for a request's body to arrive: the largest is 256 KiB."""

T = TypeVar("T")


class Api:
    """The handlers, over one library. ``info`` is asked for each time, as archives come and go."""

    def __init__(
        self,
        library: Library,
        info: Callable[[Sequence[bytes]], wire.Info],
        nominations: Nominations,
        counters: Counters,
        threads: Threads,
        subscribers: Subscribers,
        heard: Callable[[], None] | None = None,
    ) -> None:
        self._library = library
        self._info = info
        self._subscribers = subscribers
        self._heard = heard
        self._nominations = nominations
        self._counters = counters
        self._threads = threads
        self._threaded = threads.do

    def routes(self) -> list[web.RouteDef]:
        archive = f"{wire.PREFIX}/archive/{{archive}}"
        return [
            web.get(wire.INFO_PATH, self.info),
            web.get(f"{archive}/head", self.get_head),
            web.put(f"{archive}/head", self.put_head),
            web.get(f"{archive}/holders", self.get_holders),
            web.post(f"{archive}/holders", self.post_holders),
            web.get(f"{archive}/mirrors", self.get_mirrors),
            web.get(f"{wire.PREFIX}/object/{{digest}}", self.get_object),
            web.get(f"{wire.PREFIX}/recipe/{{digest}}", self.get_recipe),
            web.post(wire.BATCH_PATH, self.post_batch),
            web.post(wire.HAVE_PATH, self.post_have),
            web.post(wire.RECIPES_PATH, self.post_recipes),
            web.post(wire.BLOCKS_PATH, self.post_blocks),
            web.post(wire.PACKED_PATH, self.post_packed),
        ]

    async def info(self, request: web.Request) -> web.Response:
        archives = self._library.known_archives()
        if archives is None:
            archives = await self._threaded(self._library.archives)
        body = wire.encode_info(self._info(archives))
        return web.Response(body=body, content_type=wire.MSGPACK)

    async def get_head(self, request: web.Request) -> web.Response:
        archive = _archive(request)
        raw = self._library.known_head(archive) or await self._threaded(self._library.head, archive)
        if raw is None:
            raise web.HTTPNotFound(text="no head of this archive is known here\n")
        headers = {"Cache-Control": "no-cache"}
        known = request.headers.get("If-None-Match")
        seconds = wire.wait_wished(request.headers.get("Prefer", ""))
        if seconds and known == wire.head_tag(raw):
            newer, waited = await self._subscribers.newer(
                archive, known, seconds, request.remote or "", partial(_has_gone, request)
            )
            raw = newer or raw
            if waited:
                headers = {"Cache-Control": "no-store", "Preference-Applied": f"wait={seconds}"}
        headers["ETag"] = tag = wire.head_tag(raw)
        if known == tag:
            return web.Response(status=304, headers=headers)
        return web.Response(body=raw, content_type=wire.OCTETS, headers=headers)

    async def put_head(self, request: web.Request) -> web.Response:
        archive = _archive(request)
        raw = await read_body(request, wire.HEAD_BYTES_MAX)
        try:
            taken = await self._threaded(self._library.put_head, archive, raw)
        except KeyError:
            raise web.HTTPNotFound(text="this archive is not here\n") from None
        except (FormatError, TrustError) as error:
            raise web.HTTPBadRequest(text=f"{error}\n") from None
        if taken:
            self._subscribers.look()
            if self._heard is not None:
                self._heard()
        return web.Response(status=204 if taken else 200)

    async def get_holders(self, request: web.Request) -> web.Response:
        archive = _archive(request)
        records = await self._threaded(self._some_holders, archive)
        return web.Response(body=wire.encode_holders(records), content_type=wire.MSGPACK)

    def _some_holders(self, archive: bytes) -> list[bytes]:
        """What one answer has room for: those who are there before those who have left."""
        records = self._library.holders(archive)
        if len(records) > wire.HOLDERS_MAX:
            random.shuffle(records)
            records.sort(key=lambda raw: HolderRecord.decode(raw).withdrawn)
        return records[: wire.HOLDERS_MAX]

    async def post_holders(self, request: web.Request) -> web.Response:
        archive = _archive(request)
        raw = await read_body(request, wire.HOLDER_BYTES_MAX)
        try:
            await self._nominations.consider(archive, raw, request.remote or "")
        except Refused as refused:
            self._counters.note(refused=1)
            return web.Response(status=refused.status, text=f"{refused}\n")
        return web.Response(status=204)

    async def get_mirrors(self, request: web.Request) -> web.StreamResponse:
        found = await self._threaded(self._library.mirrors, _archive(request))
        if found is None:
            raise web.HTTPNotFound(text="no list of mirrors of this archive is known here\n")
        headers = {"Content-Type": wire.MSGPACK, "Cache-Control": "no-cache"}
        return await send_body(request, wire.encode_mirrors(*found), headers)

    async def get_object(self, request: web.Request) -> web.StreamResponse:
        digest = wire.parse_digest(request.match_info["digest"])
        content = await self._threaded(self._library.open, digest)
        if content is None:
            self._counters.note(missed=1)
            raise web.HTTPNotFound(text="not here\n")
        headers = {"Content-Type": wire.OCTETS, "Cache-Control": IMMUTABLE}
        sent = partial(self._counters.add, "object", content.archive)
        response = await send_content(self._threads, request, content, digest.hex(), headers, sent)
        self._counters.note(objects=1)
        return response

    async def get_recipe(self, request: web.Request) -> web.StreamResponse:
        raw = await self._threaded(self._library.recipe, wire.parse_digest(request.match_info["digest"]))
        if raw is None:
            self._counters.note(missed=1)
            raise web.HTTPNotFound(text="not here\n")
        return await send_body(request, raw, {"Content-Type": wire.OCTETS, "Cache-Control": IMMUTABLE})

    async def post_have(self, request: web.Request) -> web.StreamResponse:
        raw = await read_body(request, wire.HAVE_BODY_MAX)
        body = await self._threaded(self._have, raw)
        if len(body) > wire.HAVE_ANSWER_MAX:
            raise web.HTTPRequestEntityTooLarge(0, 0, text="ask about fewer large objects at once\n")
        return await send_body(request, body, {"Content-Type": wire.MSGPACK})

    def _have(self, raw: bytes) -> bytes:
        return wire.encode_have_answer(self._library.have(wire.decode_have(raw)))

    async def post_recipes(self, request: web.Request) -> web.StreamResponse:
        return await self._rows(request, wire.RECIPES_BODY_MAX, partial(recipes_answer, self._library))

    async def post_batch(self, request: web.Request) -> web.StreamResponse:
        made = partial(batch_answer, self._library, counters=self._counters)
        return await self._rows(request, wire.BATCH_BODY_MAX, made)

    async def post_blocks(self, request: web.Request) -> web.StreamResponse:
        return await self._packed(request, partial(packed_blocks, self._library))

    async def post_packed(self, request: web.Request) -> web.StreamResponse:
        return await self._packed(request, partial(packed_rows, self._library, self._counters))

    async def _packed(
        self, request: web.Request, made: Callable[[bytes], tuple[bytes, float]]
    ) -> web.StreamResponse:
        """What costs work before it is sent; how much, the client is told, who may do without it then."""
        raw = await read_body(request, wire.BATCH_BODY_MAX)
        body, seconds = await self._threaded(made, raw)
        headers = {"Content-Type": wire.ZSTD, "Server-Timing": f"make;dur={1000 * seconds:.1f}"}
        return await send_body(request, body, headers)

    async def _rows(
        self, request: web.Request, limit: int, made: Callable[[bytes], RowsAnswer]
    ) -> web.StreamResponse:
        """What a thread for bulk bytes would answer, for a client whose requests are not plain."""
        raw = await read_body(request, limit)
        answer = await self._threaded(made, raw)
        response = web.StreamResponse(headers={"Content-Type": wire.OCTETS})
        response.content_length = await self._threaded(_with_room, answer.prepare)
        answer.park()
        await response.prepare(request)
        try:
            while data := await self._threaded(_with_room, answer.body):
                answer.park()
                await write(response, data)
        except (TimeoutError, Cut):
            abort(request)
        return response


def _has_gone(request: web.Request) -> bool:
    """Whether the client has ended the connection."""
    return request.transport is None or request.transport.is_closing()


def _with_room(call: Callable[[memoryview], T]) -> T:
    return call(memoryview(bytearray(ROOM)))


def _archive(request: web.Request) -> bytes:
    try:
        return parse_archive_text(request.match_info["archive"])
    except UsageError as error:
        raise web.HTTPNotFound(text=f"{error}\n") from None


async def read_body(request: web.Request, limit: int) -> bytes:
    """The body of a request, of at most ``limit`` bytes and within ``BODY_TIMEOUT``."""
    if request.content_length is None or request.content_length > limit:
        status = web.HTTPLengthRequired if request.content_length is None else None
        if status is not None:
            raise status(text="a Content-Length is needed\n")
        raise web.HTTPRequestEntityTooLarge(limit, request.content_length or 0)
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            return await request.content.readexactly(request.content_length)
    except TimeoutError:
        raise web.HTTPRequestTimeout from None
    except asyncio.IncompleteReadError:
        raise web.HTTPBadRequest(text="the body is shorter than it said\n") from None
