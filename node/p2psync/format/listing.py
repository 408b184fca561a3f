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

from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from functools import partial
from itertools import islice, repeat
from operator import lt
from typing import Any, Final, NamedTuple

import msgpack

from p2psync.errors import FormatError
from p2psync.format.canonical import Value, check_plain, decode_sequence, encode, integer, octets, sort_maps
from p2psync.format.ids import DIGEST_SIZE, Ref
from p2psync.format.limits import (
    ENTRY_BYTES_MAX,
    EXTRA_VALUES_MAX,
    INT64_MAX,
    LISTING_BYTES_MAX,
    LISTING_ENTRIES_MAX,
    NAME_MAX,
    OBJECT_BYTES_MAX,
    SYMLINK_TARGET_MAX,
    TREE_ENTRIES_MAX,
)
from p2psync.format.reserved import TEMPORARY_PREFIX

VERSION: Final = 1
MODE_MAX: Final = 0o7777
PERMISSIONS: Final = 0o777
"""Bits of a mode that are permissions; the others are setuid, setgid and the sticky bit (chmod(2))."""
SYMLINK_MODE: Final = 0o777
"""Links have no permissions of their own on Linux; one value keeps equal trees equal."""


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


READ_AT_ONCE: Final = 1024
"""Entries that are read together: some 100 KiB."""
NO_EXTRA: Final[Mapping[str, Any]] = {}
NO_TOTALS: Final = Totals()


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
    totals: Totals = NO_TOTALS
    extra: Mapping[str, Any] = NO_EXTRA

    @property
    def ref(self) -> Ref:
        """The object that this entry names."""
        return Ref.known(self.size, self.digest)

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


def without_special_bits(entry: Entry) -> Entry:
    """The entry with the permissions alone as its mode."""
    return entry if entry.mode <= PERMISSIONS else entry._replace(mode=entry.mode & PERMISSIONS)


def add_totals(parts: Iterable[Totals]) -> Totals:
    """The sum of ``parts``."""
    files = dirs = symlinks = size = 0
    for part in parts:
        files += part.files
        dirs += part.dirs
        symlinks += part.symlinks
        size += part.bytes
    return Totals(files, dirs, symlinks, size)


def check_totals(entry: Entry, entries: Sequence[Entry]) -> None:
    """Refuse a directory whose listing, ``entries``, does not add up to the totals in its ``entry``.

    Whoever checks each directory on the way has the totals of the root as a bound on the whole walk: a bomb
    of directories that name the same ones again must declare itself in the snapshot.

    Raises:
        FormatError: they differ.
    """
    sizes = [inner.size for inner in entries if inner.kind is Kind.FILE]
    files, size = len(sizes), sum(sizes)
    dirs = symlinks = 0
    for inner in entries if files < len(entries) else ():
        if inner.kind is Kind.SYMLINK:
            symlinks += 1
        elif inner.kind is Kind.DIR:
            below = inner.totals
            files += below.files
            dirs += below.dirs + 1
            symlinks += below.symlinks
            size += below.bytes
    if (files, dirs, symlinks, size) != entry.totals:
        raise FormatError(f"the directory {entry.name!r} does not hold as much as its entry says")


def check_listing_size(entry: Entry) -> None:
    """Refuse a directory whose listing is longer than that of as many names as its ``entry`` counts below it:
    then nothing of it needs to be got.

    Raises:
        FormatError: it is.
    """
    names = entry.totals.files + entry.totals.dirs + entry.totals.symlinks
    if entry.size > len(_HEADER) + names * ENTRY_BYTES_MAX:
        raise FormatError(
            f"the listing of the directory {entry.name!r} has {entry.size} bytes for {names} names"
        )


