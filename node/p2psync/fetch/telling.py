"""What a fetch says of what it did not do, as far as a person reads it: the first paths, and how many more.

Notes in the summary what is only known by then.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Final

from p2psync.errors import show_path
from p2psync.fetch.options import FetchOptions, FetchSummary
from p2psync.format.paths import join
from p2psync.plan.changes import Plan
from p2psync.plan.deletions import Deletions
from p2psync.text import count

SHOWN: Final = 20
"""Paths that are named; the rest is counted."""


class Telling:
    """Says what is in the summary of one fetch."""

    def __init__(self, summary: FetchSummary, warn: Callable[[str], None], options: FetchOptions) -> None:
        self._summary = summary
        self._warn = warn
        self._options = options

    def missing(self) -> None:
        """What could not be had."""
        missing = self._summary.missing
        self._some([f"no source has {os.fsdecode(path)!r}" for path in missing[:SHOWN]])
        if len(missing) > SHOWN:
            self._warn(f"no source has {len(missing) - SHOWN} more")

    def failed(self) -> None:
        """What could not be put in place, removed or given its mode and time, and why."""
        failed = self._summary.failed
        self._some(failed[:SHOWN])
        if len(failed) > SHOWN:
            self._warn(f"{len(failed) - SHOWN} more failed like these")

    def unread(self, paths: int) -> None:
        """This snapshot is not all that its publisher has. Of a part of it that is not known."""
        self._summary.unread = 0 if self._options.url.path else paths
        if self._summary.unread:
            self._warn(
                f"the archive's publisher could not read {count(paths, 'path')}; nothing is deleted that "
                "may be there"
            )

    def guarded(self, plan: Plan) -> None:
        """What stays since the snapshot may only lack it."""
        guarded = [join(work.path, name) for work in plan.dirs for name in work.guarded]
        self._summary.unread = max(self._summary.unread, len(guarded))
        self._some(
            [
                f"kept {show_path(path)!r}: the archive's publisher could not read it"
                for path in guarded[:SHOWN]
            ]
        )
        if len(guarded) > SHOWN:
            self._warn(f"kept {len(guarded) - SHOWN} more that it could not read")

    def kept(self, deletions: Deletions) -> None:
        """What stays although the snapshot does not have it: noted, and said where it may surprise."""
        self._summary.kept, self._summary.withheld = deletions.kept, deletions.withheld
        edited = deletions.edited
        self._some(
            [
                f"kept {show_path(path)!r}, which is gone from the archive: it was changed here since it came"
                for path in edited[:SHOWN]
            ]
        )
        if len(edited) > SHOWN:
            self._warn(f"{len(edited) - SHOWN} more were changed here, and were kept")
        if deletions.withheld:
            self._warn(
                f"deletions stopped at --max-delete {self._options.max_delete}; "
                f"{count(deletions.withheld, 'more name')} would have gone"
            )

    def _some(self, lines: Sequence[str]) -> None:
        for line in lines:
            self._warn(line)
