"""The rules by which a head is believed, and how far holders are. Pure: no I/O, and the time is an argument.

The rules for heads, in the order in which they are applied:

1. Only the archive's root key, or a key with a delegation from it, can sign a head; the delegation must have
   the head's epoch and the role, and the time of signing must lie within it.
   (``p2psync.format.head.decode_head`` sees to that.)
2. A head of another archive is not a head of this one.
3. A head that is signed in the future, beyond the skew that clocks have, is not believed yet.
4. Order is (epoch, sequence number). What is older than the newest head that was ever accepted is refused:
   a replayed record, however well signed, takes nothing back.
5. An equal pair with different bytes means that the archive's key signed twice. The greater hash wins,
   everywhere; it is reported, unless both name the same snapshot and nothing is in dispute.
6. Stale is not dead. Past ``fresh_until`` a head is used with a warning that says how old it is, unless the
   user demands a fresh one.
7. Ended is not dead either: the last snapshot is used as any other. Only the archive's key can end it, by a
   head that is subject to all of these rules, and only a newer head takes that back.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Final, NamedTuple

from p2psync.errors import FormatError, P2psyncError, TrustError
from p2psync.format.head import ArchiveHead, decode_head
from p2psync.format.url import archive_text
from p2psync.text import day
from p2psync_dht import RecordError

CLOCK_SKEW: Final = 600
"""Seconds by which a signer's clock may be ahead of ours: as much as the nodes that store heads allow."""


class Standing(IntEnum):
    """What speaks for a holder: the archive's own list of mirrors, then this machine's dealings with it; the
    least is asked first. Whom the user has named comes before all of these.
    """

    NEAR = 0
    """The archive recommends it, to the network that this machine is in."""
    RECOMMENDED = 1
    """The archive recommends it."""
    DELIVERED = 2
    """Its node gave content that was right, at some time."""
    PROVED = 3
    """Its node has proved its key at the address that its record names, lately."""
    TOLD = 4
    """Somebody says so. Whoever wants can make any number of such records, and name any address."""


class Judgement(NamedTuple):
    """What came of looking at a set of heads: the one to use, and what the user should know about it."""

    head: ArchiveHead | None
    warnings: tuple[str, ...] = ()
    refused_older: int = 0
    """Valid heads that were older than the newest known one."""


def judge(
    archive: bytes,
    candidates: Iterable[bytes],
    remembered: ArchiveHead | None,
    now: float,
    *,
    require_fresh: bool = False,
) -> Judgement:
    """Choose the newest acceptable head among ``candidates`` (raw, from anybody) and the ``remembered`` one.

    Args:
        archive: id of the archive that is wanted.
        remembered: the newest head that was ever accepted here, or None.
        now: seconds since 1970.

    Raises:
        TrustError: ``require_fresh`` and the best head is past its freshness.
    """
    best = remembered
    warnings: list[str] = []
    older = 0
    for raw in dict.fromkeys(candidates):
        try:
            head = decode_head(raw)
        except P2psyncError as error:
            warnings.append(f"ignored a head from the network: {error}")
            continue
        if head.archive != archive:
            warnings.append("ignored a head of another archive")
        elif head.signed_at > now + CLOCK_SKEW:
            warnings.append(
                f"ignored a head that is signed {_age(head.signed_at - now)} in the future; check the clocks"
            )
        elif best is None or head.order > best.order:
            _report_conflict(head, best, warnings)
            best = head
        elif head.order < best.order:
            if (head.epoch, head.seq) < (best.epoch, best.seq):
                older += 1
            _report_conflict(head, best, warnings)
    if best is not None and best.ended is not None:
        if require_fresh:
            raise TrustError(f"{ended_text(best)}, and --require-fresh forbids using it")
    elif best is not None and now > best.fresh_until:
        text = (
            f"the newest head of {archive_text(archive)} that could be found (sequence number {best.seq}) is "
            f"{_age(now - best.signed_at)} old; "
            f"its publisher vouched for it until {_age(now - best.fresh_until)} ago"
        )
        if require_fresh:
            raise TrustError(text + ", and --require-fresh forbids using it")
        warnings.append(text)
    return Judgement(best, tuple(warnings), older)


def handed_on(raw: bytes, archive: bytes, now: float) -> ArchiveHead:
    """A head that somebody tells of, verified: what may be kept and told on, if it is newer. ``now`` is in
    Unix seconds. Raises FormatError: it is none, or another archive's. TrustError: it is not rightly
    signed.
    """
    head = decode_head(raw)
    if head.archive != archive:
        raise FormatError("the head is another archive's")
    try:
        head.record.verify(int(now))
    except RecordError as error:
        raise TrustError(f"refused {error}") from None
    return head


def earlier_text(newest: ArchiveHead, used: ArchiveHead) -> str:
    """What people are told where the snapshot of the newest head is nowhere: a sentence without its full
    stop.
    """
    return (
        f"nobody who could be asked has snapshot {newest.seq} of {archive_text(used.archive)}, the newest "
        f"one: snapshot {used.seq} of {day(used.signed_at)} is used; a mirror may be just being updated"
    )


def ended_text(head: ArchiveHead) -> str:
    """What people are told of an archive that its publisher has ended: a sentence without its full stop."""
    assert head.ended is not None  # noqa: S101 - callers have looked
    return (
        f"{archive_text(head.archive)} was ended by its publisher on {day(head.ended)}; its last snapshot is "
        f"{head.seq}"
    )


def _report_conflict(head: ArchiveHead, other: ArchiveHead | None, warnings: list[str]) -> None:
    if other is None or (head.epoch, head.seq) != (other.epoch, other.seq):
        return
    if head.snapshot == other.snapshot and head.ended == other.ended:
        return
    warnings.append(
        f"{archive_text(head.archive)} has two different heads with epoch {head.epoch} and sequence number "
        f"{head.seq}: its key was used in two places, or is stolen; tell its publisher"
    )


def _age(seconds: float) -> str:
    """A span of time for people: the largest whole unit."""
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {unit}{'s' if count != 1 else ''}"
    return f"{max(int(seconds), 0)} seconds"
