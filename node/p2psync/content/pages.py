"""The archives as plain browsable file trees, for curl, wget and browsers.

Names are bytes: links are percent-encoded byte by byte, text is escaped and shown as well as it can be.
A symbolic link is answered with what it leads to, as web servers do, as long as that lies in the archive.
Nothing on these pages, nor a file that an archive holds, may run as a script of this node.
"""

from __future__ import annotations

import html
import mimetypes
import time
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple
from urllib.parse import quote_from_bytes, unquote_to_bytes

from aiohttp import web

from p2psync.content.counters import Counters
from p2psync.content.interface import BytesContent, Content, Directory, Library
from p2psync.content.redirect import Redirects
from p2psync.content.send import abort, send_content, write
from p2psync.content.threads import Threads
from p2psync.errors import UsageError, show_path
from p2psync.format.limits import PATH_MAX
from p2psync.format.listing import Entry, Kind
from p2psync.format.url import archive_text, parse_archive_text
from p2psync.tree.opener import is_plain

INDEX: Final = b"index.html"
"""The file that is shown for the directory that it is in, as web servers do."""
PARTS_MAX: Final = PATH_MAX // 2 + 1
"""Components of a path: no path of PATH_MAX bytes has more."""

_SECURITY: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}
PAGE_HEADERS: Final = _SECURITY | {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": (
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-cache",
}
FILE_HEADERS: Final = _SECURITY | {
    "Content-Security-Policy": (
        "sandbox; default-src 'none'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; font-src 'self'; media-src 'self'"
    ),
    "Cache-Control": "no-cache",
}


class _Shown(NamedTuple):
    """What is at a path; ``page``: the one that a directory has of its own; ``root``: the digest of the
    root of the snapshot that it is in, where readers may be sent elsewhere for it.
    """

    entry: Entry
    directory: Directory | None
    page: Entry | None
    root: bytes | None


class Pages:
    """The handlers of everything outside /p2psync/."""

    def __init__(
        self, library: Library, counters: Counters, threads: Threads, redirects: Redirects | None = None
    ) -> None:
        self._library = library
        self._redirects = redirects
        self._counters = counters
        self._threads = threads
        self._threaded = threads.do

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/", self.index), web.get("/{tail:(?s:.*)}", self.path)]

    async def index(self, request: web.Request) -> web.Response:
        archives = await self._threaded(self._library.archives)
        items = "".join(f'<li><a href="./{text}/">{text}</a>\n' for text in map(archive_text, archives))
        body = f"{_top('Archives')}<ul>\n{items}</ul>\n"
        return web.Response(body=body.encode(), headers=PAGE_HEADERS)

    async def path(self, request: web.Request) -> web.StreamResponse:
        archive, parts, slash = parse_target(request.raw_path)
        found = await self._threaded(self._look, archive, parts, slash)
        if found is None:
            self._counters.note(missed=1)
            raise web.HTTPNotFound(text="not here\n")
        if found.entry.kind is not Kind.DIR:
            if slash:
                raise web.HTTPNotFound(text="not a directory\n")
            if self._redirects is not None and found.root is not None:
                sent_on = self._redirects.answer(request, archive, found.root, parts, found.entry)
                if sent_on is not None:
                    self._counters.note(redirected=1)
                    return sent_on
            return await self._file(request, archive, parts[-1], found.entry)
        if not slash:
            # Relative: a proxy in front may show the node below a path of its own.
            there = f"./{_quoted(parts[-1]) if parts else archive_text(archive)}/"
            return web.Response(status=301, headers={"Location": there})
        if found.page is not None:
            return await self._file(request, archive, INDEX, found.page)
        return await self._listing(request, archive, parts, found)

    def _look(self, archive: bytes, parts: list[bytes], slash: bool) -> _Shown | None:
        """What is to be shown at a path, and which page a directory has of its own."""
        found = self._library.browse(archive, parts)
        if found is None:
            return None
        try:
            page = found.directory.find(INDEX) if slash and found.directory is not None else None
        except LookupError:
            return None
        if page is not None and page.kind is Kind.SYMLINK:
            led = self._library.browse(archive, [*parts, INDEX])
            page = None if led is None else led.entry
        root = None
        if self._redirects is not None and archive in self._redirects.mirrors:
            # Afterwards: what was found is of this snapshot, or of one before it.
            whole = self._library.browse(archive, [])
            root = None if whole is None else whole.entry.digest
        return _Shown(found.entry, found.directory, page if page and page.kind is Kind.FILE else None, root)

    async def _file(
        self, request: web.Request, archive: bytes, name: bytes, entry: Entry
    ) -> web.StreamResponse:
        content: Content | None = BytesContent(b"")
        if entry.size:
            content = await self._threaded(self._library.open, entry.digest)
        if content is None:
            self._counters.note(missed=1)
            raise web.HTTPNotFound(text="the file is not here, or was changed since it was published\n")
        guessed, encoding = mimetypes.guess_type(name.decode("latin-1"))
        kind = guessed if guessed and not encoding else "application/octet-stream"
        if kind.startswith("text/"):
            kind += "; charset=utf-8"
        etag = entry.digest.hex() or "empty"
        headers = FILE_HEADERS | {"Content-Type": kind}
        sent = partial(self._counters.add, "tree", archive)
        modified = entry.mtime_ns // 1_000_000_000
        response = await send_content(self._threads, request, content, etag, headers, sent, modified)
        self._counters.note(files=1)
        return response

    async def _listing(
        self, request: web.Request, archive: bytes, parts: list[bytes], found: _Shown
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers=PAGE_HEADERS)
        etag = f'"{found.entry.digest.hex()}"'
        response.headers["ETag"] = etag
        if request.headers.get("If-None-Match") == etag:
            response.set_status(304)
        await response.prepare(request)
        if response.status == 304 or request.method == "HEAD":
            return response
        title = "/".join([archive_text(archive), *map(show_path, parts)]) + "/"
        up = '<tr><td><a href="../">../</a><td><td>\n'
        try:
            await write(response, f"{_top(title)}<table>\n{up}".encode())
            if (directory := found.directory) is not None:
                for number in range(await self._threaded(_pieces_of, directory)):
                    rows = await self._threaded(_rendered, directory, number)
                    await write(response, rows)
                    self._threads.sent(len(rows))
            await write(response, b"</table>\n")
        except (TimeoutError, LookupError):
            abort(request)
        return response


