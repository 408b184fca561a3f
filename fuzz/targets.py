"""Four targets for a coverage-guided fuzzer: each takes bytes, and raises where the node breaks a promise.

`datagram`: what strangers send to a node. `reply`: what a node that was asked answers. `look`: the same to
those who look closely, with a ping, a watched lookup or a walk. `record`: what is stored, also with valid
signatures, which a fuzzer cannot make by itself.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from fuzz.world import FRIENDS, HEAD, HOLDER, HOMES, LIAR, NOW, ROOT, SOURCES, TOKEN_MARK, Lie, World
from p2psync_dht import TAG_MIRRORS, Delegation, Head, HolderRecord, RecordError
from p2psync_dht.codec import CodecError, pack, unpack
from p2psync_dht.contact import Contact
from p2psync_dht.keys import DOMAIN_DELEGATION, DOMAIN_HEAD, DOMAIN_HOLDER, DOMAIN_MIRRORS
from p2psync_dht.storage import RecordStore
from p2psync_dht.wire import DEFAULT_NETWORK, HEADER_SIZE, MAX_DATAGRAM, Kind, Status, Want, encode

MAX_LIES: Final = 24  # a script longer than this repeats itself
EXECUTIONS_A_WORLD: Final = 500  # then a new one: memory that grows would hide what one input does

_worlds: dict[str, tuple[World, int]] = {}


def _world(name: str, *, server: bool) -> World:
    """A node that has seen some inputs already, as a real one has."""
    world, used = _worlds.get(name, (None, 0))
    if world is None or used >= EXECUTIONS_A_WORLD:
        if world is not None:
            world.__exit__()
        world, used = World(server=server), 0
    _worlds[name] = world, used + 1
    return world


def datagram(data: bytes) -> None:
    """First byte: from where (low bits), and whether our header is put before the rest (top bit)."""
    if not data:
        return
    world = _world("datagram", server=True)
    rest = data[1:]
    if data[0] & 0x80:
        rest = DEFAULT_NETWORK + b"\x01" + rest
    if data[0] & 0x40 and len(rest) > HEADER_SIZE:
        # The right length of the body, which mutations keep breaking.
        rest = rest[: HEADER_SIZE - 2] + (len(rest) - HEADER_SIZE).to_bytes(2, "big") + rest[HEADER_SIZE:]
    world.receive(rest, SOURCES[data[0] % len(SOURCES)])
    world.pass_time(0.2)


def reply(data: bytes) -> None:
    """A script of lies: a msgpack array of [flags, body, ...] each, or raw bytes for a body."""
    if not data:
        return
    server = bool(data[0] & 2)
    world = _world("server" if server else "client", server=server)
    world.read(script(data[1:]), holders=bool(data[0] & 1))


def look(data: bytes) -> None:
    """First byte: how to look, and as whom. The rest is a script as of `reply`."""
    if not data:
        return
    server = bool(data[0] & 4)
    world = _world("watchful server" if server else "watchful client", server=server)
    lies = script(data[1:])
    match data[0] & 3:
        case 0:
            world.ping(lies)
        case 1:
            world.trace(lies, Want.HEAD)
        case 2:
            world.trace(lies, Want.HOLDERS)
        case _:
            world.crawl(lies)


def script(data: bytes) -> list[Lie]:
    """Read lies from bytes; what cannot be read is a raw body."""
    try:
        rows = unpack(data, limit=1 << 16)
    except CodecError:
        return [Lie(body=data[:MAX_DATAGRAM])]
    return [_lie(row) for row in rows[:MAX_LIES]] if isinstance(rows, list) else []


def _lie(row: Any) -> Lie:
    if isinstance(row, bytes):
        return Lie(body=row[:MAX_DATAGRAM])
    if not isinstance(row, list) or len(row) < 2 or type(row[0]) is not int:
        return Lie()
    what, body = row[0], row[1]
    return Lie(
        body=body if isinstance(body, list | bytes) else None,
        source=SOURCES[what >> 8 & 7] if what & 1 else None,
        sender=FRIENDS[what >> 8 & 7].node_id if what & 2 else None,
        transaction=bytes(8) if what & 4 else None,
        kind=int(Kind.PING) if what & 8 else None,
        flags=what >> 4 & 3,
        proved=not what & 64,
        times=1 + (what >> 7 & 1),
        spares_pings=bool(what & 0x800),
    )


def record(data: bytes) -> None:
    """First byte: raw, or signed as a head, holder record, delegation or mirrors' head by the keys of the
    seeds.
    """
    if not data:
        return
    how, body = data[0] % 5, data[1:]
    signers = {
        1: (ROOT, DOMAIN_HEAD),
        2: (LIAR, DOMAIN_HOLDER),
        3: (ROOT, DOMAIN_DELEGATION),
        4: (ROOT, DOMAIN_MIRRORS),
    }
    if how in signers:
        signer, domain = signers[how]
        body += signer.sign(body, domain=domain)
    kinds: tuple[Callable[[bytes], Head | HolderRecord | Delegation], ...] = (
        Head.decode,
        partial(Head.decode, tag=TAG_MIRRORS),
        HolderRecord.decode,
        Delegation.decode,
    )
    for decode in kinds:
        try:
            made = decode(body)
            made.verify()
        except RecordError:
            continue
        assert made.raw == body
        assert repr(decode(bytes(body))) == repr(made)  # NaN as a further field equals nothing
    check_store(body)


def check_store(raw: bytes) -> None:
    """A store keeps what verifies now, gives exactly that back, and counts right."""
    store = RecordStore(lambda: NOW, random.Random(1), max_records=4, max_holders_per_key=2)
    store.put(HEAD.raw, source=1)
    store.put(HOLDER.raw, source=1)
    before = sorted(store)
    status = store.put(raw, source=2, sender_ip="127.0.0.9")
    if status != Status.STORED:
        assert sorted(store) == before
        assert store.restore(raw, NOW + 60, 3) == status or status == Status.REFUSED
        return
    made: Head | HolderRecord = (
        HolderRecord.decode(raw) if raw[1] == HOLDER.raw[1] else Head.decode(raw, tag=raw[1])
    )
    made.verify(NOW)
    assert raw in store.get(made.key)
    assert store.put(raw) == Status.SAME
    assert len(store) == sum(1 for _ in store.records()) == sum(store._by_source.values())
    store.prune(everything=True)
    assert len(list(store)) == len(store)


def seeds(target: str) -> list[bytes]:
    """A few inputs that reach far into a target."""
    target_id = HEAD.key
    token, nonce = TOKEN_MARK, b"n" * 16
    if target == "record":
        delegation = Delegation.sign(ROOT, LIAR.public_key, epoch=1, roles=1, not_before=0, not_after=2 * NOW)
        url = pack([3, HOLDER.key, LIAR.public_key, ["https://mirror.example/"], NOW, NOW + 60, 2, b"", None])
        later = pack([2, ROOT.public_key, 0, 2, b"payload", NOW, NOW, None, "extra"])
        by_root = pack([2, ROOT.public_key, 1, 2, b"", NOW, NOW, delegation.raw])
        return [
            b"\x00" + HEAD.raw,
            b"\x00" + HOLDER.raw,
            b"\x00" + delegation.raw,
            b"\x01" + HEAD.raw[:-64],
            b"\x01" + later,
            b"\x01" + by_root,
            b"\x02" + HOLDER.raw[:-64],
            b"\x02" + url,
            b"\x03" + delegation.raw[:-64],
        ]
    if target == "reply":
        near = target_id[:10] + b"q" * 10 + bytes([127, 0, 0, 11, 1, 1])
        rows: list[Any] = [
            [0, [None, None, near * 3, [HEAD.raw, 0]]],
            [0, [None, None, b"", [2, [HOLDER.raw]]]],
            [0, [None, None, b"x" * 25, [10**9, [HOLDER.raw] * 3]]],
            [0x101, [None]],
            [0x102, []],
            [0xFC, [None, None, near, None, b"p" * 96]],
            b"\xc0",
        ]
        return [
            bytes([how]) + pack(rows[at:] + rows[:at]) for how in range(4) for at in range(0, len(rows), 2)
        ]
    if target == "look":
        homes = b"".join(Contact(friend.node_id, *home).pack() for home, friend in HOMES.items())
        scripts = [
            [[0x800, [None, None, homes, [HEAD.raw, 0]]], [0x800, [None, None, homes * 2, [None, 0]]]] * 8,
            [[0x800, [None, None, homes, [2, [HOLDER.raw]]]], [0x800, [None, None, b"x", [b"", [0]]]]] * 8,
            [[0, [None, None, None, b"example/1"]], [0, [None, None, None, 1]], [0x800, [1]], b"\xc0"] * 4,
        ]
        return [bytes([how]) + pack(rows) for how in range(8) for rows in scripts]
    bodies: list[tuple[Kind, list[Any]]] = [
        (Kind.PING, [nonce, token]),
        (Kind.FIND, [target_id, 1, nonce, None, token]),
        (Kind.FIND, [HOLDER.key, 2, None, 0, token]),
        (Kind.STORE, [token, [HEAD.raw]]),
        (Kind.STORE_BATCH, [token, HOLDER.raw[:4], HOLDER.raw[24:-64], HOLDER.key + HOLDER.raw[-64:]]),
        (Kind.PROVE, [token, LIAR.public_key + bytes(64)]),
        (Kind.PROBE, [token, nonce]),
        (Kind.RELAY, [token, bytes([127, 0, 0, 9, 1, 1]), nonce]),
        (Kind.CALLBACK, [nonce]),
    ]
    made = []
    for kind, body in bodies:
        for is_reply in (False, True):
            whole = encode(DEFAULT_NETWORK, kind, b"12345678", LIAR.node_id, body, is_reply=is_reply)
            made.append(b"\xc0" + whole[5:])
    return made


TARGETS: Final = {one.__name__: one for one in (datagram, reply, look, record)}
