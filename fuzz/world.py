"""A node on a virtual clock with nobody around it but its fuzzer, and what must hold whatever arrives.

`World.receive` hands it a datagram; `World.read`, `ping`, `trace` and `crawl` have it ask while a scripted
liar answers. All raise AssertionError where a promise is broken, and let every exception of the node pass:
either is a find. Where the bytes come from is the callers' business: `targets` for atheris,
tests/dht/test_fuzz_*.py for hypothesis.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from fuzz.looks import check_crawl, check_report, check_trace
from p2psync_dht import DhtNode, Endpoint, Head, HolderRecord, HolderRole, Identity, holders_key
from p2psync_dht.acquaintances import MAX_REMEMBERED
from p2psync_dht.codec import pack
from p2psync_dht.contact import Address, Contact
from p2psync_dht.crawl import MAX_RATE, CrawledNode, crawl_network
from p2psync_dht.keys import DOMAIN_CONTACT
from p2psync_dht.lookup import MAX_QUERIES
from p2psync_dht.protocol import MAX_VERIFYING
from p2psync_dht.testing.virtual import EPOCH, VirtualLoop
from p2psync_dht.tokens import TOKEN_SIZE
from p2psync_dht.trace import Outcome, Step, ping_address, trace_lookup
from p2psync_dht.wire import (
    AMPLIFICATION,
    DEFAULT_NETWORK,
    MAX_DATAGRAM,
    REPLY_BIT,
    Kind,
    Want,
    decode,
    encode,
)

NOW: Final = int(EPOCH)
OWN: Final = Identity.from_seed(b"o" * 32)
ROOT: Final = Identity.from_seed(b"r" * 32)
LIAR: Final = Identity.from_seed(b"l" * 32)
FRIENDS: Final = [Identity.from_seed(bytes([number]) * 32) for number in range(1, 13)]
HOMES: Final = {(f"127.0.1.{number}", 8730): friend for number, friend in enumerate(FRIENDS, 1)}
"""Where the friends are in the table, and where the liar, who has their keys too, answers as them."""
PROVERS: Final = frozenset(one.node_id for one in (LIAR, *FRIENDS))
HEAD: Final = Head.sign(ROOT, ROOT.public_key, epoch=0, seq=1, payload=b"", signed_at=NOW, fresh_until=NOW)
HOLDER: Final = HolderRecord.sign(
    LIAR,
    holders_key(ROOT.public_key),
    endpoints=[Endpoint("127.0.0.9", 4000)],
    issued=NOW,
    expires=NOW + 24 * 3600,
    role=HolderRole.MIRROR,
)
ATTACKER: Final[Address] = ("127.0.0.9", 4000)
ELSEWHERE: Final[Address] = ("127.0.0.10", 4000)
SOURCES: Final[list[Address]] = [
    ATTACKER,
    ELSEWHERE,
    ("8.8.8.8", 53),
    ("10.0.0.1", 1),
    ("::1", 4000),
    ("2001:db8::1", 65535),
    ("fe80::1%lo", 4000),
    ("127.0.0.9", 0),
]
TOKEN_MARK: Final = b"@@token@"  # stands for a write token that is valid at the attacker's address
TIMERS_A_READ: Final = 3 * MAX_QUERIES  # datagrams of one read: each query twice, and some pings
TIMERS_A_PING: Final = 8  # two, each again without the wish for a proof, all of them sent twice
TIMERS_AN_ADDRESS: Final = 7  # of a walk: a ping and two questions, each sent twice, and a ping in passing
CRAWLED: Final = 12  # fewer than one answer may tell of
PATIENCE: Final = 600.0  # virtual seconds; the longest lookup takes a tenth of that

_T = TypeVar("_T")


@dataclass(frozen=True)
class Lie:
    """One datagram that answers a query; `None` where the truth would be told, unless said otherwise."""

    body: list[Any] | bytes | None = (
        None  # bytes: in place of the msgpack body; a list: None elements are true
    )
    source: Address | None = None
    sender: bytes | None = None
    transaction: bytes | None = None
    kind: int | None = None
    flags: int = 0
    proved: bool = True  # the proof is over this query's nonce
    times: int = 1
    spares_pings: bool = False  # they are answered with the truth, so that what follows is asked at all


class Tap(asyncio.DatagramTransport):
    """Takes what the node sends."""

    def __init__(self, address: Address) -> None:
        super().__init__({"sockname": address})
        self.sent: list[tuple[bytes, Address]] = []
        self.on_send: Callable[[bytes, Address], None] | None = None

    def sendto(self, data: Any, addr: Any = None) -> None:
        assert len(data) <= MAX_DATAGRAM
        self.sent.append((bytes(data), addr))
        if self.on_send is not None:
            self.on_send(bytes(data), addr)

    def close(self) -> None:
        pass

    def is_closing(self) -> bool:
        return False


class World:
    """Use as a context manager: it owns an event loop."""

    def __init__(self, *, server: bool = True) -> None:
        self._loop = VirtualLoop()
        self._failures: list[BaseException] = []
        self._loop.set_exception_handler(self._note_failure)
        self.node, self._taps = self._run(self._make(server))
        self.known = {contact.id: contact.address for contact in self.node.contacts()}
        self.stored = sorted(self.node.storage)

    async def _make(self, server: bool) -> tuple[DhtNode, list[Tap]]:
        node = DhtNode(OWN, server=server, clock=lambda: EPOCH, rng=random.Random(1))
        taps = [Tap(("127.0.0.1", 8730)), Tap(("::1", 8730))]
        for tap in taps:
            node.attach(tap)
        if server:
            for home, friend in HOMES.items():
                node.protocol.router.add_verified(Contact(friend.node_id, *home))
            assert node.storage.put(HEAD.raw) == node.storage.put(HOLDER.raw) == 0
        return node, taps

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self.node.close())
        self._loop.close()

    def _run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        result = self._loop.run_until_complete(coroutine)
        if self._failures:
            raise self._failures.pop()
        return result

    def _note_failure(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Exceptions in callbacks are finds like all others; a loop would only log them."""
        self._failures.append(context.get("exception") or AssertionError(context["message"]))

    def pass_time(self, seconds: float) -> None:
        """Run the timers of the next seconds."""
        self._run(asyncio.sleep(seconds))

    # Datagrams that nobody asked for

    def receive(self, datagram: bytes, source: Address = ATTACKER) -> None:
        """One datagram from somewhere: answered within bounds or dropped, and no table or record changes."""
        protocol = self.node.protocol
        token = protocol.tokens.make(source, protocol.now())
        proved = TOKEN_MARK in datagram
        datagram = datagram.replace(TOKEN_MARK, token)
        for tap in self._taps:
            tap.sent.clear()
        before = protocol.counters.datagrams_in
        self._run(_call(protocol.datagram_received, datagram, source))
        assert protocol.counters.datagrams_in == before + 1
        sent = [one for tap in self._taps for one in tap.sent]
        assert len(sent) <= 2, "more than an answer and a question for one datagram"
        for answer, address in sent:
            if answer[5] & REPLY_BIT:
                assert address == source
                assert proved or len(answer) <= AMPLIFICATION * len(datagram)
        self.check_beliefs()

    def check_beliefs(self) -> None:
        """Nobody unproved in the table, nothing unsigned in the store, no memory without bounds."""
        for contact in self.node.contacts():
            assert self.known.get(contact.id) == contact.address, f"unproved: {contact}"
        for _, raw in self.node.storage:
            (Head if raw[1] == HEAD.raw[1] else HolderRecord).decode(raw).verify(NOW)
        protocol = self.node.protocol
        assert protocol._verifying <= MAX_VERIFYING
        assert len(protocol.acquaintances._pinged) <= MAX_REMEMBERED
        for tap in self._taps:
            assert not tap.is_closing()

    # Answers to queries

    def read(self, lies: list[Lie], *, holders: bool = False) -> None:
        """Ask for the head (or holders) of `ROOT`."""
        assert self._lied_to(lies, self._read(holders)) <= TIMERS_A_READ, "unbounded work for one read"

    def ping(self, lies: list[Lie]) -> None:
        """Ping the liar twice."""
        assert self._lied_to(lies, self._ping()) <= TIMERS_A_PING, "unbounded work for one ping"

    def trace(self, lies: list[Lie], want: Want) -> None:
        """Watch a lookup under the key of the head, or of the holder record, of the seeds."""
        assert self._lied_to(lies, self._trace(want)) <= TIMERS_A_READ, "unbounded work for one lookup"

    def crawl(self, lies: list[Lie]) -> None:
        """Estimate the size of the network, and walk it up to `CRAWLED` addresses."""
        bound = TIMERS_A_READ + TIMERS_AN_ADDRESS * CRAWLED
        assert self._lied_to(lies, self._crawl()) <= bound, "unbounded work for one walk"

    def _lied_to(self, lies: list[Lie], asking: Coroutine[Any, Any, None]) -> int:
        """Ask while the liar is the only contact and tells two `lies` a query; how many datagrams went
        out.
        """
        protocol = self.node.protocol
        tap = self._taps[0]
        asked: set[Address] = set()
        script = iter(lies)
        for old in self.node.contacts():
            protocol.router.remove_contact(old)
        protocol.router.add_verified(Contact(LIAR.node_id, *ATTACKER))

        def lie(datagram: bytes, address: Address) -> None:
            if datagram[5] & REPLY_BIT:
                return
            asked.add(address)
            for told in (next(script, None), next(script, None)):
                if told is not None:
                    reply = _reply(told, datagram, HOMES.get(address, LIAR))
                    for _ in range(told.times):
                        source = told.source or address
                        self._loop.call_later(0.01, protocol.datagram_received, reply, source)

        tap.sent.clear()
        tap.on_send = lie
        try:
            self._run(_patiently(asking))
        finally:
            tap.on_send = None
        for contact in self.node.contacts():
            assert contact.id == HOMES.get(contact.address, LIAR).node_id, f"unproved: {contact}"
            assert contact.address in asked
        assert not protocol._outstanding
        self.known = {contact.id: contact.address for contact in self.node.contacts()}
        self.check_beliefs()
        return len(tap.sent)

    async def _read(self, holders: bool) -> None:
        if holders:
            for record in await self.node.get_holders(HOLDER.key):
                record.verify(NOW)
                assert record.key == HOLDER.key
        else:
            found = await self.node.get_head(ROOT.public_key)
            if found.best is not None:
                assert found.best.root == ROOT.public_key
                found.best.verify(NOW)

    async def _ping(self) -> None:
        check_report(await ping_address(self.node, ATTACKER, count=2), PROVERS)

    async def _trace(self, want: Want) -> None:
        ended: list[Step] = []
        key = HOLDER.key if want == Want.HOLDERS else HEAD.key
        trace = await trace_lookup(self.node, key, want, on_step=ended.append)
        check_trace(trace, PROVERS)
        assert len(ended) == len(trace.steps) - trace.count(Outcome.OPEN)

    async def _crawl(self) -> None:
        seen: list[CrawledNode] = []
        walks = await crawl_network(self.node, limit=CRAWLED, rate=MAX_RATE, targets=1, on_node=seen.append)
        for found in walks:
            check_crawl(found, PROVERS)
            assert found.asked <= CRAWLED
        assert len({node.node_id for node in seen}) == len(seen), "a node was shown twice"


