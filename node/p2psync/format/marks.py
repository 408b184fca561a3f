"""What a publisher could not read, as its snapshot says it: marks among the further fields of entries. Pure.

``incomplete`` stands at a directory (in its own entry; the root's is in the snapshot) whose listing may lack
names that are there: ``true``, or, where only some could not be read, an array of their names. What a listing
lacks for that reason was not deleted, so nobody deletes it. It says nothing of the directories in it, which
have marks of their own.

``carried`` is ``true`` at a file or directory that could not be read, and therefore stands as it did in an
earlier snapshot, with all that is below it. Nothing is missing there: it is an earlier state.

``unread``, a key of the snapshot, is how many paths could not be read. ``linked``, another, is how many names
of files have further names (hard links), which no other place tells of.

``part`` is ``true`` at a directory of which a reader has asked for a part (``plan.selected``): it stands in
listings that are made where they are used, and a publisher has no use for it. Nothing else is deleted in such
a one, whoever marked it.

Whoever does not know the marks keeps them, as it keeps all further fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from p2psync.format.limits import TREE_ENTRIES_MAX
from p2psync.format.listing import Entry

INCOMPLETE: Final = "incomplete"
CARRIED: Final = "carried"
UNREAD: Final = "unread"
LINKED: Final = "linked"
PART: Final = "part"
NAMES_MAX: Final = 16
"""Names that are told one by one: an entry has 16 KiB, and a listing 2^22 values for all further fields."""
NAMED_MAX: Final = 1 << 16
"""Directories in one listing that tell names one by one; with more of them, they would come near its 2^22."""


def incomplete(entry: Entry, names: Iterable[bytes] | None = None) -> Entry:
    """``entry``, a directory's, marked: its listing may lack these names, or, without them, any."""
    told = None if names is None else sorted(names)
    value = told if told is not None and len(told) <= NAMES_MAX else True
    return entry._replace(extra={**entry.extra, INCOMPLETE: value})


def carried(entry: Entry) -> Entry:
    """``entry`` marked as one that stands as it did in an earlier snapshot."""
    return entry._replace(extra={**entry.extra, CARRIED: True})


def is_incomplete(entry: Entry) -> bool:
    """Whether names may be missing from the listing of this directory that are there."""
    return bool(entry.extra) and INCOMPLETE in entry.extra


def may_lack(entry: Entry, name: bytes) -> bool:
    """Whether ``name`` may be in this directory although its listing does not have it: then it is not
    deleted, nor is anything below it.

    What is not understood counts as ``true``: the only harm is that something stays.
    """
    if not is_incomplete(entry):
        return False
    names = entry.extra[INCOMPLETE]
    if type(names) is not list or len(names) > NAMES_MAX:
        return True
    return name in names or any(type(other) is not bytes for other in names)


def is_carried(entry: Entry) -> bool:
    """Whether this entry, with all below it, stands as it did in an earlier snapshot."""
    return bool(entry.extra) and CARRIED in entry.extra


def part(entry: Entry) -> Entry:
    """``entry``, a directory's, marked as one that has more than its listing."""
    return entry._replace(extra={**entry.extra, PART: True})


def is_part(entry: Entry) -> bool:
    """Whether this directory has more than its listing says."""
    return bool(entry.extra) and PART in entry.extra


def coarsened(entries: list[Entry]) -> list[Entry]:
    """The entries of a listing, without names in their marks where there are too many for one listing."""
    if sum(map(is_incomplete, entries)) <= NAMED_MAX:
        return entries
    return [incomplete(entry) if is_incomplete(entry) else entry for entry in entries]


def unread_paths(extra: Mapping[str, Any]) -> int:
    """How many paths a publisher could not read, from the further keys of its snapshot; 0 if none."""
    count = extra.get(UNREAD)
    return count if type(count) is int and 0 <= count <= TREE_ENTRIES_MAX else 0


def further(unread: int, linked: int) -> dict[str, int]:
    """The further keys of a snapshot. What was not read may have had further names, too."""
    return {UNREAD: unread} if unread else {LINKED: linked}


def has_no_links(extra: Mapping[str, Any]) -> bool:
    """Whether a publisher says, in the further keys of its snapshot, that no file has further names."""
    return type(extra.get(LINKED)) is int and extra[LINKED] == 0
