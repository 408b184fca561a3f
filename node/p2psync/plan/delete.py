"""What becomes of names in DEST that the snapshot does not have: what may be asked for. By itself, so that
it can be said before the rest is loaded; ``plan.deletions`` does it.
"""

from __future__ import annotations

from enum import StrEnum


class Delete(StrEnum):
    """What becomes of names in DEST that the snapshot does not have."""

    OWN = "own"
    """Removed if they were put here from the archive and are as they were then; all else stays."""
    ALL = "all"
    """Removed, as rsync's --delete does."""
    NONE = "none"
    """Kept, as rsync does without --delete."""
