"""The list of mirrors that an archive recommends, and the signed record that names it. Pure.

The record is a mirrors' head of the DHT (`p2psync_dht.records`): signed by the archive's key or one that may
recommend mirrors, with its own epoch and sequence number. Its payload is the canonical array ``[size,
digest]`` of the list, which is the canonical array ``[1, mirrors]``; each mirror is an array, and newer
writers may add what they like behind its elements, and behind the mirrors.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final, NamedTuple

from p2psync.errors import FormatError, TrustError
from p2psync.format.canonical import Value, decode, encode, integer, octets, row
from p2psync.format.head import TIME_MAX
from p2psync.format.ids import DIGEST_SIZE, Ref, chunk_id
from p2psync.format.limits import HEAD_PAYLOAD_MAX, NAME_MAX, SINGLE_CHUNK_MAX
from p2psync_dht import TAG_MIRRORS, Delegation, Endpoint, Head, Identity, RecordError

VERSION: Final = 1
LIST_BYTES_MAX: Final = SINGLE_CHUNK_MAX
"""Bytes of a list, which is one chunk."""
MIRRORS_MAX: Final = 256
"""Mirrors in a list: more than a reader tries, and with a few networks each, what the bytes have room for."""
PLACES_MAX: Final = 4
"""Endpoints of a mirror, as of a holder record."""
PARTS_MAX: Final = 32
"""Names at the root of the archive that one has which has not all."""
NETWORKS_MAX: Final = 32
"""Networks that prefer a mirror: a large university has a dozen."""
WEIGHT_MAX: Final = 1000
WEIGHT: Final = 100
"""What a mirror weighs of which nothing is said."""
RATE_MAX: Final = 1 << 50
"""Bytes a second: beyond any line."""
FIELDS: Final = 8

IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


class Mirror(NamedTuple):
    """A mirror that is recommended."""

    key: bytes
    """The public key of its node, 32 bytes; empty for a web server that has the tree."""
    places: tuple[Endpoint, ...]
    """Addresses of a node, or the one URL of a web server."""
    weight: int = WEIGHT
    """How much it is to be preferred to others: twice as much, twice as often."""
    parts: tuple[bytes, ...] | None = None
    """Names at the root of the archive below which it has something; None: it has all."""
    verified: int = 0
    """When it passed a check last, in seconds since 1970."""
    rate: int = 0
    """Bytes a second, as the publisher measured it; 0: not known."""
    networks: tuple[IpNetwork, ...] = ()
    """Whose readers prefer it to others."""
    site: bool = False
    """It is for these networks alone: others leave it alone."""

    def near(self, addresses: Iterable[str]) -> bool:
        """Whether a reader at one of these IP addresses is in one of its networks."""
        return any(
            ipaddress.ip_address(address) in network for address in addresses for network in self.networks
        )

    def to_row(self) -> list[Value]:
        parts = None if self.parts is None else list(self.parts)
        networks = [each.network_address.packed + bytes([each.prefixlen]) for each in self.networks]
        places = [place.encode() for place in self.places]
        return [
            self.key,
            places,
            self.weight,
            parts,
            self.verified,
            self.rate,
            networks,
            int(self.site),
        ]


class MirrorList(NamedTuple):
    """A list whose signature holds."""

    record: Head
    mirrors: tuple[Mirror, ...]
    body: bytes
    """The list as it was signed."""

    @property
    def archive(self) -> bytes:
        return self.record.root

    @property
    def order(self) -> tuple[int, int, bytes]:
        """Greater is newer: (epoch, sequence number), then the hash of the record."""
        return self.record.order


def encode_mirrors(mirrors: Iterable[Mirror]) -> bytes:
    """The bytes of a list. Raises FormatError if it would be one that `decode_mirrors` refuses."""
    raw = encode([VERSION, [mirror.to_row() for mirror in mirrors]])
    decode_mirrors(raw)
    return raw


def decode_mirrors(raw: bytes) -> tuple[Mirror, ...]:
    """Raises FormatError: damaged, not canonical, over a limit, or of a version that is not known."""
    what = "a list of mirrors"
    fields = row(decode(raw, LIST_BYTES_MAX, what), 2, what)
    integer(fields[0], VERSION, VERSION, "the version of a list of mirrors")
    rows = row(fields[1], 0, "the mirrors in a list")
    if len(rows) > MIRRORS_MAX:
        raise FormatError(f"{what} has more than {MIRRORS_MAX}")
    return tuple(map(_mirror, rows))


def _mirror(value: Value) -> Mirror:
    what = "a mirror in a list"
    key, places, weight, parts, verified, rate, networks, site = row(value, FIELDS, what)[:FIELDS]
    made = Mirror(
        _key(key),
        tuple(_place(each) for each in _few(places, PLACES_MAX, "the places of a mirror")),
        integer(weight, 0, WEIGHT_MAX, "the weight of a mirror"),
        None if parts is None else tuple(_name(each) for each in _few(parts, PARTS_MAX, "parts")),
        integer(verified, 0, TIME_MAX, "when a mirror was verified"),
        integer(rate, 0, RATE_MAX, "the rate of a mirror"),
        tuple(_network(each) for each in _few(networks, NETWORKS_MAX, "the networks of a mirror")),
        bool(integer(site, 0, 1, "whether a mirror is a site's")),
    )
    urls = [bool(place.url) for place in made.places]
    if urls not in ([True], [False] * len(urls)) or not urls or urls[0] == bool(key):
        raise FormatError(f"{what} has addresses and a key, or one URL and none")
    return made


def _key(value: Value) -> bytes:
    key = octets(value, 0, DIGEST_SIZE, "the key of a mirror")
    if len(key) not in (0, DIGEST_SIZE):
        raise FormatError("the key of a mirror is neither empty nor 32 bytes long")
    return key


def _few(value: Value, most: int, what: str) -> list[Value]:
    found = row(value, 0, what)
    if len(found) > most:
        raise FormatError(f"{what} are more than {most}")
    return found


def _place(value: Value) -> Endpoint:
    try:
        return Endpoint.decode(value)
    except RecordError as error:
        raise FormatError(f"a mirror in a list has {error}") from None


def _name(value: Value) -> bytes:
    name = octets(value, 1, NAME_MAX, "a part of an archive")
    if b"/" in name or b"\0" in name or name in (b".", b".."):
        raise FormatError("a part of an archive is no name")
    return name


def _network(value: Value) -> IpNetwork:
    raw = octets(value, 5, 17, "a network")
    if len(raw) not in (5, 17):
        raise FormatError("a network is an address of 4 or 16 bytes and the length of its prefix")
    try:
        return ipaddress.ip_network((raw[:-1], raw[-1]))
    except ValueError as error:
        raise FormatError(f"a mirror in a list has a network that is none: {error}") from None


def decode_record(raw: bytes) -> Head:
    """Read and verify the record that names a list. Raises FormatError, TrustError."""
    try:
        record = Head.decode(raw, tag=TAG_MIRRORS)
    except RecordError as error:
        raise FormatError(f"what should name a list of mirrors is {error}") from None
    try:
        record.verify()
    except RecordError as error:
        raise TrustError(f"refused {error}") from None
    return record


def decode_list(raw: bytes, body: bytes) -> MirrorList:
    """A list, with the record that names it. Raises FormatError: not the list of that record; TrustError: not
    signed by its archive, or by a key that may not recommend mirrors.
    """
    record = decode_record(raw)
    what = "the payload of a mirrors' head"
    ref = Ref.from_row(row(decode(record.payload, HEAD_PAYLOAD_MAX, what), 2, what)[:2], what)
    if ref != Ref(len(body), chunk_id(body) if body else b""):
        raise FormatError("a list of mirrors is not the one that was signed")
    return MirrorList(record, decode_mirrors(body), body)


def sign_list(
    signer: Identity,
    archive: bytes,
    mirrors: Iterable[Mirror],
    *,
    epoch: int,
    seq: int,
    signed_at: int,
    fresh_until: int,
    delegation: Delegation | None = None,
) -> MirrorList:
    """Sign a list with the archive's root key, or with a key that may recommend mirrors. Raises TrustError,
    FormatError.
    """
    body = encode_mirrors(mirrors)
    try:
        record = Head.sign(
            signer,
            archive,
            epoch=epoch,
            seq=seq,
            payload=encode(Ref(len(body), chunk_id(body)).to_row()),
            signed_at=signed_at,
            fresh_until=fresh_until,
            delegation=delegation,
            tag=TAG_MIRRORS,
        )
    except RecordError as error:
        raise TrustError(
            f"cannot sign the list of mirrors: it would be {error}; delegate the role 'mirrors' with the "
            "root key"
        ) from None
    return decode_list(record.raw, body)
