"""Can strangers reach this node? Asked of somebody that nobody here has written to.

A reply on a used path proves nothing behind a NAT: the path is open because we opened it. So a node (PROBE)
asks another to have a third one (RELAY) call back (CALLBACK). Only a call from an address that we have not
written to counts. What a node does with the answer, serve or stay a client, is its operator's and
`DhtNode`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from p2psync_dht.acquaintances import Acquaintances
from p2psync_dht.contact import Address, Contact, pack_address, unpack_address
from p2psync_dht.counters import Counters
from p2psync_dht.keys import ID_SIZE, Identity
from p2psync_dht.query import Query, Reply
from p2psync_dht.ratelimit import Bucket
from p2psync_dht.routing import ContactTable
from p2psync_dht.scope import Scope, may_tell, pack_ip, scope_of
from p2psync_dht.wire import NONCE_SIZE, TRANSACTION_SIZE, Kind, Message, WireError, encode, field

ASKED: Final = 4  # nodes asked for a call back
ENOUGH: Final = 2  # calls promised, of which none came: nobody can reach us
ROUNDS: Final = 3  # tries, while those who call are no strangers: each time it is another's turn
CALL_TIMEOUT: Final = 3.0  # seconds for a call: five paths and a retransmission
CALLERS: Final = 3  # tried one after the other, for one call: some contacts have died since they were heard
# Calls a second that a node arranges or makes: what it can be abused for, in 56-byte datagrams.
RATE: Final = 5.0
BURST: Final = 20.0
WRITTEN_FOR: Final = 600.0  # seconds for which a NAT may keep a path open; two minutes are usual (RFC 4787)


class Caller(Protocol):
    """What a test of reachability needs of the node that takes part in it."""

    @property
    def identity(self) -> Identity: ...
    @property
    def network(self) -> bytes: ...
    @property
    def rng(self) -> random.Random: ...
    @property
    def tables(self) -> Mapping[socket.AddressFamily, ContactTable]: ...
    @property
    def acquaintances(self) -> Acquaintances: ...
    @property
    def counters(self) -> Counters: ...
    def families(self) -> list[socket.AddressFamily]: ...
    def now(self) -> float: ...
    def send(self, datagram: bytes, address: Address) -> None: ...
    def query(self, query: Query) -> None: ...
    def ping(self, contact: Contact, done: Callable[[Reply | None], None]) -> None: ...
    def token_for(self, address: Address) -> bytes | None: ...


class Reachability:
    """All three parts in such a test, of one node."""

    def __init__(self, protocol: Caller) -> None:
        self._protocol = protocol
        self._bucket = Bucket(RATE, BURST, protocol.now())
        self._nonce: bytes | None = None
        self._called = asyncio.Event()
        self._arrived = asyncio.Event()
        self._on_used_paths = 0

    # The node that wants to know

    async def test(self, addresses: Sequence[Address]) -> bool | None:
        """True: called by a stranger. False: `ENOUGH` calls were promised and none came. None: not found out,
        for instance because those who called were not strangers.

        Asks the nodes at `addresses`, or some contacts if there are none; a single one several times, since
        it has another stranger call each time.
        """
        protocol = self._protocol
        self._nonce = protocol.rng.randbytes(NONCE_SIZE)
        self._called.clear()
        self._on_used_paths = 0
        known = [Contact(bytes(ID_SIZE), *address) for address in addresses]
        if not known:
            everybody = [one for family in protocol.families() for one in protocol.tables[family]]
            known = protocol.rng.sample(everybody, min(ASKED, len(everybody)))
        if 0 < len(known) < ENOUGH:
            known *= ENOUGH
        strangers = 0
        try:
            for _ in range(ROUNDS):
                used = self._on_used_paths
                promised = await self._round(known[:ASKED], bool(addresses))
                if self._called.is_set():
                    return True
                strangers += promised - (self._on_used_paths - used)
                if strangers >= ENOUGH:
                    return False
                if self._on_used_paths == used:
                    break
        finally:
            self._nonce = None
        return None

    async def _round(self, known: Sequence[Contact], strangers: bool) -> int:
        """Ask them all, and wait for calls; how many were promised."""
        used = self._on_used_paths
        promised = sum(await asyncio.gather(*(self._ask(contact, strangers) for contact in known)))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CALL_TIMEOUT if promised else 0):
                # Calls that came on used paths tell nothing, but that none of those promised is to come.
                while not self._called.is_set() and self._on_used_paths - used < promised:
                    self._arrived.clear()
                    await self._arrived.wait()
        return promised

    async def _ask(self, contact: Contact, stranger: bool) -> bool:
        """Whether that node promises a call."""
        token = self._protocol.token_for(contact.address)
        if token is None or stranger:
            nonce = self._protocol.rng.randbytes(NONCE_SIZE)
            reply = await self._query(Kind.PING, contact, [nonce, token], nonce=nonce, known_id=not stranger)
            if reply is None:
                return False
            contact, token = reply.contact, reply.token
        reply = await self._query(Kind.PROBE, contact, [token, self._nonce])
        return reply is not None and len(reply.body) > 2 and reply.body[2] is True

    async def _query(self, kind: Kind, contact: Contact, body: list[Any], **options: Any) -> Reply | None:
        done: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()

        def arrived(reply: Reply | None) -> None:
            if not done.done():
                done.set_result(reply)

        self._protocol.query(Query(kind, contact, body, arrived, **options))
        return await done

    def take_call(self, message: Message, address: Address) -> None:
        """Somebody calls back: it counts if we asked for it, and never wrote there."""
        nonce = field(message.body, 0, bytes, size=NONCE_SIZE)
        if nonce != self._nonce:
            raise WireError("unexpected")
        if self._protocol.acquaintances.has_written(address, self._protocol.now(), WRITTEN_FOR):
            self._protocol.counters.events["call_on_used_path"] += 1
            self._on_used_paths += 1
        else:
            self._called.set()
        self._arrived.set()

    # The node that is asked

    def arrange(self, nonce: bytes, asker: Address) -> bool:
        """Have a random contact call `asker` (whose address is proved), and another one if that is silent;
        whether one was asked to.
        """
        protocol = self._protocol
        table = protocol.tables[Contact(bytes(ID_SIZE), *asker).family]
        able = [one for one in table if not one.failures and one.ip != asker[0]]
        if not able and scope_of(pack_ip(asker[0])) == Scope.LOOPBACK:
            able = [one for one in table if one.address != asker]
        if not able or not self._bucket.take(protocol.now()):
            return False
        thirds = protocol.rng.sample(able, min(CALLERS, len(able)))

        def ask_next(ended: Reply | None = None) -> None:
            if ended is not None or not thirds:
                return
            third = thirds.pop()
            # Somebody whom we had no reason to write to lately is asked for a token first.
            token = protocol.token_for(third.address)
            if token is None:
                protocol.ping(third, relay)
            else:
                relay(Reply(third, [], token))

        def relay(reply: Reply | None) -> None:
            if reply is None:
                ask_next()
                return
            body = [reply.token, pack_address(asker), nonce]
            protocol.query(Query(Kind.RELAY, reply.contact, body, ask_next))

        ask_next()
        return True

    # The third

    def call(self, packed: bytes, nonce: bytes, asker: Address) -> bool:
        """Call the address that `asker` (proved) names; whether that was done."""
        try:
            address = unpack_address(packed)
        except ValueError as error:
            raise WireError("field") from error
        if not may_tell(scope_of(pack_ip(asker[0])), scope_of(packed[:-2])):
            raise WireError("scope")
        protocol = self._protocol
        if not self._bucket.take(protocol.now()):
            return False
        transaction = protocol.rng.randbytes(TRANSACTION_SIZE)
        sender = protocol.identity.node_id
        protocol.send(encode(protocol.network, Kind.CALLBACK, transaction, sender, [nonce]), address)
        return True
