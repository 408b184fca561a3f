"""Keys of archives as files: `keys/<archive>.root.pem`, `.signing.pem` and `.delegation`.

PEM PKCS#8 (RFC 5958, RFC 8410), mode 0600, written whole. The root key may be taken away and kept offline:
a machine that has the signing key and a delegation publishes without it. `keys/<archive>.published` says
what was last published with it (`Note`).
"""

from __future__ import annotations

import base64
import binascii
import os
from pathlib import Path
from typing import Final, NamedTuple

import msgpack

from p2psync.errors import FileError, P2psyncError, UsageError
from p2psync.format.url import archive_text, parse_archive_text
from p2psync.state.files import read_private, write_private
from p2psync_dht import Delegation, Identity, RecordError

SEED_SIZE: Final = 32
"""Bytes of an Ed25519 private key (RFC 8032)."""
PUT_BACK: Final = "move it away and put a copy of it back with 'p2psync key import'"
"""What to do where a key of an archive is damaged."""
_PREFIX: Final = bytes.fromhex("302e020100300506032b657004220420")
"""What PKCS#8 puts before the private key: version, Ed25519, and two lengths (RFC 8410, section 7)."""
_BEGIN: Final = b"-----BEGIN PRIVATE KEY-----\n"
_END: Final = b"\n-----END PRIVATE KEY-----\n"


class KeyInfo(NamedTuple):
    """Which keys of an archive are here."""

    archive: bytes
    has_root: bool
    has_signing: bool
    delegation: Delegation | None


class Note(NamedTuple):
    """What was last published of an archive, and from where: kept beside its key, so that an index that is
    lost costs time and no address.
    """

    path: bytes
    named: bytes
    """The path by which the publisher named it."""
    epoch: int
    seq: int

    def encode(self) -> bytes:
        made: bytes = msgpack.packb(tuple(self))
        return made

    @classmethod
    def decode(cls, raw: bytes) -> Note | None:
        """None for what is no note: it is a help, and nothing depends on it."""
        try:
            path, named, epoch, seq = msgpack.unpackb(raw)
        except (ValueError, TypeError, msgpack.UnpackException):
            return None
        made = cls(path, named, epoch, seq)
        return made if [type(field) for field in made] == [bytes, bytes, int, int] else None


def to_pem(identity: Identity) -> bytes:
    """A private key as PEM PKCS#8, unencrypted."""
    return _BEGIN + base64.b64encode(_PREFIX + identity.seed) + _END


def from_pem(raw: bytes, what: str) -> Identity:
    """Raises UsageError if `raw` is not an unencrypted Ed25519 private key; `what` names it there."""
    seed = _seed_of(raw)
    if seed is not None:
        return Identity.from_seed(seed)
    # Written by other programs in one of many ways.
    from cryptography.exceptions import InternalError, UnsupportedAlgorithm  # noqa: PLC0415 - 10 ms
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    try:
        private = load_pem_private_key(raw, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm, InternalError):
        raise UsageError(f"{what} is not an unencrypted PEM private key") from None
    if not isinstance(private, Ed25519PrivateKey):
        raise UsageError(f"{what} is not an Ed25519 key")
    return Identity.from_seed(private.private_bytes_raw())


def own_key(raw: bytes, what: str, remedy: str) -> Identity:
    """The key in a file that this program wrote. Raises FileError, with what to do, if it is damaged."""
    try:
        return from_pem(raw, what)
    except UsageError as error:
        raise FileError(f"{error}: {remedy}") from error


def _seed_of(raw: bytes) -> bytes | None:
    """The private key in a file as `to_pem` makes it; None if it is not exactly that."""
    body = raw.removeprefix(_BEGIN).removesuffix(_END)
    try:
        der = base64.b64decode(body, validate=True)
    except binascii.Error:
        return None
    seed = der.removeprefix(_PREFIX)
    exact = len(seed) == SEED_SIZE and raw == _BEGIN + base64.b64encode(_PREFIX + seed) + _END
    return seed if exact else None


