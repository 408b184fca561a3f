"""Static publishing: what readers need beside the files of a tree, as files themselves, so that any HTTP or
rsync mirror of it is a source. docs/static.md has the use of it, docs/spec/static.md the format.

Written is, each by rename, the pack of the snapshot, then the head under its place in the order, then the
list of these, then ``head``: whoever copies in between, in whatever order, has something that is whole.
Mirrors copy what changed; so a pack has what is new in its snapshot and names the packs that have the rest,
until these have grown to as much as they began with.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from p2psync.errors import FileError, FormatError, P2psyncError, UsageError, show_path
from p2psync.format import pack
from p2psync.format.head import ArchiveHead, decode_head
from p2psync.format.ids import Ref
from p2psync.format.listing import Kind, decode_listing
from p2psync.format.snapshot import Snapshot
from p2psync.format.url import archive_text
from p2psync.state import State
from p2psync.state.state import STATIC
from p2psync.state.trees import Tree
from p2psync.tree.static_folder import StaticFolder

PACKS_KEPT: Final = 32
"""Older packs that a new one may name; then all is written into one. Half of what readers take."""
PIECE: Final = 1 << 20
"""Bytes that are written at once, and of rows that are read at once."""
HEAD_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
HEAD_READ: Final = 1 << 10
"""Bytes of ``head`` that are read: more than a head has."""


def static_path(tree: bytes, given: bytes) -> bytes:
    """The folder of the static files: a name in the tree (absolute), or a path.

    Raises UsageError: it is the tree itself, or the tree is in it.
    """
    path = os.path.normpath(os.path.join(tree, given))
    path = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    if (tree.rstrip(b"/") + b"/").startswith(path.rstrip(b"/") + b"/"):
        raise UsageError(
            f"{show_path(path)} cannot be the folder of the static files, as what is published is in it: "
            "give a name, --static=NAME, or another path"
        )
    return path


@contextlib.contextmanager
def static_files(
    state: State, tree: Tree, archive: bytes, wanted: bytes | bool | None
) -> Iterator[StaticFiles | None]:
    """The static files of what is published from a tree, None where there are none; noted with the tree.

    ``wanted``: the folder as it was given; True for the usual one, False for none from now on, None for
    what it was. A folder that is not wanted any more is removed at the end, since it would be taken for a
    part of the archive.

    Raises:
        UsageError: the folder is somebody else's. FileError: it cannot be made, or removed.
    """
    before = tree.options.get(STATIC)
    if wanted is None and before is None and _is_there(tree.path, archive):
        wanted = True  # The index was lost since: it is no part of the archive.
    given = (before or os.fsencode(pack.FOLDER)) if wanted is True else before if wanted is None else wanted
    old = static_path(tree.path, before) if before else None
    new = static_path(tree.path, given) if given else None
    with contextlib.ExitStack() as stack:
        files: StaticFiles | None = None
        if new is not None:
            files = StaticFiles(state, stack.enter_context(contextlib.closing(StaticFolder(new))), archive)
            tree.options[STATIC] = given
        else:
            tree.options.pop(STATIC, None)
        if before != given:
            if old is not None and old != new and os.path.isdir(old):
                with contextlib.closing(StaticFolder(old)) as folder:
                    folder.remove()
            state.trees.update(tree)
        yield files


def _is_there(tree: bytes, archive: bytes) -> bool:
    """Whether the usual folder in a tree has static files of this archive."""
    try:
        fd = os.open(os.path.join(tree, os.fsencode(f"{pack.FOLDER}/{pack.HEAD}")), HEAD_FLAGS)
    except OSError:
        return False
    try:
        return decode_head(os.pread(fd, HEAD_READ, 0)).archive == archive
    except (OSError, P2psyncError):
        return False
    finally:
        os.close(fd)


def note_head(state: State, tree: Tree, head: ArchiveHead) -> None:
    """Bring the static files of a tree, if it has any, to a head of a snapshot that was published before.

    Raises UsageError, FileError: as `static_files` and `StaticFiles.write`.
    """
    if tree.options.get(STATIC):
        with static_files(state, tree, head.archive, None) as files:
            if files is not None:
                files.write(head)


class StaticFiles:
    """The static files of one archive in a folder."""

    def __init__(self, state: State, folder: StaticFolder, archive: bytes) -> None:
        """Raises UsageError: they are those of another archive. FileError: they cannot be read."""
        self._state = state
        self._folder = folder
        self.path = folder.path
        self._before = self._head(pack.HEAD)
        if self._before is not None and self._before.archive != archive:
            raise UsageError(
                f"{show_path(folder.path)} has the static files of "
                f"p2psync://{archive_text(self._before.archive)}: name another folder "
                "for those of this archive, --static=NAME or --static=/PATH"
            )

    def write(self, head: ArchiveHead) -> None:
        """Bring the folder to what ``head`` says; nothing is written that is there.

        Raises FileError: the disk refuses. What was there before is whole then.
        """
        if self._folder.read(pack.pack_path(head.snapshot.digest), pack.FIXED.size) is None:
            self._write_pack(head.snapshot)
        kept = self._newest({head, *self._kept()})
        places = [(each.epoch, each.seq) for each in kept]
        for name, data in (
            (pack.head_path(places[0]), kept[0].raw),
            (pack.LIST, pack.encode_list(places)),
            (pack.HEAD, kept[0].raw),
        ):
            if self._folder.read(name, pack.LIST_MAX) != data:
                self._folder.put(name, [data])
        self._tidy(kept)

    def _kept(self) -> Iterator[ArchiveHead]:
        """The heads that are there."""
        listed = self._folder.read(pack.LIST, pack.LIST_MAX)
        with contextlib.suppress(FormatError):
            for place in pack.decode_list(listed or b""):
                head = self._head(pack.head_path(place))
                if head is not None:
                    yield head

    def _head(self, name: str) -> ArchiveHead | None:
        raw = self._folder.read(name, HEAD_READ)
        try:
            return None if raw is None else decode_head(raw)
        except P2psyncError as error:
            if name != pack.HEAD:
                return None
            raise UsageError(
                f"{show_path(self._folder.path)} has a file 'head' that is none of p2psync's ({error}): name "
                "another folder for the static files, --static=NAME or --static=/PATH"
            ) from None

    @staticmethod
    def _newest(heads: Iterable[ArchiveHead]) -> list[ArchiveHead]:
        """The newest head of each of the newest snapshots, newest first."""
        kept: dict[Ref, ArchiveHead] = {}
        for head in sorted(heads, key=lambda head: head.order, reverse=True):
            if len(kept) < pack.SNAPSHOTS_KEPT:
                kept.setdefault(head.snapshot, head)
        return list(kept.values())

    def _tidy(self, kept: Sequence[ArchiveHead]) -> None:
        """Remove what no snapshot that is kept needs."""
        names = {head.snapshot.digest for head in kept}
        for name in list(names):
            raw = self._folder.read(pack.pack_path(name), pack.FIXED.size + pack.HEADER_MAX)
            with contextlib.suppress(FormatError):
                names.update(pack.decode_header(raw or b"").packs)
        self._folder.keep(pack.PACKS, map(pack.pack_path, names))
        heads = [pack.head_path((head.epoch, head.seq)) for head in kept]
        self._folder.keep(pack.HEADS, [*heads, pack.LIST])

    # Packs.

    def _write_pack(self, snapshot: Ref) -> None:
        with contextlib.ExitStack() as stack:
            older: list[_Pack] = []
            if self._before is not None:
                with contextlib.suppress(FormatError):  # Damaged on the disk: all is written anew.
                    older = list(self._older(stack, self._before.snapshot.digest))
            rows = _Rows(self._state, [each.has for each in older])
            rows.walk(snapshot)
            header = pack.encode_header(rows.count, [each.name for each in older])
            self._folder.put(pack.pack_path(snapshot.digest), _joined([header, rows.raw], rows.data()))

    def _older(self, stack: contextlib.ExitStack, name: bytes) -> Iterator[_Pack]:
        """The packs that a new one can name, newest first; none where it is time to write all into one."""
        first = self._open(name)
        if first is None:
            return
        stack.callback(os.close, first.fd)
        found = [first]
        for each in first.places.header.packs:
            opened = self._open(each)
            if opened is None:
                return
            stack.callback(os.close, opened.fd)
            found.append(opened)
        *later, whole = (each.places.size for each in found)
        if len(found) < PACKS_KEPT and sum(later) < whole:
            yield from found

    def _open(self, name: bytes) -> _Pack | None:
        fd = self._folder.open(pack.pack_path(name))
        if fd is None:
            return None
        try:
            header = pack.decode_header(os.pread(fd, pack.FIXED.size + pack.HEADER_MAX, 0))
            index = pack.Index(header)
            while index.known < header.rows:
                count = min(PIECE // pack.ROW.size, header.rows - index.known)
                at = header.begin + index.known * pack.ROW.size
                rows = os.pread(fd, count * pack.ROW.size, at)
                if len(rows) != count * pack.ROW.size:
                    raise FormatError("a pack is cut off")
                index.add(rows)
        except BaseException:
            os.close(fd)
            raise
        return _Pack(name, fd, index)


class _Pack(NamedTuple):
    """A pack on disk."""

    name: bytes
    fd: int
    places: pack.Index

    def has(self, digest: bytes, recipe: bool) -> bool:
        at = self.places.header.begin
        return any(
            os.pread(self.fd, len(digest), at + row * pack.ROW.size) == digest
            for row in self.places.rows_of(digest, recipe=recipe)
        )


class _Rows:
    """What one pack is to have, in the order in which readers ask: the snapshot, listings from the root
    down, and then recipes. Memory is 36 bytes for each, and a digest.
    """

    def __init__(self, state: State, known: Sequence[Callable[[bytes, bool], bool]]) -> None:
        """``known``: who knows whether another pack has an object or recipe, with all that is below it."""
        self._meta = state.meta
        self._known = known
        self._seen: set[tuple[bytes, bool]] = set()
        self.raw = bytearray()

    @property
    def count(self) -> int:
        return len(self.raw) // pack.ROW.size

    def walk(self, snapshot: Ref) -> None:
        """Take in a snapshot, and all below it that no other pack has. Raises FileError."""
        decoded = self._meta.read(snapshot, Snapshot.decode)
        if decoded is None:
            raise _missing()
        self._add(snapshot.digest, snapshot.size)
        recipes: dict[bytes, None] = {}
        level = [decoded.root.ref]
        while level:
            below: list[Ref] = []
            for ref in level:
                if not self._is_new(ref.digest, recipe=False):
                    continue
                entries = self._meta.read(ref, decode_listing)
                if entries is None:
                    raise _missing()
                self._add(ref.digest, ref.size)
                if not ref.is_single:
                    recipes[ref.digest] = None
                below += [entry.ref for entry in entries if entry.kind is Kind.DIR]
                for entry in entries:
                    if entry.kind is Kind.FILE and entry.size and not entry.ref.is_single:
                        recipes[entry.digest] = None
            level = below
        for digest in recipes:
            if self._is_new(digest, recipe=True):
                self._add(digest, len(self._recipe(digest)), recipe=True)

    def _is_new(self, digest: bytes, *, recipe: bool) -> bool:
        if (digest, recipe) in self._seen:
            return False
        self._seen.add((digest, recipe))
        return not any(known(digest, recipe) for known in self._known)

    def _add(self, digest: bytes, length: int, *, recipe: bool = False) -> None:
        if self.count == pack.ROWS_MAX:
            raise FileError(
                f"the archive has more than {pack.ROWS_MAX} directories and large files, which static files "
                "cannot have: publish parts of it as archives of their own, or say --no-static"
            )
        self.raw += pack.encode_row(digest, length, recipe=recipe)

    def data(self) -> Iterator[bytes]:
        """The bytes of all rows. Raises FileError."""
        for digest, word in pack.ROW.iter_unpack(self.raw):
            if word & pack.RECIPE_BIT:
                yield self._recipe(digest)
            else:
                yield from self._meta.pieces(digest)

    def _recipe(self, digest: bytes) -> bytes:
        raw = self._meta.get_recipe(digest)
        if raw is None:
            raise _missing()
        return raw


def _missing() -> FileError:
    return FileError(
        "the state directory lacks something of the snapshot that static files are made of: publish again, "
        "and if that does not help, forget the directory and publish it with --archive"
    )


def _joined(first: Iterable[bytes | bytearray], rest: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces that are worth a system call each."""
    waiting = bytearray()
    for source in (first, rest):
        for piece in source:
            waiting += piece
            if len(waiting) >= PIECE:
                yield bytes(waiting)
                waiting.clear()
    yield bytes(waiting)
