"""Holders of an archive as people and programs are shown them: rows of a table, and JSON fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from p2psync.text import count, duration, name_fields, rate

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from p2psync.fetch.holders import Checked, Holder
    from p2psync.format.head import ArchiveHead
    from p2psync.format.mirror_list import Mirror

CLAIMS: Final = ("ADDRESS", "ROLE", "HOLDS", "SNAPSHOT", "STATE")
HEADINGS: Final = (*CLAIMS, "EXPIRES IN")
"""Of what holders say of themselves."""
LISTED_HEADINGS: Final = (*CLAIMS, "LISTED", "VERIFIED", "RATE", "EXPIRES IN")
"""Where a list of mirrors is known."""
CHECKED_HEADINGS: Final = (*CLAIMS, "LISTED", "LAG", "VERIFIED", "RATE", "FAILURES")
"""Where they are checked."""
PARTS_SHOWN: Final = 3
"""Names of parts in a table; JSON has all."""


def holder_fields(holder: Holder) -> dict[str, Any]:
    """What JSON says of a holder; of checks and recommendations only where there are any."""
    made = holder._asdict()
    check, mirror = made.pop("check"), made.pop("recommended")
    if check is not None:
        made["check"] = check._asdict() | {"parts": [name_fields(part) for part in check.parts]}
    if mirror is not None:
        made["recommended"] = {
            "weight": mirror.weight,
            "parts": None if mirror.parts is None else [name_fields(part) for part in mirror.parts],
            "verified": mirror.verified,
            "rate": mirror.rate,
            "networks": [str(network) for network in mirror.networks],
            "site": mirror.site,
        }
    return made


def table(holders: Sequence[Holder], head: ArchiveHead | None, now: float) -> list[tuple[str, ...]]:
    """Headings, and a row for each holder, with what is known of any."""
    if any(holder.check for holder in holders):
        return [CHECKED_HEADINGS, *(_checked_row(holder, head, now) for holder in holders)]
    if any(holder.recommended for holder in holders):
        return [LISTED_HEADINGS, *(_listed_row(holder, head, now) for holder in holders)]
    return [HEADINGS, *(holder_row(holder, head, now) for holder in holders)]


def holder_row(holder: Holder, head: ArchiveHead | None, now: float) -> tuple[str, ...]:
    """The columns of HEADINGS for one holder."""
    return *_claims(holder, head), _left(holder, now)


def _listed_row(holder: Holder, head: ArchiveHead | None, now: float) -> tuple[str, ...]:
    mirror = holder.recommended
    said = _claims(holder, head)
    if mirror is None:
        return *said, "-", "-", "-", _left(holder, now)
    verified = _ago(mirror.verified, now)
    return *said, _listed(mirror), verified, rate(mirror.rate) if mirror.rate else "-", _left(holder, now)


def _checked_row(holder: Holder, head: ArchiveHead | None, now: float) -> tuple[str, ...]:
    said = _claims(holder, head)
    check = holder.check
    if check is None:
        return *said, "-", "-", "-", "-", "-"
    passes = "passes" if check.listed else "no"
    return (
        *said[:2],
        _holds(check, said[2]),
        _snapshot((check.epoch, check.seq), head) if check.verified else said[3],
        said[4],
        "dropped" if check.dropped else passes if holder.recommended is None else _listed(holder.recommended),
        duration(check.lag) if check.lag else "none",
        _ago(check.verified, now),
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


def _listed(mirror: Mirror) -> str:
    return f"for {', '.join(map(str, mirror.networks))}" if mirror.site else "yes"


def _ago(moment: int, now: float) -> str:
    return f"{duration(max(0.0, now - moment))} ago" if moment else "never"


def _left(holder: Holder, now: float) -> str:
    return duration(max(0.0, holder.expires - now)) if holder.expires else "-"


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
    # Who has a part names no snapshot: it says which parts when it is asked.
    if holder.epoch is not None and holder.seq is not None and (holder.complete or holder.seq):
        snapshot = _snapshot((holder.epoch, holder.seq), head)
    where = ", ".join(holder.endpoints)
    state = "?" if holder.state == "unknown" else holder.state
    return where, holder.role, holds, snapshot, state


def _snapshot(at: tuple[int, int], head: ArchiveHead | None) -> str:
    behind = head is not None and at < (head.epoch, head.seq)
    return f"{at[1]} (newest is {head.seq})" if behind and head is not None else str(at[1])
