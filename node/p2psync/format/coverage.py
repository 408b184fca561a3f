"""What a holder says that it has of an archive: the payload of its holder record. Pure.

The canonical array ``[complete, epoch, seq]``: the snapshot with this epoch and sequence number, all of it
(1) or parts (0). It is a hint for those who choose among holders; what a holder really has is asked of
the holder itself.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from p2psync.format.canonical import decode, encode, integer, row
from p2psync.format.limits import INT64_MAX

COVERAGE_BYTES_MAX: Final = 64


class Coverage(NamedTuple):
    """A claim: the snapshot (``epoch``, ``seq``) in full, or some of it."""

    complete: bool
    epoch: int
    seq: int

    def encode(self) -> bytes:
        return encode([int(self.complete), self.epoch, self.seq])

    @classmethod
    def decode(cls, raw: bytes) -> Coverage:
        """Raises FormatError if ``raw`` is not such a claim."""
        what = "what a holder says that it has"
        fields = row(decode(raw, COVERAGE_BYTES_MAX, what), 3, what)
        return cls(
            bool(integer(fields[0], 0, 1, "completeness")),
            integer(fields[1], 0, INT64_MAX, "an epoch"),
            integer(fields[2], 0, INT64_MAX, "a sequence number"),
        )
