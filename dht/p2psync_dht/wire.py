"""The datagrams: a fixed header, one msgpack array, padding. Pure; no socket and no clock.

    offset  size
         0     4  network id: datagrams of other networks are dropped unread
         4     1  version, 1
         5     1  kind; a reply is its query's kind with the top bit set
         6     1  flags; bit 0: the sender is a client and answers nobody; bit 1, in replies: prove yourself
         7     8  transaction id, chosen at random by the asker: 64 bits that nobody off the path can guess
        15    20  node id of the sender
        35     2  length of the body, big-endian
        37     n  body
      37+n        padding, which only makes a query large enough for its reply

What queries mean and who may ask them is `protocol`'s.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from p2psync_dht.codec import CodecError, pack, unpack
from p2psync_dht.keys import ID_SIZE, PUBLIC_KEY_SIZE, SIGNATURE_SIZE

DEFAULT_NETWORK: Final = b"p2ps"
NETWORK_SIZE: Final = 4
VERSION: Final = 1
MAX_DATAGRAM: Final = 1200  # fits any IPv6 path less tunnels (RFC 9000, section 14, settles on the same)
PADDED_QUERY: Final = 400  # a third of the largest reply
AMPLIFICATION: Final = 3  # the limit that QUIC sets before an address is proved (RFC 9000, section 8)
TRANSACTION_SIZE: Final = 8
NONCE_SIZE: Final = 16
PROOF_SIZE: Final = PUBLIC_KEY_SIZE + SIGNATURE_SIZE
FLAG_CLIENT: Final = 1
FLAG_PROVE: Final = 2
REPLY_BIT: Final = 0x80
MAX_STORE_BATCH: Final = 16  # records in one store: what fits one datagram, with room to spare

_HEADER: Final = struct.Struct(f"!{NETWORK_SIZE}sBBB{TRANSACTION_SIZE}s{ID_SIZE}sH")
HEADER_SIZE: Final = _HEADER.size


class Kind(IntEnum):
    """What a query asks for."""

    PING = 1
    FIND = 2
    STORE = 3
    STORE_BATCH = 4
    PROVE = 5  # here is my proof, over your token; not answered
    PROBE = 6  # have a third node call me
    RELAY = 7  # call that node
    CALLBACK = 8  # the call; not answered


class Want(IntEnum):
    """What a FIND asks for beside the closest contacts."""

    NODES = 0
    HEAD = 1
    HOLDERS = 2


class Status(IntEnum):
    """What became of one record of a STORE."""

    STORED = 0
    SAME = 1  # held already, byte for byte
    OLDER = 2  # a newer one is held
    REFUSED = 3  # malformed, forged, expired or from elsewhere
    FULL = 4


class WireError(ValueError):
    """A datagram that is not of this protocol; `reason` is the counter it belongs to."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Message:
    """A decoded datagram. `size` is that of the whole datagram, padding included."""

    kind: Kind
    is_reply: bool
    is_client: bool
    wants_proof: bool
    transaction: bytes
    sender: bytes
    body: list[Any]
    size: int


_KINDS: Final = {int(kind) | reply: (kind, bool(reply)) for kind in Kind for reply in (0, REPLY_BIT)}


def encode(
    network: bytes,
    kind: Kind,
    transaction: bytes,
    sender: bytes,
    body: list[Any],
    *,
    is_reply: bool = False,
    is_client: bool = False,
    wants_proof: bool = False,
    pad_to: int = 0,
) -> bytes:
    """One datagram; ValueError if it would be larger than `MAX_DATAGRAM`."""
    packed = pack(body)
    code = kind | REPLY_BIT if is_reply else kind
    flags = is_client * FLAG_CLIENT | wants_proof * FLAG_PROVE
    head = _HEADER.pack(network, VERSION, code, flags, transaction, sender, len(packed))
    datagram = head + packed
    if len(datagram) > MAX_DATAGRAM:
        raise ValueError(f"a datagram of {len(datagram)} bytes")
    return datagram.ljust(pad_to, b"\0") if pad_to else datagram


def decode(datagram: bytes, network: bytes) -> Message:
    """Read a datagram; WireError, and nothing else, for what is none of this network and version."""
    size = len(datagram)
    if not HEADER_SIZE < size <= MAX_DATAGRAM:
        raise WireError("size")
    network_id, version, code, flags, transaction, sender, length = _HEADER.unpack_from(datagram)
    if network_id != network:
        raise WireError("network")
    if version != VERSION:
        raise WireError("version")
    known = _KINDS.get(code)
    if known is None:
        raise WireError("kind")
    if HEADER_SIZE + length > size:
        raise WireError("truncated")
    try:
        body = unpack(datagram[HEADER_SIZE : HEADER_SIZE + length], limit=MAX_DATAGRAM)
    except CodecError as error:
        raise WireError("body") from error
    if not isinstance(body, list):
        raise WireError("body")
    kind, is_reply = known
    client, prove = bool(flags & FLAG_CLIENT), bool(flags & FLAG_PROVE)
    return Message(kind, is_reply, client, prove, transaction, sender, body, size)


def field(
    body: list[Any], index: int, kind: type[Any], *, size: int | None = None, optional: bool = False
) -> Any:
    """Element `index` of a body, of exactly that type (and length); WireError otherwise.

    Elements past those that a version knows are ignored, absent ones count as nil.
    """
    value = body[index] if index < len(body) else None
    if value is None and optional:
        return None
    if type(value) is not kind:
        raise WireError("field")
    if size is not None and len(value) != size:  # type: ignore[arg-type]  # callers give sizes of bytes only
        raise WireError("field")
    return value
