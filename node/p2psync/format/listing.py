"""Directory objects: the listing of one directory, sorted by name. Pure.

Encoded as canonical msgpack values one after another, not as one array, so that a change of one entry changes
the bytes of that entry alone and a large listing shares all other chunks with its predecessor:

    [1]                                                       version
    [name, 0, mode, mtime_ns, size, digest]                   regular file
    [name, 1, mode, mtime_ns, size, digest, totals]           directory; size and digest name its own listing
    [name, 2, mode, mtime_ns, target]                         symbolic link

``totals`` is ``[files, directories, symlinks, bytes]`` of all that is below. A map of fields that this
version does not know may stand behind any entry; it is kept, so that an entry can be passed on as it came.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum
from io import BytesIO
from typing import Any, Final, NamedTuple

import msgpack

from p2psync.errors import FormatError
from p2psync.format.canonical import Value, check_plain, encode, integer, octets
from p2psync.format.ids import DIGEST_SIZE, Ref
from p2psync.format.limits import (
    INT64_MAX,
    LISTING_BYTES_MAX,
    LISTING_ENTRIES_MAX,
    NAME_MAX,
    OBJECT_BYTES_MAX,
    SYMLINK_TARGET_MAX,
)

VERSION: Final = 1
MODE_MAX: Final = 0o7777
SYMLINK_MODE: Final = 0o777
"""Links have no permissions of their own on Linux; one value keeps equal trees equal."""
RESERVED_NAMES: Final = frozenset({b".p2psync", b".p2psync.partial"})
"""Folders at the root of a tree that p2psync keeps for itself; never part of a manifest."""


class Kind(IntEnum):
    """What an entry is."""

    FILE = 0
    DIR = 1
    SYMLINK = 2


class Totals(NamedTuple):
    """Counts of all that is below a directory, at any depth."""

    files: int = 0
    dirs: int = 0
    symlinks: int = 0
    bytes: int = 0


NO_EXTRA: Final[Mapping[str, Any]] = {}


class Entry(NamedTuple):
    """One name in a directory. Make it with ``file_entry``, ``dir_entry`` or ``symlink_entry``.

    ``size`` and ``digest`` name the content (of a directory: its listing; of a symlink: 0 and empty).
    """

    name: bytes
    kind: Kind
    mode: int
    mtime_ns: int
    size: int = 0
    digest: bytes = b""
    target: bytes = b""
    totals: Totals = Totals()
    extra: Mapping[str, Any] = NO_EXTRA

    @property
    def ref(self) -> Ref:
        """The object that this entry names."""
        return Ref(self.size, self.digest)

    @property
    def below(self) -> Totals:
        """What this entry adds to the totals of the directory that it is in."""
        if self.kind == Kind.FILE:
            return Totals(files=1, bytes=self.size)
        if self.kind == Kind.SYMLINK:
            return Totals(symlinks=1)
        inner = self.totals
        return Totals(inner.files, inner.dirs + 1, inner.symlinks, inner.bytes)


def file_entry(name: bytes, mode: int, mtime_ns: int, ref: Ref) -> Entry:
    return Entry(name, Kind.FILE, mode, mtime_ns, ref.size, ref.digest)


def dir_entry(name: bytes, mode: int, mtime_ns: int, ref: Ref, totals: Totals) -> Entry:
    return Entry(name, Kind.DIR, mode, mtime_ns, ref.size, ref.digest, totals=totals)


def symlink_entry(name: bytes, mtime_ns: int, target: bytes) -> Entry:
    return Entry(name, Kind.SYMLINK, SYMLINK_MODE, mtime_ns, target=target)


def add_totals(parts: Iterable[Totals]) -> Totals:
    """The sum of ``parts``."""
    files = dirs = symlinks = size = 0
    for part in parts:
        files += part.files
        dirs += part.dirs
        symlinks += part.symlinks
        size += part.bytes
    return Totals(files, dirs, symlinks, size)


def check_name(name: bytes) -> None:
    """Refuse a name that no directory can hold, or that would lead out of it."""
    if not 0 < len(name) <= NAME_MAX or b"/" in name or b"\0" in name or name in (b".", b".."):
        raise FormatError(f"{name!r} cannot be the name of a file")


def encode_listing(entries: Iterable[Entry]) -> bytes:
    """The bytes of a directory object; ``entries`` in any order, names distinct.

    Raises:
        FormatError: an entry is not one that ``decode_listing`` would take.
    """
    ordered = sorted(entries)
    raw = b"".join([encode([VERSION]), *(encode(_to_row(entry)) for entry in ordered)])
    if decode_listing(raw) != ordered:  # pragma: no cover - a check of this module against itself
        raise FormatError("a listing does not survive its own encoding")
    return raw


def _to_row(entry: Entry) -> list[Value]:
    made: list[Value] = [entry.name, int(entry.kind), entry.mode, entry.mtime_ns]
    if entry.kind == Kind.SYMLINK:
        made.append(entry.target)
    else:
        made += [entry.size, entry.digest]
        if entry.kind == Kind.DIR:
            made.append(list(entry.totals))
    if entry.extra:
        made.append(entry.extra)
    return made


def decode_listing(raw: bytes) -> list[Entry]:
    """The entries of a directory object, in ascending order of their names.

    Raises:
        FormatError: damaged, not canonical, over a limit, unsorted, a name twice, or a name that leads
        elsewhere.
    """
    if len(raw) > LISTING_BYTES_MAX:
        raise FormatError(f"a directory object of {len(raw)} bytes is over the limit of {LISTING_BYTES_MAX}")
    entries: list[Entry] = []
    packer = msgpack.Packer(use_bin_type=True)
    again = BytesIO()
    last = b""
    try:
        unpacker = msgpack.Unpacker(
            raw=False, strict_map_key=True, max_ext_len=0, max_buffer_size=len(raw) or 1
        )
        unpacker.feed(raw)
        version = next(unpacker, None)
        if version != [VERSION]:
            raise FormatError("a directory object is of a version that this p2psync does not know; update it")
        again.write(packer.pack(version))
        for item in unpacker:
            entry = _from_row(item)
            if entry.name <= last:
                raise FormatError("a directory object is not sorted, or has a name twice")
            last = entry.name
            if len(entries) == LISTING_ENTRIES_MAX:
                raise FormatError(f"a directory object has more than {LISTING_ENTRIES_MAX} entries")
            entries.append(entry)
            again.write(encode(item) if entry.extra else packer.pack(item))
    except (ValueError, msgpack.exceptions.UnpackException, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"a directory object is damaged: {error}") from None
    if again.getbuffer() != raw:
        raise FormatError("a directory object is not in canonical form")
    return entries


_FIELDS: Final = {Kind.FILE: 6, Kind.DIR: 7, Kind.SYMLINK: 5}


def _from_row(item: Value) -> Entry:
    if type(item) is not list or len(item) < 5:
        raise FormatError("an entry of a directory object is too short")
    name, kind_number, mode, mtime_ns = item[:4]
    if type(kind_number) is not int or not 0 <= kind_number < len(Kind):
        raise FormatError("an entry of a directory object is of an unknown kind; a newer p2psync may know it")
    kind = Kind(kind_number)
    fields = _FIELDS[kind]
    extra = NO_EXTRA
    if len(item) == fields + 1 and type(item[-1]) is dict and item[-1]:
        extra = item[-1]
        check_plain(extra, "an entry's further fields")
    elif len(item) != fields:
        raise FormatError("an entry of a directory object has a wrong number of fields")
    if type(name) is not bytes:
        raise FormatError("a name must be a byte string")
    check_name(name)
    integer(mode, 0, MODE_MAX, "a mode")
    integer(mtime_ns, -INT64_MAX, INT64_MAX, "a modification time")
    if kind == Kind.SYMLINK:
        target = octets(item[4], 1, SYMLINK_TARGET_MAX, "the target of a symbolic link")
        if b"\0" in target:
            raise FormatError("the target of a symbolic link has a NUL byte")
        return Entry(name, kind, mode, mtime_ns, target=target, extra=extra)
    size = integer(item[4], 0, OBJECT_BYTES_MAX, "a size")
    wanted = DIGEST_SIZE if size else 0
    digest = octets(item[5], wanted, wanted, "a digest")
    if kind == Kind.FILE:
        return Entry(name, kind, mode, mtime_ns, size, digest, extra=extra)
    integer(size, 1, LISTING_BYTES_MAX, "the size of a directory object")
    return Entry(name, kind, mode, mtime_ns, size, digest, totals=decode_totals(item[6]), extra=extra)


def decode_totals(value: Value) -> Totals:
    """Totals as they stand in an entry: four whole numbers."""
    if type(value) is not list or len(value) != len(Totals._fields):
        raise FormatError("the totals of a directory must be four numbers")
    for number in value:
        integer(number, 0, INT64_MAX, "a total")
    return Totals(*value)
