"""How large the network is, and who is in it: an estimate from the density of ids, and a polite walk.

The estimate needs a few lookups and works for any size: ids are uniform, so the k nodes nearest to a random
key lie the closer the more nodes there are. The walk asks every node that it hears of for a proof of its id
and for contacts near and far, and goes on until nobody new is heard of: it counts a small network exactly,
and says how many of the contacts in tables answer. Both see servers only, since clients are in no table.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Final

from p2psync_dht import wire
from p2psync_dht.contact import Address, Contact, contacts_told
from p2psync_dht.density import gamma_quantile
from p2psync_dht.keys import ID_SIZE
from p2psync_dht.lookup import Lookup
from p2psync_dht.networks import Caps, NetworkQuota
from p2psync_dht.query import Reply
from p2psync_dht.routing import KEY_BITS
from p2psync_dht.trace import ping_once
from p2psync_dht.wire import Want, WireError

if TYPE_CHECKING:
    from p2psync_dht.node import DhtNode
    from p2psync_dht.protocol import DhtProtocol

TARGETS: Final = 16  # random keys of an estimate: 320 distances, and so 95 % within 11 %
TARGETS_AT_ONCE: Final = 2  # lookups under way
DEFAULT_LIMIT: Final = 2000  # addresses asked in a walk
MAX_LIMIT: Final = 100_000  # 20 MB of what is remembered
DEFAULT_RATE: Final = 100.0  # queries a second of a walk: 20 KB/s of our line, three queries for each node
MAX_RATE: Final = 1000.0
WORKERS: Final = 64  # nodes asked at once; more are waited for only where most are dead
# Addresses asked in one network: a liar could send us to many ports of a victim, or through a network of its
# own.
MAX_PER_NETWORK: Final = Caps(client=64, site=64, provider=1024)
_NORMAL_95: Final = 1.959964  # two-sided 95 % quantile of the normal distribution


@dataclass(frozen=True, slots=True)
class SizeEstimate:
    """How many nodes there are: the best guess, and bounds that hold the truth with 95 % probability."""

    nodes: float
    low: float
    high: float
    targets: int
    """Random keys looked at; 0 if nothing is known."""


def estimate_size(samples: Iterable[Sequence[int]], ksize: int) -> SizeEstimate:
    """Estimate the number of nodes from the distances of the nodes nearest to random keys.

    A sample has the `ksize` smallest XOR distances from one key, or all if there are fewer nodes. Of n
    uniform ids the kth smallest distance, as a share x of the key space, is nearly a sum of k exponential
    gaps of mean 1/n; so n times the sum of all x is gamma distributed, and (sum of k - 1) / (sum of x) is
    the unbiased estimate. Where samples are short, they are the whole network.
    """
    shape = 0
    total = 0.0
    targets = 0
    whole = 0
    for sample in samples:
        targets += 1
        if len(sample) < ksize:
            whole = max(whole, len(sample))
            continue
        shape += ksize
        total += (sorted(sample)[ksize - 1] + 1) / 2**KEY_BITS
    if not targets:
        return SizeEstimate(0.0, 0.0, inf, 0)
    if not shape:
        return SizeEstimate(float(whole), float(whole), float(whole), targets)
    low = gamma_quantile(shape, -_NORMAL_95) / total
    high = gamma_quantile(shape, _NORMAL_95) / total
    # There cannot be fewer nodes than were seen around one key.
    return SizeEstimate(max((shape - 1) / total, ksize), max(low, ksize), max(high, ksize), targets)


async def measure_size(
    node: DhtNode, family: socket.AddressFamily, *, targets: int = TARGETS
) -> SizeEstimate:
    """Estimate the size of the network of one address family by lookups of random keys."""
    protocol = node.protocol
    ksize = protocol.tables[family].ksize
    samples: list[list[int]] = []
    slots = asyncio.Semaphore(TARGETS_AT_ONCE)

    async def sample() -> None:
        async with slots:
            target = protocol.rng.randbytes(ID_SIZE)
            samples.append([answer.distance for answer in await Lookup(protocol, family, target).run()])

    async with asyncio.TaskGroup() as group:
        for _ in range(targets):
            group.create_task(sample())
    return estimate_size(samples, ksize)


@dataclass(frozen=True, slots=True)
class CrawledNode:
    """A node that proved its id in a walk."""

    node_id: bytes
    address: Address
    agent: str
    """The software that it says it is; "" if it does not say."""
    rtt: float
    """Seconds."""
    told: int
    """Contacts that it told of, in two answers."""


@dataclass(slots=True)
class Crawl:
    """The outcome of a walk through one address family."""

    family: socket.AddressFamily
    nodes: dict[bytes, CrawledNode] = field(default_factory=dict)
    """By id."""
    asked: int = 0
    """Addresses asked: more than nodes and failures together where one node answers at several."""
    silent: int = 0
    """Addresses that others told of and where nobody answered."""
    unproved: int = 0
    """Such where somebody answered without proof of an id."""
    skipped: int = 0
    """Addresses heard of and not asked: past the limit (and counted up to it), or too many of one network."""
    complete: bool = False
    """Whether everybody who was heard of was asked."""
    estimate: SizeEstimate = SizeEstimate(0.0, 0.0, inf, 0)
    seconds: float = 0.0

    @property
    def reachable(self) -> float:
        """The share of the addresses asked where a node proved its id."""
        return 1 - (self.silent + self.unproved) / self.asked if self.asked else 0.0

    @property
    def agents(self) -> Counter[str]:
        """Nodes by the software that they say they are."""
        return Counter(node.agent for node in self.nodes.values())


async def crawl_network(
    node: DhtNode,
    *,
    limit: int = DEFAULT_LIMIT,
    rate: float = DEFAULT_RATE,
    targets: int = TARGETS,
    on_node: Callable[[CrawledNode], None] | None = None,
) -> list[Crawl]:
    """Estimate and walk the network of each address family in which the node knows anybody, from its contacts
    on.

    At most `limit` addresses are asked in each, with at most `rate` queries a second. `on_node` sees each
    node once, as it is found. ValueError if `limit` or `rate` is out of bounds.
    """
    if not (0 < limit <= MAX_LIMIT and 0 < rate <= MAX_RATE):
        raise ValueError(
            f"at most {MAX_LIMIT} addresses and {MAX_RATE:.0f} queries a second, and more than none"
        )
    made = []
    families = node.protocol.families()
    for family in [each for each in families if len(node.protocol.tables[each])] or families[:1]:
        walk = _Walk(node.protocol, family, limit, rate, on_node)
        began = node.protocol.now()
        walk.found.estimate = await measure_size(node, family, targets=targets)
        await walk.run()
        walk.found.seconds = node.protocol.now() - began
        made.append(walk.found)
    return made


class _Pacer:
    """Lets one query go at a time, evenly."""

    def __init__(self, rate: float) -> None:
        self._gap = 1 / rate
        self._next = 0.0

    async def wait(self) -> None:
        now = asyncio.get_running_loop().time()
        at = max(self._next, now)
        self._next = at + self._gap
        if at > now:
            await asyncio.sleep(at - now)


class _Walk:
    """Asks each address once: first for a proof, then for the contacts nearest to itself and to a random key.

    Those nearest to itself lead to every neighbour; but a subtree of the key space with more than k nodes may
    tell of itself only, so the random key leads out of it.
    """

    def __init__(
        self,
        protocol: DhtProtocol,
        family: socket.AddressFamily,
        limit: int,
        rate: float,
        on_node: Callable[[CrawledNode], None] | None,
    ) -> None:
        self.found = Crawl(family)
        self._protocol = protocol
        self._limit = limit
        self._pacer = _Pacer(rate)
        self._on_node = on_node
        self._heard: set[Address] = set()
        self._skipped: set[Address] = set()
        self._networks = NetworkQuota(caps=MAX_PER_NETWORK)
        self._waiting: deque[Address] = deque()
        self._busy = 0
        self._changed = asyncio.Condition()
        for contact in protocol.tables[family]:
            self._hear(contact)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(WORKERS, self._limit)):
                group.create_task(self._work())
        self.found.skipped = len(self._skipped)
        self.found.complete = not self._skipped

    async def _work(self) -> None:
        while (address := await self._take()) is not None:
            await self._visit(address)
            async with self._changed:
                self._busy -= 1
                self._changed.notify_all()

    async def _take(self) -> Address | None:
        """The next address; None when there is none and nobody can tell of one any more."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._waiting or not self._busy)
            if not self._waiting:
                return None
            self._busy += 1
            return self._waiting.popleft()

    def _hear(self, contact: Contact) -> None:
        """Note an address to ask. The id told with it is not believed: who is there proves its own."""
        address = contact.address
        if address in self._heard:
            return
        if len(self._heard) >= self._limit or not self._networks.admit(contact.ip):
            if len(self._skipped) < self._limit:
                self._skipped.add(address)
            return
        self._heard.add(address)
        self._waiting.append(address)

    async def _visit(self, address: Address) -> None:
        await self._pacer.wait()
        pong = await ping_once(self._protocol, address)
        self.found.asked += 1
        if pong.rtt is None:
            self.found.silent += not pong.bad
            self.found.unproved += pong.bad
            return
        told = 0
        contact = Contact(pong.node_id, *address)
        for target in (pong.node_id, self._protocol.rng.randbytes(ID_SIZE)):
            told += await self._ask(contact, target)
        node = CrawledNode(pong.node_id, address, pong.agent, pong.rtt, told)
        if pong.node_id not in self.found.nodes:
            self.found.nodes[pong.node_id] = node
            if self._on_node is not None:
                self._on_node(node)

    async def _ask(self, contact: Contact, target: bytes) -> int:
        """Ask for the contacts nearest to a key; how many there were."""
        done: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()

        def arrived(reply: Reply | None) -> None:
            if not done.done():
                done.set_result(reply)

        await self._pacer.wait()
        self._protocol.find(contact, target, Want.NODES, arrived)
        reply = await done
        if reply is None:
            return 0
        try:
            blob = wire.field(reply.body, 2, bytes)
        except WireError:
            return 0
        told = 0
        for other in contacts_told(blob, contact):
            if other is not None:
                told += 1
                self._hear(other)
        return told
