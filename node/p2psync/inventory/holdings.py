"""What is held here: each directory that is published, mirrored or was fetched into, and what it has of its
archive, by the index and a look at the directory itself. No file is read. Whether a node serves it is asked
of the node (``state.ask``).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final, NamedTuple

from p2psync.errors import FormatError, P2psyncError
from p2psync.events import SILENT, Teller
from p2psync.fetch import put
from p2psync.format.ids import Ref
from p2psync.format.marks import unread_paths
from p2psync.format.reserved import PARTIAL
from p2psync.format.snapshot import Snapshot
from p2psync.publish.claim import RULES, was_published
from p2psync.state import State, Tree
from p2psync.state.ask import ask
from p2psync.text import name_of

_ROLES: Final = {"publish": "publisher", "mirror": "mirror", "fetch": "copy"}


class Holding(NamedTuple):
    """A directory, and what it has of an archive."""

    directory: bytes
    archive: bytes | None
    """None: files were fetched into it one by one, of any archive."""
    role: str
    """One of publisher, mirror, copy."""
    path: bytes
    """What part of the archive it has; empty: all."""
    epoch: int
    seq: int
    """The snapshot that it has or, where it has none whole, the one that is being fetched; 0: none yet."""
    published: float | None
    """When that snapshot was made, in Unix seconds; None where it is not known, as of the next two."""
    files: int | None
    bytes: int | None
    """What all of it has, and not only what is here so far."""
    present: bool
    """Whether the directory is there."""
    complete: bool
    """Whether all of that snapshot, or of the part, was in the directory when it was last published or
    fetched, and nothing newer was begun since."""
    newest: int | None
    """The sequence number of the newest snapshot that is known here; None if none is."""
    behind: bool
    """Whether that is another one than the one that the directory has, and newer."""
    ended: int | None
    """Since when its publisher has ended the archive, in Unix seconds; None where it goes on."""
    unread: int
    """Paths that its publisher could not read: they may be missing from the snapshot."""
    filtered: bool
    """Whether what is published leaves out what filter rules say."""
    at_work: bool
    """Whether somebody publishes it, or fetches into it, now."""
    served: bool | None
    """Whether a node serves it now; None where that could not be found out."""
    lost: int | None
    """Files of the snapshot that the node found missing, or not as they were; None: no node looks after it.
    """


class Holdings(NamedTuple):
    """What is held here, by directory, and where the node listens (HOST:PORT) that serves it; None: no node
    runs on this state directory, or it could not be asked.
    """

    node: str | None
    holdings: list[Holding]


def list_all(state: State, tell: Teller = SILENT) -> Holdings:
    """What is held here, and what the node that runs here serves of it. Blocks, for a second or so."""
    node, served = None, dict[bytes, int]()
    if state.node_runs():
        try:
            node, served = _served(state)
        except P2psyncError as error:
            tell.warn(f"what the node serves could not be found out: {error}")
            return Holdings(None, list_holdings(state, None))
    return Holdings(node, list_holdings(state, served))


def _served(state: State) -> tuple[str, dict[bytes, int]]:
    """Where the node listens, and the directories that it serves, each with the number of files that it has
    lost. Raises as `ask` does.
    """
    answer = ask(state.path, "archives")
    try:
        served = {name_of(row, "directory"): int(row.get("lost", 0)) for row in answer["archives"]}
        return str(answer["listen"]), served
    except (KeyError, TypeError, ValueError, AttributeError):
        raise FormatError("it runs a version that answers in another way; use the same one") from None


def list_holdings(state: State, served: Mapping[bytes, int] | None) -> list[Holding]:
    """What is held here, by directory. ``served``: the directories that a node serves now, each with the
    number of files that it has lost; None: not known.
    """
    return [_holding(state, tree, served) for tree in sorted(state.trees.all(), key=lambda tree: tree.path)]


def _holding(state: State, tree: Tree, served: Mapping[bytes, int] | None) -> Holding:
    archive = tree.archive
    public = tree.id in state.offers.public()
    whole = _whole(tree)
    begun = _begun(tree)
    shown = whole or begun
    place = _place(state, tree, shown)
    snapshot = _snapshot(state, shown)
    head = None if archive is None else state.heads.newest(archive)
    path = tree.options.get(put.PATH, b"") if tree.role != "publish" else b""
    totals = None
    chosen = put.chosen_of(tree)
    if chosen is not None and chosen.snapshot == shown:
        totals = chosen.root.totals
    elif path:
        row = state.trees.dir_row(tree.id, b"")
        totals = None if row is None or whole is None else row.totals
    elif snapshot is not None:
        totals = snapshot.root.totals
    unfinished = archive is not None and (whole is None or begun not in (None, whole))
    return Holding(
        directory=tree.path,
        archive=archive,
        role=role_of(tree),
        path=path,
        epoch=place[0],
        seq=place[1],
        published=None if snapshot is None else snapshot.created_ns / 1e9,
        files=None if totals is None else totals.files,
        bytes=None if totals is None else totals.bytes,
        present=os.path.isdir(tree.path),
        complete=not unfinished and not os.path.lexists(os.path.join(tree.path, PARTIAL)),
        newest=None if head is None else head.seq,
        behind=head is not None and head.snapshot != shown and (head.epoch, head.seq) > place,
        ended=None if head is None else head.ended,
        unread=0 if snapshot is None else unread_paths(snapshot.extra),
        filtered=bool(was_published(tree) and tree.options.get(RULES))
        or (chosen is not None and not chosen.whole),
        at_work=state.place_is_held(tree.path),
        served=False if not public else None if served is None else tree.path in served,
        lost=None if served is None else served.get(tree.path),
    )


def role_of(tree: Tree) -> str:
    """What a tree is of its archive: publisher, also of one that it has ended, mirror or copy."""
    return _ROLES["publish" if was_published(tree) else tree.role]


def _whole(tree: Tree) -> Ref | None:
    """The snapshot of which all that was asked for is in the tree."""
    row = tree.options.get(put.COMPLETE)
    return tree.snapshot if tree.role == "publish" or not row else Ref(*row)


def _begun(tree: Tree) -> Ref | None:
    """The snapshot that was last begun to be fetched into the tree."""
    row = tree.options.get(put.BEGUN) if tree.role != "publish" else None
    return Ref(row[0], row[1]) if row else None


def _place(state: State, tree: Tree, snapshot: Ref | None) -> tuple[int, int]:
    """Epoch and sequence number of a snapshot that the tree has, or (0, 0)."""
    if snapshot is None or tree.archive is None:
        return 0, 0
    if snapshot == tree.snapshot:
        return tree.epoch, tree.seq
    known = (row for row in state.meta.snapshots(tree.archive) if row.ref == snapshot)
    return next(((row.epoch, row.seq) for row in known), (0, 0))


def _snapshot(state: State, ref: Ref | None) -> Snapshot | None:
    """A snapshot object, if it is here and whole."""
    raw = None if ref is None else state.meta.get(ref.digest)
    try:
        return None if raw is None else Snapshot.decode(raw)
    except FormatError:  # The next publish or fetch says so, and makes it anew.
        return None
