"""The signed records of the DHT as pure values: delegations and heads here, `holder_record`'s beside them.

A record is `body + signature`: the body is a canonical msgpack array, the last 64 bytes are an Ed25519
signature over the body under a domain of its own. `raw` keeps the bytes as received, and signatures are
checked over these; elements past those known here stay in `extra`, so records of newer writers verify, are
stored and are handed on unchanged.

`decode` checks form (types, sizes, ranges), `verify` checks signatures and rules, and time where it is
given. Which of several valid heads a client accepts is the caller's trust policy; what a node stores is
`storage`'s.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from blake3 import blake3

from p2psync_dht.form import RecordError, exact_bytes, is_signed_by, number, seal, split
from p2psync_dht.keys import (
    DOMAIN_DELEGATION,
    DOMAIN_HEAD,
    ID_SIZE,
    PUBLIC_KEY_SIZE,
    Identity,
)

__all__ = [
    "ROLE_HEADS",
    "ROLE_MIRRORS",
    "Delegation",
    "Head",
    "RecordError",
    "head_key",
    "holders_key",
    "object_key",
]

MAX_DELEGATION_SIZE = 250  # 155 bytes at most as written here; the rest is for the fields of newer writers
MAX_HEAD_SIZE = 450  # two heads and their tokens fit one 1,200-byte datagram
MAX_HEAD_PAYLOAD = 128  # a size and a 32-byte hash need 44
MAX_SEQUENCE = 2**63 - 1  # epochs and sequence numbers fit a signed 64-bit column
MAX_TIME = 2**40  # seconds since 1970: 34,000 years; keeps sums far from overflow
MAX_CLOCK_SKEW = 600  # seconds by which a writer's clock may be ahead of ours

ROLE_HEADS = 1  # delegation roles are bits: may sign heads
ROLE_MIRRORS = 2  # may sign the list of recommended mirrors

_HEAD_CONTEXT = "p2psync-dht v1 key of an archive head"
_HOLDERS_CONTEXT = "p2psync-dht v1 key of an archive's holders"
_OBJECT_CONTEXT = "p2psync-dht v1 key of an object's holders"

TAG_DELEGATION = 1  # first element of each body: what it is, and its version by its value
TAG_HEAD = 2


def _key(context: str, subject: bytes) -> bytes:
    return blake3(subject, derive_key_context=context).digest(length=ID_SIZE)


def head_key(root: bytes) -> bytes:
    """The 20-byte DHT key of the head of the archive whose id is `root`."""
    return _key(_HEAD_CONTEXT, root)


def holders_key(subject: bytes) -> bytes:
    """The 20-byte DHT key of the holders of the archive whose id is `subject`."""
    return _key(_HOLDERS_CONTEXT, subject)


def object_key(digest: bytes) -> bytes:
    """The 20-byte DHT key of the holders of one large object, whatever archives it stands in."""
    return _key(_OBJECT_CONTEXT, digest)


class Delegation(NamedTuple):
    """`root` (32-byte archive id) lets `key` (32 bytes) act in `roles` within an epoch and a span of time
    (Unix s).
    """

    root: bytes
    key: bytes
    epoch: int
    roles: int
    not_before: int
    not_after: int
    raw: bytes
    extra: tuple[Any, ...] = ()

    @classmethod
    def sign(
        cls, root: Identity, key: bytes, *, epoch: int, roles: int, not_before: int, not_after: int
    ) -> Delegation:
        """Sign with the archive's root key; RecordError for values out of range."""
        fields = (TAG_DELEGATION, root.public_key, key, epoch, roles, not_before, not_after)
        return cls.decode(seal(fields, root, DOMAIN_DELEGATION))

    @classmethod
    def decode(cls, raw: bytes) -> Delegation:
        """Read the form; RecordError if it is wrong. The signature is `verify`'s."""
        fields, extra = split(raw, "delegation", TAG_DELEGATION, 6, MAX_DELEGATION_SIZE)
        root, key, epoch, roles, not_before, not_after = fields
        made = cls(
            root=exact_bytes(root, "root", PUBLIC_KEY_SIZE),
            key=exact_bytes(key, "key", PUBLIC_KEY_SIZE),
            epoch=number(epoch, "epoch", 0, MAX_SEQUENCE),
            roles=number(roles, "roles", 1, 255),
            not_before=number(not_before, "not_before", 0, MAX_TIME),
            not_after=number(not_after, "not_after", 0, MAX_TIME),
            raw=raw,
            extra=extra,
        )
        if made.not_before > made.not_after:
            raise RecordError("a delegation that ends before it begins")
        return made

    def verify(self) -> None:
        """RecordError unless the root signed these bytes."""
        if not is_signed_by(self.root, DOMAIN_DELEGATION, self.raw):
            raise RecordError("a delegation that its root did not sign")


