"""Figures and names as rsync prints them. Pure.

rsync(1), --human-readable and --8-bit-output; tests hold this against the real rsync.
"""

from __future__ import annotations

import re
from typing import Final

PLAIN, GROUPED, DECIMAL, BINARY = range(4)
"""How -h is counted: --no-h, nothing, once, twice."""
_UNITS: Final = "KMGTP"
_RATES: Final = ("kB/s", "MB/s", "GB/s")
KIB: Final = 1024
_ESCAPED: Final = re.compile(rb"\\(?=#[0-7]{3})|[\x00-\x08\x0a-\x1f]")
_UNPRINTABLE: Final = re.compile(rb"\\(?=#[0-7]{3})|[\x00-\x08\x0a-\x1f\x7f-\xff]")


def number(value: int, human: int) -> str:
    """A number at a level of -h.

    >>> number(1234567, PLAIN), number(1234567, GROUPED), number(1234567, DECIMAL), number(1234567, BINARY)
    ('1234567', '1,234,567', '1.23M', '1.18M')
    """
    base = KIB if human >= BINARY else 1000
    if human >= DECIMAL and abs(value) >= base:
        amount = value / base
        unit = 0
        while abs(amount) >= base and unit < len(_UNITS) - 1:
            amount /= base
            unit += 1
        return f"{amount:.2f}{_UNITS[unit]}"
    return f"{value:,}" if human else str(value)


def fraction(value: float, human: int) -> str:
    """A number with two decimals.

    >>> fraction(918.0, GROUPED), fraction(6002086.0, GROUPED), fraction(6002086.0, DECIMAL)
    ('918.00', '6,002,086.00', '6.00M')
    """
    if human == PLAIN or abs(value) < 1000:
        return f"{value:.2f}"
    return number(int(value), human) if human >= DECIMAL else f"{value:,.2f}"


def rate(bytes_a_second: float) -> str:
    """As in a line of progress.

    >>> rate(3000.0), rate(375_000_000.0)
    ('   2.93kB/s', ' 357.63MB/s')
    """
    amount = bytes_a_second / KIB
    unit = 0
    while amount > KIB and unit < len(_RATES) - 1:
        amount /= KIB
        unit += 1
    return f"{amount:7.2f}{_RATES[unit]}"


def name(raw: bytes, *, utf8: bool, eight_bit: bool = False) -> bytes:
    r"""A name as it stands in a line: what is not printable in the user's locale is ``\#ooo``. ``utf8``: the
    locale's characters are UTF-8; ``eight_bit``: only control characters are escaped (-8).

    >>> name("ü\n".encode(), utf8=True), name("ü".encode(), utf8=False), name(b"\xff", utf8=True)
    (b'\xc3\xbc\\#012', b'\\#303\\#274', b'\\#377')
    """
    if eight_bit:
        return _ESCAPED.sub(_octal, raw)
    if not utf8:
        return _UNPRINTABLE.sub(_octal, raw)
    pieces = []
    for piece in re.split("([\udc80-\udcff]+)", raw.decode("utf-8", "surrogateescape")):
        pattern = _UNPRINTABLE if "\udc80" <= piece[:1] <= "\udcff" else _ESCAPED
        pieces.append(pattern.sub(_octal, piece.encode("utf-8", "surrogateescape")))
    return b"".join(pieces)


def _octal(found: re.Match[bytes]) -> bytes:
    return b"\\#%03o" % found[0][0]
