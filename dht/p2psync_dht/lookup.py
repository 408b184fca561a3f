"""An iterative lookup: converge on the k nodes nearest to a key, collecting what they have (Kademlia,
section 2.3).

Where ids lie denser near the key than the network's size explains, somebody has placed nodes there, and all
nodes of a region are asked instead of the k nearest: see `density`.

Asynchronous: alpha queries are under way, and as soon as one is answered or falls silent the next goes out;
nobody waits for a round. A shortlist is bounded and takes at most two contacts of one network. Only answers
whose sender proved its id count. What to do with the records that answers bring is the caller's (`heads`,
`holders`).
"""

from __future__ import annotations

import asyncio
import bisect
import heapq
import socket
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from p2psync_dht.contact import COMPACT_SIZE, Contact, contacts_told
from p2psync_dht.density import PARTS, parts_of
from p2psync_dht.networks import NetworkQuota
from p2psync_dht.query import Answer
from p2psync_dht.routing import KEY_BITS
from p2psync_dht.shortlist import MIN_OWN, Entry, State, least_wanted, own_wanted
from p2psync_dht.wire import Want, WireError, field

if TYPE_CHECKING:
    from p2psync_dht.protocol import DhtProtocol
    from p2psync_dht.query import Reply

ALPHA: Final = 4  # queries under way whose answer is still expected
MAX_ALPHA: Final = 14  # every silent node adds a slot, up to here: among the dead, four are too slow
MAX_SHORTLIST: Final = 3  # times k: candidates kept that nobody has asked
MAX_QUERIES: Final = 160  # of one lookup, whatever liars invent; an honest one with 40 % dead needs 60
MAX_SEEN: Final = 4096  # contacts remembered as heard of: MAX_QUERIES answers of 20, and some
# Of those whom a contact of our own tells of, this many of the nearest are asked when a client reads,
# whatever nearer ones others tell of: its contacts are few and far from the key, and one honest one among
# liars is heard in vain if nobody goes where it points.
LEADS: Final = 2
# How many times farther apart than nodes elsewhere the nearest nodes heard may lie. Farther apart, others are
# being hidden. Of a tenth of honest reads this is true by chance, and they go on to the end.
SPREAD: Final = 1.7
MAX_UNPROVED_TELLER: Final = 4  # failures among the contacts that one node told of, past its successes


