"""Private keys as PEM files: written as every other program writes them, read as they may be written."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from p2psync.errors import UsageError
from p2psync.state.keys import from_pem, to_pem
from p2psync_dht import Identity

SEED = bytes(range(32))
OTHERS = X25519PrivateKey.from_private_bytes(SEED)


def written_by_cryptography() -> bytes:
    private = Ed25519PrivateKey.from_private_bytes(SEED)
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def test_a_key_is_written_as_rfc_8410_says() -> None:
    assert to_pem(Identity.from_seed(SEED)) == written_by_cryptography()


@pytest.mark.parametrize(
    "change",
    [
        lambda pem: pem,
        lambda pem: pem.replace(b"\n", b"\r\n"),
        lambda pem: b"a comment\n" + pem + b"\n\n",
        lambda pem: pem[:60] + b"\n" + pem[60:],
    ],
    ids=["exact", "line ends", "text around", "lines"],
)
def test_it_is_read_however_it_is_laid_out(change: object) -> None:
    assert callable(change)
    assert from_pem(change(written_by_cryptography()), "the key").seed == SEED


def test_what_somebody_took_for_a_private_key_is_named() -> None:
    private = Ed25519PrivateKey.from_private_bytes(SEED)
    locked = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    ssh = private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    for raw, words in ((b"\n", "empty"), (locked, "passphrase"), (public, "public"), (ssh, "OpenSSH")):
        with pytest.raises(UsageError, match=words):
            from_pem(raw, "the key")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"nonsense",
        written_by_cryptography()[:-30],
        written_by_cryptography().replace(b"MC4CAQAwBQYDK2Vw", b"MC4CAQAwBQYDK2Vx"),
        written_by_cryptography().replace(b"\n-----END", b"AAAA\n-----END"),
        OTHERS.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    ],
    ids=["empty", "nonsense", "cut", "another algorithm", "longer", "X25519"],
)
def test_what_is_no_ed25519_key_is_refused(raw: bytes) -> None:
    with pytest.raises(UsageError, match="the key is not an"):
        from_pem(raw, "the key")
