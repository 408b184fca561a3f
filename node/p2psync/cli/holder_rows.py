"""Holders of an archive as people and programs are shown them: rows of a table, and JSON fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from p2psync.text import count, duration, name_fields, rate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from p2psync.fetch.view import Checked, Holder
    from p2psync.format.head import ArchiveHead

HEADINGS: Final = ("ADDRESS", "ROLE", "HOLDS", "SNAPSHOT", "STATE", "EXPIRES IN")
"""Of what holders say of themselves."""
CHECKED_HEADINGS: Final = (
    *HEADINGS[:-1],
    "LISTED",
    "LAG",
    "VERIFIED",
    "RATE",
    "FAILURES",
)
"""Where they are checked."""
PARTS_SHOWN: Final = 3
"""Names of parts in a table; JSON has all."""


def holder_fields(holder: Holder) -> dict[str, Any]:
    """What JSON says of a holder; of its checks only where there were any."""
    made = holder._asdict()
    check = made.pop("check")
    if check is not None:
        made["check"] = check._asdict() | {"parts": [name_fields(part) for part in check.parts]}
    return made


def holder_row(holder: Holder, head: ArchiveHead | None, now: float) -> tuple[str, ...]:
    """The columns of HEADINGS for one holder."""
    return *_claims(holder, head), duration(max(0.0, holder.expires - now))


def checked_row(holder: Holder, head: ArchiveHead | None, now: float) -> tuple[str, ...]:
    """The columns of CHECKED_HEADINGS for one holder."""
    said = _claims(holder, head)
    check = holder.check
    if check is None:
        return *said, "-", "-", "-", "-", "-"
    return (
        *said[:2],
        _holds(check, said[2]),
        *said[3:],
        "dropped" if check.dropped else "yes" if check.listed else "no",
        duration(check.lag) if check.lag else "none",
        f"{duration(max(0.0, now - check.verified))} ago" if check.verified else "never",
        rate(check.rate) if check.rate else "-",
        str(check.failures),
    )


def reasons(holders: Iterable[Holder]) -> list[str]:
    """Why holders are not listed: a sentence for each."""
    return [
        f"{', '.join(holder.endpoints)}: {holder.check.reason}"
        for holder in holders
        if holder.check is not None and holder.check.reason
    ]


def _holds(check: Checked, said: str) -> str:
    if check.complete:
        return "all"
    if not check.parts:
        return "nothing" if said == "part" and not check.verified else said
    shown = ", ".join(name_fields(part)["name"] for part in check.parts[:PARTS_SHOWN])
    more = len(check.parts) - PARTS_SHOWN
    return f"part: {shown}" + (f" and {count(more, 'other')}" if more > 0 else "")


def _claims(holder: Holder, head: ArchiveHead | None) -> tuple[str, ...]:
    holds = {True: "all", False: "part", None: "?"}[holder.complete]
    snapshot = "?"
    if holder.epoch is not None and holder.seq is not None:
        snapshot = str(holder.seq)
        if head is not None and (holder.epoch, holder.seq) < (head.epoch, head.seq):
            snapshot += f" (newest is {head.seq})"
    where = ", ".join(holder.endpoints)
    state = "?" if holder.state == "unknown" else holder.state
    return where, holder.role, holds, snapshot, state
