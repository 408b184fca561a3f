"""What a fetch put where, as the record of a tree keeps it: which part of which snapshot DEST is to equal,
and which single files lie in it.

It is noted before anything is changed and once more when all is in place, so that it is known afterwards
what an interrupted fetch was about (``fetch.expected``). What may be deleted is ``state.made``'s and
``fetch.guards``'s business.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from p2psync.format.head import ArchiveHead
from p2psync.format.ids import Ref
from p2psync.format.listing import Entry, decode_listing, encode_listing
from p2psync.rules.filter import Filter
from p2psync.state.trees import CHOSEN, Tree

PATH: Final = "path"
COMPLETE: Final = "complete"
BEGUN: Final = "fetching"
FILES: Final = "files"
SPECIAL_BITS: Final = "special bits"
CHOICE: Final = "choice"
ROOT_NAME: Final = b"root"
"""Keys in the options of a tree: the part of the archive and the snapshot that were complete last, what was
begun since, single files, whether modes are whole, and what of it was chosen.
"""
FILES_MAX: Final = 1000
"""Single files that are remembered in one directory: some 250 bytes each, written with every one."""


class Part(NamedTuple):
    """A directory of a snapshot, at its path in the archive, and the head that named it; 0 where that is not
    known.
    """

    snapshot: Ref
    path: bytes
    epoch: int = 0
    seq: int = 0


class Chosen(NamedTuple):
    """A part of a directory of a snapshot: what rules and other options leave of it."""

    snapshot: Ref
    path: bytes
    choice: bytes
    """Names the options (`FetchOptions.choice`)."""
    root: Entry
    """The directory as they leave it."""
    whole: bool
    """Whether that is all of it."""
    rules: Filter
    """What is not looked at."""


class File(NamedTuple):
    """A single file or link, by its name in DEST."""

    entry: Entry
    path: bytes
    """In the archive."""
    archive: bytes
    epoch: int
    seq: int
    complete: bool
    """Whether it came to be in place."""


def note_begun(tree: Tree, head: ArchiveHead, path: bytes, *, special_bits: bool) -> None:
    """A directory of a snapshot is going to be put into DEST; ``special_bits``: with setuid, setgid and
    sticky bits.
    """
    if has_special_bits(tree) is not special_bits:
        tree.options[SPECIAL_BITS] = None
    tree.options[BEGUN] = [*head.snapshot.to_row(), path, head.epoch, head.seq]


def note_chosen(tree: Tree, chosen: Chosen | None) -> None:
    """What is going to be put into DEST is a part that was chosen of a directory, or None, all of it."""
    tree.options.pop(CHOSEN, None)
    if chosen is not None:
        root = encode_listing([chosen.root._replace(name=ROOT_NAME)])
        rules = [chosen.rules.texts(), chosen.rules.above, chosen.rules.source, chosen.rules.dest]
        row = [*chosen.snapshot.to_row(), chosen.path, chosen.choice, root, chosen.whole, *rules]
        tree.options[CHOSEN] = row


def chosen_of(tree: Tree) -> Chosen | None:
    """What was last chosen of a snapshot, if that was not all."""
    row = tree.options.get(CHOSEN) if tree.role != "publish" else None
    if not row:
        return None
    size, digest, path, choice, raw, whole, texts, *places = row
    rules = Filter(Filter.parse(texts).rules, True, *places)
    root = decode_listing(raw)[0]._replace(name=b"")
    return Chosen(Ref(size, digest), path, choice, root, whole, rules)


def note_complete(
    tree: Tree, head: ArchiveHead, path: bytes, *, special_bits: bool, choice: bytes = b""
) -> None:
    """DEST is the directory at ``path`` of a snapshot now, or what a ``choice`` leaves of it."""
    tree.options[CHOICE] = choice
    tree.options[SPECIAL_BITS] = special_bits
    tree.options[PATH] = path
    tree.options[COMPLETE] = head.snapshot.to_row()
    for past in (BEGUN, FILES):
        tree.options.pop(past, None)


def has_special_bits(tree: Tree) -> bool | None:
    """Whether files and directories have their setuid, setgid and sticky bits as published, or none; None:
    some may, as after an earlier version, or in the middle of a change.
    """
    return True if tree.role == "publish" else tree.options.get(SPECIAL_BITS)


def note_file(tree: Tree, file: File) -> None:
    """A single file is, or is going to be, in DEST."""
    name = file.entry.name
    row = [name, encode_listing([file.entry]), *file[1:]]
    others = [each for each in tree.options.get(FILES, []) if each[0] != name]
    tree.options[FILES] = [*others[1 - FILES_MAX :], row]


def complete_of(tree: Tree, path: bytes, choice: bytes = b"") -> Ref | None:
    """The snapshot whose directory at ``path``, or what a ``choice`` leaves of it, DEST was when it was last
    complete, if it was that one.
    """
    row = tree.options.get(COMPLETE)
    is_it = tree.options.get(PATH, b"") == path and tree.options.get(CHOICE, b"") == choice
    return Ref(*row) if row and is_it else None


def part_of(tree: Tree) -> tuple[Part, bool] | None:
    """What DEST is to equal as a whole, and whether it did; None if only single files were put there."""
    options: dict[str, Any] = {} if tree.role == "publish" else tree.options
    if begun := options.get(BEGUN):
        size, digest, path, epoch, seq = begun
        return Part(Ref(size, digest), path, epoch, seq), False
    if complete := options.get(COMPLETE):
        snapshot = Ref(*complete)
        if snapshot != tree.snapshot:
            return Part(snapshot, options.get(PATH, b"")), True
    if tree.snapshot is None:
        return None
    return Part(tree.snapshot, options.get(PATH, b""), tree.epoch, tree.seq), True


def files_of(tree: Tree) -> dict[bytes, File]:
    """The single files that lie in DEST, by name."""
    rows = [] if tree.role == "publish" else tree.options.get(FILES, [])
    return {name: File(decode_listing(raw)[0], *rest) for name, raw, *rest in rows}
