"""Heads and metadata out of static files (docs/spec/static.md), which a plain web server has beside a tree.

What comes is verified here, and where it is wrong, it is not there: a mirror that is just being updated has
files of two snapshots, which is no lie.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from p2psync.errors import FormatError, P2psyncError
from p2psync.format import pack
from p2psync.format.head import ArchiveHead, decode_head
from p2psync.format.ids import Ref, chunk_id, object_id
from p2psync.format.pack import FOLDERS, HEAD, LIST, LIST_MAX, Index, decode_header, decode_list
from p2psync.format.recipe import recipe_bytes_max
from p2psync.sources.source import Span, places, together
from p2psync.sources.web_files import Part
from p2psync.sources.wire import HEAD_BYTES_MAX, Have

FIRST_BYTES: Final = 64 << 10
"""Bytes asked for of a pack at first: all of a small one, or 1,800 rows."""
ROWS_BYTES: Final = 1 << 20
"""Bytes of rows asked for at once."""
GAP: Final = 16 << 10
"""Bytes between two places that are read along: less than they cost as a request of their own."""
RUN_MAX: Final = 4 << 20
"""Bytes of one request."""
PACKS_MAX: Final = pack.SNAPSHOTS_KEPT * (pack.PACKS_MAX + 1)
"""Packs of one folder that are looked into."""
CACHED_MAX: Final = 32 << 20
"""Bytes of packs that came whole, from a server without Range, that are kept."""
ABSENT_SECONDS: Final = 1.0
"""How long a pack that was not there is taken for absent: it may be on its way to a mirror."""
GUESSES_MAX: Final = 8
"""Objects that are looked for as snapshots, since they are wanted alone and no pack has them."""
EARLIER_MAX: Final = 8
"""Earlier heads that are asked for."""

CANDIDATES_MAX: Final = 2
"""Rows of one digest that are looked at: a pack has one, and chance makes no second. Whoever wrote a thousand
would have his readers read a thousand listings to find the one that is right.
"""
ANY: Final = range(1, pack.LENGTH_MAX + 1)


class Files(Protocol):
    """Where static files lie, wherever that is. What is read of them need not be what was written."""

    @property
    def name(self) -> str:
        """For people."""

    @property
    def pages(self) -> bool:
        """Whether something else than a file came for one."""

    @property
    def received(self) -> int:
        """Bytes read from sockets so far."""

    async def get(self, path: str, limit: int) -> bytes | None:
        """A file of at most ``limit`` bytes; None: it is not there, or longer."""

    async def part(self, path: str, offset: int, length: int) -> Part | None:
        """Bytes of a file from ``offset`` on, or fewer where it ends, or all of it; None: it is not there."""


Wanted = tuple[bytes, bool]
"""A digest, and whether its recipe is meant."""


class _Pack:
    """What is known of a pack."""

    def __init__(self, name: bytes) -> None:
        self.path = pack.pack_path(name)
        self.index: Index | None = None
        self.begin = b""
        """Its first bytes, perhaps all."""
        self.absent_until = 0.0

    def find(self, wanted: Wanted, lengths: range) -> list[tuple[int, int]]:
        """Where in it something may be that has one of these lengths."""
        if self.index is None:
            return []
        rows = itertools.islice(self.index.rows_of(wanted[0], recipe=wanted[1]), CANDIDATES_MAX)
        return [place for place in map(self.index.place, rows) if place[1] in lengths]


class _Place(NamedTuple):
    pack: _Pack
    begin: int
    length: int


class StaticFiles:
    """The static files that lie somewhere. For the methods see ``p2psync.sources.interfaces``, Heads and
    Metadata.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._folder = ""
        """Where they are below the URL, with a slash at the end."""
        self._heads: dict[bytes, ArchiveHead] = {}
        self._packs: dict[bytes, _Pack] = {}
        """By name; newest first, but for those of other snapshots."""
        self._lock = asyncio.Lock()
        self._cached = 0
        self._guessed = 0

    @property
    def found(self) -> bool:
        """Whether there are any, as far as it was asked."""
        return bool(self._heads)

    @property
    def is_alone(self) -> bool:
        """Whether the URL is that of the folder itself: the tree is elsewhere."""
        return self.found and not self._folder

    @property
    def received(self) -> int:
        return self._files.received

    # Heads.

    async def head(self, archive: bytes) -> bytes | None:
        """Raises FormatError: there is something else than files."""
        folders = [self._folder] if self.found else [*(f"{name}/" for name in FOLDERS), ""]
        for folder in folders:
            raw = await self._files.get(folder + HEAD, HEAD_BYTES_MAX)
            head = None if raw is None else self._taken(raw, archive)
            if head is not None:
                self._folder = folder
                return head.raw
        if self._files.pages and not self._heads:
            raise FormatError(
                f"{self._files.name}: answers with web pages in place of files: it may be a portal that "
                "wants a login"
            )
        return None

    async def earlier(self, archive: bytes) -> list[bytes]:
        if not self.found:
            return []
        listed = await self._files.get(self._folder + LIST, LIST_MAX)
        names = [] if listed is None else decode_list(listed)[:EARLIER_MAX]
        raws = [await self._files.get(self._folder + pack.head_path(name), HEAD_BYTES_MAX) for name in names]
        heads = [self._taken(raw, archive) for raw in raws if raw is not None]
        return [head.raw for head in heads if head is not None]

    def _taken(self, raw: bytes, archive: bytes) -> ArchiveHead | None:
        """A head, if it is one of the archive: its snapshot has a pack."""
        try:
            head = decode_head(raw)
        except P2psyncError:
            return None
        if head.archive != archive:
            return None
        if len(self._heads) < 2 * EARLIER_MAX:
            self._heads[raw] = head
            self._note([head.snapshot.digest])
        return head

    def _note(self, names: Iterable[bytes]) -> None:
        for name in names:
            if name not in self._packs and len(self._packs) < PACKS_MAX:
                self._packs[name] = _Pack(name)

    # Metadata.

    async def metas(self, refs: Sequence[Ref]) -> list[bytes | None]:
        asked = {(ref.digest, False): range(ref.size, ref.size + 1) for ref in refs}
        came = await self._get(asked, chunk_id)
        if not came and len(asked) == 1 and self._guessed < GUESSES_MAX:
            # It may be the snapshot of a head that others had sooner.
            self._guessed += 1
            self._note([refs[0].digest])
            came = await self._get(asked, chunk_id)
        made: list[bytes | None] = []
        for ref in refs:
            raw = b"" if ref.is_empty else came.get((ref.digest, False))
            made.append(raw if raw is not None and len(raw) == ref.size else None)
        return made

    async def recipes(self, refs: Sequence[Ref]) -> list[bytes | None]:
        asked = {(ref.digest, True): range(1, recipe_bytes_max(ref.size) + 1) for ref in refs}
        came = await self._get(asked, object_id)
        return [came.get((ref.digest, True)) for ref in refs]

    async def read(self, pieces: Sequence[Span], into: memoryview) -> list[bool]:
        views = places(pieces, into)
        found = await self._find({(piece.digest, False): ANY for piece in pieces})
        wanted: dict[int, _Place] = {}
        for number, piece in enumerate(pieces):
            for place in found.get((piece.digest, False), ())[:1]:
                if piece.offset + piece.length <= place.length:
                    wanted[number] = _Place(place.pack, place.begin + piece.offset, piece.length)
        came = await self._read(wanted)
        for number, data in came.items():
            views[number][:] = data
        return [number in came for number in range(len(pieces))]

    async def have(self, digests: Sequence[bytes]) -> list[Have]:
        """Of content, files say nothing: it is asked for by its path."""
        return [False] * len(digests)

    async def _get(
        self, wanted: Mapping[Wanted, range], name: Callable[[bytes], bytes]
    ) -> dict[Wanted, bytes]:
        """What is there of objects or recipes with these lengths, and is right."""
        found = await self._find({each: lengths for each, lengths in wanted.items() if each[0]})
        chosen = [(each, place) for each, some in found.items() for place in some]
        came = await self._read({number: place for number, (_, place) in enumerate(chosen)})
        return {
            chosen[number][0]: data for number, data in came.items() if name(data) == chosen[number][0][0]
        }

    async def _find(self, wanted: Mapping[Wanted, range]) -> dict[Wanted, list[_Place]]:
        """Where things lie, as far as any pack has them: rows are read until all are found."""
        found: dict[Wanted, list[_Place]] = {}
        async with self._lock:
            looked: set[bytes] = set()
            while len(found) < len(wanted):
                # The newest one alone has what is new; of the others, twice as many at once each time.
                names = [name for name in self._packs if name not in looked][: max(len(looked), 1)]
                if not names:
                    break
                looked.update(names)
                some = [self._packs[name] for name in names]
                await together([self._open(one) for one in some if one.index is None])
                for one in some:
                    more = one.index is not None
                    while more:
                        for each in wanted.keys() - found.keys():
                            at = [_Place(one, *place) for place in one.find(each, wanted[each])]
                            if at:
                                found[each] = at
                        more = len(found) < len(wanted) and await self._more_rows(one)
        return found

    async def _open(self, one: _Pack) -> None:
        """Read the beginning of a pack, unless it was not there just now."""
        if one.absent_until > time.monotonic():
            return
        came = await self._files.part(self._folder + one.path, 0, FIRST_BYTES)
        try:
            if came is None:
                raise FormatError("it is not there")
            header = decode_header(came.data)
            self._keep(one, came, 0)
            index = Index(header)
            rows = one.begin[header.begin : header.data]
            index.add(rows[: len(rows) // pack.ROW.size * pack.ROW.size])
        except FormatError:
            one.begin = b""
            one.absent_until = time.monotonic() + ABSENT_SECONDS
            return
        one.index = index
        self._note(header.packs)

    def _keep(self, one: _Pack, came: Part, offset: int) -> None:
        """Keep the first bytes of a pack, and all where it came whole."""
        if came.whole and len(came.data) > FIRST_BYTES:
            if self._cached + len(came.data) > CACHED_MAX:
                raise FormatError("there is no room for it")
            self._cached += len(came.data)
        if came.whole or not offset:
            one.begin = came.data

    async def _more_rows(self, one: _Pack) -> bool:
        """Read further rows of a pack; False: there are none, or they cannot be had."""
        index = one.index
        if index is None or index.known == index.header.rows:
            return False
        begin = index.header.begin + index.known * pack.ROW.size
        length = min(ROWS_BYTES // pack.ROW.size * pack.ROW.size, index.header.data - begin)
        raw = await self._stretch(one, begin, length)
        try:
            index.add(raw or b"\0")
        except FormatError:
            one.index = None
            one.absent_until = time.monotonic() + ABSENT_SECONDS
            return False
        return True

    async def _read(self, wanted: dict[int, _Place]) -> dict[int, bytes]:
        """The bytes at some places, in few requests; those that do not come are left out."""
        came: dict[int, bytes] = {}
        runs: list[list[int]] = []
        last: _Place | None = None
        size = 0
        for number, place in sorted(wanted.items(), key=lambda item: (item[1].pack.path, item[1].begin)):
            gap = GAP + 1
            if last is not None and last.pack is place.pack:
                gap = max(place.begin - last.begin - last.length, 0)
            if gap > GAP or size + gap + place.length > RUN_MAX:
                runs.append([])
                size, gap = 0, 0
            runs[-1].append(number)
            size += gap + place.length
            last = place
        await together([self._run([(number, wanted[number]) for number in run], came) for run in runs])
        return came

    async def _run(self, run: Sequence[tuple[int, _Place]], came: dict[int, bytes]) -> None:
        one, begin, _ = run[0][1]
        end = max(place.begin + place.length for _, place in run)
        raw = await self._stretch(one, begin, end - begin)
        if raw is not None:
            for number, place in run:
                came[number] = raw[place.begin - begin : place.begin - begin + place.length]

    async def _stretch(self, one: _Pack, begin: int, length: int) -> bytes | None:
        """Bytes of a pack; None: it does not have them any more."""
        if begin + length > len(one.begin):
            part = await self._files.part(self._folder + one.path, begin, length)
            if part is None:
                return None
            if not part.whole:
                return part.data if len(part.data) == length else None
            try:
                self._keep(one, part, begin)
            except FormatError:
                return None
        raw = one.begin[begin : begin + length]
        return raw if len(raw) == length else None
