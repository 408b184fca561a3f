"""Whether a tree is still what was published: an unmounted disk looks like one of which everything was
deleted.

What a directory is called says nothing of the disk that is there today. So what is remembered of it is
weighed with what the new snapshot would lose: numbers of devices change when a machine starts again, and
people do delete half of a tree.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Final

from p2psync.errors import DeleteLimitError, FileError, show_path
from p2psync.format.listing import Totals
from p2psync.tree.place import Place

SHRINK_FROM: Final = 100
"""Names that a snapshot may lose whatever their share: small trees are rewritten as a whole."""
SHRINK_SHARE: Final = 2
"""Of the names beyond that, one in so many may be lost."""
ACCEPT: Final = "--accept-shrink"


def check_place(
    path: bytes, before: Place | None, now: Place, had: Set[bytes], has: Set[bytes], *, unmounted: bool
) -> None:
    """Refuse a directory that looks like the mount point of a disk that is not there, or like another disk.

    ``had`` and ``has`` are the names in it, in the last snapshot and now; ``unmounted``: it was a mount point
    then, and is none now. Raises FileError.
    """
    if before is None or not had or had <= has:
        return
    lost = f"{len(had - has):,} of the {len(had):,} names in it are gone"
    if unmounted:
        raise FileError(
            f"{show_path(path)} was a mount point and is none now, and {lost}: mount it and publish again, "
            f"or say with {ACCEPT} that it is to be published as it is"
        )
    if 2 * len(had & has) < len(had) and not before.is_on_same_filesystem(now):
        raise FileError(
            f"{show_path(path)} is on another file system than before, and {lost}: mount the right one and "
            f"publish again, or say with {ACCEPT} that it is to be published as it is"
        )


def check_loss(path: bytes, before: Totals, now: Totals) -> None:
    """Refuse a snapshot that has lost most of what the last one had, or all. Raises DeleteLimitError."""
    names_before = before.files + before.dirs + before.symlinks
    lost = names_before - (now.files + now.dirs + now.symlinks)
    many = lost > SHRINK_FROM and (
        SHRINK_SHARE * lost > names_before or SHRINK_SHARE * (before.files - now.files) > before.files
    )
    if many or (lost and lost == names_before):
        raise DeleteLimitError(
            f"{show_path(path)} has lost {lost:,} of the {names_before:,} names of the last snapshot, and "
            "nothing was published: if a disk is not mounted, mount it and publish again; if this is meant, "
            f"say {ACCEPT}"
        )
