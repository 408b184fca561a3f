"""A delegation as text that survives mail and terminals: base64 between two marker lines, as PEM (RFC
7468).
"""

from __future__ import annotations

import base64
import binascii

from p2psync.errors import UsageError

BEGIN = b"-----BEGIN P2PSYNC DELEGATION-----"
END = b"-----END P2PSYNC DELEGATION-----"


def armor(raw: bytes) -> bytes:
    """The text for ``raw``, with a final newline."""
    body = base64.b64encode(raw)
    lines = [body[i : i + 64] for i in range(0, len(body), 64)]
    return b"\n".join([BEGIN, *lines, END, b""])


def unarmor(text: bytes) -> bytes | None:
    """What the text holds; None if it is no delegation. Raises UsageError if it is cut or damaged.

    >>> unarmor(b"Hello,\\n" + armor(b"bytes"))
    b'bytes'
    """
    _, begin, rest = text.partition(BEGIN)
    if not begin:
        return None
    body, end, _ = rest.partition(END)
    try:
        if end:
            return base64.b64decode(b"".join(body.split()), validate=True)
    except binascii.Error:
        pass  # told below, as a text that was cut
    raise UsageError("the delegation is damaged: copy the whole text, from BEGIN to END")
