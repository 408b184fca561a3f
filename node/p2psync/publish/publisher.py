"""Publishing a directory: lock, walk, snapshot, signed head. The walk is `builder`'s; announcing is the
daemon's.

The head is the last thing that is written, together with the snapshot and what the tree is known to equal,
in one transaction: a publisher that is killed leaves the old snapshot or the new one.

When nothing changed there is no new snapshot, and the head stands while at least half of the freshness
period is left. After that it is signed again for the same snapshot, with the next sequence number: two
different heads with one number would look like a key that was used in two places, and either might win.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from p2psync.chunking import cut_object
from p2psync.errors import UsageError, show_path
from p2psync.events import SILENT, PathBytes, Teller
from p2psync.format.head import ArchiveHead, sign_head
from p2psync.format.ids import Ref
from p2psync.format.listing import Entry, decode_listing
from p2psync.format.marks import UNREAD
from p2psync.format.snapshot import ParentSnapshot, Snapshot
from p2psync.format.url import archive_text
from p2psync.publish.builder import Builder
from p2psync.publish.claim import (
    ENDED,
    NAMED,
    PLACE,
    RULES,
    TEMPORARY,
    Signer,
    claim,
    last_place,
    publishes_temporary,
    rules_of,
)
from p2psync.publish.guards import check_loss, check_place
from p2psync.publish.static import StaticFiles, static_files
from p2psync.rules.filter import Filter
from p2psync.state import Note, State, Tree
from p2psync.state.heads import ENDED_HERE
from p2psync.tree.place import Place, mounts_below
from p2psync.tree.report import Report
from p2psync.tree.scan import count_tree
from p2psync.trust import CLOCK_SKEW, ended_text

PUBLISHED_HERE: Final = "published here"
"""The source of a head that was signed on this state directory."""
FRESHNESS: Final = 7 * 24 * 3600  # seconds for which a publisher vouches: a weekly cron job keeps it up
PARENTS: Final = 2  # with the new one these are the three snapshots that are kept

IS_MOUNT: Final = "is_mount"
"""Among a tree's options: whether its root is a mount point."""
MOUNTS: Final = "mounts"
"""Among a tree's options: the directories in it at which other file systems are mounted."""
Ask = Callable[[bytes], "Future[list[ArchiveHead]]"]
"""Begins to ask others for the heads of an archive; what was found must verify."""


@dataclass(frozen=True, slots=True)
class Published:
    """What came of it. `root` is the digest of the root listing in hex; `files` and `bytes` are the
    archive's totals; `read_bytes` counts what was read of files; `changed` tells whether there is a new
    snapshot; `unread` counts what is there and could not be read. `warnings` name the first of these paths.
    `exit_code` is rsync's: 23 if something could not be read, 24 if something vanished, else 0. `static` is
    the folder of the static files, if there are any.
    """

    archive: bytes
    head: ArchiveHead
    root: str
    files: int
    bytes: int
    read_bytes: int
    changed: bool
    warnings: tuple[str, ...]
    vanished: bool
    unread: int
    exit_code: int
    static: PathBytes | None = None
    temporaries: int = 0
    """Names that look like rsync's temporary ones, and were left out."""


def publish(
    state: State,
    directory: str | bytes | Path,
    *,
    archive: bytes | None = None,
    rules: Filter | None = None,
    tell: Teller = SILENT,
    now: float | None = None,
    known_heads: Iterable[ArchiveHead] = (),
    ask: Ask | None = None,
    freshness: int = FRESHNESS,
    count_first: bool = False,
    accept_shrink: bool = False,
    static: bytes | bool | None = None,
    temporary: bool | None = None,
) -> Published:
    """Make a snapshot of a directory and sign it.

    `archive` is the id to publish as; None stands for the one that this directory was published as before,
    or a new one. `rules` are kept with the tree; None stands for those of the last time, so that what was
    once left out is not published by a shorter command. `now` is Unix time in s. `known_heads` are verified
    heads that were seen elsewhere: the new one comes after them, and after those that `ask` finds while the
    tree is read. `freshness` is in s. `accept_shrink`: publish also what looks like a disk that is not
    mounted. `count_first` walks a tree that was never published once more beforehand, so that the totals
    are known; otherwise those of the last snapshot are told. `static`: the folder of the static files, a name
    in the directory or a path; True for the usual one, False for none any more, None for what it was.
    `temporary`: publish also what looks like a temporary name of rsync's; None for what was said last, at
    first not to.

    Raises UsageError (not a directory, no key, or it cannot be told which archive is meant), TrustError
    (the key may not sign what comes next), FileError (the directory or the state cannot be read or written;
    another XX
    """
    moment = time.time() if now is None else now
    given = os.fsencode(os.path.abspath(directory))
    path = os.path.realpath(given)
    if not os.path.isdir(path):
        raise UsageError(f"{show_path(path)} is not a directory")
    hidden = state.within(path)
    with state.lock_place(path):  # Nor is it fetched into meanwhile.
        tree, signer = claim(state, given, path, archive)
        # A second directory with the same archive must wait as well: both would take the same sequence
        # number.
        with state.lock("publish-" + archive_text(signer.archive), on=archive_text(signer.archive)):
            for head in known_heads:
                keep(state, signer, head)
            with static_files(state, tree, signer.archive, static) as files:
                run = _Run(state, tree, signer, tell, moment, freshness, files)
                return run.publish(
                    _filter(tree, rules, temporary),
                    hidden | state.within(path),
                    ask,
                    count_first=count_first,
                    # Who says that this directory is the archive from now on has seen what is in it.
                    accept_shrink=accept_shrink or (archive is not None and tree.snapshot is None),
                )