class KeyStore:
    """The keys in one folder (mode 0700, made by the caller)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def create_root(self) -> bytes:
        """Make a new archive: a root key; returns its id (32 bytes)."""
        return self.import_root(to_pem(Identity.generate()))

    def import_root(self, pem: bytes) -> bytes:
        """Take a root key in; returns the archive's id. Having it already is no error."""
        identity = from_pem(pem, "the root key")
        write_private(self._path(identity.public_key, "root.pem"), to_pem(identity), replace=False)
        return identity.public_key

    def root(self, archive: bytes) -> Identity | None:
        """The root key of an archive, if it is here. Raises FileError if the file is damaged or holds
        another key.
        """
        path = self._path(archive, "root.pem")
        raw = read_private(path)
        if raw is None:
            return None
        identity = own_key(raw, f"the root key {path}", PUT_BACK)
        if identity.public_key != archive:
            raise FileError(f"{path} is the key of another archive: put the right one back")
        return identity

    def export_root(self, archive: bytes) -> bytes:
        """The root key as PEM. Raises UsageError if it is not here."""
        identity = self.root(archive)
        if identity is None:
            raise UsageError(f"the root key of {archive_text(archive)} is not on this machine")
        return to_pem(identity)

    def remove_root(self, archive: bytes) -> None:
        """Take the root key away from this machine, once it is safe elsewhere."""
        self._path(archive, "root.pem").unlink(missing_ok=True)

    def create_signing(self, archive: bytes, *, replace: bool = False) -> Identity:
        """Make (or find, unless it is to be replaced) the key that the root may delegate to; it signs nothing
        before `add_delegation`.
        """
        path = self._path(archive, "signing.pem")
        write_private(path, to_pem(Identity.generate()), replace=replace)
        raw = read_private(path)
        if raw is None:
            raise FileError(f"{path} was removed while it was made")
        return own_key(raw, f"the signing key {path}", PUT_BACK)

    def import_signing(self, archive: bytes, pem: bytes) -> None:
        """Take a signing key in, replacing the one that is here."""
        write_private(
            self._path(archive, "signing.pem"), to_pem(from_pem(pem, "the signing key")), replace=True
        )

    def add_delegation(self, delegation: Delegation) -> None:
        """Keep a delegation that was verified. Raises UsageError if it is for another key than the one
        here.
        """
        signing = self._signing_key(delegation.root)
        if signing is None or signing.public_key != delegation.key:
            raise UsageError(
                f"the delegation for {archive_text(delegation.root)} names a signing key that is not on this "
                "machine: import that key first"
            )
        try:
            delegation.verify()
        except RecordError as error:
            raise UsageError(
                f"the delegation for {archive_text(delegation.root)} is refused: {error}"
            ) from error
        write_private(self._path(delegation.root, "delegation"), delegation.raw, replace=True)

    def signing(self, archive: bytes) -> tuple[Identity, Delegation | None] | None:
        """What to sign heads with: the delegated key and its delegation, else the root key, else None."""
        delegation = self._delegation(archive)
        identity = self._signing_key(archive)
        if delegation is not None and identity is not None and identity.public_key == delegation.key:
            return identity, delegation
        root = self.root(archive)
        return None if root is None else (root, None)

    def list(self) -> list[KeyInfo]:
        """All archives of which any key is here, by id."""
        archives = set()
        for path in self.folder.iterdir():
            text, _, rest = path.name.partition(".")
            if rest in {"root.pem", "signing.pem"}:
                try:
                    archives.add(parse_archive_text(text))
                except P2psyncError as error:
                    raise FileError(
                        f"{path} does not belong among the keys: move it away ({error})"
                    ) from error
        return [
            KeyInfo(
                archive,
                os.path.exists(self._path(archive, "root.pem")),
                os.path.exists(self._path(archive, "signing.pem")),
                self._delegation(archive),
            )
            for archive in sorted(archives)
        ]

    def note(self, archive: bytes) -> Note | None:
        """What was last published of an archive here, as far as it was noted."""
        raw = read_private(self._path(archive, "published"))
        return None if raw is None else Note.decode(raw)

    def put_note(self, archive: bytes, note: Note) -> None:
        """Note what is published, unless that is noted already. Raises FileError."""
        if self.note(archive) != note:
            write_private(self._path(archive, "published"), note.encode(), replace=True)

    def _signing_key(self, archive: bytes) -> Identity | None:
        path = self._path(archive, "signing.pem")
        raw = read_private(path)
        return None if raw is None else own_key(raw, f"the signing key {path}", PUT_BACK)

    def _delegation(self, archive: bytes) -> Delegation | None:
        path = self._path(archive, "delegation")
        raw = read_private(path)
        if raw is None:
            return None
        try:
            delegation = Delegation.decode(raw)
            delegation.verify()
        except RecordError as error:
            raise FileError(f"{path} is damaged ({error}): add the delegation again") from error
        return delegation

    def _path(self, archive: bytes, suffix: str) -> Path:
        return self.folder / f"{archive_text(archive)}.{suffix}"
