"""What is to be signed where the key lives elsewhere: a value that goes there and comes back as a head. Pure.

A canonical msgpack map with ``v`` (1), ``archive`` (32 bytes), ``snapshot`` (``[size, digest]``), ``last``
(``[epoch, seq]`` of the newest head that whoever asks knows, zeros if none) and ``fresh`` (seconds for
which the head is to be fresh). It is no secret, and not to be believed: who signs it vouches for the
snapshot.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from p2psync.errors import FormatError
from p2psync.format.canonical import decode, encode, integer, mapping, octets, row
from p2psync.format.ids import Ref
from p2psync.format.limits import INT64_MAX
from p2psync.format.url import ARCHIVE_ID_SIZE

VERSION: Final = 1
BYTES_MAX: Final = 512
"""Bytes of one: the fields take some 130."""
FRESH_MAX: Final = 10 * 366 * 24 * 3600
"""Seconds for which a head may be asked to be fresh: ten years."""


class Unsigned(NamedTuple):
    """A head that is not signed yet."""

    archive: bytes
    snapshot: Ref
    last: tuple[int, int]
    """(epoch, sequence number) of the newest head that is known where it comes from."""
    fresh: int
    """Seconds for which it is to be fresh."""

    def encode(self) -> bytes:
        return encode(
            {
                "v": VERSION,
                "archive": self.archive,
                "snapshot": self.snapshot.to_row(),
                "last": list(self.last),
                "fresh": self.fresh,
            }
        )

    @classmethod
    def decode(cls, raw: bytes) -> Unsigned:
        """Raises FormatError: damaged, over a limit, or of a version that is not known."""
        what = "what is to be signed"
        value = mapping(decode(raw, BYTES_MAX, what), what)
        if type(value.get("v")) is not int or value["v"] != VERSION:
            raise FormatError(f"{what} is of a version that this p2psync does not know; update it")
        snapshot = Ref.from_row(value.get("snapshot"), "the snapshot")
        if not snapshot.is_single:
            raise FormatError(f"{what} names a snapshot of {snapshot.size} bytes, which no snapshot has")
        last = row(value.get("last"), 2, "the last head")
        return cls(
            octets(value.get("archive"), ARCHIVE_ID_SIZE, ARCHIVE_ID_SIZE, "the archive"),
            snapshot,
            (
                integer(last[0], 0, INT64_MAX, "the last epoch"),
                integer(last[1], 0, INT64_MAX, "the last sequence number"),
            ),
            integer(value.get("fresh"), 0, FRESH_MAX, "the time for which it is fresh"),
        )
