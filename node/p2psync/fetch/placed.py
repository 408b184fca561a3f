"""Where in DEST that goes which a URL names. By itself, so that it can be told before the rest is loaded."""

from __future__ import annotations

import os

from p2psync.format.paths import split
from p2psync.format.url import ArchiveUrl


def placed(dest: bytes, url: ArchiveUrl, *, single: bool) -> bytes:
    """The real path of what ``url`` names, a directory or a ``single`` file or link, when it is fetched to
    DEST.
    """
    place = os.path.realpath(dest)
    if single:
        return os.path.join(place, split(url.path)[1]) if is_directory(dest) else place
    return os.path.join(place, url.name) if url.name else place


def is_directory(dest: bytes) -> bool:
    """Whether DEST is meant as the directory for a single file, and not as its new name."""
    return dest.endswith(b"/") or os.path.isdir(dest)
