"""Sending content: from disk to wire by sendfile, with the headers that HTTP caches and resuming clients go
by.

For what the HTTP library answers; gives up on clients that do not take it. Which content, is the handlers' to
find.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

from aiohttp import web

from p2psync.content.admission import ticket_now, waiting_for_client
from p2psync.content.interface import BytesContent, Content
from p2psync.content.ranges import http_date, select
from p2psync.content.threads import Threads
from p2psync.tree.opener import FileContent

SLICE: Final = 1 << 20
"""Bytes handed to the kernel at once; between slices it is checked that the file is still the one that was
hashed."""
SEND_TIMEOUT: Final = 180.0
"""Seconds for one slice. A socket becomes writable only when a third of its buffer (up to 4 MiB) is free,
so a client needs about 8 kB/s to be served; slower ones hold connections that others want."""


P = ParamSpec("P")
T = TypeVar("T")


class Disconnected(ConnectionResetError):
    """The client is gone or too slow; nothing more can be said to it."""


async def send_content(
    threads: Threads,
    request: web.Request,
    content: Content,
    etag: str,
    headers: dict[str, str],
    sent: Callable[[int], None],
    modified: int | None = None,
) -> web.StreamResponse:
    """Answer a GET or HEAD for ``content``, and close it. ``sent`` is told how many bytes of the body went
    out, each time that some did.

    Content that is there in part only answers a range of what is there; anything else of it is 404.
    ``modified`` in Unix seconds.
    """
    try:
        given = request.headers
        choice = select(
            content.size,
            f'"{etag}"',
            modified,
            range_=given.get("Range"),
            if_range=given.get("If-Range"),
            if_none_match=given.get("If-None-Match"),
            if_modified_since=given.get("If-Modified-Since"),
        )
        if choice.status in (200, 206) and not await _in_place(
            threads, content, content.covers, choice.first, choice.length
        ):
            raise web.HTTPNotFound(text="not here\n")
        response = web.StreamResponse(status=choice.status, headers=headers)
        response.headers["ETag"] = f'"{etag}"'
        response.headers["Accept-Ranges"] = "bytes"
        if modified is not None and (date := http_date(modified)) is not None:
            response.headers["Last-Modified"] = date
        if choice.status == 206:
            last = choice.first + choice.length - 1
            response.headers["Content-Range"] = f"bytes {choice.first}-{last}/{content.size}"
        elif choice.status == 416:
            response.headers["Content-Range"] = f"bytes */{content.size}"
        if choice.status != 304:
            response.content_length = choice.length
        await response.prepare(request)
        if request.method == "HEAD" or choice.length == 0:
            return response
        try:
            if isinstance(content, FileContent):
                await _send_file(threads, request, content, choice.first, choice.length, sent)
            else:
                await _send_bytes(threads, response, content, choice.first, choice.length, sent)
        except (TimeoutError, Disconnected):
            abort(request)
        return response
    finally:
        content.close()


async def send_body(request: web.Request, body: bytes, headers: dict[str, str]) -> web.StreamResponse:
    """Answer with bytes that may be many: unlike a response that has its body, given up for who does not
    take it.
    """
    response = web.StreamResponse(headers=headers)
    response.content_length = len(body)
    await response.prepare(request)
    if request.method != "HEAD":
        try:
            for start in range(0, len(body), SLICE):
                await write(response, memoryview(body)[start : start + SLICE])
        except TimeoutError:
            abort(request)
    return response


def abort(request: web.Request) -> None:
    """Cut the connection, so that a client cannot take what it got for the whole."""
    if request.transport is not None:
        request.transport.abort()


async def _send_file(
    threads: Threads,
    request: web.Request,
    content: FileContent,
    first: int,
    length: int,
    sent: Callable[[int], None],
) -> None:
    loop = asyncio.get_running_loop()
    transport = request.transport
    if transport is None:
        raise Disconnected
    with os.fdopen(os.dup(content.fd), "rb", buffering=0) as source:
        end = first + length
        while first < end:
            count = await _in_place(threads, content, content.allowed, first, min(SLICE, end - first))
            if not count:
                raise Disconnected
            async with asyncio.timeout(SEND_TIMEOUT):
                with waiting_for_client():
                    done = await loop.sendfile(transport, source, first, count)
            sent(done)
            threads.sent(done)
            took(done)
            if done != count:
                raise Disconnected
            first += count
        if not await _in_place(threads, content, content.unchanged):
            raise Disconnected


async def _in_place(
    threads: Threads, content: Content, ask: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """What the content answers; in another thread, if it reads the file for that."""
    if content.reads:
        return await threads.do(ask, *args, **kwargs)
    return ask(*args, **kwargs)


async def _send_bytes(
    threads: Threads,
    response: web.StreamResponse,
    content: BytesContent,
    first: int,
    length: int,
    sent: Callable[[int], None],
) -> None:
    view = memoryview(content.data)[first : first + length]
    for start in range(0, length, SLICE):
        part = view[start : start + SLICE]
        await write(response, part)
        sent(len(part))
        threads.sent(len(part))


async def write(response: web.StreamResponse, data: bytes | bytearray | memoryview) -> None:
    """Write a part of a streamed body. Raises TimeoutError for a client that does not take it."""
    async with asyncio.timeout(SEND_TIMEOUT):
        with waiting_for_client():
            await response.write(data)
    took(len(data))


def took(count: int) -> None:
    """The client of this task took so many bytes. Raises TimeoutError where it was too slow altogether."""
    ticket = ticket_now.get()
    if ticket is not None:
        ticket.moved(count)
        if ticket.too_slow:
            raise TimeoutError
