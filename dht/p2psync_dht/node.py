"""`DhtNode`: the whole DHT behind one class."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, TypedDict, Unpack

from p2psync_dht import persistence
from p2psync_dht.announce import announce_sweep, refresh_head
from p2psync_dht.contact import Address, Contact
from p2psync_dht.counters import Counters
from p2psync_dht.heads import QUORUM, HeadLookup, read_head, write_head
from p2psync_dht.holder_record import HolderRecord
from p2psync_dht.holders import read_holders, write_holder
from p2psync_dht.keys import Identity
from p2psync_dht.maintenance import Maintenance
from p2psync_dht.protocol import DhtProtocol
from p2psync_dht.query import Answer
from p2psync_dht.records import head_key, mirrors_key
from p2psync_dht.routing import K
from p2psync_dht.server import DhtServer
from p2psync_dht.service import MAX_AGENT
from p2psync_dht.storage import MAX_RECORDS, RecordStore
from p2psync_dht.wire import DEFAULT_NETWORK, NETWORK_SIZE

DEFAULT_LIMIT: Final = 256  # holder records that a reader usually has a use for


class Options(TypedDict, total=False):
    """The keyword arguments of `DhtNode`, which `DhtNode.start` takes as well and explains."""

    server: bool
    network_id: bytes
    contacts: Iterable[Contact]
    clock: Callable[[], float]
    rng: random.Random | None
    ksize: int
    diversify_local: bool
    max_records: int
    agent: str


class DhtNode:
    """A node of the DHT: started by `start`, joined by `join`, ended by `close`.

    All methods run on the event loop that the node was started on. Lookups never raise for what other nodes
    do; they find less.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        server: bool = True,
        network_id: bytes = DEFAULT_NETWORK,
        contacts: Iterable[Contact] = (),
        clock: Callable[[], float] = time.time,
        rng: random.Random | None = None,
        ksize: int = K,
        diversify_local: bool = False,
        max_records: int = MAX_RECORDS,
        agent: str = "",
    ) -> None:
        """See `start`; a node made this way has no socket until `attach`."""
        if len(network_id) != NETWORK_SIZE:
            raise ValueError(f"a network id is {NETWORK_SIZE} bytes")
        if len(agent) > MAX_AGENT or not (agent.isascii() and agent.isprintable()):
            raise ValueError(f"an agent is at most {MAX_AGENT} printable ASCII characters")
        self.identity = identity
        self._server = DhtServer(
            identity,
            server=server,
            network=network_id,
            clock=clock,
            rng=rng if rng is not None else random.SystemRandom(),
            ksize=ksize,
            diversify_local=diversify_local,
            max_records=max_records,
        )
        self.protocol.agent = agent.encode()
        self._cached: list[Contact] = []
        self._remember(contacts)
        self._bootstrap: list[Address] = []
        self._address: Address = ("", 0)
        self._maintenance: asyncio.Task[None] | None = None
        self._joining: set[asyncio.Future[int]] = set()

    @classmethod
    async def start(
        cls,
        identity: Identity,
        host: str,
        port: int,
        **options: Unpack[Options],
    ) -> DhtNode:
        """Open UDP `port` (0: any) on `host` ("::": IPv6 and IPv4) and start the node's upkeep.

        `server` False makes a client: it asks, answers nobody and enters no table. `network_id` (4 bytes)
        keeps networks apart. `contacts` are asked by `join`. `clock` gives Unix seconds, `rng` all
        randomness (the system's by default). The rule of two contacts per /24 or /64 is for global
        addresses, unless `diversify_local`. `agent` (32 ASCII characters) names the software to whoever asks.

        Raises OSError if the socket cannot be had.
        """
        node = cls(identity, **options)
        node._address = await node._server.listen(port, host)
        node.start_maintenance()
        return node

    def attach(self, transport: asyncio.DatagramTransport) -> None:
        """Use a transport made elsewhere, as simulations do; `start` makes its own."""
        self.protocol.connection_made(transport)
        self._address = transport.get_extra_info("sockname")[:2]

    def start_maintenance(self) -> None:
        """Begin the upkeep (`start` does); `close` ends it."""
        rounds = Maintenance(self._server, lambda: self.join(self._bootstrap))
        self._maintenance = asyncio.get_running_loop().create_task(rounds.run())

    async def close(self) -> None:
        """Close the sockets and end what is under way: lookups return what they have found so far."""
        task, self._maintenance = self._maintenance, None
        under_way: list[asyncio.Future[Any]] = [*self._joining, *([task] if task is not None else [])]
        for work in under_way:
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work
        self._server.stop()
        await asyncio.sleep(0)  # the transports close their sockets in the loop's next turn

    async def __aenter__(self) -> DhtNode:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # What it is

    @property
    def protocol(self) -> DhtProtocol:
        """The wire side of the node, for tests and simulations."""
        return self._server.protocol

    @property
    def storage(self) -> RecordStore:
        return self._server.storage

    @property
    def address(self) -> Address:
        """Host and port that the socket is bound to."""
        return self._address

    @property
    def node_id(self) -> bytes:
        """20 bytes."""
        return self.identity.node_id

    @property
    def is_server(self) -> bool:
        return self.protocol.server

    @property
    def counters(self) -> Counters:
        return self.protocol.counters

    def observed_address(self, family: socket.AddressFamily = socket.AF_INET) -> Address | None:
        """Our own address as most other nodes see it; None before anybody answered."""
        return self.protocol.observed(family)

    # The network

    async def join(self, addresses: Sequence[tuple[str, int]] = (), *, enough: int | None = None) -> int:
        """Get to know the network through any of `addresses` and the contacts given or loaded before.

        Returns the number of contacts known then. Names are resolved off the loop; dead addresses cost no
        time beside living ones, and raise nothing. With `enough` it returns as soon as that many nodes are
        known, and goes on meanwhile: whoever only asks need not wait until its table is full.
        """
        self._bootstrap = list(addresses)
        met = asyncio.Event()

        def heard(_: Answer) -> None:
            if enough is not None and len(self.contacts()) >= enough:
                met.set()

        joining = asyncio.ensure_future(self._server.bootstrap(addresses, self._cached, on_answer=heard))
        meeting = asyncio.ensure_future(met.wait())
        try:
            await asyncio.wait([joining, meeting], return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            joining.cancel()
            raise
        finally:
            meeting.cancel()
        if joining.done():
            return joining.result()
        self._joining.add(joining)
        joining.add_done_callback(self._joining.discard)
        return len(self.contacts())

    def _remember(self, contacts: Iterable[Contact]) -> None:
        self._cached += contacts
        self.protocol.acquaintances.note_earlier(self._cached)

    @property
    def remembered(self) -> list[Address]:
        """Addresses of the contacts that were given or loaded: whom `join` asks besides those it is told."""
        return [contact.address for contact in self._cached]

    @property
    def unheard(self) -> dict[Address, str]:
        """Of the addresses that the last `join` was given: where nobody has answered so far, and what is
        wrong ("does not answer (UDP)", "cannot be resolved: ..."); for messages.
        """
        return dict(self._server.unheard)

    async def probe_reachable(self, addresses: Sequence[Address] = ()) -> bool | None:
        """Whether strangers can reach this node's UDP port, from a call of a node that it never wrote to.

        Asks the nodes at `addresses` (numeric), or contacts. Ask before `join`: afterwards few strangers
        are left. None if it cannot be found out, as in a network of three.
        """
        return await self.protocol.reachability.test(addresses)

    def serve(self, on: bool = True, *, listed: bool = True) -> None:
        """Become a server, or a client, from now on.

        A server that is not `listed` answers whoever knows its address, and enters no table: for a node that
        has come back, and does not know yet whether others still reach it.
        """
        self.protocol.answers = on
        self.protocol.server = on and listed

    async def get_head(self, root: bytes, *, quorum: int = QUORUM) -> HeadLookup:
        """The best head of the archive `root` (32 bytes), verified.

        Ends with `quorum` copies of it, or when the closest nodes have answered; 1 takes the first valid
        one. Nodes that gave an older head are given the newer one.
        """
        return await read_head(self.protocol, self.protocol.families(), head_key(root), quorum)

    async def get_mirrors_head(self, root: bytes, *, quorum: int = QUORUM) -> HeadLookup:
        """The same of the list of recommended mirrors of the archive."""
        return await read_head(self.protocol, self.protocol.families(), mirrors_key(root), quorum)

    async def put_head(self, raw: bytes) -> int:
        """Store a head at the k closest nodes; the number of nodes that hold it now, this one included.

        Raises RecordError if it is not valid. Nodes that know a newer head keep that and do not count.
        """
        return await write_head(self.protocol, self.protocol.families(), raw)

    async def get_holders(self, key: bytes, *, limit: int = DEFAULT_LIMIT) -> list[HolderRecord]:
        """Up to `limit` holder records under `key` (20 bytes): verified, current, the newest of each node,
        which may be one that takes the node's word back (`withdrawn`).
        """
        return await read_holders(self.protocol, self.protocol.families(), key, limit)

    async def put_holder(self, raw: bytes) -> int:
        """Store a holder record at the k closest nodes; the number of nodes that hold it now, this one
        included.

        Raises RecordError if it is not valid. Nodes refuse one with an IP endpoint that is not the address
        they see.
        """
        return await write_holder(self.protocol, self.protocol.families(), raw)

    async def announce_sweep(self, records: Iterable[bytes]) -> dict[bytes, int]:
        """Store many holder records of this node in one sweep of the key space; copies by record.

        For 10,000 keys this sends about two datagrams a key, where `put_holder` would send forty. Raises
        RecordError if a record is malformed or expired.
        """
        return await announce_sweep(self.protocol, self.protocol.families(), records)

    async def refresh_head(self, raw: bytes, *, holders: int = 1) -> int:
        """Keep a head alive without its key: every holder calls this every hour, with their number.

        Stores only where the head is missing, older or halfway to being forgotten; the number of stores
        sent. Raises RecordError if the head is not valid.
        """
        return await refresh_head(self.protocol, self.protocol.families(), raw, holders)

    # Memory

    def contacts(self) -> list[Contact]:
        """All proved contacts, those heard from last first."""
        tables = self.protocol.tables.values()
        return sorted((one for table in tables for one in table), key=lambda one: -one.seen)

    def save_contacts(self, path: Path) -> int:
        """Write the contacts atomically; how many. Contacts that were loaded and not yet asked are kept; with
        none known, an older file is left alone. Raises OSError.
        """
        return self.saving_contacts(path)()

    def saving_contacts(self, path: Path) -> Callable[[], int]:
        """What is to be done for `save_contacts` with the contacts of now, in any thread."""
        known = self.contacts()
        if not known:
            return lambda: 0
        met = {contact.id for contact in known}
        known += [one for one in self._cached if one.id not in met and not self.protocol.is_dead(one)]
        return partial(persistence.save_contacts, Path(path), known)

    def load_contacts(self, path: Path) -> int:
        """Read contacts for the next `join` to ask; how many. A missing or damaged file has none. Raises
        OSError.
        """
        found = persistence.load_contacts(Path(path))
        self._remember(found)
        return len(found)

    def save_records(self, path: Path) -> int:
        """Write the stored records atomically; how many. Raises OSError."""
        return self.saving_records(path)()

    def saving_records(self, path: Path) -> Callable[[], int]:
        """What is to be done for `save_records` with the records of now, in any thread."""
        return partial(persistence.save_records, Path(path), self.storage.records())

    async def load_records(self, path: Path) -> int:
        """Verify and keep the records of a file; how many were kept. A missing or damaged file has none."""
        return await persistence.load_records(Path(path), self.storage)
