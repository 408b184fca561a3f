"""What a server answers: the requests of `wire.Kind`, each served at once and within the asker's budget.

The budget is a whole datagram for whoever has proved its address with a write token, and three times the
request for all others, so that a forged source address never draws more traffic than QUIC allows (RFC 9000,
section 8).
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from p2psync_dht.codec import pack
from p2psync_dht.contact import COMPACT_SIZE, Address, pack_address
from p2psync_dht.counters import Counters
from p2psync_dht.holder_record import MAX_HOLDER_SIZE, TAG_HOLDER
from p2psync_dht.keys import DOMAIN_CONTACT, ID_SIZE, SIGNATURE_SIZE, Identity
from p2psync_dht.places import source_of
from p2psync_dht.reach import Reachability
from p2psync_dht.routing import ContactTable
from p2psync_dht.storage import RecordStore
from p2psync_dht.tokens import TOKEN_SIZE, TokenMint
from p2psync_dht.wire import (
    AMPLIFICATION,
    HEADER_SIZE,
    MAX_DATAGRAM,
    MAX_STORE_BATCH,
    NONCE_SIZE,
    PROOF_SIZE,
    Kind,
    Message,
    Status,
    Want,
    WireError,
    encode,
    field,
)

CONTACTS_WITH_HOLDERS: Final = 8  # beside holder records, contacts that lead nearer are enough
MAX_PER_PAGE: Final = 16  # holder records; a datagram has room for seven
MAX_AGENT: Final = 32  # bytes of the software's name and version
_REPLY_OVERHEAD: Final = HEADER_SIZE + 16  # msgpack headers of the array and its five elements
_RECORD_OVERHEAD: Final = 2  # msgpack header of a byte string under 256 bytes

Handler = Callable[[Message, Address], tuple[list[Any], int]]
"""From a request and its sender's address to the reply's body and how large the datagram may be. Raises
WireError for a request that is malformed.
"""
_Answer = tuple[bytes, int]  # the datagram and how large it may be


class Served(Protocol):
    """What answering needs of the node that answers."""

    agent: bytes
    server: bool

    @property
    def identity(self) -> Identity: ...
    @property
    def network(self) -> bytes: ...
    @property
    def tables(self) -> Mapping[socket.AddressFamily, ContactTable]: ...
    @property
    def tokens(self) -> TokenMint: ...
    @property
    def storage(self) -> RecordStore: ...
    @property
    def counters(self) -> Counters: ...
    @property
    def reachability(self) -> Reachability: ...
    def now(self) -> float: ...
    def drop(self, reason: str, address: Address) -> None: ...
    def take_proof(self, message: Message, address: Address) -> None: ...


class Service:
    """Answers requests from a node's table and store."""

    def __init__(self, protocol: Served) -> None:
        self._protocol = protocol
        self.handlers: dict[Kind, Handler] = {
            Kind.PING: self._ping,
            Kind.FIND: self._find,
            Kind.STORE: self._store,
            Kind.STORE_BATCH: self._store_batch,
            Kind.PROBE: self._probe,
            Kind.RELAY: self._relay,
        }
        """What answers each kind of request; tests put liars here."""

    def answer(self, message: Message, address: Address, *, wants_proof: bool) -> _Answer | None:
        """The reply datagram and its budget, None if there is none; WireError for a malformed request.

        With `wants_proof` the asker is invited to prove its id.
        """
        if message.kind == Kind.PROVE:
            self._protocol.take_proof(message, address)
            return None
        handler = self.handlers.get(message.kind)
        if handler is None:
            raise WireError("kind")
        body, budget = handler(message, address)
        protocol = self._protocol
        reply = encode(
            protocol.network,
            message.kind,
            message.transaction,
            protocol.identity.node_id,
            body,
            is_reply=True,
            is_client=not protocol.server,
            wants_proof=wants_proof,
        )
        return reply, budget

    def _budget(self, message: Message, token: Any, address: Address) -> int:
        proved = self._protocol.tokens.check(token, address, self._protocol.now())
        return MAX_DATAGRAM if proved else min(AMPLIFICATION * message.size, MAX_DATAGRAM)

    def _opening(self, address: Address) -> list[Any]:
        """Every reply begins with the asker's address as seen here, and a write token for it."""
        return [pack_address(address), self._protocol.tokens.make(address, self._protocol.now())]

    def _proof(self, nonce: bytes | None, asker: bytes) -> bytes | None:
        if nonce is None:
            return None
        identity = self._protocol.identity
        return identity.public_key + identity.sign(
            self._protocol.network + nonce + asker, domain=DOMAIN_CONTACT
        )

    def _ping(self, message: Message, address: Address) -> tuple[list[Any], int]:
        nonce = field(message.body, 0, bytes, size=NONCE_SIZE, optional=True)
        token = field(message.body, 1, bytes, size=TOKEN_SIZE, optional=True)
        body = [*self._opening(address), self._proof(nonce, message.sender)]
        budget = self._budget(message, token, address)
        agent = self._protocol.agent
        # For those who ask how a network is made up. Where it would not fit, it is not worth a larger query.
        if agent and HEADER_SIZE + len(pack([*body, agent])) <= budget:
            body.append(agent)
        return body, budget

    def _find(self, message: Message, address: Address) -> tuple[list[Any], int]:
        target = field(message.body, 0, bytes, size=ID_SIZE)
        want = field(message.body, 1, int)
        nonce = field(message.body, 2, bytes, size=NONCE_SIZE, optional=True)
        offset = field(message.body, 3, int, optional=True)
        token = field(message.body, 4, bytes, size=TOKEN_SIZE, optional=True)
        if offset is not None and not 0 <= offset < 2**32:
            raise WireError("field")
        budget = self._budget(message, token, address)
        opening = self._opening(address)
        proof_size = PROOF_SIZE if nonce else 0
        room = budget - _REPLY_OVERHEAD - len(opening[0]) - TOKEN_SIZE - proof_size
        if room < 0:
            raise WireError("amplification")
        value, contacts = self._value(target, want, offset, room, address)
        body = [*opening, contacts, value, self._proof(nonce, message.sender)]
        return body, budget

    def _value(
        self, target: bytes, want: int, offset: int | None, room: int, address: Address
    ) -> tuple[list[Any] | None, bytes]:
        """The records asked for as far as they fit, and packed contacts in what room is left."""
        storage = self._protocol.storage
        value: list[Any] | None = None
        many = self._protocol.tables[socket.AF_INET].ksize
        if want == Want.HEAD and (head := storage.head(target)) is not None:
            size = len(head[0]) + 9
            if size <= room:
                value = [head[0], head[1]]
                room -= size
        elif want == Want.HOLDERS:
            value, used, many = self._holders(target, offset, room, address)
            room -= used
        return value, self._contacts(target, min(many, room // self._contact_size(address)), address)

    def _contact_size(self, address: Address) -> int:
        return COMPACT_SIZE[socket.AF_INET6 if ":" in address[0] else socket.AF_INET]

    def _holders(
        self, target: bytes, offset: int | None, room: int, address: Address
    ) -> tuple[list[Any] | None, int, int]:
        """[number kept, records], the bytes that they take, and how many contacts should go with them."""
        storage = self._protocol.storage
        ksize = self._protocol.tables[socket.AF_INET].ksize
        count, records = storage.holders(target, MAX_PER_PAGE, offset)
        if not count:
            return None, 0, ksize
        # A page asked for by offset comes without contacts: its reader has them.
        many = 0 if offset is not None else CONTACTS_WITH_HOLDERS
        room -= many * self._contact_size(address) + 8
        fitting, used = [], 8
        for raw in records:
            if used + len(raw) + _RECORD_OVERHEAD > room:
                break
            fitting.append(raw)
            used += len(raw) + _RECORD_OVERHEAD
        return [count, fitting], used, many

    def _contacts(self, target: bytes, count: int, address: Address) -> bytes:
        if count <= 0:
            return b""
        table = self._protocol.tables[socket.AF_INET6 if ":" in address[0] else socket.AF_INET]
        near = table.closest(int.from_bytes(target, "big"), count + 1, working=True)
        # Nobody needs to be told of itself.
        return b"".join([contact.pack() for contact in near if contact.address != address][:count])

    def _probe(self, message: Message, address: Address) -> tuple[list[Any], int]:
        token = field(message.body, 0, bytes, size=TOKEN_SIZE)
        nonce = field(message.body, 1, bytes, size=NONCE_SIZE)
        budget = self._budget(message, token, address)
        is_proved = self._protocol.tokens.check(token, address, self._protocol.now())
        promised = is_proved and self._protocol.reachability.arrange(nonce, address)
        return [*self._opening(address), promised], budget

    def _relay(self, message: Message, address: Address) -> tuple[list[Any], int]:
        token = field(message.body, 0, bytes, size=TOKEN_SIZE)
        packed = field(message.body, 1, bytes)
        nonce = field(message.body, 2, bytes, size=NONCE_SIZE)
        budget = self._budget(message, token, address)
        is_proved = self._protocol.tokens.check(token, address, self._protocol.now())
        called = is_proved and self._protocol.reachability.call(packed, nonce, address)
        return [*self._opening(address), called], budget

    def _store(self, message: Message, address: Address) -> tuple[list[Any], int]:
        token = field(message.body, 0, bytes, size=TOKEN_SIZE)
        records = field(message.body, 1, list)
        if len(records) > MAX_STORE_BATCH or any(type(raw) is not bytes for raw in records):
            raise WireError("field")
        return self._keep(token, records, message, address)

    def _store_batch(self, message: Message, address: Address) -> tuple[list[Any], int]:
        """Holder records that differ in key and signature only: token, bytes before the key, bytes after
        it, rows.

        A row is key + signature. One node's announcements share all else: this way twice as many fit a
        datagram.
        """
        token = field(message.body, 0, bytes, size=TOKEN_SIZE)
        before = field(message.body, 1, bytes)
        after = field(message.body, 2, bytes)
        rows = field(message.body, 3, bytes)
        width = ID_SIZE + SIGNATURE_SIZE
        if (
            len(rows) % width
            or len(rows) > MAX_STORE_BATCH * width
            or len(before) + len(after) > MAX_HOLDER_SIZE
        ):
            raise WireError("field")
        if before[1:2] != bytes([TAG_HOLDER]):
            raise WireError("field")
        records = [
            before + rows[at : at + ID_SIZE] + after + rows[at + ID_SIZE : at + width]
            for at in range(0, len(rows), width)
        ]
        return self._keep(token, records, message, address)

    def _keep(
        self, token: bytes, records: list[bytes], message: Message, address: Address
    ) -> tuple[list[Any], int]:
        protocol = self._protocol
        budget = self._budget(message, token, address)
        if not protocol.tokens.check(token, address, protocol.now()):
            protocol.drop("token", address)
            return [*self._opening(address), None], budget
        source = source_of(address[0])
        statuses = [protocol.storage.put(raw, source=source, sender_ip=address[0]) for raw in records]
        protocol.counters.stores_accepted += statuses.count(Status.STORED)
        protocol.counters.events["store_refused"] += statuses.count(Status.REFUSED)
        return [*self._opening(address), bytes(statuses)], budget