class Head(NamedTuple):
    """The newest state of an archive: an opaque `payload` (<= 128 bytes) under (epoch, seq).

    Signed by the root or its delegate. `signed_at` and `fresh_until` are Unix seconds. A head past
    `fresh_until` is stale, not invalid.
    """

    root: bytes
    epoch: int
    seq: int
    payload: bytes
    signed_at: int
    fresh_until: int
    delegation: Delegation | None
    raw: bytes
    extra: tuple[Any, ...] = ()

    @classmethod
    def sign(
        cls,
        signer: Identity,
        root: bytes,
        *,
        epoch: int,
        seq: int,
        payload: bytes,
        signed_at: int,
        fresh_until: int,
        delegation: Delegation | None = None,
        extra: tuple[Any, ...] = (),
    ) -> Head:
        """Sign with the root key, or with the delegated key and its delegation.

        RecordError for values out of range and for a head that readers would refuse.
        """
        if signer.public_key != (root if delegation is None else delegation.key):
            raise RecordError("the signing key is neither the archive's root nor the delegated one")
        given = None if delegation is None else delegation.raw
        fields = (TAG_HEAD, root, epoch, seq, payload, signed_at, fresh_until, given, *extra)
        made = cls.decode(seal(fields, signer, DOMAIN_HEAD))
        made.verify()
        return made

    @classmethod
    def decode(cls, raw: bytes) -> Head:
        """Read the form; RecordError if it is wrong. Signatures and delegation are `verify`'s."""
        fields, extra = split(raw, "head", TAG_HEAD, 7, MAX_HEAD_SIZE)
        root, epoch, seq, payload, signed_at, fresh_until, delegation = fields
        return cls(
            root=exact_bytes(root, "root", PUBLIC_KEY_SIZE),
            epoch=number(epoch, "epoch", 0, MAX_SEQUENCE),
            seq=number(seq, "seq", 0, MAX_SEQUENCE),
            payload=exact_bytes(payload, "payload", 0, MAX_HEAD_PAYLOAD),
            signed_at=number(signed_at, "signed_at", 0, MAX_TIME),
            fresh_until=number(fresh_until, "fresh_until", 0, MAX_TIME),
            delegation=None if delegation is None else Delegation.decode(delegation),
            raw=raw,
            extra=extra,
        )

    def verify(self, now: int | None = None) -> None:
        """RecordError unless signed by the root, or by a key delegated to sign heads at that time and epoch.

        With `now` (Unix s), a head signed more than `MAX_CLOCK_SKEW` in the future is refused too.
        """
        if now is not None and self.signed_at > now + MAX_CLOCK_SKEW:
            raise RecordError("a head signed in the future")
        signer = self.root
        if (given := self.delegation) is not None:
            if given.root != self.root:
                raise RecordError("a head with the delegation of another archive")
            if given.epoch != self.epoch:
                raise RecordError("a head whose epoch is not its delegation's")
            if not given.roles & ROLE_HEADS:
                raise RecordError("a head signed by a key that may not sign heads")
            if not given.not_before <= self.signed_at <= given.not_after:
                raise RecordError("a head signed outside its delegation's time")
            given.verify()
            signer = given.key
        if not is_signed_by(signer, DOMAIN_HEAD, self.raw):
            raise RecordError("a head that its archive did not sign")

    @property
    def key(self) -> bytes:
        return head_key(self.root)

    @property
    def order(self) -> tuple[int, int, bytes]:
        """Greater is newer, the same everywhere: (epoch, seq), then the hash of the bytes."""
        return (self.epoch, self.seq, blake3(self.raw).digest())
