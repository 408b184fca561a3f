"""Names that p2psync keeps for itself in any tree: never published or served, refused in a manifest. Pure.

Apart from the listings that refuse them, since the process that writes files needs these names and no more.
"""

from __future__ import annotations

from typing import Final

PARTIAL: Final = b".p2psync.partial"
"""The folder at the root of DEST where files are made."""
RESERVED_NAMES: Final = frozenset({b".p2psync", PARTIAL})
"""Folders at the root of a tree."""
TEMPORARY_PREFIX: Final = b".p2psync-tmp-"
"""How names begin that stand for a moment beside a file that is being replaced on another file system than
the folder's, at any depth. One that is met when nobody writes was left by a run that was killed.
"""
