"""Shared makers of keys and records."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from p2psync_dht import Delegation, DhtNode, Endpoint, Head, HolderRecord, HolderRole, Identity, holders_key
from p2psync_dht.contact import Contact
from p2psync_dht.testing.liars import tell_lies
from p2psync_dht.testing.virtual import VirtualNetwork

NOW = int(time.time())
"""When the tests began: read once, so that a record made twice is the same record."""

HeadMaker = Callable[..., Head]
HolderMaker = Callable[..., HolderRecord]


def identity(number: int) -> Identity:
    return Identity.from_seed(bytes([number]) * 32)


def record_of(node: DhtNode, key: bytes) -> HolderRecord:
    """What a mirror announces of itself under a key, for an hour."""
    now = int(node.protocol.clock())
    return HolderRecord.sign(
        node.identity,
        key,
        endpoints=[Endpoint(*node.address)],
        issued=now,
        expires=now + 3600,
        role=HolderRole.MIRROR,
    )


def head_of(network: VirtualNetwork, seq: int = 1, root: Identity | None = None) -> Head:
    signer = root or network.new_identity()
    now = int(network.clock())
    return Head.sign(signer, signer.public_key, epoch=0, seq=seq, payload=b"", signed_at=now, fresh_until=now)


def truly_closest(network: VirtualNetwork, key: bytes, count: int = 20) -> list[DhtNode]:
    target = int.from_bytes(key, "big")
    servers = [node for node in network.nodes if node.is_server]
    return sorted(servers, key=lambda node: int.from_bytes(node.node_id, "big") ^ target)[:count]


def deny(node: DhtNode, friends: list[DhtNode], instead: Head | None = None) -> None:
    """The node tells of its friends only, and has `instead` for every head."""
    contacts = [Contact(friend.node_id, *friend.address) for friend in friends]
    told = None if instead is None else [instead.raw, 0]

    def lie(key: bytes, _value: Any) -> tuple[list[Contact], Any]:
        target = int.from_bytes(key, "big")
        return sorted(contacts, key=lambda one: one.long_id ^ target)[:20], told

    tell_lies(node, lie)


@pytest.fixture
def root() -> Identity:
    return identity(200)


@pytest.fixture
def make_head(root: Identity) -> HeadMaker:
    def make(seq: int = 1, *, signer: Identity | None = None, **fields: Any) -> Head:
        values: dict[str, Any] = {
            "epoch": 0,
            "payload": b"snapshot",
            "signed_at": NOW,
            "fresh_until": NOW + 3600,
            "delegation": None,
        } | fields
        by: Delegation | None = values["delegation"]
        assert by is None or signer is not None
        return Head.sign(signer or root, root.public_key, seq=seq, **values)

    return make


@pytest.fixture
def make_holder(root: Identity) -> HolderMaker:
    def make(holder: Identity, *, key: bytes | None = None, **fields: Any) -> HolderRecord:
        values: dict[str, Any] = {
            "endpoints": [Endpoint("127.0.0.1", 8730)],
            "issued": NOW,
            "expires": NOW + 3600,
            "role": HolderRole.MIRROR,
            "payload": b"",
        } | fields
        return HolderRecord.sign(holder, holders_key(root.public_key) if key is None else key, **values)

    return make
