"""Write tokens: the proof that whoever asks receives at the address that it asks from (as in BEP 5).

A token is a keyed hash of the asker's address under a secret that changes; it needs no memory per asker. A
query with a token may be answered with a whole datagram, and only a query with a token may store.
"""

from __future__ import annotations

import hmac
import random
from typing import Final

from blake3 import blake3

from p2psync_dht.contact import Address

TOKEN_SIZE: Final = 8  # 2^63 guesses on average, at the pace that the rate limit allows
ROTATION: Final = 300.0  # seconds; a token lives one to two of them (BEP 5: five to ten minutes)
TOKEN_LIFETIME: Final = ROTATION  # what an asker can rely on
_SECRET_SIZE: Final = 32


class TokenMint:
    """Makes and checks tokens. `now` is any clock in seconds that does not go back."""

    __slots__ = ("_current", "_previous", "_rng", "_rotated")

    def __init__(self, rng: random.Random, now: float) -> None:
        self._rng = rng
        self._current = rng.randbytes(_SECRET_SIZE)
        self._previous = rng.randbytes(_SECRET_SIZE)
        self._rotated = now

    def _rotate(self, now: float) -> None:
        elapsed = now - self._rotated
        if elapsed < ROTATION:
            return
        # After a long silence neither old secret may stay valid.
        self._previous = self._current if elapsed < 2 * ROTATION else self._rng.randbytes(_SECRET_SIZE)
        self._current = self._rng.randbytes(_SECRET_SIZE)
        self._rotated = now

    def make(self, address: Address, now: float) -> bytes:
        """The token for the asker at `address`, 8 bytes."""
        self._rotate(now)
        return _token(self._current, address)

    def check(self, token: bytes | None, address: Address, now: float) -> bool:
        """Whether `token` was made for `address` within the last two rotations."""
        if token is None or len(token) != TOKEN_SIZE:
            return False
        self._rotate(now)
        return hmac.compare_digest(token, _token(self._current, address)) or hmac.compare_digest(
            token, _token(self._previous, address)
        )


def _token(secret: bytes, address: Address) -> bytes:
    ip, port = address
    return blake3(f"{ip} {port}".encode(), key=secret).digest(length=TOKEN_SIZE)
