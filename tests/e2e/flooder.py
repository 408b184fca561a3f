"""An attacker: floods a DHT node with hostile datagrams from 127.0.0.9 until it is told to stop.

Run as `python -m tests.e2e.flooder HOST PORT COUNT RATE ID...`; the ids (hexadecimal) are those of nodes in
whose name it speaks. It sends COUNT datagrams at the least, and goes on until its standard input ends. Then
it prints what it sent. It listens as well: with the write tokens that it is given it stores nonsense.
"""

from __future__ import annotations

import contextlib
import json
import random
import select
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from p2psync_dht.wire import (
    DEFAULT_NETWORK,
    HEADER_SIZE,
    MAX_DATAGRAM,
    REPLY_BIT,
    Kind,
    WireError,
    decode,
    encode,
)

HOST: Final = "127.0.0.9"
SOCKETS: Final = (
    6  # each has a bucket of its own in the node's rate limit, as on the Internet only networks have
)
BURST: Final = 50
VARIETY: Final = 4000  # different datagrams, each with a transaction id of its own when it is sent

rng = random.Random(9)
Sort = Callable[[list[bytes], bytes], bytes]


def contacts(count: int) -> bytes:
    """Invented nodes at ports where nobody is."""
    return b"".join(rng.randbytes(20) + bytes([127, 0, 0, 9]) + rng.randbytes(2) for _ in range(count))


def request(ids: list[bytes], token: bytes) -> bytes:
    """What an honest node might ask, by who it is not; stores are nonsense, their token may be right."""
    nonce = rng.randbytes(16)
    sorts: list[tuple[Kind, list[Any]]] = [
        (Kind.PING, [nonce, token]),
        (Kind.FIND, [rng.randbytes(20), rng.randrange(3), nonce, None, token]),
        (Kind.FIND, [rng.randbytes(20), rng.randrange(3), None, rng.randrange(2**32), None]),
        (Kind.STORE, [token, [rng.randbytes(200) for _ in range(4)]]),
        (Kind.STORE, [token, [b"\x98\x03\xc4\x14" + rng.randbytes(200)]]),
        (Kind.STORE_BATCH, [token, b"\x98\x03\xc4\x14", rng.randbytes(60), rng.randbytes(84 * 4)]),
        (Kind.PROVE, [token, rng.randbytes(96)]),
        (Kind.PROBE, [token, nonce]),
        (Kind.RELAY, [token, bytes([127, 0, 0, 9]) + rng.randbytes(2), nonce]),
        (Kind.CALLBACK, [nonce]),
    ]
    kind, body = rng.choice(sorts)
    return encode(DEFAULT_NETWORK, kind, rng.randbytes(8), rng.choice(ids), body, pad_to=rng.choice([0, 400]))


def answer(ids: list[bytes], token: bytes) -> bytes:
    """A reply that nobody asked for."""
    body: list[Any] = [
        b"\x7f\0\0\x01\x22\x1a",
        token,
        contacts(20),
        [rng.randbytes(300), 0],
        rng.randbytes(96),
    ]
    return encode(
        DEFAULT_NETWORK, rng.choice(list(Kind)), rng.randbytes(8), rng.choice(ids), body, is_reply=True
    )


def malformed(ids: list[bytes], token: bytes) -> bytes:
    """Noise, bodies of wrong types, lengths that lie, datagrams that are too large."""
    choice = rng.randrange(4)
    if choice == 0:
        return rng.randbytes(rng.randrange(1, MAX_DATAGRAM + 300))
    body: list[Any] = [
        rng.choice([None, -1, 2**63, "text", b"", {}, [[[]]], 1.5, True]) for _ in range(rng.randrange(7))
    ]
    made = encode(DEFAULT_NETWORK, rng.choice(list(Kind)), rng.randbytes(8), rng.choice(ids), body)
    if choice == 1:
        return made
    if choice == 2:
        return made[: HEADER_SIZE - 2] + rng.randbytes(2) + made[HEADER_SIZE:]
    # Arrays in arrays, each of which claims a thousand elements.
    nested = b"\xdc\x03\xe8" * rng.randrange(300)
    return made[: HEADER_SIZE - 2] + len(nested).to_bytes(2, "big") + nested


def mutated(ids: list[bytes], token: bytes) -> bytes:
    """A valid datagram with one to three bytes changed, or its end cut off."""
    made = bytearray(rng.choice([request, answer])(ids, token))
    for _ in range(rng.randrange(1, 4)):
        made[rng.randrange(len(made))] = rng.randrange(256)
    return bytes(made[: rng.choice([None, rng.randrange(1, len(made))])])


SORTS: Final[list[Sort]] = [request, answer, malformed, mutated]


def main() -> None:
    """Send `RATE` datagrams a second, until there were `COUNT` and standard input has ended."""
    target, count, rate = (sys.argv[1], int(sys.argv[2])), int(sys.argv[3]), float(sys.argv[4])
    ids = [bytes.fromhex(one) for one in sys.argv[5:]] + [rng.randbytes(20) for _ in range(20)]
    sent: Counter[str] = Counter()
    tokens = [bytes(8)]
    pool = [(sort.__name__, sort(ids, bytes(8))) for sort in SORTS for _ in range(VARIETY // len(SORTS))]
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(SOCKETS)]
    for one in sockets:
        one.bind((HOST, 0))
        one.setblocking(False)
    began = time.monotonic()
    while (total := sent.total()) < count or not select.select([sys.stdin], [], [], 0)[0]:
        mine = sockets[total // BURST % SOCKETS]
        for _ in range(BURST):
            sort, raw = rng.choice(pool)
            if rng.random() < 0.05:
                sort, raw = "request", request(ids, rng.choice(tokens))
            if len(raw) > HEADER_SIZE and sort != "malformed":
                raw = raw[:7] + rng.randbytes(8) + raw[15:]
            with contextlib.suppress(BlockingIOError):
                mine.sendto(raw, target)
                sent[sort] += 1
        for _ in range(BURST):
            try:
                raw = mine.recv(2048)
            except BlockingIOError:
                break
            if len(raw) > HEADER_SIZE and raw[5] & REPLY_BIT:
                with contextlib.suppress(WireError, IndexError):
                    tokens = [*tokens[-20:], bytes(decode(raw, DEFAULT_NETWORK).body[1])]
        time.sleep(max(0.0, began + sent.total() / rate - time.monotonic()))
    print(json.dumps({"sent": sent.total(), "seconds": round(time.monotonic() - began, 1), "sorts": sent}))


if __name__ == "__main__":
    main()