def parse_target(target: str) -> tuple[bytes, list[bytes], bool]:
    """Archive, names and whether a slash ends it, of a request target. Raises HTTPNotFound for what no
    archive can have.

    A "." among the names is passed over, as RFC 3986 (section 5.2.4) has it: apt asks for ``./Packages`` in
    a repository without distributions, and so leaves that to the server. A ".." is what no honest client
    leaves.
    """
    path = target.encode("utf-8", "surrogateescape").partition(b"?")[0].partition(b"#")[0]
    first, *parts = (unquote_to_bytes(part) for part in path.lstrip(b"/").split(b"/", PARTS_MAX))
    slash = bool(parts) and parts[-1] in (b"", b".")
    if slash:
        parts.pop()
    parts = [part for part in parts if part != b"."]
    try:
        archive = parse_archive_text(first.decode("ascii"))
    except (UsageError, UnicodeDecodeError):
        raise web.HTTPNotFound(text="no such archive\n") from None
    if not all(map(is_plain, parts)):
        raise web.HTTPNotFound(text="not a path\n")
    return archive, parts, slash


def _quoted(name: bytes) -> str:
    return quote_from_bytes(name, safe="")


def _top(title: str) -> str:
    shown = html.escape(title)
    return f"<!doctype html>\n<meta charset=utf-8>\n<title>{shown}</title>\n<h1>{shown}</h1>\n"


def _pieces_of(directory: Directory) -> int:
    return directory.pieces


def _rendered(directory: Directory, number: int) -> bytes:
    """The rows of a piece of a directory."""
    return "".join(_row(entry, directory.leads_to_directory) for entry in directory.piece(number)).encode()


def _row(entry: Entry, leads_to_directory: Callable[[Entry], bool]) -> str:
    # wget takes a name without a slash for a file, and has then no place for what is in the directory.
    is_directory = entry.kind is Kind.DIR or (entry.kind is Kind.SYMLINK and leads_to_directory(entry))
    slash = "/" if is_directory else ""
    link = _quoted(entry.name) + slash
    shown = html.escape(show_path(entry.name)) + slash
    if entry.kind is Kind.SYMLINK:
        shown += " → " + html.escape(show_path(entry.target))
    size = entry.totals.bytes if entry.kind is Kind.DIR else entry.size
    return f'<tr><td><a href="./{link}"><bdi>{shown}</bdi></a><td>{_time(entry.mtime_ns)}<td>{size}\n'


def _time(ns: int) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.gmtime(ns // 1_000_000_000))
    except (ValueError, OverflowError, OSError):
        return "-"
