"""Numbers as rsync's options take them: ``--bwlimit`` rates and whole seconds. Pure.

rsync(1), options --bwlimit and --max-size. tests/node/test_cli_units.py holds this against the real rsync.
"""

from __future__ import annotations

import re

RATE_MIN = 512
"""Bytes a second: rsync rounds to whole KiB, so anything below half of one would be no limit at all."""
RATE_MAX = 1 << 62
"""Beyond this, rsync's own arithmetic overflows; no link needs it."""
_SUFFIXES = {"b": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_RATE = re.compile(
    r"(?P<number>[0-9]*\.?[0-9]*)(?P<suffix>[bkmgtp]?)(?P<base>b|ib|)(?P<nudge>[+-]1)?", re.IGNORECASE
)


def parse_rate(text: str) -> int:
    """``--bwlimit=RATE`` in bytes a second; 0 is no limit.

    A decimal number with a suffix: B bytes, K (the default), M, G, T, P in powers of 1024, with a ``B``
    behind them in powers of 1000 and with ``iB`` in powers of 1024; ``+1`` or ``-1`` at the end adds or takes
    a byte. Rounded to whole KiB. Raises ValueError, with the reason, for what rsync refuses.

    >>> parse_rate("1.5m"), parse_rate("100"), parse_rate("2MB"), parse_rate("0")
    (1572864, 102400, 1999872, 0)
    """
    rate = _number(text, "k", "not a rate; write for example 500 (KiB/s), 1.5m or 2MB")
    if rate and rate < RATE_MIN:
        raise ValueError(f"{text!r} is too small (at least {RATE_MIN} bytes a second, or 0 for no limit)")
    return (rate + 512) // 1024 * 1024


def parse_size(text: str) -> int:
    """A size in bytes, as of rsync's ``--max-size``: as a rate, but without a suffix it is bytes, and it is
    not rounded. Raises ValueError.

    >>> parse_size("100"), parse_size("1.5k"), parse_size("2MB"), parse_size("1g-1")
    (100, 1536, 2000000, 1073741823)
    """
    number = _number(text, "b", "not a size; write for example 500 (bytes), 1.5g or 2TB")
    if number < 0 or not re.search("[0-9]", text):
        raise ValueError(f"{text!r} is not a size; write for example 500 (bytes), 1.5g or 2TB")
    return number


def _number(text: str, suffix: str, what: str) -> int:
    """A number with a suffix, or the one that it has without. Raises ValueError, with ``what`` it is then."""
    match = _RATE.fullmatch(text)
    if match is None or (match["base"] and not match["suffix"]):
        raise ValueError(f"{text!r} is {what}")
    base = 1000 if match["base"].lower() == "b" else 1024
    number = float(match["number"]) if match["number"].strip(".") else 0.0
    made = int(number * base ** _SUFFIXES[match["suffix"].lower() or suffix]) + int(match["nudge"] or 0)
    if made > RATE_MAX:
        raise ValueError(f"{text!r} is too large")
    return made


def parse_seconds(text: str) -> int:
    """``--timeout=SECONDS``: a whole number, 0 for no limit. Raises ValueError."""
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ValueError(f"{text!r} is not a whole number of seconds (0 is no limit)")
    return int(text)
