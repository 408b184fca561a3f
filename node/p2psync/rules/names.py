"""A list of names, each of which takes part (rsync's --files-from), as a tree. Pure.

As in rsync, the directories that lead to a name take part as they are, without what else is in them; a
directory that is listed does so without its content, unless there is a slash behind it (then it has what is
directly in it) or everything below is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Final

from p2psync.errors import UsageError, show_path
from p2psync.format.limits import PATH_MAX

NAMES_MAX: Final = 1_000_000
"""Names in a list: each takes some 300 bytes of memory; who lists more wants a directory."""
LIST_MAX: Final = 256 << 20
"""Bytes of the text of a list: `NAMES_MAX` long paths."""
_LINES: Final = re.compile(rb"[\r\n]+")


class Share(IntEnum):
    """How much of a directory takes part."""

    WAY = 0
    """It leads to something that does."""
    ITSELF = 1
    INSIDE = 2
    """What is directly in it; directories without what is in them."""
    ALL = 3


class Listed:
    """A name, or a directory on the way to one."""

    __slots__ = ("inside", "share")

    def __init__(self) -> None:
        self.share = Share.WAY
        self.inside: dict[bytes, Listed] = {}


NOTHING_LISTED: Final = Listed()


class Names:
    """The list, as it is asked about directories."""

    def __init__(self, names: Iterable[bytes], *, recursive: bool = False) -> None:
        """``recursive``: directories take part with all below them. Raises UsageError: a name that cannot be
        one of the archive's.
        """
        self.root = Listed()
        for name in names:
            self._add(name, recursive=recursive)

    def _add(self, name: bytes, *, recursive: bool) -> None:
        if b"/./" in name:
            raise UsageError(
                f"the name {show_path(name)!r} in the list has /./ in it, which would put it elsewhere; "
                "leave it out, or fetch that directory by itself"
            )
        parts: list[bytes] = []
        for part in name.split(b"/"):
            if part == b"..":
                del parts[-1:]
            elif part not in (b"", b"."):
                parts.append(part)
        at = self.root
        for part in parts:
            at = at.inside.setdefault(part, Listed())
        has_slash = not parts or name.endswith((b"/", b"/."))
        share = Share.ALL if recursive else Share.INSIDE if has_slash else Share.ITSELF
        at.share = max(at.share, share)

    def at(self, path: bytes) -> tuple[Listed, Share | None]:
        """What is listed of the directory at ``path``, and how much of it takes part; None where it is there
        only as one that is in a listed one.
        """
        at: Listed | None = self.root
        share: Share | None = self.root.share
        for part in path.split(b"/") if path else []:
            at = None if at is None else at.inside.get(part)
            if share is not Share.ALL:
                in_listed = share is Share.INSIDE
                share = None if at is None else at.share
                if in_listed and share is Share.WAY:
                    share = Share.ITSELF
            elif at is None:
                break
        return at or NOTHING_LISTED, share


def read_names(text: bytes, *, nul: bool = False) -> Sequence[bytes]:
    """The names in a text, one a line, or ``nul``: separated by NUL; without empty lines and comments. Raises
    UsageError: there are too many, or one is too long.
    """
    parts = text.split(b"\0") if nul else _LINES.split(text)
    names = [name for name in parts if name and name[:1] not in b"#;"]
    if len(names) > NAMES_MAX:
        raise UsageError(f"the list has {len(names):,} names, and {NAMES_MAX:,} are the most")
    too_long = next((name for name in names if len(name) > PATH_MAX), None)
    if too_long is not None:
        raise UsageError(f"the list has a name of {len(too_long):,} bytes, which no path has")
    return names
