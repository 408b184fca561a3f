"""Which archive a directory is published as, and who signs for it.

An address that changes is lost to all who follow it. So a directory that was published before goes on as the
same archive when it was moved, when it is named through a link that leads elsewhere today, and when the index
was lost while the keys are still here. Where that cannot be told, the publisher is asked.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Final

from p2psync.errors import TrustError, UsageError, show_path
from p2psync.format.head import ArchiveHead
from p2psync.format.listing import decode_listing
from p2psync.format.snapshot import Snapshot
from p2psync.format.url import archive_text
from p2psync.rules.filter import Filter
from p2psync.state import State, Tree
from p2psync.tree.place import Place
from p2psync_dht import Delegation, Identity
from p2psync_dht.records import MAX_SEQUENCE

NAMED: Final = "named"
"""Among a tree's options: the path that it was last published by, where that is not its own."""
PLACE: Final = "place"
"""Among a tree's options: `Place`, as a list."""
RULES: Final = "rules"
"""Among a tree's options: the filter rules that it was last published with, as texts."""
ENDED: Final = "ended"
"""Among the options of a tree that was published and is not any more: since when, in Unix seconds."""
TEMPORARY: Final = "temporary"
"""Among a tree's options: whether names that look like rsync's temporary ones are published."""
UNSIGNED: Final = "unsigned"
"""Among a tree's options: the snapshot, encoded, whose head is to be signed elsewhere."""
NEW_ONE: Final = "for a new archive, make its key with 'p2psync key new', and say its id with --archive"

