"""Range and conditional requests (RFC 9110, sections 13 and 14), decided from header values alone. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.utils import formatdate, parsedate_to_datetime
from typing import Final

_RANGE: Final = re.compile(r"bytes=(?:([0-9]{1,15})-([0-9]{0,15})|-([0-9]{1,15}))")
_ETAG: Final = re.compile(r'(?:W/)?("[!#-~]*")')


@dataclass(frozen=True, slots=True)
class Selection:
    """What to answer: ``status`` 200, 206, 304 or 416, and the bytes to send with it."""

    status: int
    first: int = 0
    length: int = 0


def select(
    size: int,
    etag: str,
    modified: int | None,
    *,
    range_: str | None = None,
    if_range: str | None = None,
    if_none_match: str | None = None,
    if_modified_since: str | None = None,
) -> Selection:
    """For a representation of ``size`` bytes, a quoted strong ``etag`` and perhaps a modification time
    (Unix s).

    Several ranges in one request are answered with the whole, as section 14.2 allows.
    """
    if if_none_match is not None:
        if if_none_match.strip() == "*" or etag in _ETAG.findall(if_none_match):
            return Selection(304)
    elif modified is not None and (since := _date(if_modified_since)) is not None and modified <= since:
        return Selection(304)
    match = _RANGE.fullmatch(range_.replace(" ", "")) if range_ is not None else None
    if match is None or not _range_applies(if_range, etag, modified):
        return Selection(200, 0, size)
    if match[3] is not None:
        length = min(int(match[3]), size)
        return Selection(206, size - length, length) if length else Selection(416)
    first = int(match[1])
    last = min(int(match[2]), size - 1) if match[2] else size - 1
    if match[2] and int(match[2]) < first:
        return Selection(200, 0, size)  # a range that is no range is ignored (section 14.1.1)
    return Selection(206, first, last - first + 1) if first < size else Selection(416)


def _range_applies(if_range: str | None, etag: str, modified: int | None) -> bool:
    """Section 13.1.5: the strong tag, or exactly the date."""
    if if_range is None:
        return True
    if if_range.lstrip().startswith(('"', "W/")):
        return if_range.strip() == etag
    return modified is not None and _date(if_range) == modified


def _date(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return int(parsedate_to_datetime(text).timestamp())
    except (ValueError, TypeError, OverflowError):
        return None


def http_date(seconds: int) -> str | None:
    """The date as headers have it; None for times that have no such form."""
    try:
        return formatdate(seconds, usegmt=True)
    except (ValueError, OverflowError, OSError):
        return None
