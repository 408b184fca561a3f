"""Text for people: names that cannot harm a terminal, sizes, rates and durations; and names as JSON has them.
Pure; knows no terminal.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Final

from p2psync.errors import show_path

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

KIB = 1024
_NO_BYTE: Final = re.compile("[\ud800-\udc7f\udd00-\udfff]")
"""Surrogates that stand for no byte of a name (PEP 383)."""
UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def clean_text(text: str) -> str:
    """A message that may quote hostile names: one line, nothing that a terminal would obey."""
    return show_path(text.replace("\n", " "))


def clean_lines(text: str) -> str:
    """The same of a text of several lines, which it stays."""
    return "\n".join(map(show_path, text.split("\n")))


def json_text(value: Any) -> str:
    """A value as JSON on one line. What is not printable is escaped there too, so that a terminal obeys
    nothing of it; readers get the exact characters. A byte that is no UTF-8 becomes U+FFFD, as does half of
    a pair of surrogates: JSON text has neither (RFC 8259, section 8).

    >>> print(json_text({"name": "a\\x9b\\u202eb\\ud800 café"}))
    {"name":"a\\u009b\\u202eb\ufffd café"}
    """
    import json  # noqa: PLC0415 - seldom needed

    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if text.isprintable():
        return text
    paired = _NO_BYTE.sub("\ufffd", text).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "".join(c if c.isprintable() else _as_json(c) for c in paired)


def _as_json(character: str) -> str:
    """As two numbers where it is beyond the basic plane (RFC 8259, section 7)."""
    units = character.encode("utf-16-be").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def name_fields(name: bytes, field_name: str = "name") -> dict[str, str]:
    """A byte string as JSON fields: always the text, and ``<field>_b64`` with the exact bytes when it is not
    UTF-8.

    >>> name_fields(b"caf\\xc3\\xa9")
    {'name': 'café'}
    >>> name_fields(b"caf\\xe9") == {'name': 'caf\\ufffd', 'name_b64': 'Y2Fm6Q=='}
    True
    """
    try:
        return {field_name: name.decode()}
    except UnicodeDecodeError:
        import base64  # noqa: PLC0415 - seldom needed

        exact = base64.b64encode(name).decode()
        return {field_name: name.decode(errors="replace"), f"{field_name}_b64": exact}


def name_of(fields: Mapping[str, Any], field_name: str = "name") -> bytes:
    """The byte string in JSON fields as `name_fields` makes them. Raises ValueError: there is none.

    >>> name_of({"name": "caf\\ufffd", "name_b64": "Y2Fm6Q=="}), name_of({"path": "café"}, "path")
    (b'caf\\xe9', b'caf\\xc3\\xa9')
    """
    exact, text = fields.get(f"{field_name}_b64"), fields.get(field_name)
    if isinstance(exact, str):
        import base64  # noqa: PLC0415 - seldom needed

        return base64.b64decode(exact, validate=True)
    if not isinstance(text, str):
        raise ValueError(f"there is no {field_name}")
    return text.encode()


def size(count: float) -> str:
    """Bytes in binary units, three significant digits.

    >>> size(999), size(1536), size(5 * 1024**3)
    ('999 B', '1.50 KiB', '5.00 GiB')
    """
    if abs(count) < KIB:
        return f"{count:.0f} B"
    value = float(count)
    unit = UNITS[0]
    for unit in UNITS:  # noqa: B007 - the unit reached is used below
        value /= KIB
        if abs(value) < 999.5:
            break
    digits = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{value:.{digits}f} {unit}"


def rate(bytes_per_second: float) -> str:
    """Bytes a second.

    >>> rate(2 * 1024 * 1024)
    '2.00 MiB/s'
    """
    return f"{size(bytes_per_second)}/s"


def duration(seconds: float | None) -> str:
    """A time span as people read it; ``None`` is unknown.

    >>> duration(0.44), duration(12.3), duration(75), duration(3 * 3600 + 120)
    ('0.4 s', '12 s', '1:15', '3:02:00')
    >>> duration(200_000), duration(None)
    ('2 d 7 h', '-')
    """
    if seconds is None:
        return "-"
    whole = int(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if whole < 10 else f"{whole} s"
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    if hours < 48:
        return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
    days, hour = divmod(hours, 24)
    return f"{days} d {hour} h"


def day(moment: float) -> str:
    """The day of a time in Unix seconds, in UTC, which is the same day to everybody who is told of it.

    >>> day(1_800_000_000)
    '2027-01-15'
    """
    return time.strftime("%Y-%m-%d", time.gmtime(moment))


def count(number: int, noun: str) -> str:
    """A counted noun.

    >>> count(1, "file"), count(12345, "file")
    ('1 file', '12,345 files')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def share(part: float, whole: float) -> str:
    """A percentage that says 100 only when it is all.

    >>> share(999, 1000), share(1000, 1000), share(0, 0)
    ('99 %', '100 %', '0 %')
    """
    if whole <= 0:
        return "0 %"
    return "100 %" if part >= whole else f"{min(99, round(100 * part / whole))} %"
