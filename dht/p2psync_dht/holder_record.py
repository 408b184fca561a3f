"""Holder records: a node's signed word that it holds something, and the one that takes it back. Pure.

Form and signature are as `records` says of all records.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import Any, NamedTuple

from blake3 import blake3

from p2psync_dht.endpoint import Endpoint
from p2psync_dht.form import RecordError, exact_bytes, is_signed_by, number, seal, split
from p2psync_dht.keys import DOMAIN_HOLDER, ID_SIZE, PUBLIC_KEY_SIZE, Identity
from p2psync_dht.records import MAX_CLOCK_SKEW, MAX_TIME
from p2psync_dht.scope import may_name

MAX_HOLDER_SIZE = 250  # four fit one datagram
MAX_HOLDER_PAYLOAD = 64  # a summary, not a list
MAX_ENDPOINTS = 4  # IPv4, IPv6 and two URLs
MAX_HOLDER_LIFETIME = 24 * 3600  # a holder that disappeared without a word is forgotten within a day

TAG_HOLDER = 3  # beside the tags in `records`
WITHDRAWN = 1  # the element behind the payload: the node holds this no longer


_PLACES_AT = 58  # of the raw record: the array of endpoints
_BIN8, _STR8, _FIXSTR = 0xC4, 0xD9, 0xA0  # how msgpack begins what is in it
_PORT_SIZE = 2  # bytes behind an address


def places_in(raw: bytes) -> Iterator[bytes]:
    """The packed IP endpoints (`Endpoint.encode`) of a record that was read before, without reading it again:
    a store looks at many.
    """
    at = _PLACES_AT + 1
    for _ in range(raw[_PLACES_AT] & 0x0F):
        if raw[at] == _BIN8:
            size = 2 + raw[at + 1]
            yield raw[at + 2 : at + size]
        else:
            size = 2 + raw[at + 1] if raw[at] == _STR8 else 1 + raw[at] - _FIXSTR
        at += size


def addresses_in(raw: bytes) -> Iterator[bytes]:
    """The packed IP addresses of such a record."""
    return (place[:-_PORT_SIZE] for place in places_in(raw))


class HolderRole(IntEnum):
    """What a holder means to be: the publisher's own node, a mirror that stays, a client that shares for a
    while.
    """

    ORIGIN = 1
    MIRROR = 2
    PEER = 3


class HolderRecord(NamedTuple):
    """A node's word that it holds what DHT key `key` names, at `endpoints`, until `expires` (Unix s).

    `node_key` is the node's 32-byte public key and signs the record, DHT key included: it cannot be moved
    to another key. `payload` (<= 64 bytes) says what is covered and is the application's. One that is
    `withdrawn` takes back what the node said before: it is kept and handed on in the place of that.
    """

    node_key: bytes
    key: bytes
    endpoints: tuple[Endpoint, ...]
    issued: int
    expires: int
    role: HolderRole
    payload: bytes
    raw: bytes
    extra: tuple[Any, ...] = ()

    @classmethod
    def sign(
        cls,
        identity: Identity,
        key: bytes,
        *,
        endpoints: Sequence[Endpoint],
        issued: int,
        expires: int,
        role: HolderRole,
        payload: bytes = b"",
        extra: tuple[Any, ...] = (),
    ) -> HolderRecord:
        """Sign with the node's key; RecordError for values out of range."""
        places = [endpoint.encode() for endpoint in endpoints]
        fields = (TAG_HOLDER, key, identity.public_key, places, issued, expires, int(role), payload, *extra)
        return cls.decode(seal(fields, identity, DOMAIN_HOLDER))

    @classmethod
    def decode(cls, raw: bytes) -> HolderRecord:
        """Read the form; RecordError if it is wrong. The signature is `verify`'s."""
        fields, extra = split(raw, "holder record", TAG_HOLDER, 7, MAX_HOLDER_SIZE)
        key, node_key, places, issued, expires, role, payload = fields
        if not isinstance(places, list) or not 1 <= len(places) <= MAX_ENDPOINTS:
            raise RecordError("a holder record without endpoints, or with too many")
        made = cls(
            node_key=exact_bytes(node_key, "node_key", PUBLIC_KEY_SIZE),
            key=exact_bytes(key, "key", ID_SIZE),
            endpoints=tuple(Endpoint.decode(place) for place in places),
            issued=number(issued, "issued", 0, MAX_TIME),
            expires=number(expires, "expires", 0, MAX_TIME),
            role=HolderRole(number(role, "role", HolderRole.ORIGIN, HolderRole.PEER)),
            payload=exact_bytes(payload, "payload", 0, MAX_HOLDER_PAYLOAD),
            raw=raw,
            extra=extra,
        )
        if not 0 < made.expires - made.issued <= MAX_HOLDER_LIFETIME:
            raise RecordError("a holder record that lasts no time or too long")
        return made

    def check_time(self, now: int) -> None:
        """RecordError if at `now` (Unix s) the record has expired or is not issued yet."""
        if self.expires <= now:
            raise RecordError("a holder record that has expired")
        if self.issued > now + MAX_CLOCK_SKEW:
            raise RecordError("a holder record issued in the future")

    def verify(self, now: int | None = None) -> None:
        """RecordError unless the node of `node_key` signed these bytes; with `now`, also unless they are
        current.
        """
        if now is not None:
            self.check_time(now)
        if not is_signed_by(self.node_key, DOMAIN_HOLDER, self.raw):
            raise RecordError("a holder record that its node did not sign")

    @property
    def withdrawn(self) -> bool:
        """Whether it takes back what its node said before."""
        return bool(self.extra) and type(self.extra[0]) is int and self.extra[0] == WITHDRAWN

    def withdraw(self, identity: Identity, now: int) -> HolderRecord:
        """What the node of `identity` signs at `now` (Unix s) to take back this record of its own.

        It lasts as long as this one would have: until then somebody may still hand this one on. It names one
        endpoint, which the form demands, and covers nothing: readers who know no withdrawals then have no use
        for it either. RecordError if this one has expired, and needs no taking back.
        """
        return self.sign(
            identity,
            self.key,
            endpoints=self.endpoints[:1],
            issued=max(now, self.issued + 1),
            expires=self.expires,
            role=self.role,
            extra=(WITHDRAWN,),
        )

    def may_be_told(self, teller_ip: str) -> bool:
        """Whether a reader may look at the addresses in it that somebody at another one told of. One that
        takes another back names nobody who would be looked for.
        """
        return self.withdrawn or all(may_name(teller_ip, ip) for ip in self.ips)

    @property
    def ips(self) -> list[str]:
        """Its IP addresses, of the endpoints that are not URLs."""
        return [endpoint.ip for endpoint in self.endpoints if endpoint.ip]

    @property
    def order(self) -> tuple[int, bytes]:
        """Greater replaces smaller, of the same node under the same key."""
        return (self.issued, blake3(self.raw).digest())
