"""The datagram protocol of a node: queries with time-outs, requests answered at once, contacts verified.

A subclass of kademlia's protocol with its wire, its matching of replies and its request handling replaced.
Requests are served inside `datagram_received`, without a task each; queries report through callbacks, so a
lookup of thirty queries is one future. Which nodes to ask for what is `lookup`'s; what a request gets is
`service`'s.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable
from typing import Any, Final, cast

from kademlia.protocol import KademliaProtocol
from rpcudp.protocol import RPCProtocol

from p2psync_dht.acquaintances import Acquaintances
from p2psync_dht.contact import Address, Contact, pack_address, unpack_address
from p2psync_dht.counters import Counters, QuietLog
from p2psync_dht.density import Density
from p2psync_dht.keys import DOMAIN_CONTACT, PUBLIC_KEY_SIZE, Identity, node_id_of, verify_signature
from p2psync_dht.networks import public_networks_of
from p2psync_dht.query import Query, Reply
from p2psync_dht.ratelimit import RateLimiter
from p2psync_dht.reach import Reachability
from p2psync_dht.routing import ContactTable
from p2psync_dht.rtt import RttBook
from p2psync_dht.scope import scope_of
from p2psync_dht.service import Service
from p2psync_dht.storage import RecordStore
from p2psync_dht.tokens import TOKEN_SIZE, TokenMint
from p2psync_dht.wire import (
    NONCE_SIZE,
    PADDED_QUERY,
    PROOF_SIZE,
    TRANSACTION_SIZE,
    Kind,
    Message,
    Want,
    WireError,
    decode,
    encode,
    field,
)

MAX_OUTSTANDING: Final = 2048  # queries without an answer; a sweep and some lookups use a few hundred
MAX_VERIFYING: Final = 16  # pings to strangers under way, whatever the number of strangers
SOME: Final = 8  # contacts in a bucket, below which everybody is invited to it
INVITE_SHARE: Final = 0.2  # of those who ask, invited to a bucket with more

PROOF_INDEX: Final = {Kind.PING: 2, Kind.FIND: 4, Kind.PROVE: 1}


def contact_proof(network: bytes, nonce: bytes, asker: bytes) -> bytes:
    """What a node signs to prove its id: the asker's nonce (16 bytes, or its 8-byte token) and id, in this
    network.
    """
    return network + nonce + asker


class DhtProtocol(KademliaProtocol):  # type: ignore[misc]  # kademlia has no type hints: its classes are Any
    """One node on one or two sockets (IPv4, IPv6). `clock` gives Unix seconds; time-outs use the event
    loop's clock.
    """

    agent: bytes = b""  # software and version, told to whoever pings
    server: bool  # may enter tables: no client flag, and proofs for whoever invites it
    answers: bool  # serves requests; without `server` those of nodes that know it from before

    def __init__(
        self,
        identity: Identity,
        storage: RecordStore,
        *,
        network: bytes,
        server: bool,
        clock: Callable[[], float],
        rng: random.Random,
        ksize: int,
        diversify_local: bool = False,
    ) -> None:
        # kademlia's own constructor would build its table, which this one replaces.
        RPCProtocol.__init__(self)
        self._loop = asyncio.get_running_loop()
        now = self._loop.time()
        self.identity = identity
        self.network = network
        self.server = server
        self.answers = server
        self.clock = clock
        self.rng = rng
        self.storage = storage
        self.diversify_local = diversify_local
        self.counters = Counters()
        self.log = QuietLog()
        self.source_node = Contact(identity.node_id, "", 0)
        self.tables = {
            family: ContactTable(
                self.source_node, self._loop.time, ksize=ksize, diversify_local=diversify_local
            )
            for family in (socket.AF_INET, socket.AF_INET6)
        }
        self.densities = {family: Density(table) for family, table in self.tables.items()}
        self.tokens = TokenMint(rng, now)
        self.rtts = RttBook()
        self._limiter = RateLimiter(now)
        self.service = Service(self)
        self.reachability = Reachability(self)
        self.transports: dict[socket.AddressFamily, asyncio.DatagramTransport] = {}
        self._outstanding: dict[bytes, Query] = {}
        self.acquaintances = Acquaintances()
        self._verifying = 0
        self._last_heard = now
        self.closed = False

    def __getattr__(self, name: str) -> Any:
        # rpcudp would make a remote call of every misspelt attribute.
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    @property
    def router(self) -> ContactTable:
        """kademlia's name for the table: the IPv4 one unless only IPv6 is spoken."""
        families = self.families()
        return self.tables[families[0] if families else socket.AF_INET]

    def families(self) -> list[socket.AddressFamily]:
        """The address families that this node has a socket for, IPv4 first."""
        return sorted(self.transports)

    def now(self) -> float:
        """Seconds on the clock that time-outs run on."""
        return self._loop.time()

    # The sockets

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        own = transport.get_extra_info("sockname")
        family = socket.AF_INET6 if ":" in own[0] else socket.AF_INET
        self.transports[family] = cast(asyncio.DatagramTransport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self.log.note(self.now(), "the DHT socket was lost: %s", exc)

    def error_received(self, exc: OSError) -> None:
        self.counters.events["socket_error"] += 1
        self.log.note(self.now(), "sending a datagram failed: %s", exc)

    def close(self) -> None:
        """Close the sockets; every query that is under way fails now."""
        self.closed = True
        for transport in self.transports.values():
            transport.close()
        waiting, self._outstanding = list(self._outstanding.values()), {}
        for query in waiting:
            query.stop()
            query.fail()

    def send(self, datagram: bytes, address: Address) -> None:
        transport = self.transports.get(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        if transport is None or transport.is_closing():
            self.counters.events["no_socket"] += 1
            return
        self.counters.datagrams_out += 1
        self.counters.bytes_out += len(datagram)
        self.acquaintances.note_written(address, self.now())
        transport.sendto(datagram, address)

    def drop(self, reason: str, address: Address) -> None:
        """Count something that was not for us or not in order."""
        self.counters.drops[reason] += 1
        self.log.note(self.now(), "dropped a datagram from %s port %d: %s", address[0], address[1], reason)

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self.counters.datagrams_in += 1
        self.counters.bytes_in += len(data)
        address: Address = (addr[0], addr[1])
        try:
            message = decode(data, self.network)
            if message.is_reply:
                self._take_reply(message, address)
            else:
                self._serve(message, address)
        except WireError as error:
            self.drop(error.reason, address)

    # Requests

    def _serve(self, message: Message, address: Address) -> None:
        if message.kind == Kind.CALLBACK:
            self.reachability.take_call(message, address)
            return
        if not self.answers:
            raise WireError("client")
        try:
            packed = pack_address(address)[:-2]
        except ValueError as error:  # port 0, or a link-local address with its interface: nobody to answer
            raise WireError("source") from error
        if message.sender == self.identity.node_id:
            raise WireError("self")
        networks = public_networks_of(packed)
        # In a local network, machines are few, and one of them may run many nodes.
        site, provider = (address, None) if networks is None else (networks.site, networks.provider)
        if not self._limiter.allow(site, self.now(), provider):
            raise WireError("rate")
        invited = not message.is_client and self._invite(Contact(message.sender, *address))
        answer = self.service.answer(message, address, wants_proof=invited)
        if answer is not None:
            datagram, budget = answer
            if len(datagram) > budget:
                raise WireError("amplification")
            self.counters.requests_served += 1
            self.send(datagram, address)

    def _invite(self, contact: Contact) -> bool:
        """Somebody asked us something: whether the table has a place for it, once it has proved itself."""
        table = self.tables[contact.family]
        if table.wants(contact):
            # A bucket with a good few is in no hurry for more: proofs would double the datagrams of a young
            # network.
            # Our own neighbourhood has to be known whole: the k closest to a key are found through it.
            bucket = table.bucket_of(contact.long_id)
            needed = len(bucket) < SOME or bucket.has_in_range(self.source_node)
            return needed or self.rng.random() < INVITE_SHARE
        if table.is_new_node(contact):
            table.note_candidate(contact)
        return False

    def _prove(self, contact: Contact, token: bytes) -> None:
        """Accept an invitation: sign the token, which is a nonce bound to our address. Not answered, not
        repeated.
        """
        signature = self.identity.sign(contact_proof(self.network, token, contact.id), domain=DOMAIN_CONTACT)
        body = [token, self.identity.public_key + signature]
        transaction = self.rng.randbytes(TRANSACTION_SIZE)
        datagram = encode(self.network, Kind.PROVE, transaction, self.identity.node_id, body)
        self.send(datagram, contact.address)

    def take_proof(self, message: Message, address: Address) -> None:
        """A server proves its id by our own token: it receives at that address, and has the key."""
        token = field(message.body, 0, bytes, size=TOKEN_SIZE)
        contact = Contact(message.sender, *address)
        if not self.tokens.check(token, address, self.now()):
            raise WireError("token")
        if message.is_client or not self.tables[contact.family].wants(contact):
            return
        self._check_proof(token, message, self.identity.node_id)
        self.acquaintances.note_proof(contact, self.now())
        self.tables[contact.family].add_verified(contact)

    def verify(self, contact: Contact) -> None:
        """Ping a stranger for its proof; it enters the table when that arrives."""
        if self._verifying >= MAX_VERIFYING:
            return
        if not self.acquaintances.may_ping(contact.address, self.now()):
            return
        self._verifying += 1
        self.ping(contact, lambda _reply: self._verification_ended())

    def _verification_ended(self) -> None:
        self._verifying -= 1

    def is_proved(self, contact: Contact) -> bool:
        """Whether that id was proved from that address lately."""
        return self.acquaintances.is_proved(contact, self.now())

    def is_dead(self, contact: Contact) -> bool:
        """Whether that address was silent lately."""
        return self.acquaintances.is_dead(contact, self.now())

    def token_for(self, address: Address) -> bytes | None:
        """The write token that a node gave us, while it surely is valid."""
        return self.acquaintances.token_for(address, self.now())

    def observed(self, family: socket.AddressFamily) -> Address | None:
        """Our own address as most of the latest answers name it."""
        return self.acquaintances.observed(family)

    # Queries

    def ping(self, contact: Contact, done: Callable[[Reply | None], None]) -> None:
        """Ask for a proof of identity; `done` gets None if none came."""
        nonce = self.rng.randbytes(NONCE_SIZE)
        self.query(Query(Kind.PING, contact, [nonce, self.token_for(contact.address)], done, nonce=nonce))

    def find(
        self,
        contact: Contact,
        target: bytes,
        want: Want,
        done: Callable[[Reply | None], None],
        *,
        slow: Callable[[], None] | None = None,
        offset: int | None = None,
        known_id: bool = True,
    ) -> None:
        """Ask for the contacts nearest to `target` and the records under it, and for a proof unless there
        was one.
        """
        nonce = None if known_id and self.is_proved(contact) else self.rng.randbytes(NONCE_SIZE)
        token = self.token_for(contact.address)
        body = [target, int(want), nonce, offset, token]
        pad = 0 if token else PADDED_QUERY
        self.query(Query(Kind.FIND, contact, body, done, slow=slow, nonce=nonce, pad=pad, known_id=known_id))

    def query(self, query: Query) -> None:
        """Send a query; its callback is called exactly once, later."""
        if self.closed or len(self._outstanding) >= MAX_OUTSTANDING:
            self.counters.events["query_refused"] += 1
            self._loop.call_soon(query.fail)
            return
        query.transaction = self.rng.randbytes(TRANSACTION_SIZE)
        query.datagram = encode(
            self.network,
            query.kind,
            query.transaction,
            self.identity.node_id,
            query.body,
            is_client=not self.server,
            pad_to=query.pad,
        )
        self._outstanding[query.transaction] = query
        self.counters.queries_sent += 1
        query.start(self)

    def retransmit(self, query: Query) -> None:
        self.counters.retransmissions += 1
        self.send(query.datagram, query.contact.address)

    def give_up(self, query: Query) -> None:
        """No answer came in time."""
        self._outstanding.pop(query.transaction, None)
        self.counters.timeouts += 1
        contact = query.contact
        # When nobody at all was heard since, our own link is the likelier culprit: nobody is blamed.
        if self._last_heard >= query.sent_at:
            self.acquaintances.note_silence(contact.address, self.now())
            if query.known_id:
                candidate = self.tables[contact.family].note_failure(contact)
                if candidate is not None:
                    self.verify(candidate)
        query.fail()

    def _take_reply(self, message: Message, address: Address) -> None:
        query = self._outstanding.get(message.transaction)
        if query is None or query.kind != message.kind:
            raise WireError("unexpected")
        if query.contact.address != address:
            raise WireError("address")
        del self._outstanding[message.transaction]
        query.stop()
        now = self.now()
        self._last_heard = now
        try:
            reply = self._check_reply(query, message)
        except WireError:
            self.counters.events["bad_reply"] += 1
            query.fail()
            raise
        self.counters.queries_answered += 1
        if query.sent_times == 1:
            self.rtts.sample(address, now - query.sent_at)
        self.acquaintances.note_answer(address)
        query.succeed(reply)

    def _check_reply(self, query: Query, message: Message) -> Reply:
        contact = query.contact
        if not query.known_id:
            contact = Contact(message.sender, contact.ip, contact.port)
        elif message.sender != contact.id:
            self.tables[contact.family].remove_contact(contact)
            self.acquaintances.forget_proof(contact)
            raise WireError("impostor")
        if message.sender == self.identity.node_id:
            raise WireError("self")
        table = self.tables[contact.family]
        if query.nonce is not None:
            self._check_proof(query.nonce, message, self.identity.node_id)
            self.acquaintances.note_proof(contact, self.now())
        observed = field(message.body, 0, bytes)
        token = field(message.body, 1, bytes, size=TOKEN_SIZE)
        self._note_observed(contact, observed)
        self.acquaintances.note_token(contact.address, token, self.now())
        table.note_alive(contact)
        if self.is_proved(contact) and table.get(contact.id) is None and not message.is_client:
            table.add_verified(contact)
        if message.wants_proof and self.server:
            self._prove(contact, token)
        return Reply(contact, message.body, token)

    def _check_proof(self, nonce: bytes, message: Message, asker: bytes) -> None:
        proof = field(message.body, PROOF_INDEX[message.kind], bytes, size=PROOF_SIZE)
        key, signature = proof[:PUBLIC_KEY_SIZE], proof[PUBLIC_KEY_SIZE:]
        signed = contact_proof(self.network, nonce, asker)
        if node_id_of(key) != message.sender or not verify_signature(key, DOMAIN_CONTACT, signed, signature):
            raise WireError("proof")

    def _note_observed(self, contact: Contact, observed: bytes) -> None:
        try:
            address = unpack_address(observed)
        except ValueError as error:
            raise WireError("field") from error
        if scope_of(observed[:-2]) > 0 and (":" in address[0]) == (":" in contact.ip):
            self.acquaintances.note_observed(contact.family, address)