SEQ_HIGH: Final = 1 << 62
"""Sequence numbers from here on are a thief's, who wanted to use them up: in a new epoch they begin anew."""
SHOWN: Final = 3
"""Archives that are named in one sentence."""


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signs heads of an archive."""

    archive: bytes
    identity: Identity | None
    """None: the key is elsewhere."""
    delegation: Delegation | None
    is_new: bool = False
    """The archive has just been made: nobody else can know it."""

    def next_place(self, last: tuple[int, int], now: float) -> tuple[int, int]:
        """Epoch and sequence number of the head after `last`. Raises TrustError if this key cannot sign one
        that is newer.
        """
        last_epoch, last_seq = last
        given = self.delegation
        name = archive_text(self.archive)
        if given is None:
            if last_seq < SEQ_HIGH:
                return last_epoch, last_seq + 1
            if last_epoch < MAX_SEQUENCE:
                return last_epoch + 1, 1
            raise TrustError(
                f"whoever has a copy of the root key of {name} has used up its numbers: make a new archive"
            )
        if given.epoch < last_epoch:
            raise TrustError(
                f"the signing key of {name} is delegated for epoch {given.epoch}, but the archive is at "
                f"epoch {last_epoch}: delegate to it again with the root key"
            )
        if not given.not_before <= now <= given.not_after:
            raise TrustError(
                f"the delegation of the signing key of {name} does not cover today: renew it with the root "
                "key"
            )
        if given.epoch == last_epoch and last_seq == MAX_SEQUENCE:
            raise TrustError(
                f"somebody who has a signing key of {name} has used up the numbers of epoch {last_epoch}: "
                "begin a new one with the root key (p2psync key delegate --new-epoch)"
            )
        return given.epoch, 1 if given.epoch > last_epoch and last_seq >= SEQ_HIGH else last_seq + 1


def claim(
    state: State, given: bytes, path: bytes, archive: bytes | None, *, signs: bool = True
) -> tuple[Tree, Signer]:
    """The tree at `path` (real) as a published one, and who signs for it. `given` is the path as it was
    named, absolute. `signs`: the key is here. Raises UsageError.
    """
    known = state.trees.get(path)
    published = [tree for tree in state.trees.all() if was_published(tree) and tree.archive is not None]
    named = _led_there(published, given) if given != path else None
    if archive is None:
        if known is not None and known.archive is not None:
            archive = _at_known_place(given, known, named)
        elif named is not None:
            archive = named.archive
        else:
            archive = _moved(state, path, published) or _noted(state, given, path, published)
    is_new = archive is None
    if archive is None and not signs:
        raise UsageError(
            f"{show_path(path)} was not published from here before, so it cannot be told which archive it "
            "is: say its id with --archive"
        )
    archive = archive or state.keys.create_root(path, given)
    signer = signer_of(state, archive) if signs else Signer(archive, None, None)
    tree = state.trees.ensure(path, "publish", archive)
    if known is None and named is not None and named.archive == archive:
        tree.options = dict(named.options)  # what the rules left out there is left out here
        tree.options.pop(PLACE, None)
    if given != path:
        tree.options[NAMED] = given
    return tree, replace(signer, is_new=is_new)


def signer_of(state: State, archive: bytes) -> Signer:
    """Who signs for an archive. Raises UsageError: nobody here can."""
    signing = state.keys.signing(archive)
    if signing is None:
        raise UsageError(
            f"there is no key here to sign {archive_text(archive)} with: import its root key, or a "
            "signing key and its delegation"
        )
    return Signer(archive, *signing)


def last_place(state: State, archive: bytes, newest: ArchiveHead | None) -> tuple[int, int]:
    """Epoch and sequence number of the newest head, which may have been in an index that is lost."""
    note = state.keys.note(archive)
    noted = (0, 0) if note is None else (note.epoch, note.seq)
    return noted if newest is None else max(noted, (newest.epoch, newest.seq))


def rules_of(tree: Tree) -> Filter:
    """What a tree was last published with."""
    rules = Filter.parse(tree.options.get(RULES, [])).rules
    return Filter(rules, temporary=publishes_temporary(tree), source=tree.path.strip(b"/"))


def publishes_temporary(tree: Tree) -> bool:
    """Whether a tree is published with names that look like rsync's temporary ones: as it was said last,
    and one that was published before that could be said, as it was then.
    """
    return bool(tree.options.get(TEMPORARY, tree.snapshot is not None))


def was_published(tree: Tree) -> bool:
    """Whether a tree is published, or was until its archive was ended."""
    return tree.role == "publish" or (tree.role == "fetch" and ENDED in tree.options)


def _led_there(published: list[Tree], given: bytes) -> Tree | None:
    """The tree that was last published by this name."""
    found = [tree for tree in published if tree.options.get(NAMED) == given]
    return max(found, key=lambda tree: (tree.epoch, tree.seq), default=None)


def _at_known_place(given: bytes, known: Tree, named: Tree | None) -> bytes | None:
    if named is not None and named.archive is not None and known.archive not in (None, named.archive):
        raise UsageError(
            f"{show_path(given)} led to {show_path(named.path)}, published as {_url(named.archive)}, and "
            f"now leads to {show_path(known.path)}, which is published as {_url(known.archive or b'')}: name "
            "that one itself to publish it"
        )
    return known.archive


def _moved(state: State, path: bytes, published: list[Tree]) -> bytes | None:
    """The archive of the directory that was moved to `path`; None if none was. Raises UsageError where one
    may have been.
    """
    here = Place.of(path)
    names = frozenset(os.listdir(path))
    for tree in published:
        had = _names(state, tree)
        before = Place.from_row(tree.options.get(PLACE))
        # An inode's number alone may be that of another directory by now.
        if before is None or not had or 2 * len(had & names) < len(had):
            continue
        if before.is_same(here):
            state.trees.move(tree, path)
            return tree.archive
        if not _is_there(state, tree):
            raise UsageError(
                f"{show_path(path)} looks like {show_path(tree.path)}, which is gone and was published as "
                f"{_url(tree.archive or b'')}: if it is the same, say --archive with that address; {NEW_ONE}"
            )
    return None


def _is_there(state: State, tree: Tree) -> bool:
    """Whether a tree, or another one of the same archive, still is a directory."""
    return any(os.path.isdir(other.path) for other in state.trees.by_archive(tree.archive or b""))


def _names(state: State, tree: Tree) -> frozenset[bytes]:
    """The names in the root of a tree, as it was published."""
    snapshot = None if tree.snapshot is None else state.meta.read(tree.snapshot, Snapshot.decode)
    entries = None if snapshot is None else state.meta.read(snapshot.root.ref, decode_listing)
    return frozenset(entry.name for entry in entries or ())


def _noted(state: State, given: bytes, path: bytes, published: list[Tree]) -> bytes | None:
    """The archive that the files beside the keys name for this directory, where the index was lost. Raises
    UsageError where it may be one of several.
    """
    known = {tree.archive for tree in published}
    doubtful: list[str] = []
    for archive in state.keys.archives():
        if archive in known:
            continue
        note = state.keys.note(archive)
        if note is not None and (path == note.path or given in (note.path, note.named)):
            return archive
        if state.heads.newest(archive) is not None:
            continue  # the index was not lost: whoever forgot that directory meant it
        if note is None:
            if not published:
                doubtful.append(_url(archive))
        elif not os.path.isdir(note.path):
            doubtful.append(f"{_url(archive)} ({show_path(note.path)}, which is gone)")
    if not doubtful:
        return None
    more = len(doubtful) - SHOWN
    told = ", ".join(doubtful[:SHOWN]) + (f" and {more} more ('p2psync key list')" if more > 0 else "")
    raise UsageError(
        f"{show_path(path)} is not known here, and there are keys of archives without a directory: {told}; "
        f"if it is one of these, say --archive with its address; {NEW_ONE}"
    )


def _url(archive: bytes) -> str:
    return f"p2psync://{archive_text(archive)}"
