"""Publishing a directory: lock, walk, snapshot, signed head. The walk is `builder`'s; announcing is the
daemon's.

The head is the last thing that is written, together with the snapshot and what the tree is known to equal,
in one transaction: a publisher that is killed leaves the old snapshot or the new one.

When nothing changed there is no new snapshot, and the head stands while at least half of the freshness
period is left. After that it is signed again for the same snapshot, with the next sequence number: two
different heads with one number would look like a key that was used in two places, and either might win.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from p2psync.chunking import cut_object
from p2psync.errors import UsageError, show_path
from p2psync.events import SILENT, PathBytes, Teller
from p2psync.format.head import ArchiveHead, sign_head
from p2psync.format.ids import Ref
from p2psync.format.listing import Entry
from p2psync.format.marks import further
from p2psync.format.snapshot import ParentSnapshot, Snapshot
from p2psync.format.url import archive_text
from p2psync.publish.claim import (
    ENDED,
    NAMED,
    UNSIGNED,
    Signer,
    claim,
    last_place,
    publishes_temporary,
    rules_of,
)
from p2psync.publish.static import StaticFiles, static_files
from p2psync.publish.walk import Walked, is_news, root_of, walk
from p2psync.rules.filter import Filter
from p2psync.state import Note, State, Tree
from p2psync.state.heads import ENDED_HERE
from p2psync.tree.report import Report
from p2psync.trust import CLOCK_SKEW, ended_text

PUBLISHED_HERE: Final = "published here"
"""The source of a head that was signed on this state directory."""
SIGNED_HERE: Final = "signed here"
"""The source of a head that was signed for another machine."""
_OURS: Final = (PUBLISHED_HERE, SIGNED_HERE, ENDED_HERE)
FRESHNESS: Final = 7 * 24 * 3600  # seconds for which a publisher vouches: a weekly cron job keeps it up
PARENTS: Final = 2  # with the new one these are the three snapshots that are kept

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
    with running(state, directory, archive, static, tell, moment, freshness) as run:
        for head in known_heads:
            keep(state, run.signer, head)
        return run.publish(
            filter_of(run.tree, rules, temporary),
            ask,
            count_first=count_first,
            # Who says that this directory is the archive from now on has seen what is in it.
            accept_shrink=accept_shrink or (archive is not None and run.tree.snapshot is None),
        )


@contextlib.contextmanager
def running(
    state: State,
    directory: str | bytes | Path,
    archive: bytes | None,
    static: bytes | bool | None,
    tell: Teller,
    now: float,
    freshness: int,
    *,
    signs: bool = True,
) -> Iterator[Run]:
    """One publishing of a directory, while nobody else publishes it or fetches into it. ``signs``: the key is
    here. The arguments are as in `publish`, and so is what is raised.
    """
    given = os.fsencode(os.path.abspath(directory))
    path = os.path.realpath(given)
    if not os.path.isdir(path):
        raise UsageError(f"{show_path(path)} is not a directory")
    state.within(path)  # Or why not.
    with state.lock_place(path):  # Nor is it fetched into meanwhile.
        tree, signer = claim(state, given, path, archive, signs=signs)
        # A second directory with the same archive must wait as well: both would take the same sequence
        # number.
        with (
            state.lock("publish-" + archive_text(signer.archive), on=archive_text(signer.archive)),
            static_files(state, tree, signer.archive, static) as files,
        ):
            yield Run(state, tree, signer, tell, now, freshness, files)


def filter_of(tree: Tree, rules: Filter | None, temporary: bool | None) -> Filter:
    """What is left out: as it is said now, or else as it was."""
    chosen = rules_of(tree) if rules is None else rules
    temporary = publishes_temporary(tree) if temporary is None else temporary
    return replace(chosen, temporary=temporary, source=tree.path.strip(b"/"))


def keep(state: State, signer: Signer, head: ArchiveHead) -> None:
    """Keep a head that others know: what is signed next comes after it."""
    if head.archive == signer.archive:
        state.heads.put(head, "known before publishing")


class Run:
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
        self.tree = tree
        self.signer = signer
        self._tell = tell
        self._now = now
        self._freshness = freshness
        self.static = static

    def publish(
        self,
        applied: Filter,
        ask: Ask | None,
        *,
        count_first: bool,
        accept_shrink: bool,
    ) -> Published:
        state, tree, archive = self._state, self.tree, self.signer.archive
        newest = state.heads.newest(archive)
        # Or why not, before the tree is read.
        self.signer.next_place(last_place(state, archive, newest), self._now)
        walked = self.walk(applied, ask, count_first=count_first, accept_shrink=accept_shrink)
        root, report = walked.root, walked.report
        with state.transaction(durable=True):
            head, changed = self._sign(root, report)
        named = tree.options.get(NAMED, tree.path)
        state.keys.put_note(archive, Note(tree.path, named, head.epoch, head.seq))
        if self.static is not None:
            self.static.write(head)
        return Published(
            archive=archive,
            head=head,
            root=root.digest.hex(),
            files=root.totals.files,
            bytes=root.totals.bytes,
            read_bytes=walked.read_bytes,
            changed=changed,
            warnings=tuple(report.warnings),
            vanished=report.vanished,
            unread=report.unread,
            exit_code=report.exit_code,
            temporaries=report.temporaries,
            static=None if self.static is None else self.static.path,
        )

    def walk(
        self,
        applied: Filter,
        ask: Ask | None,
        *,
        count_first: bool = False,
        accept_shrink: bool = False,
    ) -> Walked:
        """Read the tree, or what changed in it; what others know is kept by then."""
        signer = self.signer
        asked = None if ask is None or signer.is_new else ask(signer.archive)
        try:
            newest = self._state.heads.newest(signer.archive)
            last = root_of(self._state, None if newest is None else newest.snapshot)
            walked = walk(
                self._state,
                self.tree,
                signer.archive,
                last or root_of(self._state, self.tree.snapshot),
                applied,
                self._state.within(self.tree.path),
                self._tell,
                count_first=count_first,
                accept_shrink=accept_shrink,
            )
            for head in () if asked is None else asked.result():
                keep(self._state, signer, head)
        finally:
            if asked is not None:
                asked.cancel()
        walked.accept(self.tree)
        return walked

    def _sign(self, root: Entry, report: Report) -> tuple[ArchiveHead, bool]:
        """The newest head, signed now unless it stands, and whether it has a new snapshot; within the
        caller's transaction.
        """
        state, tree, signer, now = self._state, self.tree, self.signer, self._now
        newest = state.heads.newest(signer.archive)
        changed = is_news(state, newest and newest.snapshot, root, report)
        if newest is None or changed:
            ref = put_snapshot(state, signer.archive, root, newest, now, report)
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
            assert signer.identity is not None  # noqa: S101 - nobody else signs
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
        tree.options.pop(UNSIGNED, None)
        state.trees.update(tree)
        return head, changed

    def _warn_of_others(self, newest: ArchiveHead) -> None:
        """Say so if somebody else has published since it was done here the last time."""
        note = self._state.keys.note(newest.archive)
        known = note is None or (note.epoch, note.seq) >= (newest.epoch, newest.seq)
        if not known and self._state.heads.source(newest.archive) not in _OURS:
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


def put_snapshot(
    state: State, archive: bytes, root: Entry, newest: ArchiveHead | None, now: float, report: Report
) -> Ref:
    parents: list[ParentSnapshot] = []
    if newest is not None:
        parents.append(ParentSnapshot(newest.epoch, newest.seq, newest.snapshot))
    for known in state.meta.snapshots(archive):
        if known.ref not in [parent.ref for parent in parents]:
            parents.append(ParentSnapshot(known.epoch, known.seq, known.ref))
    extra = further(report.unread, report.linked)
    raw = Snapshot(root, int(now * 1e9), tuple(parents[:PARENTS]), extra=extra).encode()
    ref, _ = cut_object(raw)
    state.meta.put(ref, raw, archive=archive)
    return ref
