"""A source that is a plain HTTP(S) server with the archive's tree below a URL: the same bytes, by path and
Range.

Such a server knows no digests, so it is asked for content only. A path that is missing, or has another
size, is "not here": the mirror is older or newer there, and the rest of it may still be good.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from p2psync.errors import NetworkError
from p2psync.format.ids import Ref
from p2psync.sources.http.head import ResponseHead
from p2psync.sources.http.pool import Pool, Settings
from p2psync.sources.http.server import Server
from p2psync.sources.http.sinks import IntoSink
from p2psync.sources.source import NotOffered, Span, places, runs, together
from p2psync.sources.web_content import GONE, REDIRECTS, base_path, target_of
from p2psync.sources.wire import Have


class WebSource:
    """The tree below ``url``. See ``p2psync.sources.interfaces`` for the methods.

    The certificate of an https server is verified. Redirections are not followed: where a mirror sends its
    readers elsewhere, that place is the one to name. Raises UsageError for a URL that cannot be one of a
    mirror.
    """

    def __init__(self, url: str, **settings: Unpack[Settings]) -> None:
        self._pool = Pool(Server.web(url), **settings)
        self._base = base_path(url)

    @property
    def name(self) -> str:
        return self._pool.server.name

    @property
    def received(self) -> int:
        return self._pool.received

    async def head(self, archive: bytes) -> bytes | None:
        return None

    async def meta(self, ref: Ref) -> bytes:
        raise self._not_offered("objects by digest")

    async def metas(self, refs: Sequence[Ref]) -> list[bytes | None]:
        return [b"" if ref.is_empty else None for ref in refs]

    async def recipe(self, digest: bytes) -> bytes:
        raise self._not_offered("recipes")

    async def have(self, digests: Sequence[bytes]) -> list[Have]:
        raise self._not_offered("word of what it has")

    async def holders(self, archive: bytes) -> list[bytes]:
        return []

    async def nominate(self, archive: bytes, raw: bytes) -> None:
        raise self._not_offered("a list of holders")

    async def read(self, pieces: Sequence[Span], into: memoryview) -> list[bool]:
        places(pieces, into)
        here = [False] * len(pieces)
        jobs = []
        position = 0
        for run in runs(pieces):
            length = sum(pieces[index].length for index in run)
            jobs.append(self._fill(pieces[run.start], into[position : position + length], run, here))
            position += length
        await together(jobs)
        return here

    async def close(self) -> None:
        await self._pool.close()

    async def _fill(self, first: Span, view: memoryview, run: range, here: list[bool]) -> None:
        came = first.path is not None and await self._get(first.path, first.offset, first.size, view)
        for index in run:
            here[index] = came

    async def _get(self, path: bytes, offset: int, size: int | None, view: memoryview) -> bool:
        """The bytes of a file from ``offset`` on, as many as ``view`` is long. False: not here."""
        target = target_of(self._base, path)
        entire = offset == 0 and size == view.nbytes
        sink = IntoSink(view, None if entire else offset)
        headers = [] if entire else [("Range", f"bytes={offset}-{offset + view.nbytes - 1}")]
        head = await self._pool.request("GET", target, sink, headers=headers)
        if head.status in GONE:
            return False
        if head.status in REDIRECTS and head.headers.get("location", "").endswith(f"{target}/"):
            return False  # a directory stands where the file was
        if head.status not in (200, 206):
            raise self._refusal(head)
        if sink.matched:
            return size is None or sink.whole in (None, size)
        if head.status == 200 and not entire and sink.whole == size:
            raise self._not_offered("parts of files (it ignores Range)")
        return False

    def _not_offered(self, what: str) -> NotOffered:
        return NotOffered(f"{self.name}: this web server does not offer {what}")

    def _refusal(self, head: ResponseHead) -> NetworkError | NotOffered:
        if head.status in REDIRECTS:
            target = head.headers.get("location", "elsewhere")
            return NotOffered(
                f"{self.name}: redirects to {target[:200]!r}; name that URL as the mirror instead"
            )
        return NetworkError(f"{self.name}: answered with HTTP status {head.status}")
