"""Whether a source may be asked by POST. Some proxies let GET pass alone: then what would be a batch is asked
for piece by piece.
"""

from __future__ import annotations

from typing import Final

REFUSALS: Final = frozenset({403, 405, 501})
"""Statuses with which POST is refused; a node has none of them for a question that it knows."""


class Posts:
    """What all that ask one node share. Used by several threads: it changes once."""

    def __init__(self) -> None:
        self.allowed = True

    def are_refused(self, status: int) -> bool:
        """Whether an answer to a POST says that none passes; from then on it is known."""
        if status in REFUSALS:
            self.allowed = False
        return status in REFUSALS
