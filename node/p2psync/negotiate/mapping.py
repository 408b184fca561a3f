"""What a host says of the archives that it has: lines of ``[PREFIX] p2psync://ID[/PATH][?HINTS]``. Pure.

Such lines stand in ``/.well-known/p2psync``, in TXT records of ``_p2psync.HOST``, in the comment of an rsync
module and in the message of the day. Nothing of it is signed: who believes it the first time holds it to that
later (``pins``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from p2psync.errors import UsageError
from p2psync.format.url import SCHEME, ArchiveUrl

TEXT_MAX: Final = 64 << 10
"""Bytes of such a text: a thousand lines, or a long message of the day."""
LINES_MAX: Final = 1024
_MARK: Final = f"{SCHEME}://"
_AROUND: Final = ".,;:!)>]}'\""
"""What ends a sentence or a quotation behind a URL, and is not a part of it."""


class Mapped(NamedTuple):
    """An archive that a host has. ``prefix``: the directory of the host that is the archive, or the part of
    it that ``url`` names, without slashes at its ends; None where the line does not say.
    """

    prefix: bytes | None
    url: ArchiveUrl


def read_mapping(text: str) -> list[Mapped]:
    """The lines that can be read, in their order. Words around a URL, as a message of the day has, are passed
    over.
    """
    made: list[Mapped] = []
    for line in text[:TEXT_MAX].splitlines()[:LINES_MAX]:
        if line.lstrip().startswith("#"):
            continue
        words = line.split()
        for at, word in enumerate(words):
            url = _url(word)
            if url is not None:
                before = words[at - 1] if at else ""
                made.append(Mapped(_prefix(before) if before.startswith("/") else None, url))
    return made


def _url(word: str) -> ArchiveUrl | None:
    begin = word.find(_MARK)
    if begin < 0:
        return None
    for text in (word[begin:], word[begin:].rstrip(_AROUND)):
        try:
            return ArchiveUrl.parse(text)
        except UsageError:
            continue
    return None


def _prefix(word: str) -> bytes:
    return unquote_to_bytes(word).strip(b"/")


def choose(mapped: Iterable[Mapped], path: bytes, root: bytes = b"") -> Mapped | None:
    """The line for a path of the host: of those whose directory is the path or above it, the one nearest to
    it. ``root``: the directory that lines without a prefix are about.

    None where there is none, or where two lines name different archives for one directory.
    """
    best: Mapped | None = None
    disputed = False
    for one in mapped:
        prefix = root if one.prefix is None else one.prefix
        if prefix and path != prefix and not path.startswith(prefix + b"/"):
            continue
        now = Mapped(prefix, one.url)
        if best is None or len(prefix) > len(best.prefix or b""):
            best, disputed = now, False
        elif prefix == best.prefix and one.url.archive != best.url.archive:
            disputed = True
    return None if disputed else best


def place(url: ArchiveUrl, below: bytes, *, inside: bool) -> ArchiveUrl:
    """The part of an archive that is ``below`` the directory which is ``url``. ``inside``: as a slash at the
    end of SRC says.
    """
    path = b"/".join(part for part in (url.path, below) if part)
    return url._replace(path=path, inside=bool(path) and (inside or (url.inside and not below)))
