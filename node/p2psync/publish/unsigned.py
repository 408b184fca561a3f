"""Publishing where the key lives elsewhere: a snapshot is made here, its head is signed there, and comes
back.

    here    publish --unsigned DIR    ->  what is to be signed
    there   key sign                  ->  the head
    here    publish --head FILE DIR   ->  the snapshot is published

The machine with the files never has a key, and the one with the key needs neither files nor network. What was
published before stays published until the head is back.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from p2psync.chunking import cut_object
from p2psync.errors import TrustError, UsageError, show_path
from p2psync.events import SILENT, Teller
from p2psync.format.head import ArchiveHead, decode_head, sign_head
from p2psync.format.snapshot import Snapshot
from p2psync.format.unsigned import Unsigned
from p2psync.publish.claim import ENDED, UNSIGNED, last_place, signer_of
from p2psync.publish.publisher import (
    FRESHNESS,
    PUBLISHED_HERE,
    SIGNED_HERE,
    Ask,
    filter_of,
    put_snapshot,
    running,
)
from p2psync.publish.walk import is_news
from p2psync.rules.filter import Filter
from p2psync.state import State
from p2psync.trust import CLOCK_SKEW


@dataclass(frozen=True, slots=True)
class Prepared:
    """A snapshot whose head is not signed: the fields are those of `Published`."""

    request: Unsigned
    root: str
    files: int
    bytes: int
    read_bytes: int
    changed: bool
    unread: int
    exit_code: int


def prepare(
    state: State,
    directory: str | bytes | Path,
    *,
    archive: bytes | None = None,
    rules: Filter | None = None,
    tell: Teller = SILENT,
    now: float | None = None,
    ask: Ask | None = None,
    freshness: int = FRESHNESS,
    accept_shrink: bool = False,
    static: bytes | bool | None = None,
    temporary: bool | None = None,
) -> Prepared:
    """Make a snapshot of a directory, to be signed elsewhere. The arguments are as in `publish`, and so is
    what is raised; no key is needed, and one that is here is not used.
    """
    moment = time.time() if now is None else now
    with running(state, directory, archive, static, tell, moment, freshness, signs=False) as run:
        tree = run.tree
        walked = run.walk(
            filter_of(tree, rules, temporary),
            ask,
            accept_shrink=accept_shrink or (archive is not None and tree.snapshot is None),
        )
        name = run.signer.archive
        newest = state.heads.newest(name)
        changed = is_news(state, newest and newest.snapshot, walked.root, walked.report)
        with state.transaction(durable=True):
            if newest is None or changed:
                ref = put_snapshot(state, name, walked.root, newest, moment, walked.report)
            else:
                ref = newest.snapshot
            tree.options[UNSIGNED] = state.meta.get(ref.digest)  # Nothing else refers to it.
            state.trees.update(tree)
        return Prepared(
            request=Unsigned(name, ref, last_place(state, name, newest), freshness),
            root=walked.root.digest.hex(),
            files=walked.root.totals.files,
            bytes=walked.root.totals.bytes,
            read_bytes=walked.read_bytes,
            changed=changed,
            unread=walked.report.unread,
            exit_code=walked.report.exit_code,
        )


def sign(state: State, request: Unsigned, *, now: float | None = None, tell: Teller = SILENT) -> ArchiveHead:
    """The head that was asked for. It is remembered, and the next one comes after it.

    Raises: UsageError: no key of the archive is here. TrustError: the key may not sign what comes next.
    """
    moment = time.time() if now is None else now
    signer = signer_of(state, request.archive)
    assert signer.identity is not None  # noqa: S101 - it was found
    known = last_place(state, request.archive, state.heads.newest(request.archive))
    if request.last < known:
        tell.warn(
            f"head {known[1]} was signed here, and whoever asks for the next one knows of head "
            f"{request.last[1]} only: if that one was not lost, publish it there first, and make the "
            "snapshot again"
        )
    epoch, seq = signer.next_place(max(known, request.last), moment)
    head = sign_head(
        signer.identity,
        request.archive,
        epoch=epoch,
        seq=seq,
        snapshot=request.snapshot,
        signed_at=int(moment),
        fresh_until=int(moment) + request.fresh,
        delegation=signer.delegation,
    )
    state.heads.put(head, SIGNED_HERE)
    return head


@dataclass(frozen=True, slots=True)
class Completed:
    """A snapshot that is published now."""

    head: ArchiveHead
    snapshot: Snapshot
    static: bytes | None


def complete(
    state: State,
    directory: str | bytes | Path,
    raw: bytes,
    *,
    tell: Teller = SILENT,
    now: float | None = None,
) -> Completed:
    """Publish the snapshot that `prepare` made, with the head that was signed for it. Doing it again does no
    harm.

    Raises:
        FormatError, TrustError: that is no head, or not signed by its archive, or not newer than what is
        known. UsageError: it is of something else. FileError: as `publish`.
    """
    moment = time.time() if now is None else now
    head = decode_head(raw)
    if head.signed_at > moment + CLOCK_SKEW:
        raise TrustError(
            "the head was signed with a clock that is ahead of this one: set both, and sign it again"
        )
    with running(state, directory, head.archive, None, tell, moment, FRESHNESS, signs=False) as run:
        tree = run.tree
        prepared = tree.options.get(UNSIGNED)
        if prepared is None and tree.snapshot == head.snapshot:
            prepared = state.meta.get(head.snapshot.digest)
        if prepared is None or cut_object(prepared)[0] != head.snapshot:
            raise UsageError(
                f"the head is not of the snapshot that was made of {show_path(tree.path)} last: sign "
                "what the last 'p2psync publish --unsigned' said"
            )
        newest = state.heads.newest(head.archive)
        if newest is not None and head.order < newest.order:
            raise TrustError(
                f"head {head.seq} is older than head {newest.seq}, which is known here: make the "
                "snapshot again with 'p2psync publish --unsigned', and sign that"
            )
        with state.transaction(durable=True):
            state.meta.put(head.snapshot, prepared, archive=head.archive)
            state.heads.put(head, PUBLISHED_HERE)
            state.meta.add_snapshot(head.archive, head.epoch, head.seq, head.snapshot)
            tree.epoch, tree.seq, tree.snapshot = head.epoch, head.seq, head.snapshot
            tree.options.pop(ENDED, None)
            tree.options.pop(UNSIGNED, None)
            state.trees.update(tree)
        if run.static is not None:
            run.static.write(head)
        return Completed(head, Snapshot.decode(prepared), None if run.static is None else run.static.path)