async def _patiently(asking: Coroutine[Any, Any, None]) -> None:
    """Ask, and wait for what that left under way: pings, the handing on of heads."""
    async with asyncio.timeout(PATIENCE):
        await asking
        await asyncio.sleep(PATIENCE / 10)


async def _call(function: Callable[..., None], *args: Any) -> None:
    function(*args)


def _reply(told: Lie, datagram: bytes, signer: Identity) -> bytes:
    """The datagram of a lie, after the query that it answers, in the name of `signer` as a rule."""
    query = decode(datagram, DEFAULT_NETWORK)
    kind = query.kind if told.kind is None else Kind(told.kind)
    head = encode(
        DEFAULT_NETWORK,
        kind,
        told.transaction or query.transaction,
        told.sender or signer.node_id,
        [],
        is_reply=True,
    )
    head = head[:6] + bytes([told.flags]) + head[7:35]
    if isinstance(told.body, bytes):
        return head + len(told.body).to_bytes(2, "big") + told.body
    nonce = next((one for one in query.body if type(one) is bytes and len(one) == 16), b"")
    signed = DEFAULT_NETWORK + nonce + query.sender
    proof = signer.public_key + signer.sign(signed if told.proved else b"?" + signed, domain=DOMAIN_CONTACT)
    truth: list[Any] = [socket.inet_aton("127.0.0.1") + b"\x22\x1a", bytes(TOKEN_SIZE)]
    truth += [proof] if kind == Kind.PING else [b"", None, proof]
    body = [] if told.spares_pings and kind == Kind.PING else list(told.body or ())
    body += [None] * (len(truth) - len(body))
    mixed = [real if lie is None else lie for lie, real in zip(body, truth, strict=False)] + body[
        len(truth) :
    ]
    packed = pack(mixed)
    return (head + len(packed).to_bytes(2, "big") + packed)[: MAX_DATAGRAM + 50]
