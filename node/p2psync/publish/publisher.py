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
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from p2psync.chunking import cut_object
from p2psync.errors import TrustError, UsageError, show_path
from p2psync.events import SILENT, Teller
from p2psync.format.head import ArchiveHead, sign_head
from p2psync.format.ids import Ref
from p2psync.format.listing import Entry
from p2psync.format.marks import UNREAD
from p2psync.format.snapshot import ParentSnapshot, Snapshot
from p2psync.format.url import archive_text
from p2psync.publish.builder import Builder
from p2psync.rules.filter import Filter
from p2psync.state import State, Tree
from p2psync.tree.report import Report
from p2psync.tree.scan import count_tree
from p2psync_dht import Delegation, Identity

FRESHNESS: Final = 7 * 24 * 3600  # seconds for which a publisher vouches: a weekly cron job keeps it up
PARENTS: Final = 2  # with the new one these are the three snapshots that are kept
RULES_OPTION: Final = "rules"  # the filter rules of a tree, among its options


@dataclass(frozen=True, slots=True)
class Published:
    """What came of it. `root` is the digest of the root listing in hex; `files` and `bytes` are the
    archive's totals; `read_bytes` counts what was read of files; `changed` tells whether there is a new
    snapshot; `unread` counts what is there and could not be read. `warnings` name the first of these paths.
    `exit_code` is rsync's: 23 if something could not be read, 24 if something vanished, else 0.
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


@dataclass(frozen=True, slots=True)
class _Signer:
    """Who signs heads of an archive."""

    archive: bytes
    identity: Identity
    delegation: Delegation | None


def publish(
    state: State,
    directory: str | bytes | Path,
    *,
    archive: bytes | None = None,
    rules: Filter | None = None,
    tell: Teller = SILENT,
    now: float | None = None,
    known_heads: Iterable[ArchiveHead] = (),
    freshness: int = FRESHNESS,
    count_first: bool = False,
) -> Published:
    """Make a snapshot of a directory and sign it.

    `archive` is the id to publish as; None stands for the one that this directory was published as before,
    or a new one. `rules` are kept with the tree; None stands for those of the last time, so that what was
    once left out is not published by a shorter command. `now` is Unix time in s. `known_heads` are verified
    heads that were seen elsewhere: the new one comes after them. `freshness` is in s.
    `count_first` walks a tree that was never published once more beforehand, so that the
    totals are known; otherwise those of the last snapshot are told.

    Raises UsageError (not a directory, no key), TrustError (the key may not sign what comes next),
    FileError (the directory or the state cannot be read or written), BusyError (somebody else publishes it,
    or fetches into it).
    """
    moment = time.time() if now is None else now
    path = os.fsencode(os.path.realpath(directory))
    if not os.path.isdir(path):
        raise UsageError(f"{show_path(path)} is not a directory")
    hidden = state.within(path)
    with state.lock_place(path):  # Nor is it fetched into meanwhile.
        tree, signer = _claim(state, path, archive)
        # A second directory with the same archive must wait as well: both would take the same sequence
        # number.
        with state.lock("publish-" + archive_text(signer.archive), on=archive_text(signer.archive)):
            return _publish(
                state, tree, signer, rules, tell, moment, known_heads, freshness, hidden, count_first
            )


def _publish(
    state: State,
    tree: Tree,
    signer: _Signer,
    rules: Filter | None,
    tell: Teller,
    now: float,
    known_heads: Iterable[ArchiveHead],
    freshness: int,
    hidden: frozenset[bytes],
    count_first: bool,
) -> Published:
    newest = _newest(state, signer.archive, known_heads)
    epoch, seq = _next_place(signer, newest, now)
    applied = Filter.parse(tree.options.get(RULES_OPTION, [])) if rules is None else rules
    previous = _snapshot(state, newest)
    if previous is not None:
        tell.phase("publishing", previous.root.totals.bytes, previous.root.totals.files)
    elif count_first:
        tell.phase("counting")
        tell.phase("publishing", *count_tree(tree.path, applied, hidden))
    else:
        tell.phase("publishing")
    report = Report(tell)
    builder = Builder(
        state, tree.id, applied, report, tell, hidden, last=None if previous is None else previous.root
    )
    root = builder.build(tree.path)
    report.finish()

    changed = newest is None or previous is None or previous.root != root
    with state.transaction(durable=True):
        if changed:
            ref = _put_snapshot(state, signer.archive, root, newest, now, report.unread)
        elif newest is not None:
            ref = newest.snapshot
        fresh = newest is not None and newest.fresh_until - now >= freshness / 2
        # A new epoch outranks who signed in the old one only once there is a head of it.
        if newest is not None and not changed and fresh and newest.epoch == epoch:
            head = newest
        else:
            head = sign_head(
                signer.identity,
                signer.archive,
                epoch=epoch,
                seq=seq,
                snapshot=ref,
                signed_at=int(now),
                fresh_until=int(now) + freshness,
                delegation=signer.delegation,
            )
            if not state.heads.put(head, "published here"):
                raise TrustError(
                    f"a newer head of {archive_text(signer.archive)} arrived while this one was made: "
                    "publish again"
                )
        state.meta.add_snapshot(signer.archive, head.epoch, head.seq, head.snapshot)
        tree.epoch, tree.seq, tree.snapshot = head.epoch, head.seq, head.snapshot
        tree.options[RULES_OPTION] = applied.texts()
        state.trees.update(tree)
    return Published(
        archive=signer.archive,
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
    )


def _claim(state: State, path: bytes, archive: bytes | None) -> tuple[Tree, _Signer]:
    """The tree at `path` as a published one, and who signs for it."""
    known = state.trees.get(path)
    if archive is None:
        archive = (
            known.archive if known is not None and known.archive is not None else state.keys.create_root()
        )
    signing = state.keys.signing(archive)
    if signing is None:
        raise UsageError(
            f"there is no key here to sign {archive_text(archive)} with: import its root key, or a "
            "signing key and its delegation"
        )
    return state.trees.ensure(path, "publish", archive), _Signer(archive, *signing)


def _newest(state: State, archive: bytes, known_heads: Iterable[ArchiveHead]) -> ArchiveHead | None:
    for head in known_heads:
        if head.archive == archive:
            state.heads.put(head, "known before publishing")
    return state.heads.newest(archive)


def _next_place(signer: _Signer, newest: ArchiveHead | None, now: float) -> tuple[int, int]:
    """Epoch and sequence number of the next head. Raises TrustError if this key cannot sign one that is
    newer.
    """
    last_epoch, last_seq = (0, 0) if newest is None else (newest.epoch, newest.seq)
    given = signer.delegation
    if given is None:
        return last_epoch, last_seq + 1
    name = archive_text(signer.archive)
    if given.epoch < last_epoch:
        raise TrustError(
            f"the signing key of {name} is delegated for epoch {given.epoch}, but the archive is at epoch "
            f"{last_epoch}: delegate to it again with the root key"
        )
    if not given.not_before <= now <= given.not_after:
        raise TrustError(
            f"the delegation of the signing key of {name} does not cover today: renew it with the root key"
        )
    return given.epoch, last_seq + 1


def _snapshot(state: State, head: ArchiveHead | None) -> Snapshot | None:
    """The snapshot that a head names, if it is here."""
    raw = None if head is None else state.meta.get(head.snapshot.digest)
    return None if raw is None else Snapshot.decode(raw)


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
    state.meta.put(ref, raw)
    return ref
