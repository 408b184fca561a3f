"""What the tests against nginx know of the server that ``conftest`` starts."""

from __future__ import annotations

import random
import ssl
from dataclasses import dataclass
from pathlib import Path

BIG = random.Random(11).randbytes(5_000_000)
ODD = (b"a b", b"new\nline", b"\xff\xfe", b"100%", b"a?b#c", b"%41", b"+", b"-x", b"n" * 255)
KEEPALIVE = 50
"""Requests after which it ends a connection."""


@dataclass
class Nginx:
    root: Path
    plain: str
    tls: str
    context: ssl.SSLContext
    """Trusts the server's certificate."""
