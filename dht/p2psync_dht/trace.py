"""Looking closely: a ping that says what came of it, and a lookup that tells its path.

For people who want to know what the DHT does. The lookup is the one that everything else uses, watched: it
asks the same nodes in the same order, but goes on to the k closest instead of ending with a quorum, so that
every copy is seen.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from p2psync_dht import wire
from p2psync_dht.contact import COMPACT_SIZE, MAX_TOLD, Address, Contact, unpack_address
from p2psync_dht.form import RecordError
from p2psync_dht.holder_record import HolderRecord
from p2psync_dht.keys import ID_SIZE
from p2psync_dht.lookup import Lookup
from p2psync_dht.query import Query, Reply
from p2psync_dht.records import Head, tag_of
from p2psync_dht.service import MAX_AGENT, MAX_PER_PAGE
from p2psync_dht.wire import NONCE_SIZE, Kind, Want, WireError

if TYPE_CHECKING:
    from p2psync_dht.node import DhtNode
    from p2psync_dht.protocol import DhtProtocol
    from p2psync_dht.shortlist import Entry

PADDED_PING: Final = 128  # bytes: three times that is room for a proof, an IPv6 address and a version
PINGS: Final = 5
PING_INTERVAL: Final = 0.2  # seconds between two pings of one node
# How often a query without any answer reports itself slow before it fails; a bad answer ends it earlier.
_STAGES_OF_SILENCE: Final = 2


@dataclass(frozen=True, slots=True)
class Pong:
    """What came of one ping. Times are seconds from the first sending, also if it had to be sent twice."""

    rtt: float | None = None
    """None: no answer, or none in order."""
    resent: bool = False
    bad: bool = False
    """Whether something came that was malformed or lacked a proof of the node id."""
    node_id: bytes = b""
    verified: bool = False
    """Whether the answer proved its node id by a signature over our nonce."""
    agent: str = ""
    """The software that the node says it is; "" if it does not say."""
    observed: Address | None = None
    """Our own address as the node sees it."""


@dataclass(frozen=True, slots=True)
class PingReport:
    """What several pings of one address found out."""

    address: Address
    pongs: tuple[Pong, ...]

    @property
    def rtts(self) -> list[float]:
        """Of the answers, in order."""
        return [pong.rtt for pong in self.pongs if pong.rtt is not None]

    @property
    def last(self) -> Pong | None:
        """The latest answer, a verified one if there was any."""
        answers = [pong for pong in self.pongs if pong.rtt is not None]
        proved = [pong for pong in answers if pong.verified]
        found = proved or answers
        return found[-1] if found else None


async def ping_once(protocol: DhtProtocol, address: Address, *, prove: bool = True) -> Pong:
    """Ask whoever is at an address for its id, and with `prove` for a proof of that."""
    done: asyncio.Future[tuple[Reply | None, float]] = asyncio.get_running_loop().create_future()
    nonce = protocol.rng.randbytes(NONCE_SIZE) if prove else None
    stages = 0

    def slow() -> None:
        nonlocal stages
        stages += 1

    def arrived(reply: Reply | None) -> None:
        if not done.done():
            done.set_result((reply, protocol.now() - query.sent_at))

    stranger = Contact(bytes(ID_SIZE), *address)
    body = [nonce, protocol.token_for(address)]
    query = Query(Kind.PING, stranger, body, arrived, slow=slow, nonce=nonce, pad=PADDED_PING, known_id=False)
    protocol.query(query)
    reply, seconds = await done
    resent = query.sent_times > 1
    if reply is None:
        return Pong(resent=resent, bad=stages < _STAGES_OF_SILENCE)
    return Pong(
        rtt=seconds,
        resent=resent,
        node_id=reply.contact.id,
        verified=prove,
        agent=agent_of(reply),
        observed=unpack_address(reply.body[0]),
    )


async def ping_address(
    node: DhtNode,
    address: Address,
    *,
    count: int = PINGS,
    on_pong: Callable[[Pong], None] | None = None,
) -> PingReport:
    """Ping whoever is at `address` (numeric) `count` times.

    Who answers, but without a proof of its id, is asked once more without the wish for one, so that it can
    be told from one who is not there.
    """
    pongs: list[Pong] = []
    for number in range(count):
        if number:
            await asyncio.sleep(PING_INTERVAL)
        pong = await ping_once(node.protocol, address)
        if pong.bad:
            pong = replace(await ping_once(node.protocol, address, prove=False), bad=True)
        pongs.append(pong)
        if on_pong is not None:
            on_pong(pong)
    return PingReport(address, tuple(pongs))


def agent_of(reply: Reply) -> str:
    """The software named in the reply to a PING; "" if none is, or nothing printable."""
    try:
        agent = wire.field(reply.body, 3, bytes, optional=True)
    except WireError:
        return ""
    if agent is None or len(agent) > MAX_AGENT or not agent.isascii():
        return ""
    text: str = agent.decode()
    return text if text.isprintable() else ""


class Outcome(StrEnum):
    """What became of one query of a lookup."""

    ANSWERED = "answered"
    SILENT = "silent"
    """Asked twice, never heard."""
    BAD = "bad"
    """It answered with something malformed, under another id, or without proof."""
    OPEN = "open"
    """The lookup was over before it answered."""


@dataclass(slots=True)
class Step:
    """One node asked in a lookup. Times are seconds since the lookup began."""

    contact: Contact
    hop: int
    """1: known before; n + 1: told of by a node of hop n."""
    teller: bytes | None
    """Id of the node that told of it first; None if it was known before."""
    distance: int
    """XOR of its id and the key."""
    asked_at: float
    outcome: Outcome = Outcome.OPEN
    answered_at: float | None = None
    resent: bool = False
    told: int = 0
    """Contacts in its answer."""
    new: int = 0
    """Of these, such as nobody had told of before."""
    head: Head | None = None
    """The verified head that it gave."""
    kept: int = 0
    """Holder records that it says it keeps under the key."""
    holders: tuple[HolderRecord, ...] = ()
    """The verified ones among those it gave: a random sample."""
    invalid: int = 0
    """Records that it gave and that do not verify or belong elsewhere."""

    @property
    def bits(self) -> int:
        """The distance as a number of bits: 160 is the other half of the key space, 0 the key itself."""
        return self.distance.bit_length()

    @property
    def rtt(self) -> float | None:
        return None if self.answered_at is None else self.answered_at - self.asked_at


@dataclass(slots=True)
class Trace:
    """The course of a lookup. Datagrams are all that the node sent and received meanwhile."""

    key: bytes
    want: Want
    steps: list[Step] = field(default_factory=list)
    seconds: float = 0.0
    datagrams_out: int = 0
    datagrams_in: int = 0

    @property
    def heads(self) -> list[Step]:
        """The nodes that gave a valid head, nearest to the key first."""
        return sorted((step for step in self.steps if step.head), key=lambda step: step.distance)

    @property
    def best(self) -> Head | None:
        return max((step.head for step in self.steps if step.head), key=lambda head: head.order, default=None)

    @property
    def holders(self) -> list[HolderRecord]:
        """The newest record of each holder that any node gave."""
        newest: dict[bytes, HolderRecord] = {}
        for record in (record for step in self.steps for record in step.holders):
            known = newest.get(record.node_key)
            if known is None or record.order > known.order:
                newest[record.node_key] = record
        return list(newest.values())

    def count(self, outcome: Outcome) -> int:
        return sum(step.outcome is outcome for step in self.steps)


class TracedLookup(Lookup):
    """A lookup that notes each query in `trace`. `on_step` sees those that have come to an end."""

    def __init__(
        self,
        protocol: DhtProtocol,
        family: socket.AddressFamily,
        trace: Trace,
        on_step: Callable[[Step], None] | None,
        began: float,
    ) -> None:
        self._trace = trace
        self._on_step = on_step
        self._began = began
        self._hops: dict[bytes, int] = {}
        # By node and address: who is told at another one is asked there too, and both may answer.
        self._steps: dict[Contact, Step] = {}
        self._slow_calls: Counter[Contact] = Counter()
        self._reader = _RecordReader(protocol, trace.key, trace.want)
        super().__init__(protocol, family, trace.key, trace.want)

    def _elapsed(self) -> float:
        return self._protocol.now() - self._began

    def _ask(self, entry: Entry) -> None:
        hop = 1 if entry.teller is None else self._hops.get(entry.teller, 0) + 1
        step = Step(entry.contact, hop, entry.teller, entry.distance, self._elapsed())
        self._hops[entry.contact.id] = hop
        self._steps[entry.contact] = step
        self._trace.steps.append(step)
        super()._ask(entry)

    def _slow(self, entry: Entry) -> None:
        self._slow_calls[entry.contact] += 1
        self._steps[entry.contact].resent = True
        super()._slow(entry)

    def _answered(self, entry: Entry, reply: Reply | None) -> None:
        contact = entry.contact if reply is None else reply.contact
        step = self._steps[contact]
        if self._done.done():
            super()._answered(entry, reply)
            return
        if reply is None:
            silent = self._slow_calls[contact] >= _STAGES_OF_SILENCE
            step.outcome = Outcome.SILENT if silent else Outcome.BAD
        else:
            step.outcome = Outcome.ANSWERED
            step.answered_at = self._elapsed()
        known = len(self._seen)
        if reply is not None:
            step.told = _told(reply, self._family)
        super()._answered(entry, reply)
        if reply is not None:
            step.new = len(self._seen) - known
            answer = self._answers.get(entry.contact.id)
            if answer is None:
                step.outcome = Outcome.BAD
            else:
                self._reader.read(answer.value, step)
        if self._on_step is not None:
            self._on_step(step)


def _told(reply: Reply, family: socket.AddressFamily) -> int:
    blob = reply.body[2] if len(reply.body) > 2 else b""
    return min(len(blob) // COMPACT_SIZE[family], MAX_TOLD) if isinstance(blob, bytes) else 0


class _RecordReader:
    """Verifies the records of answers, each distinct one once."""

    def __init__(self, protocol: DhtProtocol, key: bytes, want: Want) -> None:
        self._protocol = protocol
        self._key = key
        self._want = want
        self._heads: dict[bytes, Head | None] = {}
        self._holders: dict[bytes, HolderRecord | None] = {}

    def read(self, value: list[Any] | None, step: Step) -> None:
        """Put what a node gave into its step."""
        if not value:
            return
        if self._want == Want.HEAD:
            step.head = self._head(value[0])
            step.invalid = int(step.head is None)
        elif self._want == Want.HOLDERS and len(value) > 1 and isinstance(value[1], list):
            given = [self._holder(raw) for raw in value[1][:MAX_PER_PAGE]]
            step.holders = tuple(record for record in given if record is not None)
            step.invalid = given.count(None)
            step.kept = value[0] if type(value[0]) is int and 0 < value[0] < 2**32 else 0
        else:
            step.invalid = 1

    def _head(self, raw: object) -> Head | None:
        if not isinstance(raw, bytes):
            return None
        if raw not in self._heads:
            self._heads[raw] = None
            try:
                head = Head.decode(raw, tag=tag_of(raw))
                head.verify(int(self._protocol.clock()))
            except RecordError:
                return None
            self._heads[raw] = head if head.key == self._key else None
        return self._heads[raw]

    def _holder(self, raw: object) -> HolderRecord | None:
        if not isinstance(raw, bytes):
            return None
        if raw not in self._holders:
            self._holders[raw] = None
            try:
                record = HolderRecord.decode(raw)
                record.verify(int(self._protocol.clock()))
            except RecordError:
                return None
            self._holders[raw] = record if record.key == self._key else None
        return self._holders[raw]


async def trace_lookup(
    node: DhtNode,
    key: bytes,
    want: Want = Want.HEAD,
    *,
    on_step: Callable[[Step], None] | None = None,
) -> Trace:
    """Look up `key` (20 bytes) in all address families until the k closest nodes have answered.

    `want` says which records to ask for. What the node stores itself is not part of it. Queries still open
    at the end are in the trace, but `on_step` has not seen them.
    """
    if len(key) != ID_SIZE:
        raise ValueError(f"a key is {ID_SIZE} bytes")
    protocol = node.protocol
    trace = Trace(key, want)
    began = protocol.now()
    out, came = protocol.counters.datagrams_out, protocol.counters.datagrams_in
    lookups = [TracedLookup(protocol, family, trace, on_step, began) for family in protocol.families()]
    await asyncio.gather(*(lookup.run() for lookup in lookups))
    trace.seconds = protocol.now() - began
    trace.datagrams_out = protocol.counters.datagrams_out - out
    trace.datagrams_in = protocol.counters.datagrams_in - came
    return trace
