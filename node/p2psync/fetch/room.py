"""Whether a fetch may make all that is wanted: within the limits that its user set, and in the room that the
disk has. Both are looked at before anything is written: a few kilobytes of listings can mean more files than
any disk holds, and what is received once can be wanted a thousand times.
"""

from __future__ import annotations

from typing import NamedTuple

from p2psync.errors import FileError, SelectionError, show_path
from p2psync.fetch.options import FetchOptions
from p2psync.format.listing import Totals
from p2psync.plan.changes import Plan
from p2psync.supply.manifest import Manifest
from p2psync.text import count, size
from p2psync.tree.beneath import Beneath
from p2psync.tree.room import Room, room_at, taken_by, taken_by_unfinished


class Need(NamedTuple):
    """What is going to be made: bytes, and names of any kind."""

    bytes: int
    names: int

    def fits(self, room: Room) -> bool:
        return self.bytes <= room.bytes and (room.names is None or self.names <= room.names)


def check_limits(totals: Totals, options: FetchOptions) -> None:
    """Refuse more than the user wants to have; ``totals``: of what is wanted, whatever is here already.

    Raises SelectionError.
    """
    most, names_max = options.max_total, options.max_files
    if most is not None and totals.bytes > most:
        raise SelectionError(
            f"what is to be fetched has {size(totals.bytes)} ({totals.bytes:,} bytes), and --max-total "
            f"allows {size(most)} ({most:,}); nothing was changed: allow more, or fetch a part of it, with "
            "/PATH behind its URL"
        )
    names = _names(totals)
    if names_max is not None and names > names_max:
        raise SelectionError(
            f"what is to be fetched has {count(names, 'name')} (files, directories and links), and "
            f"--max-files allows {names_max:,}; nothing was changed: allow more, or fetch a part of it, with "
            "/PATH behind its URL"
        )


def check_empty(totals: Totals, dest: bytes) -> None:
    """Refuse to make so much where nothing is yet; what the plan of it takes is not known, or needed, then.
    Blocks. Raises FileError.
    """
    _check(Need(totals.bytes, _names(totals)), room_at(dest), dest)


def check_plan(plan: Plan, dest: bytes, beneath: Beneath | None, manifest: Manifest) -> None:
    """Refuse to make what a plan says where there is no room for it. What is there of it already counts, and
    so does what it replaces. Blocks. Raises FileError.
    """
    new = sum(len(work.content) - len(work.replaced) + len(work.symlinks) for work in plan.dirs)
    need = Need(plan.size, new + sum(not work.exists for work in plan.dirs))
    room = room_at(dest)
    if not need.fits(room):
        freed = 0 if beneath is None else _making_way(plan, beneath, manifest)
        _check(need._replace(bytes=max(need.bytes - freed, 0)), room, dest)


def _names(totals: Totals) -> int:
    return totals.files + totals.dirs + totals.symlinks


def _making_way(plan: Plan, beneath: Beneath, manifest: Manifest) -> int:
    """Bytes of what is here of unfinished files, and of files that are replaced."""
    freed = taken_by_unfinished(beneath)
    for work in plan.dirs:
        if work.replaced:
            entries = manifest.listing_again(work.listing)
            freed += taken_by(beneath, work.path, (entries[at].name for at in work.replaced))
    return freed


def _check(need: Need, room: Room, dest: bytes) -> None:
    if need.fits(room):
        return
    if need.bytes > room.bytes:
        what = (
            f"{size(need.bytes)} ({need.bytes:,} bytes) are to be written to {show_path(dest)}, and its disk "
            f"has room for {size(room.bytes)} ({room.bytes:,})"
        )
    else:
        what = (
            f"{need.names:,} files, directories and links are to be made in {show_path(dest)}, and its disk "
            f"has room for {room.names:,}"
        )
    raise FileError(
        f"{what}; nothing was changed: make room, fetch a part of it, with /PATH behind its URL, or go on "
        "all the same with --no-check-space"
    )