def check_name(name: bytes) -> None:
    """Refuse a name that no directory can hold, that would lead out of it, or that p2psync uses itself."""
    if not 0 < len(name) <= NAME_MAX or b"/" in name or b"\0" in name or name in (b".", b".."):
        raise FormatError(f"{name!r} cannot be the name of a file")
    if name.startswith(TEMPORARY_PREFIX):
        raise FormatError(f"{name!r} is a name that p2psync keeps for itself")


def encode_listing(entries: Iterable[Entry]) -> bytes:
    """The bytes of a directory object; ``entries`` in any order, names distinct.

    Each entry is read back as ``decode_listing`` would read it, so nothing is published that readers refuse;
    msgpack itself is trusted to invert itself.

    Raises:
        FormatError: an entry is not one that ``decode_listing`` would take.
    """
    ordered = sorted(entries, key=_name_of)
    if len(ordered) > LISTING_ENTRIES_MAX:
        raise FormatError(f"a directory object cannot have more than {LISTING_ENTRIES_MAX} entries")
    packer = msgpack.Packer(use_bin_type=True)
    parts = [_HEADER]
    last = b""
    values = 0
    for entry in ordered:
        item = _to_row(entry)
        again = _plain_file(item) or _from_row(item)
        if again != entry or again.name <= last:
            raise FormatError(f"{entry.name!r} stands twice in a directory, or is not an entry of one")
        last = again.name
        if again.extra:
            values += check_plain(again.extra, _FURTHER)
        parts.append(packer.pack(item))
        if len(parts[-1]) > ENTRY_BYTES_MAX:
            raise FormatError(f"the entry {entry.name!r} is longer than {ENTRY_BYTES_MAX} bytes")
    raw = b"".join(parts)
    if len(raw) > LISTING_BYTES_MAX or values > EXTRA_VALUES_MAX:
        raise FormatError(f"a directory object of {len(raw)} bytes and {values} further values is too large")
    return raw


def _name_of(entry: Entry) -> bytes:
    return entry.name


def _to_row(entry: Entry) -> list[Value]:
    kind = int(entry.kind)
    made: list[Value] = [entry.name, kind, entry.mode, entry.mtime_ns]
    if kind == Kind.SYMLINK:
        made.append(entry.target)
    else:
        made += [entry.size, entry.digest]
        if kind == Kind.DIR:
            made.append(list(entry.totals))
    if entry.extra:
        made.append(sort_maps(entry.extra))
    return made


def decode_listing(raw: bytes) -> list[Entry]:
    """The entries of a directory object, in ascending order of their names.

    Raises:
        FormatError: damaged, not canonical, over a limit, unsorted, a name twice, or a name that leads
        elsewhere.
    """
    if len(raw) > LISTING_BYTES_MAX:
        raise FormatError(f"{_WHAT} of {len(raw)} bytes is over the limit of {LISTING_BYTES_MAX}")
    if not raw.startswith(_HEADER):  # compared as bytes: to Python, the numbers 1 and 1.0 and true are equal
        raise FormatError(f"{_WHAT} is damaged, or of a version that this p2psync does not know; update it")
    return decode_entries(raw, len(_HEADER))


def decode_entries(raw: bytes, begin: int = 0) -> list[Entry]:
    """The same of a stretch of a directory object that begins and ends between two entries."""
    entries: list[Entry] = []
    values = 0
    for items in decode_sequence(raw, begin, ENTRY_BYTES_MAX, _WHAT):
        some = _plain_files(items)
        if some is None:
            some = [_plain_file(item) or _from_row(item) for item in items]
            values += sum([check_plain(entry.extra, _FURTHER) for entry in some if entry.extra])
            if values > EXTRA_VALUES_MAX:
                raise FormatError(f"{_WHAT} has more than {EXTRA_VALUES_MAX} values in further fields")
        names = [entry.name for entry in (*entries[-1:], *some)]
        if not all(map(lt, names, names[1:])):
            raise FormatError(f"{_WHAT} is not sorted, or has a name twice")
        entries += some
        if len(entries) > LISTING_ENTRIES_MAX:
            raise FormatError(f"{_WHAT} has more than {LISTING_ENTRIES_MAX} entries")
    return entries


