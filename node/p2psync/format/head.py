"""The head of an archive: the signed record that names the newest snapshot. Pure.

The record itself (epoch, sequence number, signature, delegation) is the DHT library's, since every node that
stores one must be able to judge it; here its payload is read and written: the canonical array ``[size,
digest]`` of the snapshot object, and perhaps a map of further fields, of which this version knows ``ended``.
Newer writers may add what they like to the map and behind it.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from p2psync.errors import FormatError, TrustError
from p2psync.format.canonical import decode, encode, row
from p2psync.format.ids import Ref
from p2psync.format.limits import HEAD_PAYLOAD_MAX
from p2psync_dht import Delegation, Head, Identity, RecordError

ENDED: Final = "ended"
"""Among the further fields of a head's payload: when the archive was ended."""
TIME_MAX: Final = 1 << 40
"""Seconds since 1970, as in the records of the DHT (docs/spec/records.md): larger ones have no date."""


class ArchiveHead(NamedTuple):
    """A head whose signature holds. ``signed_at`` and ``fresh_until`` are seconds since 1970."""

    record: Head
    snapshot: Ref
    ended: int | None = None
    """When the publisher ended the archive, seconds since 1970: there is no newer snapshot than this one,
    unless it publishes again. None: it goes on.
    """

    @property
    def archive(self) -> bytes:
        """The archive's id: its root public key, 32 bytes."""
        return self.record.root

    @property
    def epoch(self) -> int:
        return self.record.epoch

    @property
    def seq(self) -> int:
        return self.record.seq

    @property
    def signed_at(self) -> int:
        return self.record.signed_at

    @property
    def fresh_until(self) -> int:
        return self.record.fresh_until

    @property
    def raw(self) -> bytes:
        return self.record.raw

    @property
    def order(self) -> tuple[int, int, bytes]:
        """Greater is newer: (epoch, sequence number), then the hash of the record."""
        return self.record.order


def decode_head(raw: bytes) -> ArchiveHead:
    """Read and verify a head.

    Raises:
        FormatError: not a head, or one that names no snapshot.
        TrustError: not signed by its archive, or by a key whose delegation does not cover it.
    """
    try:
        record = Head.decode(raw)
    except RecordError as error:
        raise FormatError(f"what should be a head is {error}") from None
    try:
        record.verify()
    except RecordError as error:
        raise TrustError(f"refused {error}") from None
    return from_record(record)


def from_record(record: Head) -> ArchiveHead:
    """The head in a record that has been verified. Raises FormatError if it names no snapshot."""
    what = "the payload of a head"
    fields = row(decode(record.payload, HEAD_PAYLOAD_MAX, what), 2, what)
    ref = Ref(fields[0], fields[1])
    if not ref.is_single:
        raise FormatError(f"a head names a snapshot of {ref.size} bytes, which no snapshot has")
    return ArchiveHead(record, ref, _ended(fields[2:]))


def _ended(further: list[Any]) -> int | None:
    """When the archive was ended, by what is behind the reference. What is not understood says nothing."""
    fields = further[0] if further and type(further[0]) is dict else {}
    moment = fields.get(ENDED)
    return moment if type(moment) is int and 0 <= moment <= TIME_MAX else None


def sign_head(
    signer: Identity,
    archive: bytes,
    *,
    epoch: int,
    seq: int,
    snapshot: Ref,
    signed_at: int,
    fresh_until: int,
    delegation: Delegation | None = None,
    ended: int | None = None,
) -> ArchiveHead:
    """Sign with the root key, or with a delegated key and its delegation. ``ended`` ends the archive, as of
    that time.

    Raises:
        TrustError: the key may not sign this head (its delegation's epoch, roles or time do not cover it).
        FormatError: ``snapshot`` cannot be one.
    """
    try:
        record = Head.sign(
            signer,
            archive,
            epoch=epoch,
            seq=seq,
            payload=encode([*snapshot.to_row(), *([] if ended is None else [{ENDED: ended}])]),
            signed_at=signed_at,
            fresh_until=fresh_until,
            delegation=delegation,
        )
    except RecordError as error:
        raise TrustError(
            f"cannot sign the head: it would be {error}; renew the delegation with the root key"
        ) from None
    return from_record(record)
