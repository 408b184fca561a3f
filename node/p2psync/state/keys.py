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
from p2psync_dht import ROLE_MIRRORS, Delegation, Identity, RecordError

SEED_SIZE: Final = 32
"""Bytes of an Ed25519 private key (RFC 8032)."""
PUT_BACK: Final = "move it away and put a copy of it back with 'p2psync key import'"
"""What to do where a key of an archive is damaged."""
SUFFIXES: Final = ("root.pem", "signing.pem", "delegation", "published")
"""Of the files of an archive."""
_PREFIX: Final = bytes.fromhex("302e020100300506032b657004220420")
"""What PKCS#8 puts before the private key: version, Ed25519, and two lengths (RFC 8410, section 7)."""
_BEGIN: Final = b"-----BEGIN PRIVATE KEY-----\n"
_END: Final = b"\n-----END PRIVATE KEY-----\n"


class KeyInfo(NamedTuple):
    """Which keys of an archive are here."""

    archive: bytes
    has_root: bool
    signing: bytes | None
    """The public signing key."""
    delegation: Delegation | None
    """For the signing key that is here."""


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
        raise UsageError(f"{what} is not an unencrypted PEM private key: {_what_it_is(raw)}") from None
    if not isinstance(private, Ed25519PrivateKey):
        raise UsageError(f"{what} is not an Ed25519 key")
    return Identity.from_seed(private.private_bytes_raw())


def _what_it_is(raw: bytes) -> str:
    """What somebody took for a private key, and what to do."""
    if not raw.strip():
        return "it is empty"
    if b"BEGIN OPENSSH PRIVATE KEY" in raw:
        return "it has the form of OpenSSH, and PKCS#8 is needed, as 'p2psync key export' writes it"
    if b"ENCRYPTED" in raw:
        return "it has a passphrase; take that off a copy with 'openssl pkey -in FILE -out COPY'"
    if b"PUBLIC KEY" in raw:
        return "it is a public key, and the private one is needed"
    if b"PRIVATE KEY" in raw:
        return "it is damaged or cut off; take another copy"
    return "name a file that 'p2psync key export' or 'openssl genpkey -algorithm ed25519' has written"


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

    def create_root(self, path: bytes | None = None, named: bytes | None = None) -> bytes:
        """Make a new archive: a root key; returns its id (32 bytes). `path`: the directory that it is made
        for, which was named as `named`; that is noted before there is a key, so that whoever meets the key,
        also after a crash, knows whose it is.
        """
        identity = Identity.generate()
        if path is not None:
            self.put_note(identity.public_key, Note(path, named or path, 0, 0))
        return self.import_root(to_pem(identity))

    def import_root(self, pem: bytes, what: str = "the root key") -> bytes:
        """Take a root key in; returns the archive's id. Having it already is no error.

        Raises UsageError (it is no key, or the signing key of another archive), FileError (what is in its
        place is damaged).
        """
        identity = from_pem(pem, what)
        for archive in self.archives():
            signing = self._signing_key(archive)
            if signing is not None and signing.public_key == identity.public_key:
                raise UsageError(
                    f"{what} is the signing key of {archive_text(archive)}, which is here, and no archive's "
                    "root key"
                )
        if not write_private(self._path(identity.public_key, "root.pem"), to_pem(identity), replace=False):
            self.root(identity.public_key)
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

    def is_own_file(self, path: str) -> bool:
        """Whether a path leads to one of the files in which the keys are kept here."""
        try:
            there = os.stat(path)
            return any(os.path.samestat(there, own.stat()) for own in self.folder.iterdir())
        except FileNotFoundError:
            return False

    def remove_root(self, archive: bytes) -> None:
        """Take the root key away from this machine, once it is safe elsewhere. Raises FileError."""
        path = self._path(archive, "root.pem")
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise FileError(
                f"{path} cannot be removed ({error.strerror}), and is still here beside the copy: let this "
                "user write in that directory, and run again"
            ) from error

    def remove(self, archive: bytes) -> None:
        """Take all keys of an archive away from this machine, with what was noted beside them."""
        for suffix in SUFFIXES:
            self._path(archive, suffix).unlink(missing_ok=True)

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

    def import_signing(
        self, archive: bytes, pem: bytes, what: str = "the signing key", *, replace: bool = False
    ) -> None:
        """Take a signing key in. Having it already is no error; another one that is here is lost if it may be
        replaced. Raises UsageError.
        """
        identity = from_pem(pem, what)
        if identity.public_key == archive:
            raise UsageError(f"{what} is the root key of that archive: import it without --signing")
        if not write_private(self._path(archive, "signing.pem"), to_pem(identity), replace=replace):
            present = self._signing_key(archive)
            if present is not None and present.public_key != identity.public_key:
                raise UsageError(
                    f"another signing key of {archive_text(archive)} is here, {present.public_key.hex()}: "
                    "with --replace it is lost, and the delegation with it"
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
        identity = self._signing_key(archive)
        delegation = self._delegation_of(archive, identity)
        if identity is not None and delegation is not None:
            return identity, delegation
        root = self.root(archive)
        return None if root is None else (root, None)

    def may_recommend(self, archive: bytes) -> bool:
        """Whether a key that is here was delegated the role of recommending mirrors. Raises FileError."""
        delegation = self._delegation_of(archive, self._signing_key(archive))
        return delegation is not None and bool(delegation.roles & ROLE_MIRRORS)

    def archives(self) -> list[bytes]:
        """All archives of which any key is here, in order."""
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
        return sorted(archives)

    def info(self, archive: bytes) -> KeyInfo:
        """Which keys of an archive are here, damaged root keys among them. Raises FileError: the signing
        key or its delegation is damaged.
        """
        signing = self._signing_key(archive)
        return KeyInfo(
            archive,
            os.path.exists(self._path(archive, "root.pem")),
            None if signing is None else signing.public_key,
            self._delegation_of(archive, signing),
        )

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

    def _delegation_of(self, archive: bytes, identity: Identity | None) -> Delegation | None:
        """What is delegated to a signing key; one that was replaced may have left its delegation."""
        delegation = None if identity is None else self._delegation(archive)
        if delegation is None or identity is None or delegation.key != identity.public_key:
            return None
        return delegation

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
