"""A whole publisher in memory: trees become snapshots and heads as ``publish`` makes them, without a disk or
a socket; and beside each honest step stands the attack on it.

For tests of the format and of trust, and for any test that needs an archive to fetch from. Nothing here is
checked on the way out: ``Publisher.forge_head`` and ``pack_rows`` sign and encode whatever they are given.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgpack
from blake3 import blake3

from p2psync.chunking import cut_object
from p2psync.format.head import ArchiveHead, sign_head
from p2psync.format.ids import Ref
from p2psync.format.listing import (
    Entry,
    Kind,
    Totals,
    add_totals,
    check_totals,
    decode_listing,
    dir_entry,
    encode_listing,
    file_entry,
    symlink_entry,
)
from p2psync.format.recipe import Recipe
from p2psync.format.snapshot import ParentSnapshot, Snapshot
from p2psync_dht import ROLE_HEADS, Delegation, Identity
from p2psync_dht.keys import DOMAIN_DELEGATION, DOMAIN_HEAD

NOW: Final = 1_800_000_000
"""Where the simulated clock begins, in seconds since 1970."""
DAY: Final = 86_400
MTIME: Final = 1_700_000_000_123_456_789


@dataclass(frozen=True)
class Link:
    """A symbolic link in a simulated tree."""

    target: bytes


Tree = Mapping[bytes, "bytes | Link | Tree"]
"""What a simulated directory holds: content of files, links, and directories."""


def content(seed: int | str, size: int) -> bytes:
    """``size`` bytes that look random and are the same everywhere: BLAKE3's extended output for ``seed``."""
    return blake3(f"p2psync test content {seed}".encode()).digest(length=size)


def identity(name: str) -> Identity:
    """A key pair that follows from a name."""
    return Identity.from_seed(blake3(f"p2psync test key {name}".encode()).digest())


