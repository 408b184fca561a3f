"""What is remembered of servers: which archive each place on them is, and where there was none.

``STATE/origins/known_archives`` has ``PLACE p2psync://ID`` lines, as ssh's known_hosts has keys;
``without_archive`` says until when nobody needs to look again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from p2psync.errors import OriginChanged
from p2psync.format.url import ArchiveUrl, archive_text
from p2psync.negotiate.origin import Origin
from p2psync.state.known import KnownFile

FOLDER: Final = "origins"
"""In the state directory."""
KNOWN_ARCHIVES: Final = "known_archives"
WITHOUT: Final = "without_archive"
PINS_MAX: Final = 1024
"""Places that are held to an archive: far more than a person fetches from."""
WITHOUT_MAX: Final = 256
"""Places that had none; the oldest make room."""
LOOK_AGAIN: Final = 24 * 3600
"""Seconds after which a place without an archive is asked again: an idle run of rsync then costs no more than
it did."""


class Pins:
    """The folder ``STATE/origins``. Times in Unix seconds."""

    def __init__(self, state: Path) -> None:
        folder = state / FOLDER
        self._archives: KnownFile[bytes] = KnownFile(
            folder / KNOWN_ARCHIVES,
            lambda text: ArchiveUrl.parse(text).archive,
            _url,
            "PLACE p2psync://ID",
            PINS_MAX,
        )
        self._without: KnownFile[int] = KnownFile(folder / WITHOUT, int, str, "PLACE SECONDS", WITHOUT_MAX)

    def known(self, origin: Origin) -> tuple[bytes, bytes] | None:
        """The directory nearest to the origin's path that is held to an archive, and that archive. Raises
        FileError.
        """
        known = self._archives.all()
        for path in reversed(_above(origin.path)):
            archive = known.get(origin.at(path))
            if archive is not None:
                return path, archive
        return None

    def hold(self, origin: Origin, path: bytes, archive: bytes, how: str, *, keep: bool = True) -> bool:
        """Hold a directory of the origin to an archive from now on; whether it is the first time. ``how``:
        where the archive was named. Without ``keep`` it is only compared.

        Raises OriginChanged: it was another one until now. FileError.
        """
        before = self.known(origin)
        if before is not None and before[1] == archive:
            return False
        if before is not None:
            at = origin.at(before[0])
            raise OriginChanged(
                f"{at} has another archive than before: {how} names {_url(archive)}, and until now it was "
                f"{_url(before[1])}. Nothing was fetched. Somebody may be posing as the server; if whoever "
                f"runs it says that this is right, remove the line of {at} from {self._archives.path}"
            )
        if keep:
            self._archives.keep(origin.at(path), archive)
        return True

    def rests(self, origin: Origin, now: float) -> bool:
        """Whether the origin was found to have no archive so lately that nobody needs to look. Raises
        FileError.
        """
        until = self._without.get(origin.at(origin.path))
        return until is not None and now < until <= now + LOOK_AGAIN

    def note_without(self, origin: Origin, now: float) -> bool:
        """The origin has none; whether this is news. Raises FileError."""
        name = origin.at(origin.path)
        news = False

        def add(known: Mapping[str, int]) -> Mapping[str, int]:
            nonlocal news
            news = name not in known
            newest = sorted({**known, name: int(now) + LOOK_AGAIN}.items(), key=lambda item: item[1])
            return dict(newest[-WITHOUT_MAX:])

        self._without.change(add)
        return news


def _above(path: bytes) -> list[bytes]:
    """The path and what is above it, the server's root first."""
    parts = path.split(b"/") if path else []
    return [b"/".join(parts[:end]) for end in range(len(parts) + 1)]


def _url(archive: bytes) -> str:
    return f"p2psync://{archive_text(archive)}"