def read_listing(raw: bytes) -> list[Entry]:
    """The entries of a directory object that ``decode_listing`` has accepted before: nothing is checked,
    which takes a third of the time. Only for bytes that were kept where nobody else writes.
    """
    rows = msgpack.Unpacker(raw=False, use_list=True, max_buffer_size=LISTING_BYTES_MAX)
    rows.feed(raw)
    rows.skip()  # the header
    entries: list[Entry] = []
    while some := list(islice(rows, READ_AT_ONCE)):
        columns = list(zip(*some, strict=False))
        if len(columns) == _FIELDS[_FILE] and not any(columns[1]) and len(max(some, key=len)) == len(columns):
            name, _, *further = columns
            entries += _files(name, *further)
        else:
            entries += map(_read_row, some)
    return entries


def _read_row(row: list[Any]) -> Entry:
    """The entry in an item of a listing that was accepted before."""
    number = row[1]
    if number == Kind.FILE:
        name, _, mode, mtime_ns, size, digest, *extra = row
        made = (name, Kind.FILE, mode, mtime_ns, size, digest, b"", NO_TOTALS)
    elif number == Kind.DIR:
        name, _, mode, mtime_ns, size, digest, totals, *extra = row
        made = (name, Kind.DIR, mode, mtime_ns, size, digest, b"", Totals(*totals))
    else:
        name, _, mode, mtime_ns, target, *extra = row
        made = (name, Kind.SYMLINK, mode, mtime_ns, 0, b"", target, NO_TOTALS)
    return _make_entry((*made, extra[0] if extra else NO_EXTRA))


_WHAT: Final = "a directory object"
_FURTHER: Final = "the further fields of an entry"
_HEADER: Final = encode([VERSION])
_DOT: Final = ord(b".")
_FILE: Final = Kind.FILE
_make_entry: Final = partial(tuple.__new__, Entry)  # what Entry(...) calls, with less in between
_KINDS: Final = {int(kind): kind for kind in Kind}
_FIELDS: Final = {Kind.FILE: 6, Kind.DIR: 7, Kind.SYMLINK: 5}


def _files(
    names: Iterable[bytes],
    modes: Iterable[int],
    mtimes: Iterable[int],
    sizes: Iterable[int],
    digests: Iterable[bytes],
) -> Iterable[Entry]:
    """The entries of regular files, by columns."""
    columns = (names, repeat(_FILE), modes, mtimes, sizes, digests)
    return map(_make_entry, zip(*columns, repeat(b""), repeat(NO_TOTALS), repeat(NO_EXTRA), strict=False))


def _plain_files(items: list[Value]) -> list[Entry] | None:
    """The entries of items that are all regular files as nearly all are; None where one is anything else.

    It asks of whole columns what ``_plain_file`` asks of one item, in half of the time: every entry of every
    directory that is compared comes through here.
    """
    try:
        names, numbers, modes, mtimes, sizes, digests = zip(*items, strict=True)
    except (TypeError, ValueError):
        return None
    if {*map(type, names), *map(type, digests)} != {bytes}:
        return None
    if {*map(type, numbers), *map(type, modes), *map(type, mtimes), *map(type, sizes)} != {int}:
        return None
    joined = b"\0".join([b"", *names])
    if (
        any(numbers)
        or b"/" in joined
        or b"\0." in joined  # "." and "..", and all names that p2psync uses itself
        or joined.count(b"\0") > len(names)
        or not all(names)
        or len(max(names, key=len)) > NAME_MAX
        or min(modes) < 0
        or max(modes) > MODE_MAX
        or min(mtimes) < -INT64_MAX
        or max(mtimes) > INT64_MAX
        or min(sizes) < 1
        or max(sizes) > OBJECT_BYTES_MAX
        or {*map(len, digests)} != {DIGEST_SIZE}
    ):
        return None
    return list(_files(names, modes, mtimes, sizes, digests))


