"""What is looked for: one archive, and whom to begin with. A pure value."""

from __future__ import annotations

from typing import NamedTuple

from p2psync.sources.opening import SourceSettings


class Search(NamedTuple):
    """One archive, by its id."""

    archive: bytes
    settings: SourceSettings
    """For all sources that are opened."""
    given: tuple[str, ...] = ()
    """Names of sources that the user gave, or that stand in the URL."""
    require_fresh: bool = False
    """A head that its publisher no longer vouches for is refused."""