class Lookup:
    """One lookup in one address family. `run` gives the answers of the k closest, nearest first; where these
    are a crowd, those of all nodes in the region of the key.

    `on_answer` sees every answer as it comes; `is_decided` is asked after each answer and silence whether
    that is enough. `own_last`: contacts of our own that are not near are asked only when the nearest are.
    `minds_crowds` False: the k closest are wanted, whoever they are.
    """

    def __init__(
        self,
        protocol: DhtProtocol,
        family: socket.AddressFamily,
        target: bytes,
        want: Want = Want.NODES,
        *,
        on_answer: Callable[[Answer], None] | None = None,
        is_decided: Callable[[Lookup], bool] | None = None,
        seeds: Iterable[Contact] = (),
        count: int | None = None,
        alpha: int = ALPHA,
        own_last: bool = False,
        minds_crowds: bool = True,
    ) -> None:
        self._protocol = protocol
        self._family = family
        self._target = target
        self._target_id = int.from_bytes(target, "big")
        self._want = want
        self._on_answer = on_answer
        self._is_decided = is_decided
        self._k = count or protocol.tables[family].ksize
        self._entries: list[Entry] = []
        self._deferred: list[Entry] = []
        self._seen: dict[bytes, Entry | None] = {protocol.identity.node_id: None}
        self._networks = NetworkQuota(diversify_local=protocol.diversify_local)
        self._strikes: Counter[bytes] = Counter()
        self._answers: dict[bytes, Answer] = {}
        self._active = 0
        self._slots = alpha
        self._own_last = own_last
        self._minds_crowds = minds_crowds
        self._region = 0  # how far from the key all are asked
        self._exploring: set[asyncio.Task[list[Answer]]] = set()
        self._leads: list[Entry] = []
        self._leads_each = 0 if protocol.server or want == Want.NODES else LEADS
        self._focus = self._k
        self._widened = False
        self._own_lost = 0
        self._addresses_waited_for = 0  # see `JoinLookup`
        self._started = False
        self.queries = 0
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        table = protocol.tables[family]
        table.bucket_of(self._target_id).touch_last_updated()
        # A read is misled by what liars tell; a store and a join ask all whom they are told of anyhow.
        count = 0 if want == Want.NODES else self._k
        earlier = protocol.acquaintances.earlier(family, self._target_id, count)
        self._earlier = {contact.id for contact in earlier}
        for contact in [*earlier, *table.closest(self._target_id, self._k), *seeds]:
            self._add(contact, None)

    async def run(self) -> list[Answer]:
        """Ask until the k closest that answer have answered."""
        self._started = True
        began = self._protocol.now()
        self._pump()
        try:
            await self._done
        finally:
            for task in self._exploring:
                task.cancel()
        counters = self._protocol.counters
        counters.lookups += 1
        counters.lookup_queries += self.queries
        counters.lookup_seconds += self._protocol.now() - began
        nearest = sorted(self._answers.values(), key=lambda answer: answer.distance)
        if not self._region:
            return nearest[: self._k]
        inside = bisect.bisect_right(nearest, self._region, key=lambda answer: answer.distance)
        return nearest[: max(self._k, inside)]

    @property
    def answered(self) -> int:
        """How many nodes answered so far, near ones and those on the way."""
        return len(self._answers)

    # The shortlist

    def _add(self, contact: Contact, teller: bytes | None) -> None:
        if contact.id in self._seen:
            known = self._seen[contact.id]
            if known is not None and known.hear(contact, teller):
                if known.state in (State.SLOW, State.OVERDUE, State.FAILED):
                    self._try_other(known)
                elif known in self._deferred and self._try_other(known):
                    self._deferred.remove(known)
            return
        if len(self._seen) >= MAX_SEEN or not self._networks.admit(contact.ip):
            return
        entry = self._seen[contact.id] = Entry(contact, contact.long_id ^ self._target_id, teller)
        if self._protocol.is_dead(contact):
            self._deferred.append(entry)
            return
        self._insert(entry)

    def _insert(self, entry: Entry) -> None:
        index = bisect.bisect_left(self._entries, entry.distance, key=lambda one: one.distance)
        if index < len(self._entries) and self._entries[index] is entry:
            return
        self._entries.insert(index, entry)
        surplus = least_wanted(self._entries, MAX_QUERIES if self._region else MAX_SHORTLIST * self._k)
        if surplus is not None:
            self._remove(surplus)

    def _try_other(self, entry: Entry) -> bool:
        """Ask a node at the next address told of; whether there is one."""
        last, is_admitted = entry.contact, entry.state != State.FAILED
        if not entry.next_address(lambda to: not self._protocol.is_dead(to) and self._networks.admit(to.ip)):
            return False
        if is_admitted:
            self._networks.release(last.ip)
        self._insert(entry)
        return True

    def _remove(self, entry: Entry) -> None:
        index = bisect.bisect_left(self._entries, entry.distance, key=lambda one: one.distance)
        if index < len(self._entries) and self._entries[index] is entry:
            del self._entries[index]
            self._networks.release(entry.contact.ip)

    def _own_wanted(self) -> Entry | None:
        """The next contact of our own to ask, as long as too few of them have answered."""
        own = own_wanted(self._entries, self._earlier, min(MIN_OWN, self._k), self._own_lost)
        return own if own is not None and self._is_eligible(own) else None

    def _awaits_own(self) -> bool:
        """Whether a contact of our own has still to be asked, or to answer."""
        own = [entry.state for entry in self._entries if entry.teller is None]
        few = own.count(State.ANSWERED) < min(MIN_OWN, self._k)
        return self._own_wanted() is not None or (few and State.ASKED in own)

    def _next(self) -> Entry | None:
        """The nearest node not yet asked, unless k nearer ones have answered or may be about to; contacts
        of our own that are wanted first, or last.
        """
        own = self._own_wanted()
        if own is not None and not self._own_last:
            return own
        if self._region and (farthest := self._farthest_inside()) is not None:
            return farthest
        ahead = silent = 0
        for entry in self._entries:
            if entry.state == State.NEW:
                if self._is_eligible(entry):
                    return entry
            elif entry.state in (State.ASKED, State.ANSWERED) or self._counts(silent := silent + 1):
                ahead += 1
                if ahead >= self._focus:
                    break
        return own or next(filter(self._is_open, self._leads), None)

    def _farthest_inside(self) -> Entry | None:
        """The next node of the region to ask. Those who crowd round the key come last: they may be any
        number.
        """
        for entry in reversed(self._entries):
            if entry.distance <= self._region and entry.state == State.NEW and self._is_eligible(entry):
                return entry
        return None

    def _is_open(self, lead: Entry) -> bool:
        return lead.state == State.NEW and lead in self._entries and self._is_eligible(lead)

    def _follows_leads(self) -> bool:
        """Whether a lead has still to be asked, or to answer."""
        return any(lead.state == State.ASKED or self._is_open(lead) for lead in self._leads)

    def _counts(self, silent: int) -> bool:
        """Whether a silent node, the nth of them, stands for one of the k nearest.

        In a read it does: its neighbours have the record, not nodes farther out. Half of k at most, so that
        contacts invented near a key hide nothing. A store needs living nodes.
        """
        return self._want != Want.NODES and silent <= self._k // 2

    def _is_eligible(self, entry: Entry) -> bool:
        """Whether a new entry may be asked: not beyond the bound, nor told of by a node whose contacts keep
        failing.
        """
        if self.queries >= MAX_QUERIES:
            return False
        while entry.teller is not None and self._strikes[entry.teller] >= MAX_UNPROVED_TELLER:
            if not self._try_other(entry):
                return False
        return True

    def focus(self, nearest: int) -> None:
        """Ask only the `nearest` nodes from now on; more if these have answered and the lookup goes on."""
        if not self._widened:
            self._focus = min(nearest, self._k)

    def _widen(self) -> None:
        self._focus = self._k
        self._widened = True

    def is_settled(self, nearest: int) -> bool:
        """Whether enough of our own contacts and the `nearest` nodes known were heard, or are silent. Where
        these are spread too wide, all k nearest are asked from now on.

        Where many are dead, waiting for the living would double the time. Liars cannot make others silent,
        but they can invent silent ones: these stand for half of the nearest at most.
        """
        if self._follows_leads():
            return False
        waiting = (State.NEW, State.ASKED)
        own = sum(entry.teller is None and entry.state not in waiting for entry in self._entries)
        needs_own = own + self._own_lost < MIN_OWN
        density = self._protocol.densities[self._family].per_distance()
        expected = SPREAD * nearest / density if density else 2.0**KEY_BITS
        patience = nearest // 2
        for entry in self._entries:
            if entry.state in waiting:
                if nearest > 0 or (entry.teller is None and needs_own):
                    return False
                continue
            if entry.state == State.ANSWERED or patience > 0:
                patience -= entry.state != State.ANSWERED
                nearest -= 1
                if nearest == 0 and entry.distance > expected:
                    self._widen()
                    return False
        return True

    def _is_complete(self) -> bool:
        """Whether the k nearest have answered, not counting those that keep silent."""
        if self._awaits_own() or self._follows_leads():
            return False
        answered = heard = silent = 0
        waiting = self._addresses_waited_for
        for entry in self._entries:
            if heard >= self._k and entry.distance > self._region:
                return True
            if entry.state == State.ANSWERED:
                answered += 1
                heard += 1
            elif entry.state in (State.OVERDUE, State.FAILED) or (
                entry.state == State.SLOW and self._want != Want.NODES
            ):
                # A store wants the true k closest; a read has enough in the others.
                waiting += entry.state != State.FAILED
                silent += 1
                heard += self._counts(silent)
            elif entry.state != State.NEW or self._is_eligible(entry):
                return False
        # Fewer nodes than k: complete, unless nobody has answered and somebody still may.
        return bool(answered) or not waiting

    # Going on, and coming to an end

    def _pump(self) -> None:
        if not self._started or self._done.done():
            return
        if self._answers and self._is_decided is not None and not self._region and self._is_decided(self):
            self._end()
            return
        while self._active < self._slots:
            entry = self._next()
            if entry is None:
                break
            self._ask(entry)
        if not self._active and self._focus < self._k:
            self._widen()
            self._pump()
            return
        if self._exploring or not self._is_complete():
            return
        if not self._answers and self._deferred:
            # Everybody known was silent lately. Perhaps the silence was ours.
            revived, self._deferred = self._deferred, []
            for entry in revived:
                self._insert(entry)
            self._pump()
            return
        self._end(complete=True)

    # The region of a crowded key

    def _end(self, *, complete: bool = False) -> None:
        """That is enough; but not where those who were heard are a crowd. `complete`: all k nearest were."""
        if self._minds_crowds and not self._region:
            density = self._protocol.densities[self._family]
            nearest = sorted(answer.distance for answer in self._answers.values())
            self._region = density.region(nearest)
            if self._region:
                self._protocol.counters.events["crowd"] += 1
                self._widen()
                self._explore()
                return
            # Of the nearest that a read asks, half may be silent.
            heard = self._k if self._want == Want.NODES else self._k // 2
            if complete and len(nearest) >= self._k:
                density.note(self._target_id, nearest[:heard])
        self._done.set_result(None)

    def _explore(self) -> None:
        """Find the nodes of the region: those near the key tell of each other only."""
        for target in parts_of(self._target_id, self._region, self._protocol.rng):
            part = Lookup(self._protocol, self._family, target, alpha=MAX_ALPHA // PARTS, minds_crowds=False)
            task = asyncio.get_running_loop().create_task(part.run())
            self._exploring.add(task)
            task.add_done_callback(self._explored)
        self._pump()

    def _explored(self, task: asyncio.Task[list[Answer]]) -> None:
        self._exploring.discard(task)
        if task.cancelled():
            return
        for answer in task.result():
            contact = answer.contact
            self._add(contact, contact.id)
            entry = self._seen.get(contact.id)
            # Contacts invented near the key may have pushed it out.
            is_lost = entry is not None and entry.state == State.NEW and entry not in self._entries
            if entry is not None and is_lost and self._networks.admit(entry.contact.ip):
                self._insert(entry)
        self._pump()

    # The queries

    def _ask(self, entry: Entry) -> None:
        entry.state = State.ASKED
        self._active += 1
        self.queries += 1
        contact, teller = entry.contact, entry.teller

        def ended(reply: Reply | None) -> None:
            if teller is not None:
                self._strikes[teller] += 1 if reply is None else -1
            # Late silence at an address that was given up says nothing of the next one; a late answer counts.
            if reply is not None or entry.contact is contact:
                self._answered(entry, reply)

        def slow() -> None:
            if entry.contact is contact:
                self._slow(entry)

        self._protocol.find(contact, self._target, self._want, ended, slow=slow)

    def _slow(self, entry: Entry) -> None:
        if entry.state == State.ASKED:
            self._active -= 1
            self._slots = min(self._slots + 2, MAX_ALPHA)
            if not self._try_other(entry):
                entry.state = State.SLOW
        elif entry.state == State.SLOW:
            entry.state = State.OVERDUE
        self._pump()

    def _answered(self, entry: Entry, reply: Reply | None) -> None:
        if entry.state == State.ASKED:
            self._active -= 1
        if reply is None:
            if entry.state != State.ANSWERED and not self._try_other(entry):
                self._lose(entry)
        elif entry.state != State.ANSWERED:
            entry.state = State.ANSWERED
            self._take(entry, reply)
        self._pump()

    def _lose(self, entry: Entry) -> None:
        """Nobody is at any address of a node. A read keeps it in the list, see `_counts`."""
        if self._want == Want.NODES:
            self._own_lost += entry.teller is None
            self._remove(entry)
        else:
            self._networks.release(entry.contact.ip)
        entry.state = State.FAILED

    def _take(self, entry: Entry, reply: Reply) -> None:
        if self._done.done():
            return
        try:
            value = field(reply.body, 3, list, optional=True)
            self._take_contacts(field(reply.body, 2, bytes), reply.contact)
        except WireError as error:
            self._protocol.drop(error.reason, reply.contact.address)
            self._remove(entry)
            return
        answer = Answer(reply.contact, entry.distance, reply.token, value)
        self._answers[reply.contact.id] = answer
        if self._on_answer is not None:
            self._on_answer(answer)

    def _take_contacts(self, blob: bytes, teller: Contact) -> None:
        if len(blob) % COMPACT_SIZE[self._family]:
            raise WireError("contacts")
        told = list(contacts_told(blob, teller))
        for contact in told:
            if contact is None:
                self._protocol.counters.drops["contact"] += 1
            else:
                self._add(contact, teller.id)
        by = self._seen.get(teller.id)
        if by is not None and by.teller is None:
            known = filter(None, (self._seen.get(contact.id) for contact in told if contact is not None))
            nearest = heapq.nsmallest(self._leads_each, known, key=lambda entry: entry.distance)
            self._leads += [entry for entry in nearest if entry not in self._leads]
