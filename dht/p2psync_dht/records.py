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
    DOMAIN_MIRRORS,
    ID_SIZE,
    PUBLIC_KEY_SIZE,
    Identity,
)

__all__ = [
    "ROLE_HEADS",
    "ROLE_MIRRORS",
    "TAG_HEAD",
    "TAG_MIRRORS",
    "Delegation",
    "Head",
    "RecordError",
    "head_key",
    "holders_key",
    "mirrors_key",
    "object_key",
    "tag_of",
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
_MIRRORS_CONTEXT = "p2psync-dht v1 key of an archive's recommended mirrors"

TAG_DELEGATION = 1  # first element of each body: what it is, and its version by its value
TAG_HEAD = 2
TAG_MIRRORS = 4  # a head of the list of recommended mirrors, in place of the archive's; 3 are holders


class _Kind(NamedTuple):
    """What sets one kind of head apart from the other."""

    what: str
    domain: bytes
    role: int
    context: str


_KINDS = {
    TAG_HEAD: _Kind("head", DOMAIN_HEAD, ROLE_HEADS, _HEAD_CONTEXT),
    TAG_MIRRORS: _Kind("mirrors' head", DOMAIN_MIRRORS, ROLE_MIRRORS, _MIRRORS_CONTEXT),
}


def tag_of(raw: bytes) -> int:
    """Which kind of head these bytes may be: `TAG_MIRRORS`, or else `TAG_HEAD`."""
    return TAG_MIRRORS if raw[1:2] == bytes([TAG_MIRRORS]) else TAG_HEAD


def _key(context: str, subject: bytes) -> bytes:
    return blake3(subject, derive_key_context=context).digest(length=ID_SIZE)


def head_key(root: bytes) -> bytes:
    """The 20-byte DHT key of the head of the archive whose id is `root`."""
    return _key(_HEAD_CONTEXT, root)


def holders_key(subject: bytes) -> bytes:
    """The 20-byte DHT key of the holders of the archive whose id is `subject`."""
    return _key(_HOLDERS_CONTEXT, subject)


def mirrors_key(root: bytes) -> bytes:
    """The 20-byte DHT key of the recommended mirrors of the archive whose id is `root`."""
    return _key(_MIRRORS_CONTEXT, root)


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
    `fresh_until` is stale, not invalid. There are two kinds, of an archive and of the list of its recommended
    mirrors (`tag`), with domains, roles, DHT keys and sequence numbers of their own, and alike otherwise.
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
        tag: int = TAG_HEAD,
    ) -> Head:
        """Sign with the root key, or with the delegated key and its delegation.

        RecordError for values out of range and for a head that readers would refuse.
        """
        if signer.public_key != (root if delegation is None else delegation.key):
            raise RecordError("the signing key is neither the archive's root nor the delegated one")
        given = None if delegation is None else delegation.raw
        fields = (tag, root, epoch, seq, payload, signed_at, fresh_until, given, *extra)
        made = cls.decode(seal(fields, signer, _KINDS[tag].domain), tag=tag)
        made.verify()
        return made

    @classmethod
    def decode(cls, raw: bytes, *, tag: int = TAG_HEAD) -> Head:
        """Read the form; RecordError if it is wrong, or another kind. Signatures and delegation are
        `verify`'s.
        """
        fields, extra = split(raw, _KINDS[tag].what, tag, 7, MAX_HEAD_SIZE)
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
        """RecordError unless signed by the root, or by a key delegated to sign such heads at that time and
        epoch.

        With `now` (Unix s), a head signed more than `MAX_CLOCK_SKEW` in the future is refused too.
        """
        kind = _KINDS[self.tag]
        if now is not None and self.signed_at > now + MAX_CLOCK_SKEW:
            raise RecordError(f"a {kind.what} signed in the future")
        signer = self.root
        if (given := self.delegation) is not None:
            if given.root != self.root:
                raise RecordError(f"a {kind.what} with the delegation of another archive")
            if given.epoch != self.epoch:
                raise RecordError(f"a {kind.what} whose epoch is not its delegation's")
            if not given.roles & kind.role:
                raise RecordError(f"a {kind.what} signed by a key that may not sign {kind.what}s")
            if not given.not_before <= self.signed_at <= given.not_after:
                raise RecordError(f"a {kind.what} signed outside its delegation's time")
            given.verify()
            signer = given.key
        if not is_signed_by(signer, kind.domain, self.raw):
            raise RecordError(f"a {kind.what} that its archive did not sign")

    @property
    def tag(self) -> int:
        """Which kind it is: `TAG_HEAD` or `TAG_MIRRORS`."""
        return tag_of(self.raw)

    @property
    def key(self) -> bytes:
        """The DHT key that it is under."""
        return _key(_KINDS[self.tag].context, self.root)

    @property
    def order(self) -> tuple[int, int, bytes]:
        """Greater is newer, the same everywhere: (epoch, seq), then the hash of the bytes."""
        return (self.epoch, self.seq, blake3(self.raw).digest())
