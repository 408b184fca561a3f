"""A verification as one call: what should be there, the walk, and what came of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

from p2psync.events import SILENT, Teller
from p2psync.fetch.expected import expect
from p2psync.fetch.verify import Difference, Finding, Verification
from p2psync.format.listing import NO_TOTALS, Totals
from p2psync.format.url import ArchiveUrl
from p2psync.rules.filter import Filter
from p2psync.state import State

PathBytes = bytes
"""A path (the result has a field of the name ``bytes``)."""
DAMAGE = frozenset({Difference.KIND, Difference.CONTENT, Difference.UNREADABLE})
"""What neither an interrupted fetch nor a choice explains."""
NOT_YET = frozenset({Difference.MISSING, Difference.OUTDATED})


class Verified(NamedTuple):
    """What a path was held against, and how it differs."""

    archive: bytes
    """b"" where single files of several archives lie in a directory."""
    seq: int
    """0 where that is not known, or several."""
    files: int
    bytes: int
    """Of what should be there, less what rules leave out."""
    differences: list[Finding]
    path: PathBytes = b""
    """Where in the archive it is."""
    complete: bool = True
    """Whether the fetch that was to make it so came to its end."""
    left_out: Totals = NO_TOTALS
    """What rules left out."""
    at_work: bool = False
    """Whether somebody fetched into it, or published it, when it was looked at."""

    @property
    def damaged(self) -> int:
        """Differences that an interrupted fetch does not explain: other content, another kind, unreadable."""
        return sum(found.difference in DAMAGE for found in self.differences)

    @property
    def missing(self) -> int:
        """Names that are not there, or are still as an earlier fetch left them."""
        return sum(found.difference in NOT_YET for found in self.differences)


def verify(
    state: State,
    path: str | bytes | os.PathLike[str],
    src: ArchiveUrl | None = None,
    rules: Filter | None = None,
    *,
    full: bool = True,
    tell: Teller = SILENT,
    found: Callable[[Finding], None] = lambda _: None,
) -> Verified:
    """Hold a path against what should be there (``expect``), reading every file if ``full``; ``found`` hears
    of each difference as it is found. Raises as ``expect`` and ``Verification.run`` do.
    """
    expected = expect(state, path, src, rules)
    places = {expected.tree, os.path.join(expected.tree, expected.path)}
    at_work = any(map(state.place_is_held, places))
    verification = Verification(state, expected, full=full, tell=tell)
    differences = []
    for each in verification.run():
        differences.append(each)
        found(each)
    totals, left_out = expected.totals, verification.left_out
    return Verified(
        expected.archive,
        expected.seq,
        totals.files - left_out.files,
        totals.bytes - left_out.bytes,
        differences,
        expected.archive_path,
        expected.complete,
        left_out,
        at_work,
    )
