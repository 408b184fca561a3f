"""Ending an archive: its key signs that the snapshot which is the newest is the last one.

The head that says so comes after all others, like that of a new snapshot, and names the same snapshot as
the one before it: whoever follows the archive changes and deletes nothing. It is fresh for no time at all,
so that readers which do not know the field warn of its age. Publishing again signs the next head without
it.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from typing import NamedTuple

from p2psync.errors import FormatError, SelectionError
from p2psync.events import SILENT, Teller
from p2psync.format.coverage import Coverage
from p2psync.format.head import ArchiveHead, sign_head
from p2psync.format.url import archive_text
from p2psync.publish.claim import ENDED, Signer, last_place, signer_of
from p2psync.publish.publisher import Ask, keep
from p2psync.publish.static import note_head
from p2psync.state import Note, State, Tree
from p2psync.state.heads import ENDED_HERE
from p2psync.trust import Standing
from p2psync_dht import HolderRecord


class Unpublished(NamedTuple):
    """What came of it."""

    archive: bytes
    head: ArchiveHead
    """The newest one now: its `ended` says since when."""
    directories: list[bytes]
    """What is not published any more."""
    changed: bool
    """False: it had been ended before."""


def unpublish(
    state: State,
    archive: bytes,
    *,
    now: float | None = None,
    known_heads: Iterable[ArchiveHead] = (),
    ask: Ask | None = None,
    tell: Teller = SILENT,
) -> Unpublished:
    """End an archive, and publish none of its directories from here any more; nothing in them is changed.

    `now` is Unix time in s. `known_heads` and `ask` are as in `publish`. Blocks.

    Raises UsageError (no key of it is here), SelectionError (no snapshot of it is known), TrustError (the key
    may not sign what comes next), BusyError (another process publishes it).
    """
    moment = time.time() if now is None else now
    signer = signer_of(state, archive)
    with contextlib.ExitStack() as locks:
        # With this lock nobody else can begin, or cease, to publish a directory as the archive.
        locks.enter_context(state.lock("publish-" + archive_text(archive), on=archive_text(archive)))
        trees = [tree for tree in state.trees.by_archive(archive) if tree.role == "publish"]
        for tree in trees:
            locks.enter_context(state.lock_place(tree.path))
        for head in known_heads:
            keep(state, signer, head)
        for head in () if ask is None else ask(archive).result():
            keep(state, signer, head)
        done = _end(state, signer, trees, int(moment))
        for tree in trees:
            if os.path.isdir(tree.path):
                note_head(state, tree, done.head)
    if done.changed and not _held_elsewhere(state, archive, moment):
        tell.warn(
            f"nobody else is known here to hold all of {archive_text(archive)}: it may be that nobody can "
            "get its files from now on; 'p2psync publish' takes the end back"
        )
    return done


def _held_elsewhere(state: State, archive: bytes, now: float) -> bool:
    """Whether somebody else says that all of an archive is there, whom this machine has dealt with: anybody
    could have others told so.
    """
    others = [
        each for each in state.holders.present(archive, now) if each.node_key != state.identity().public_key
    ]
    standings = state.nodes.standings(others, now)
    return any(standings[each.node_key] != Standing.TOLD and _has_all(each) for each in others)


def _has_all(record: HolderRecord) -> bool:
    try:
        return Coverage.decode(record.payload).complete
    except FormatError:
        return False


def _end(state: State, signer: Signer, trees: list[Tree], now: int) -> Unpublished:
    archive = signer.archive
    newest = state.heads.newest(archive)
    if newest is None:
        raise SelectionError(
            f"no snapshot of {archive_text(archive)} is known here, so there is nothing to end; give "
            "--bootstrap to ask others for it"
        )
    head, changed = newest, False
    last = last_place(state, archive, newest)
    epoch, seq = signer.next_place(last, now)
    if newest.ended is None or last > (newest.epoch, newest.seq) or epoch > newest.epoch:
        changed = True
        assert signer.identity is not None  # noqa: S101 - it was found here
        head = sign_head(
            signer.identity,
            archive,
            epoch=epoch,
            seq=seq,
            snapshot=newest.snapshot,
            signed_at=now,
            fresh_until=now,
            delegation=signer.delegation,
            ended=now if newest.ended is None else newest.ended,
        )
    with state.transaction(durable=True):
        state.heads.put(head, ENDED_HERE)
        state.meta.add_snapshot(archive, head.epoch, head.seq, head.snapshot)
        for tree in trees:
            tree.role = "fetch"  # Which no version serves or announces.
            tree.options[ENDED] = head.ended
            if tree.snapshot == head.snapshot:
                tree.epoch, tree.seq = head.epoch, head.seq
            state.trees.update(tree)
    note = state.keys.note(archive)
    if note is not None:
        state.keys.put_note(archive, Note(note.path, note.named, head.epoch, head.seq))
    return Unpublished(archive, head, [tree.path for tree in trees], changed)
