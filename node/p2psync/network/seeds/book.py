"""What is remembered of sources of seeds: which key signs for each, and the newest list of each.

``STATE/seeds/known_keys`` holds ``SOURCE KEY`` lines, as ssh's known_hosts does; beside it lies each list
as it was received, so that it is checked again whenever it is read. The rules of trust are ``take``'s.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from blake3 import blake3

from p2psync.errors import FileError, P2psyncError, TrustError
from p2psync.network.seeds.query import Kind, SeedQuery
from p2psync.network.seeds.seedlist import SeedList, decode, key_text, parse_key
from p2psync.state.files import read_private, write_private
from p2psync.state.known import KnownFile
from p2psync.state.private import make_folder

KNOWN_KEYS: Final = "known_keys"
PINS_MAX: Final = 256
"""Sources whose keys are remembered: a person names a few."""
FRESH_FOR: Final = 24 * 3600.0
"""Seconds after which a list is asked for again, though it has not expired."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A list that was kept. ``fetched`` in Unix seconds."""

    list: SeedList
    fetched: float

    def is_fresh(self, now: float) -> bool:
        return not self.list.is_expired(now) and abs(now - self.fetched) < FRESH_FOR


class SeedBook:
    """The folder ``STATE/seeds``. Times in Unix seconds."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pins = KnownFile(folder / KNOWN_KEYS, parse_key, key_text, "SOURCE KEY", PINS_MAX)

    def pin(self, query: SeedQuery) -> bytes | None:
        """The key that signs for a source, as far as is known. Raises FileError."""
        return self._pins.get(query.source)

    def kept(self, query: SeedQuery, now: float) -> Kept | None:
        """The newest list of a source that was accepted; expired ones too. Raises FileError."""
        path = self._path(query)
        raw = read_private(path)
        if raw is None:
            return None
        pinned = self.pin(query)
        keys = query.keys or (() if pinned is None else (pinned,))
        try:
            fetched = os.stat(path).st_mtime
            return Kept(decode(raw, now=now, keys=keys), fetched)
        except (P2psyncError, OSError):
            return None  # Damaged, or of a key that is no longer wanted: as good as none.

    def take(self, query: SeedQuery, raw: bytes, now: float) -> SeedList:
        """Accept a list that was received, if it may be believed, and keep it.

        It must be signed by one of the query's keys; if there are none, by the key that is pinned for the
        source, or by the successor which that key named; the first key of a source is pinned. It must not
        have expired, nor be older than the one kept.

        Raises FormatError, TrustError; FileError: it cannot be kept.
        """
        if query.kind is Kind.FILE:
            return decode(raw, now=now, keys=query.keys or None, unsigned=not query.keys)
        kept = self.kept(query, now)
        pinned = None if query.keys else self.pin(query)
        made = decode(raw, now=now, keys=query.keys or None)
        if made.key is None:
            raise TrustError(f"the seed list of {query.source} is not signed")
        if pinned not in (None, made.key) and (kept is None or kept.list.successor != made.key):
            raise TrustError(
                f"the seed list of {query.source} is signed by {key_text(made.key)}, but until now "
                f"{key_text(pinned)} signed it. If its operator says that this is right, remove the line of "
                f"{query.source} from {self._folder / KNOWN_KEYS}, or name the key with --seeds-key"
            )
        if made.is_expired(now):
            raise TrustError(f"the seed list of {query.source} expired on {_day(made.expires)}")
        if kept is not None and made.issued < kept.list.issued:
            raise TrustError(f"the seed list of {query.source} is older than the one received before")
        self._make_folder()
        if not query.keys and pinned != made.key:
            self._pins.keep(query.source, made.key)
        write_private(self._path(query), raw, replace=True)
        return made

    def _path(self, query: SeedQuery) -> Path:
        return self._folder / f"{blake3(query.source.encode()).hexdigest(length=16)}.toml"

    def _make_folder(self) -> None:
        try:
            for folder in (self._folder.parent, self._folder):
                make_folder(folder)
        except OSError as error:
            raise FileError(f"{self._folder} cannot be made: {error.strerror}") from None


def _day(seconds: int | None) -> str:
    with contextlib.suppress(OverflowError, ValueError, OSError):
        return time.strftime("%Y-%m-%d", time.gmtime(seconds))
    return "a day that cannot be"
