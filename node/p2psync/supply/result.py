"""What a download leaves, for the summary of the fetch."""

from __future__ import annotations


class Result:
    """What a download leaves."""

    def __init__(self) -> None:
        self.missing: list[bytes] = []
        """Paths that nobody had."""
        self.failed: list[str] = []
        """Paths that could not be put in place, each with its reason."""
        self.changed = 0
        """Files that were made or replaced."""
        self.touched = 0
        """Links that were made, and files that got another mode or time."""
        self.reused = 0
        """Bytes that were taken from this machine instead of the network."""
        self.copied = 0
        """Bytes that came once and were written more often, since a file has them several times."""
        self.deleted = 0
        """Names that went with directories that were replaced."""
        self.superseded = False
        """Stopped early, because a newer snapshot has come while something of this one is missing."""
