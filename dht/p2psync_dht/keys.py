"""Ed25519 identities, the 160-bit ids derived from them, and signatures with domain separation.

Every signature of this library covers `domain + NUL + message`, and every kind of signed thing has a domain
of its own: bytes signed as one kind can never be presented as another. Ed25519 is RFC 8032; the ids are
BLAKE3, cut to the 160 bits of Kademlia's key space (Maymounkov and Mazieres, 2002).
"""

from __future__ import annotations

from blake3 import blake3
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PUBLIC_KEY_SIZE = 32
SIGNATURE_SIZE = 64
ID_SIZE = 20  # bytes of a node id and of a DHT key: Kademlia's 160 bits

DOMAIN_DELEGATION = b"p2psync-dht delegation v1"
DOMAIN_HEAD = b"p2psync-dht head v1"
DOMAIN_HOLDER = b"p2psync-dht holder v1"
DOMAIN_MIRRORS = b"p2psync-dht mirrors v1"
DOMAIN_CONTACT = b"p2psync-dht contact v1"


def node_id_of(public_key: bytes) -> bytes:
    """The 20-byte node id of a 32-byte public key: the first 160 bits of its BLAKE3 hash."""
    return blake3(public_key).digest(length=ID_SIZE)


def verify_signature(public_key: bytes, domain: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` (64 bytes) is that of `public_key` (32 bytes) over `message` in `domain`.

    False, never an exception, for keys and signatures of wrong sizes or that are no curve points.
    """
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, domain + b"\0" + message)
    except (InvalidSignature, ValueError):
        return False
    return True


class Identity:
    """An Ed25519 key pair. `public_key` is 32 raw bytes, `node_id` 20 bytes, `seed` the 32 secret bytes."""

    __slots__ = ("_private", "node_id", "public_key")

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public_key: bytes = private.public_key().public_bytes_raw()
        self.node_id: bytes = node_id_of(self.public_key)

    @classmethod
    def generate(cls) -> Identity:
        """A new key pair from the system's random source."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_seed(cls, seed: bytes) -> Identity:
        """The key pair of a 32-byte seed; ValueError for any other length."""
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    @property
    def seed(self) -> bytes:
        return self._private.private_bytes_raw()

    def sign(self, data: bytes, *, domain: bytes = b"") -> bytes:
        """The 64-byte signature over `data`; with a domain, over what `verify_signature` checks."""
        return self._private.sign(domain + b"\0" + data if domain else data)

    def __repr__(self) -> str:
        return f"Identity({self.public_key.hex()})"
