"""Delegations, heads and what is to be signed, as text that survives mail and terminals: base64 between two
marker lines, as PEM (RFC 7468).
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

from p2psync.errors import UsageError

DELEGATION: Final = "DELEGATION"
HEAD: Final = "HEAD"
UNSIGNED: Final = "UNSIGNED HEAD"


def armor(raw: bytes, label: str = DELEGATION) -> bytes:
    """The text for ``raw``, with a final newline."""
    body = base64.b64encode(raw)
    lines = [body[i : i + 64] for i in range(0, len(body), 64)]
    begin, end = _markers(label)
    return b"\n".join([begin, *lines, end, b""])


def unarmor(text: bytes, label: str = DELEGATION) -> bytes | None:
    """What the text holds; None if there is nothing with this label. Raises UsageError if it is cut or
    damaged.

    >>> unarmor(b"Hello,\\n" + armor(b"bytes"))
    b'bytes'
    """
    marker, last = _markers(label)
    _, begin, rest = text.partition(marker)
    if not begin:
        return None
    body, end, _ = rest.partition(last)
    try:
        if end:
            return base64.b64decode(b"".join(body.split()), validate=True)
    except binascii.Error:
        pass  # told below, as a text that was cut
    raise UsageError(f"the {label.lower()} is damaged: copy the whole text, from BEGIN to END")


def _markers(label: str) -> tuple[bytes, bytes]:
    return f"-----BEGIN P2PSYNC {label}-----".encode(), f"-----END P2PSYNC {label}-----".encode()