def _plain_file(item: Value) -> Entry | None:
    """The entry of a regular file as nearly all are; None for any other item: that is for ``_from_row``."""
    try:
        name, number, mode, mtime_ns, size, digest = item
    except (TypeError, ValueError):
        return None
    if (
        type(number) is int
        and number == 0
        and type(name) is bytes
        and 0 < len(name) <= NAME_MAX
        and name[0] != _DOT  # "." and "..", and all names that p2psync uses itself
        and b"/" not in name
        and b"\0" not in name
        and type(mode) is int
        and 0 <= mode <= MODE_MAX
        and type(mtime_ns) is int
        and -INT64_MAX <= mtime_ns <= INT64_MAX
        and type(size) is int
        and 0 < size <= OBJECT_BYTES_MAX
        and type(digest) is bytes
        and len(digest) == DIGEST_SIZE
    ):
        return _make_entry((name, _FILE, mode, mtime_ns, size, digest, b"", NO_TOTALS, NO_EXTRA))
    return None


def _from_row(item: Value) -> Entry:
    """The entry in an item of a listing; the caller checks what its further fields hold."""
    if type(item) is not list or len(item) < 5:
        raise FormatError("an entry of a directory object is too short")
    name, number, mode, mtime_ns, size = item[:5]
    kind = _KINDS.get(number) if type(number) is int else None
    if kind is None:
        raise FormatError("an entry of a directory object is of an unknown kind; a newer p2psync may know it")
    extra = NO_EXTRA
    if len(item) != _FIELDS[kind]:
        if len(item) != _FIELDS[kind] + 1 or type(item[-1]) is not dict or not item[-1]:
            raise FormatError("an entry of a directory object has a wrong number of fields")
        extra = item[-1]
    if type(name) is not bytes:
        raise FormatError("a name must be a byte string")
    check_name(name)
    if type(mode) is not int or not 0 <= mode <= MODE_MAX:
        raise FormatError(f"a mode must be a whole number from 0 to {MODE_MAX}")
    if type(mtime_ns) is not int or not -INT64_MAX <= mtime_ns <= INT64_MAX:
        raise FormatError(f"a modification time must be a whole number of at most {INT64_MAX} ns")
    if kind is Kind.SYMLINK:
        target = octets(size, 1, SYMLINK_TARGET_MAX, "the target of a symbolic link")
        if b"\0" in target or mode != SYMLINK_MODE:
            raise FormatError("a symbolic link has a NUL byte in its target, or a mode of its own")
        return Entry(name, kind, mode, mtime_ns, 0, b"", target, NO_TOTALS, extra)
    digest = item[5]
    if type(size) is not int or not 0 <= size <= OBJECT_BYTES_MAX:
        raise FormatError(f"a size must be a whole number from 0 to {OBJECT_BYTES_MAX}")
    if type(digest) is not bytes or len(digest) != (DIGEST_SIZE if size else 0):
        raise FormatError(f"a digest must be {DIGEST_SIZE} bytes, or none for an empty file")
    if kind is Kind.FILE:
        return Entry(name, kind, mode, mtime_ns, size, digest, b"", NO_TOTALS, extra)
    integer(size, len(_HEADER), LISTING_BYTES_MAX, "the size of a directory object")
    return Entry(name, kind, mode, mtime_ns, size, digest, b"", decode_totals(item[6]), extra)


def decode_totals(value: Value) -> Totals:
    """Totals as they stand in an entry: four whole numbers."""
    if type(value) is not list or len(value) != len(Totals._fields):
        raise FormatError("the totals of a directory must be four numbers")
    for number in value[:3]:
        integer(number, 0, TREE_ENTRIES_MAX, "a total")
    integer(value[3], 0, INT64_MAX, "a total of bytes")
    return Totals(*value)