@dataclass
class Publisher:
    """An archive and everything that its publisher has: keys, objects, recipes, and the heads it signed."""

    name: str = "publisher"
    now: int = NOW
    epoch: int = 0
    lifetime: int = DAY
    """Seconds for which its heads are fresh."""
    objects: dict[bytes, bytes] = field(default_factory=dict)
    """Bytes of every object, by the digest that a reference has."""
    recipes: dict[bytes, bytes] = field(default_factory=dict)
    """Encoded recipes of the objects of several chunks, by the same."""
    heads: list[ArchiveHead] = field(default_factory=list)
    delegation: Delegation | None = None
    signer: Identity = field(init=False)

    def __post_init__(self) -> None:
        self.root = identity(self.name)
        self.signer = self.root

    @property
    def archive(self) -> bytes:
        return self.root.public_key

    @property
    def head(self) -> ArchiveHead:
        """The newest head."""
        return self.heads[-1]

    # What a publisher does

    def put(self, data: bytes) -> Ref:
        """Store an object."""
        ref, recipe = cut_object(data)
        self.objects[ref.digest] = data
        if not (ref.is_empty or ref.is_single):
            self.recipes[ref.digest] = recipe.encode()
        return ref

    def add_tree(self, tree: Tree) -> tuple[Ref, Totals]:
        """Store a directory with all that is in it."""
        entries: list[Entry] = []
        for name, value in tree.items():
            if isinstance(value, bytes):
                entries.append(file_entry(name, 0o644, MTIME, self.put(value)))
            elif isinstance(value, Link):
                entries.append(symlink_entry(name, MTIME, value.target))
            else:
                entries.append(dir_entry(name, 0o755, MTIME, *self.add_tree(value)))
        return self.put(encode_listing(entries)), add_totals(entry.below for entry in entries)

    def snapshot(self, tree: Tree) -> Ref:
        """Store a snapshot of ``tree`` whose parents are the heads so far."""
        root = dir_entry(b"", 0o755, MTIME, *self.add_tree(tree))
        parents = tuple(ParentSnapshot(h.epoch, h.seq, h.snapshot) for h in reversed(self.heads[-8:]))
        return self.put(Snapshot(root, self.now * 10**9, parents).encode())

    def publish(self, tree: Tree) -> ArchiveHead:
        """A new snapshot and the head that names it, with the next sequence number."""
        return self.sign(self.snapshot(tree))

    def end(self) -> ArchiveHead:
        """Sign that the newest snapshot is the last one."""
        return self.sign(self.head.snapshot, ended=self.now)

    def sign(self, snapshot: Ref, *, seq: int | None = None, ended: int | None = None) -> ArchiveHead:
        """Sign the next head (or the one with ``seq``) with the key in use."""
        made = sign_head(
            self.signer,
            self.archive,
            epoch=self.epoch,
            seq=len(self.heads) + 1 if seq is None else seq,
            snapshot=snapshot,
            signed_at=self.now,
            fresh_until=self.now + (self.lifetime if ended is None else 0),
            delegation=self.delegation,
            ended=ended,
        )
        self.heads.append(made)
        return made

    def delegate(self, name: str, *, epoch: int, roles: int = ROLE_HEADS, days: int = 30) -> Identity:
        """Let a key sign in a new epoch, and use it from now on; its identity is returned."""
        key = identity(name)
        self.delegation = Delegation.sign(
            self.root,
            key.public_key,
            epoch=epoch,
            roles=roles,
            not_before=self.now,
            not_after=self.now + days * DAY,
        )
        self.signer = key
        self.epoch = epoch
        return key

    def use_root(self, *, epoch: int) -> None:
        """Sign with the root key again, in a new epoch: how a stolen signing key is shut out."""
        self.signer, self.delegation, self.epoch = self.root, None, epoch

    def read(self, head: ArchiveHead) -> Iterator[tuple[bytes, Entry, bytes]]:
        """Path, entry and bytes of everything that ``head`` leads to, as a client that verifies finds it."""
        snapshot = Snapshot.decode(self._verified(head.snapshot))
        yield from self._walk(b"", snapshot.root)

    def _walk(self, path: bytes, entry: Entry) -> Iterator[tuple[bytes, Entry, bytes]]:
        data = b"" if entry.target else self._verified(entry.ref)
        yield path, entry, data
        if entry.kind is Kind.DIR:
            entries = decode_listing(data)
            check_totals(entry, entries)
            for inner in entries:
                yield from self._walk(path + b"/" + inner.name, inner)

    def _verified(self, ref: Ref) -> bytes:
        data = self.objects[ref.digest] if ref.size else b""
        if ref.digest in self.recipes:
            recipe = Recipe.decode(self.recipes[ref.digest], ref)
            offsets = recipe.offsets
            for index, (digest, _) in enumerate(recipe):
                assert blake3(data[offsets[index] : offsets[index + 1]]).digest() == digest
        assert cut_object(data)[0] == ref
        return data

    # What an attacker does

    def forge_head(self, signer: Identity | None = None, **changes: Any) -> bytes:
        """The newest head with some fields changed, signed by ``signer`` (None: with the old signature),
        whatever the rules say. ``payload`` and ``delegation`` are raw bytes.
        """
        record = self.head.record
        fields: dict[str, Any] = {
            "tag": 2,
            "root": record.root,
            "epoch": record.epoch,
            "seq": record.seq,
            "payload": record.payload,
            "signed_at": record.signed_at,
            "fresh_until": record.fresh_until,
            "delegation": None if record.delegation is None else record.delegation.raw,
        }
        unknown = changes.keys() - fields.keys() - {"extra"}
        assert not unknown, unknown
        extra = changes.pop("extra", [])
        body: bytes = msgpack.packb([*(fields | changes).values(), *extra])
        return body + (record.raw[-64:] if signer is None else signer.sign(body, domain=DOMAIN_HEAD))

    def forge_delegation(self, signer: Identity, key: Identity, **changes: Any) -> bytes:
        """A delegation of this archive to ``key`` that ``signer`` made up."""
        fields: dict[str, Any] = {
            "tag": 1,
            "root": self.archive,
            "key": key.public_key,
            "epoch": self.epoch,
            "roles": ROLE_HEADS,
            "not_before": 0,
            "not_after": self.now + 365 * DAY,
        }
        assert changes.keys() <= fields.keys()
        body: bytes = msgpack.packb(list((fields | changes).values()))
        return body + signer.sign(body, domain=DOMAIN_DELEGATION)

    def directory_bomb(self, depth: int, width: int) -> Ref:
        """A snapshot of ``width ** depth`` directories that takes ``depth`` objects: each names the next
        under ``width`` names.
        """
        inner, totals = self.put(encode_listing([])), Totals()
        for _ in range(depth):
            entries = [dir_entry(b"%04d" % i, 0o755, MTIME, inner, totals) for i in range(width)]
            inner, totals = self.put(encode_listing(entries)), add_totals(e.below for e in entries)
        return self.put(Snapshot(dir_entry(b"", 0o755, MTIME, inner, totals), self.now * 10**9).encode())


def pack_rows(rows: Iterable[Any], version: Any = 1) -> bytes:
    """A listing or attributes object of any rows, in any order, unchecked."""
    return b"".join(msgpack.packb(item) for item in ([version], *rows))
