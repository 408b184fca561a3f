"""A network of real nodes on a virtual clock: an hour passes as fast as its events can be worked off.

The event loop jumps to its next timer instead of waiting, and datagrams travel through `VirtualNetwork`
instead of sockets, with latency, loss and NAT. Everything random comes from one seed, so a run repeats
exactly. What misbehaves, and when, is the test's.
"""

from __future__ import annotations

import asyncio
import random
import selectors
import zlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

from p2psync_dht.contact import Address
from p2psync_dht.keys import Identity
from p2psync_dht.node import DhtNode

EPOCH: Final = 1_800_000_000.0  # Unix time at which virtual time begins
MEAN_RTT: Final = 0.080  # seconds between two nodes, there and back
NAT_LIFETIME: Final = 60.0  # seconds for which a NAT lets answers in

_T = TypeVar("_T")


class _JumpingSelector(selectors.BaseSelector):
    """A selector of no files: where others wait, it moves the clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self._files: dict[Any, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        self._files[fileobj] = selectors.SelectorKey(fileobj, 0, events, data)
        return self._files[fileobj]

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._files.pop(fileobj)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("the network is at rest, and somebody still waits")
        if timeout > 0:
            self.now += timeout
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._files

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        return self._files[fileobj]


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose `time` is virtual. It has no I/O and no threads."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


def run_virtual(main: Callable[[], Awaitable[_T]]) -> _T:
    """Run a coroutine function on a virtual clock that starts at 0."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:

        async def call() -> _T:
            return await main()

        return runner.run(call())


class VirtualTransport(asyncio.DatagramTransport):
    """What a node takes for its socket."""

    def __init__(self, network: VirtualNetwork, address: Address, *, nat: bool) -> None:
        super().__init__({"sockname": address})
        self.address = address
        self.nat = nat
        self.protocol: asyncio.DatagramProtocol | None = None
        self.asked: dict[Address, float] = {}
        self._network = network
        self._closing = False

    def sendto(self, data: Any, addr: Any = None) -> None:
        if self._closing:
            return
        if self.nat:
            self.asked[addr] = self._network.loop.time()
        self._network.carry(bytes(data), self.address, addr)

    def close(self) -> None:
        self._closing = True
        self._network.transports.pop(self.address, None)

    def is_closing(self) -> bool:
        return self._closing

    def receive(self, data: bytes, sender: Address) -> None:
        if self._closing or self.protocol is None:
            return
        if self.nat and self._network.loop.time() - self.asked.get(sender, -NAT_LIFETIME) >= NAT_LIFETIME:
            return
        self.protocol.datagram_received(data, sender)


class VirtualNetwork:
    """Carries datagrams between nodes. `loss` is a share of datagrams, `rtt` the mean round trip in seconds.

    Must be made inside a running `VirtualLoop`. The latency of two addresses is constant but for a tenth of
    jitter.
    """

    def __init__(self, seed: int, *, loss: float = 0.01, rtt: float = MEAN_RTT) -> None:
        self.loop = asyncio.get_running_loop()
        self.rng = random.Random(seed)  # noqa: S311  # a simulation has to repeat
        self.loss = loss
        self.rtt = rtt
        self.transports: dict[Address, VirtualTransport] = {}
        self.nodes: list[DhtNode] = []
        self.carried = 0
        self._identities = 0

    def clock(self) -> float:
        """Virtual Unix seconds."""
        return EPOCH + self.loop.time()

    def carry(self, data: bytes, sender: Address, receiver: Address) -> None:
        self.carried += 1
        if self.rng.random() < self.loss:
            return
        transport = self.transports.get(receiver)
        if transport is None:
            return
        # Between a quarter of the mean and seven quarters, the same in both directions.
        pair = (zlib.crc32(sender[0].encode()) ^ zlib.crc32(receiver[0].encode())) % 1024 / 1024
        delay = self.rtt / 2 * (0.25 + 1.5 * pair) * (1 + 0.1 * self.rng.random())
        self.loop.call_later(delay, transport.receive, data, sender)

    def new_address(self) -> Address:
        """A global address in a /24 of its own, as a rule."""
        while True:
            ip = ".".join(
                str(part) for part in (self.rng.randrange(11, 100), *self.rng.choices(range(1, 255), k=3))
            )
            if (ip, 8730) not in self.transports:
                return ip, 8730

    def new_identity(self) -> Identity:
        return Identity.from_seed(self.rng.randbytes(32))

    def add(
        self,
        *,
        identity: Identity | None = None,
        address: Address | None = None,
        nat: bool = False,
        upkeep: bool = False,
        **options: Any,
    ) -> DhtNode:
        """A node at a new address, not joined yet. `nat`: it gets answers only. `upkeep`: with its
        maintenance.
        """
        node = DhtNode(
            identity or self.new_identity(),
            clock=self.clock,
            rng=random.Random(self.rng.getrandbits(64)),  # noqa: S311  # a simulation has to repeat
            **options,
        )
        transport = VirtualTransport(self, address or self.new_address(), nat=nat)
        transport.protocol = node.protocol
        self.transports[transport.address] = transport
        node.attach(transport)
        if upkeep:
            node.start_maintenance()
        self.nodes.append(node)
        return node

    async def grow(self, count: int, *, at_once: int = 20, **options: Any) -> list[DhtNode]:
        """Add and join `count` nodes, `at_once` at a time, each through three that are there."""
        made: list[DhtNode] = []
        while len(made) < count:
            known = [node.address for node in self.nodes]
            batch = [self.add(**options) for _ in range(min(at_once if known else 1, count - len(made)))]
            joins = (node.join(self.rng.sample(known, min(3, len(known)))) for node in batch)
            await asyncio.gather(*joins)
            made += batch
        return made

    def kill(self, node: DhtNode) -> None:
        """The node's datagrams stop, in both directions, and nobody is told."""
        transport = self.transports.pop(node.address, None)
        if transport is not None:
            transport.close()
        self.nodes.remove(node)

    async def close(self) -> None:
        for node in self.nodes:
            await node.close()
