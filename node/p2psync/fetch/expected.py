"""What a path on disk should equal: what was published there, or what a fetch was to put there, or what SRC
says. Reads what the state directory knows, and nothing on disk but what a path leads to.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from p2psync.errors import FileError, PartialError, UsageError, show_path
from p2psync.fetch import put
from p2psync.fetch.placed import placed
from p2psync.format.ids import Ref
from p2psync.format.listing import Entry, Kind, Totals, add_totals, decode_listing
from p2psync.format.paths import join, split
from p2psync.format.snapshot import Snapshot
from p2psync.format.url import ArchiveUrl, archive_text
from p2psync.format.walk import LeadsNowhere, NotThere, walk
from p2psync.publish.claim import rules_of
from p2psync.rules.filter import Filter
from p2psync.state import State, Tree

NOTHING: Mapping[bytes, Entry] = {}


class Expected(NamedTuple):
    """What should be at a path of a tree."""

    tree: bytes
    """The directory that the tree is, absolute and real."""
    path: bytes
    """What is looked at in it; b"" for all of it."""
    entry: Entry | None
    """What should be there; None: nothing, or some names alone (``names``)."""
    archive: bytes
    """b"" where it is of several archives."""
    epoch: int
    seq: int
    """Of the head; 0 where that is not known, or several."""
    archive_path: bytes
    """Where ``path`` is in the archive."""
    rules: Filter
    """What they leave out is not compared."""
    names: Mapping[bytes, Entry] = NOTHING
    """Single files that were fetched into it, or directories of which each is a tree, in place of what else
    should be there.
    """
    complete: bool = True
    """Whether the fetch that was to make it so came to its end."""
    special_bits: bool = False
    """Whether setuid, setgid and sticky bits should be there as published; otherwise none should."""

    @property
    def totals(self) -> Totals:
        """Of all that should be there."""
        if self.entry is not None:
            return self.entry.below
        return add_totals(() if self.path else (entry.below for entry in self.names.values()))


def expect(
    state: State,
    path: str | bytes | os.PathLike[str],
    src: ArchiveUrl | None = None,
    rules: Filter | None = None,
) -> Expected:
    """What should be at ``path``: as the state knows, or as a fetch of ``src`` with ``path`` as DEST would
    put it there, of the newest snapshot that is known. ``rules`` are in place of those of the tree.

    Raises:
        UsageError: nothing is known of it.
        PartialError: the archive has nothing at the path of ``src``.
        FileError: the state directory lacks a part of the manifest, or it is damaged.
    """
    dest = os.fsencode(path)
    found = _recorded(state, dest) if src is None else _named(state, dest, src)
    return found if rules is None else found._replace(rules=rules)


class NotHereError(FileError):
    """A part of the manifest is not in the state directory."""

    def __init__(self) -> None:
        super().__init__(
            "a part of the manifest is not in the state directory: publish, mirror or fetch again, or list "
            "the archive (p2psync ls --recursive) first"
        )


def read_listing(state: State, entry: Entry) -> list[Entry]:
    """What is in a directory. Raises NotHereError, and FileError: its listing is damaged."""
    entries = state.meta.read(entry.ref, decode_listing)
    if entries is None:
        raise NotHereError
    return entries


def _root(state: State, snapshot: Ref) -> Entry:
    decoded = state.meta.read(snapshot, Snapshot.decode)
    if decoded is None:
        raise NotHereError
    return decoded.root


def _at(state: State, root: Entry, path: bytes) -> Entry | None:
    """The entry at a path below a directory; None if there is none, or a link is on the way."""
    entry: Entry | None = root
    for name in path.split(b"/") if path else []:
        if entry is None or entry.kind != Kind.DIR:
            return None
        entry = next((each for each in read_listing(state, entry) if each.name == name), None)
    return entry


def _led(state: State, root: Entry, path: bytes, *, inside: bool) -> Entry | None:
    """What a path in the archive leads to, as a fetch takes it (``view.resolve``); ``inside``: with a slash
    at its end.
    """
    try:
        return walk(root, path, lambda directory: read_listing(state, directory), follow_last=inside)
    except (NotThere, LeadsNowhere):
        return None


# What SRC says.


def _named(state: State, dest: bytes, src: ArchiveUrl) -> Expected:
    head = state.heads.newest(src.archive)
    if head is None:
        raise UsageError(
            f"nothing is known here of p2psync://{archive_text(src.archive)}; fetch or list it first"
        )
    entry = _led(state, _root(state, head.snapshot), src.path, inside=src.inside)
    if entry is None:
        raise PartialError(
            f"snapshot {head.seq}, the newest that is known here, has no '{show_path(src.path)}'; p2psync ls "
            "tells what the archive has"
        )
    single = entry.kind != Kind.DIR
    if src.inside and single:
        raise PartialError(
            f"'{show_path(src.path)}' is no directory of the archive: leave out the slash at its end"
        )
    place = placed(dest, src, single=single)
    tree, path = split(place) if single else (place, b"")
    known = state.trees.get(tree)
    ours = None if known is None or known.archive != src.archive else known
    return Expected(
        tree or b"/",
        path,
        entry,
        src.archive,
        head.epoch,
        head.seq,
        src.path,
        Filter() if ours is None or single else rules_of(ours),
        special_bits=ours is not None and put.has_special_bits(ours) is True,
    )


# What the state knows.


def _recorded(state: State, dest: bytes) -> Expected:
    place = os.path.realpath(dest)
    if os.path.islink(dest) and state.trees.get(place) is None:
        # Perhaps the link itself was fetched.
        itself = _within(state, os.path.join(os.path.realpath(os.path.dirname(dest)), os.path.basename(dest)))
        if itself is not None and itself.entry is not None:
            return itself
    found = _within(state, place) or _inside(state, place)
    if found is None:
        if not os.path.lexists(dest):
            raise UsageError(f"there is no {show_path(dest)!r}, and nothing is known that should be there")
        raise UsageError(
            f"{show_path(place)} is not known to hold an archive: publish, mirror or fetch it first, "
            "or name the archive"
        )
    return found


def _within(state: State, place: bytes) -> Expected | None:
    """What should be at an absolute path, by the nearest tree that it is or lies in."""
    for above, path in _above(place):
        tree = state.trees.get(above)
        found = None if tree is None else _part(state, tree, path)
        if found is not None:
            return found
    return None


def _above(place: bytes) -> Iterator[tuple[bytes, bytes]]:
    """A path and the directories above it, each with the way down from there."""
    path = b""
    while True:
        yield place, path
        above, name = os.path.split(place)
        if not name:
            return
        place, path = above, join(name, path) if path else name


def _part(state: State, tree: Tree, path: bytes) -> Expected | None:
    """What should be at a path of a tree; None if that is not known to hold anything of the kind."""
    files = put.files_of(tree)
    if path in files:
        file = files[path]
        return Expected(
            tree.path,
            path,
            file.entry,
            file.archive,
            file.epoch,
            file.seq,
            file.path,
            Filter(),
            complete=file.complete,
            special_bits=True,  # Noted as it was made.
        )
    entries = {name: file.entry for name, file in files.items()}
    whole = put.part_of(tree)
    if whole is not None and tree.archive is not None:
        part, complete = whole
        part = _numbered(state, tree.archive, part)
        chosen = put.chosen_of(tree)
        if chosen is not None and (chosen.snapshot, chosen.path) != (part.snapshot, part.path):
            chosen = None
        rules = rules_of(tree) if chosen is None else chosen.rules
        root = (
            _led(state, _root(state, part.snapshot), part.path, inside=True)
            if chosen is None
            else chosen.root
        )
        if root is None or root.kind != Kind.DIR:
            return None
        return Expected(
            tree.path,
            path,
            _at(state, root._replace(name=b""), path),
            tree.archive,
            part.epoch,
            part.seq,
            join(part.path, path) if path else part.path,
            rules,
            entries,
            complete,
            put.has_special_bits(tree) is True,
        )
    return None if path or not files else _several(tree.path, files.values(), entries)


def _inside(state: State, place: bytes) -> Expected | None:
    """What should be in a directory that is no tree, by the trees directly in it: a fetch of ID/DIR makes
    one there.
    """
    found: list[Expected] = []
    entries: dict[bytes, Entry] = {}
    for tree in state.trees.all():
        above, name = os.path.split(tree.path)
        if above != place or not name or (part := _part(state, tree, b"")) is None or part.entry is None:
            continue
        if not part.rules.rules:  # They speak of paths in the tree itself.
            found.append(part)
            entries[name] = part.entry._replace(name=name)
    return _several(place, found, entries) if found else None


def _several(place: bytes, made: Iterable[put.File | Expected], entries: Mapping[bytes, Entry]) -> Expected:
    """What should be in a directory: some names, and nothing is known of the others. ``made``: where each is
    from.
    """
    parts = list(made)
    archives = {part.archive for part in parts}
    heads = {(part.epoch, part.seq) for part in parts}
    paths = [part.path if isinstance(part, put.File) else part.archive_path for part in parts]
    epoch, seq = heads.pop() if len(archives) == len(heads) == 1 else (0, 0)
    return Expected(
        place,
        b"",
        None,
        archives.pop() if len(archives) == 1 else b"",
        epoch,
        seq,
        paths[0] if len(paths) == 1 else b"",
        Filter(),
        entries,
        all(part.complete for part in parts),
        all(isinstance(part, put.File) or part.special_bits for part in parts),
    )


def _numbered(state: State, archive: bytes, part: put.Part) -> put.Part:
    if part.seq:
        return part
    known = (row for row in state.meta.snapshots(archive) if row.ref == part.snapshot)
    row = next(known, None)
    return part if row is None else part._replace(epoch=row.epoch, seq=row.seq)
