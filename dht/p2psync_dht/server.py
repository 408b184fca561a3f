"""kademlia's server with its crawls, its state files and its republishing replaced.

Opens the sockets, joins the network, fills the routing table. The public face is `node.DhtNode`.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from kademlia.network import Server

from p2psync_dht.contact import Address, Contact
from p2psync_dht.join import JoinLookup
from p2psync_dht.keys import Identity
from p2psync_dht.lookup import ALPHA, Lookup
from p2psync_dht.protocol import DhtProtocol
from p2psync_dht.query import Answer
from p2psync_dht.routing import KEY_BITS, K
from p2psync_dht.scope import pack_ip
from p2psync_dht.sockets import family_of, open_sockets
from p2psync_dht.storage import MAX_RECORDS, RecordStore

RESOLVE_TIMEOUT: Final = 3.0  # seconds for a bootstrap name; other addresses do not wait for it
SILENT: Final = "does not answer (UDP)"
UNRESOLVED: Final = "cannot be resolved"
OTHER_FAMILY: Final = "is of an address family that there is no socket for here"
MAX_BOOTSTRAP: Final = 16  # addresses asked at once
MAX_OF_NAME: Final = 4  # of each family that one name stands for: whose name it is could aim us at anybody
CLIENT_ALPHA: Final = 8  # queries under way while a client joins: somebody waits for it, and it does so often
# Nodes that a lookup into a far bucket converges on: contacts for a start, more come by themselves.
FILL_COUNT: Final = 3
FAMILY_GRACE: Final = 0.5
"""Seconds that nobody has to answer in one address family once the network was joined in the other: a way
that leads nowhere is common with IPv6.
"""


class DhtServer(Server):  # type: ignore[misc]  # kademlia has no type hints, so its classes are Any
    """A protocol on its sockets. `server` False makes a client, which answers nobody."""

    protocol_class = DhtProtocol

    def __init__(
        self,
        identity: Identity,
        *,
        server: bool,
        network: bytes,
        clock: Callable[[], float],
        rng: random.Random,
        ksize: int = K,
        diversify_local: bool = False,
        max_records: int = MAX_RECORDS,
    ) -> None:
        store = RecordStore(clock, rng, max_records=max_records)
        super().__init__(ksize=ksize, alpha=ALPHA, node_id=identity.node_id, storage=store)
        self.storage: RecordStore = store  # an empty store is false: the base class would have replaced it
        self.identity = identity
        self._settings: dict[str, Any] = {
            "network": network,
            "server": server,
            "clock": clock,
            "rng": rng,
            "ksize": ksize,
            "diversify_local": diversify_local,
        }
        self._rng = rng
        self.protocol: DhtProtocol = self._create_protocol()
        self.unheard: dict[Address, str] = {}
        """Of the addresses that the last `bootstrap` was given: where nobody has answered, and what is wrong.
        """
        self._asked: set[Address] = set()
        """Those of them of which an address was asked."""

    def _create_protocol(self) -> DhtProtocol:
        return self.protocol_class(self.identity, self.storage, **self._settings)

    async def listen(self, port: int, interface: str = "::") -> Address:
        """Open the sockets: IPv6 and IPv4 on one port for "::", else one. OSError if that fails."""
        loop = asyncio.get_running_loop()
        for sock in open_sockets(interface, port):  # The last names both.
            await loop.create_datagram_endpoint(lambda: self.protocol, sock=sock)
            bound: Address = sock.getsockname()[:2]
        return bound

    def stop(self) -> None:
        self.protocol.close()

    def refresh_table(self, interval: float = 3600) -> None:
        """kademlia's own refresh is not used: see `maintenance`."""
        raise NotImplementedError("maintenance.py refreshes the table")

    async def bootstrap(
        self,
        addrs: Sequence[Address],
        seeds: Sequence[Contact] = (),
        *,
        on_answer: Callable[[Answer], None] | None = None,
    ) -> int:
        """Join by addresses (names are resolved) and by contacts known from before; the number of contacts
        now.

        Everybody is asked at once, so nobody waits for the dead.
        """
        protocol = self.protocol
        families = protocol.families()
        asked = list(dict.fromkeys(addrs))[:MAX_BOOTSTRAP]
        self.unheard = dict.fromkeys(asked, SILENT)
        self._asked.clear()
        own_id = self.identity.node_id
        lookups = {
            family: JoinLookup(
                protocol,
                family,
                own_id,
                # Whoever is at a given address says its id itself, and is asked once.
                seeds=[seed for seed in seeds if seed.family == family and seed.address not in asked],
                on_answer=on_answer,
                alpha=ALPHA if protocol.server else CLIENT_ALPHA,
                minds_crowds=False,
            )
            for family in families
        }
        names = []
        for host, port in asked:
            try:
                pack_ip(host)
            except ValueError:
                names.append((host, port))
            else:
                self._add_address(lookups, (host, port), (host, port))
        async with asyncio.TaskGroup() as group:
            resolving = [group.create_task(self._resolve(name, lookups)) for name in names]
            running = [group.create_task(lookup.run()) for lookup in lookups.values()]
            await self._joined(dict(zip(running, lookups.values(), strict=True)))
            for task in resolving:
                task.cancel()
        await asyncio.gather(*(self.fill(family) for family in families))
        return sum(len(protocol.tables[family]) for family in families)

    async def _joined(self, running: dict[asyncio.Task[Any], JoinLookup]) -> None:
        """Wait for the end of the lookups; not for one in a family in which nobody answers, once another has
        found somebody.
        """
        pending = set(running)
        while pending:
            found = any(lookup.answered for task, lookup in running.items() if task not in pending)
            done, pending = await asyncio.wait(
                pending, timeout=FAMILY_GRACE if found else None, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                silent = {task for task in pending if not running[task].answered}
                for task in silent:
                    task.cancel()
                pending -= silent
                if pending:
                    await asyncio.wait(pending)
                return

    def _add_address(
        self, lookups: dict[socket.AddressFamily, JoinLookup], address: Address, given: Address
    ) -> None:
        """Ask at an address, which ``given`` stands for."""
        lookup = lookups.get(family_of(address[0]))
        if lookup is None:
            if given not in self._asked:
                self.unheard[given] = OTHER_FAMILY
        elif 0 < address[1] < 65536:
            self._asked.add(given)
            self.unheard[given] = SILENT
            lookup.ask_address(address, lambda: self.unheard.pop(given, None))

    async def _resolve(self, name: Address, lookups: dict[socket.AddressFamily, JoinLookup]) -> None:
        """Resolve off the loop; the lookups hold on meanwhile if nobody else answers."""
        for lookup in lookups.values():
            lookup.hold()
        found: list[Any] = []
        try:
            try:
                async with asyncio.timeout(RESOLVE_TIMEOUT):
                    loop = asyncio.get_running_loop()
                    found = await loop.getaddrinfo(*name, type=socket.SOCK_DGRAM)
            except TimeoutError:
                self.unheard[name] = f"{UNRESOLVED} within {RESOLVE_TIMEOUT:.0f} s"
            except (OSError, ValueError, OverflowError) as error:
                self.unheard[name] = f"{UNRESOLVED}: {getattr(error, 'strerror', None) or error}"
            if not found:
                self.protocol.counters.events["unresolved"] += 1
            for address in _some_of_each_family({entry[4][:2] for entry in found}):
                self._add_address(lookups, address, name)
        finally:
            for lookup in lookups.values():
                lookup.release()

    async def fill(self, family: socket.AddressFamily) -> None:
        """Look into the buckets that the join did not pass through, so that each has some contacts."""
        protocol = self.protocol
        table = protocol.tables[family]
        own = protocol.source_node.long_id
        nearest = table.closest(own)
        if not nearest:
            return
        # All nodes within the distance of the k-th nearest are known by now.
        depth = KEY_BITS - (nearest[-1].long_id ^ own).bit_length()
        targets = [
            target
            for target in map(self._id_at_depth, range(depth))
            if len(table.bucket_of(int.from_bytes(target, "big"))) < FILL_COUNT
        ]
        await asyncio.gather(*(self._fill(family, target) for target in targets))

    async def _fill(self, family: socket.AddressFamily, target: bytes) -> None:
        """Look up `target` until its bucket has enough: others meet us meanwhile."""
        table, at = self.protocol.tables[family], int.from_bytes(target, "big")

        def is_filled(_: Lookup) -> bool:
            return len(table.bucket_of(at)) >= FILL_COUNT

        await Lookup(self.protocol, family, target, count=FILL_COUNT, alpha=2, is_decided=is_filled).run()

    def _id_at_depth(self, bits: int) -> bytes:
        """A random id that shares exactly `bits` leading bits with ours."""
        low_bits = KEY_BITS - bits - 1
        flipped = self.protocol.source_node.long_id ^ (1 << low_bits)
        chosen = flipped >> low_bits << low_bits | self._rng.getrandbits(low_bits or 1) & (
            (1 << low_bits) - 1
        )
        return chosen.to_bytes(KEY_BITS // 8, "big")


def _some_of_each_family(addresses: Iterable[Address]) -> list[Address]:
    by_family: dict[socket.AddressFamily, list[Address]] = {}
    for address in sorted(addresses):
        by_family.setdefault(family_of(address[0]), []).append(address)
    return [address for found in by_family.values() for address in found[:MAX_OF_NAME]]