def _filter(tree: Tree, rules: Filter | None, temporary: bool | None) -> Filter:
    """What is left out: as it is said now, or else as it was."""
    chosen = rules_of(tree) if rules is None else rules
    return replace(chosen, temporary=publishes_temporary(tree) if temporary is None else temporary)


def keep(state: State, signer: Signer, head: ArchiveHead) -> None:
    """Keep a head that others know: what is signed next comes after it."""
    if head.archive == signer.archive:
        state.heads.put(head, "known before publishing")


class _Run:
    """One publishing of one tree."""

    def __init__(
        self,
        state: State,
        tree: Tree,
        signer: Signer,
        tell: Teller,
        now: float,
        freshness: int,
        static: StaticFiles | None,
    ) -> None:
        self._state = state
        self._tree = tree
        self._signer = signer
        self._tell = tell
        self._now = now
        self._freshness = freshness
        self._static = static

    def publish(
        self,
        applied: Filter,
        hidden: frozenset[bytes],
        ask: Ask | None,
        *,
        count_first: bool,
        accept_shrink: bool,
    ) -> Published:
        state, tree, tell, archive = self._state, self._tree, self._tell, self._signer.archive
        newest = state.heads.newest(archive)
        place = last_place(state, archive, newest)
        self._signer.next_place(place, self._now)  # or why not, before the tree is read
        last = _root(state, None if newest is None else newest.snapshot) or _root(state, tree.snapshot)
        if last is not None:
            tell.phase("publishing", last.totals.bytes, last.totals.files)
        elif count_first:
            tell.phase("counting")
            tell.phase("publishing", *count_tree(tree.path, applied, hidden, tell))
        else:
            tell.phase("publishing")
        report = Report(tell)
        mounts = mounts_below(tree.path)
        lost = [] if accept_shrink else [path for path in tree.options.get(MOUNTS, ()) if path not in mounts]
        builder = Builder(
            state, tree.id, applied, report, tell, hidden, last=last, unmounted=lost, archive=archive
        )
        asked = None if ask is None or self._signer.is_new else ask(archive)
        try:
            root = builder.build(tree.path)
            report.finish()
            here, is_mount = Place.of(tree.path), os.path.ismount(tree.path)
            if last is not None and not accept_shrink:
                before = Place.from_row(tree.options.get(PLACE))
                unmounted = bool(tree.options.get(IS_MOUNT)) and not is_mount
                had, has = _names(state, last), _names(state, root)
                check_place(tree.path, before, here, had, has, unmounted=unmounted)
                check_loss(tree.path, last.totals, root.totals)
            for head in () if asked is None else asked.result():
                keep(state, self._signer, head)
        finally:
            if asked is not None:
                asked.cancel()
        builder.accept()
        tree.options[RULES] = applied.texts()
        tree.options[TEMPORARY] = applied.temporary
        tree.options[PLACE] = list(here)
        tree.options[IS_MOUNT] = is_mount
        tree.options[MOUNTS] = [*mounts, *builder.missing]
        with state.transaction(durable=True):
            head, changed = self._sign(root, report.unread)
        named = tree.options.get(NAMED, tree.path)
        state.keys.put_note(archive, Note(tree.path, named, head.epoch, head.seq))
        if self._static is not None:
            self._static.write(head)
        return Published(
            archive=archive,
            head=head,
            root=root.digest.hex(),
            files=root.totals.files,
            bytes=root.totals.bytes,
            read_bytes=builder.read_bytes,
            changed=changed,
            warnings=tuple(report.warnings),
            vanished=report.vanished,
            unread=report.unread,
            exit_code=report.exit_code,
            temporaries=report.temporaries,
            static=None if self._static is None else self._static.path,
        )

    def _sign(self, root: Entry, unread: int) -> tuple[ArchiveHead, bool]:
        """The newest head, signed now unless it stands, and whether it has a new snapshot; within the
        caller's transaction.
        """
        state, tree, signer, now = self._state, self._tree, self._signer, self._now
        newest = state.heads.newest(signer.archive)
        previous = _root(state, None if newest is None else newest.snapshot)
        changed = previous != root
        if newest is None or changed:
            ref = _put_snapshot(state, signer.archive, root, newest, now, unread)
        else:
            ref = newest.snapshot
        last = last_place(state, signer.archive, newest)
        if newest is not None:
            self._warn_of_others(newest)
        epoch, seq = signer.next_place(last, now)
        # A new epoch outranks who signed in the old one only once there is a head of it.
        stands = newest is not None and not changed and last == (newest.epoch, newest.seq) == (epoch, seq - 1)
        if newest is not None and newest.ended is not None:
            self._tell.warn(f"{ended_text(newest)}: it is published again, as snapshot {seq}")
            stands = False
        if newest is not None and stands and self._is_current(newest):
            head = newest
        else:
            head = sign_head(
                signer.identity,
                signer.archive,
                epoch=epoch,
                seq=seq,
                snapshot=ref,
                signed_at=int(now),
                fresh_until=int(now) + self._freshness,
                delegation=signer.delegation,
            )
            state.heads.put(head, PUBLISHED_HERE)
        state.meta.add_snapshot(signer.archive, head.epoch, head.seq, head.snapshot)
        tree.epoch, tree.seq, tree.snapshot = head.epoch, head.seq, head.snapshot
        tree.options.pop(ENDED, None)
        state.trees.update(tree)
        return head, changed

    def _warn_of_others(self, newest: ArchiveHead) -> None:
        """Say so if somebody else has published since it was done here the last time."""
        note = self._state.keys.note(newest.archive)
        known = note is None or (note.epoch, note.seq) >= (newest.epoch, newest.seq)
        if not known and self._state.heads.source(newest.archive) not in (PUBLISHED_HERE, ENDED_HERE):
            name = archive_text(newest.archive)
            self._tell.warn(
                f"snapshot {newest.seq} was signed elsewhere, with a key of this archive; if no machine of "
                f"yours did that, the key is stolen: p2psync key delegate {name} --new-epoch"
            )

    def _is_current(self, head: ArchiveHead) -> bool:
        """Whether a head is good for a while. One from the future is believed by nobody."""
        if head.signed_at > self._now + CLOCK_SKEW:
            self._tell.warn(
                "the last snapshot was signed with a clock that was ahead of this one, and others refuse it: "
                "it is signed again"
            )
            return False
        return head.fresh_until - self._now >= self._freshness / 2


def _root(state: State, snapshot: Ref | None) -> Entry | None:
    """The root of a snapshot, if that is here."""
    decoded = None if snapshot is None else state.meta.read(snapshot, Snapshot.decode)
    return None if decoded is None else decoded.root


def _names(state: State, directory: Entry) -> frozenset[bytes]:
    """The names in a directory, if its listing is here."""
    return frozenset(entry.name for entry in state.meta.read(directory.ref, decode_listing) or ())


def _put_snapshot(
    state: State, archive: bytes, root: Entry, newest: ArchiveHead | None, now: float, unread: int
) -> Ref:
    parents: list[ParentSnapshot] = []
    if newest is not None:
        parents.append(ParentSnapshot(newest.epoch, newest.seq, newest.snapshot))
    for known in state.meta.snapshots(archive):
        if known.ref not in [parent.ref for parent in parents]:
            parents.append(ParentSnapshot(known.epoch, known.seq, known.ref))
    further = {UNREAD: unread} if unread else {}
    raw = Snapshot(root, int(now * 1e9), tuple(parents[:PARENTS]), extra=further).encode()
    ref, _ = cut_object(raw)
    state.meta.put(ref, raw, archive=archive)
    return ref
