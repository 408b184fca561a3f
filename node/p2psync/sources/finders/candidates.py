"""Addresses that strangers name as holders, in the order in which they are tried, and how often that may be.
Pure: the time comes with each question.

A record costs a stranger nothing, so it decides little: what is named by many comes no sooner than what is
named by one, no network is tried twice before each other one was tried once, and an address that was tried in
vain is left alone for longer and longer, whoever names it. Trying is ``tryouts``', and what a record says is
read by ``records``.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from typing import Final, NamedTuple

from p2psync.format.mirror_list import WEIGHT
from p2psync.format.url import host_and_port
from p2psync.sources.finders.records import Found
from p2psync.trust import Standing
from p2psync_dht.networks import networks_of
from p2psync_dht.scope import Scope, pack_ip, scope_of

PAUSE_FIRST: Final = 15.0
PAUSE_MAX: Final = 960.0
"""Seconds until a place that was tried in vain is tried again, doubled each time. Nobody is dialled more than
twice in half a minute on the word of strangers, and seven times in half an hour.
"""
CANDIDATES_MAX: Final = 2048
PLACES_MAX: Final = 4096
"""Addresses that wait, and places that are remembered as tried in vain: strangers can name any number, and
then a fetch has tried enough of them.
"""
CLAIMS_MAX: Final = 64
"""Nodes that are remembered as said to be at one address: one of them is, and the record of that one comes
again.
"""
KNOWN_CAPS: Final = (16, 32, 128)
"""Addresses of one client, site and provider that wait. The first is what one address may nominate
(``content.nominate``).
"""
FAILURES_CAPS: Final = (8, 16, 64)
"""Addresses of one network that are tried in vain before it is believed no more. A provider's customers are
many, of whom some have left.
"""


class Order(NamedTuple):
    """What is compared: the least is tried first."""

    standing: Standing
    failures: int
    site: int
    provider: int
    """How many of its site, and of its provider, came before it."""
    chance: float


class Candidate:
    """One address, and the nodes that are said to be there."""

    __slots__ = ("claims", "failures", "ip", "key", "name", "place", "waits")

    def __init__(self, name: str, ip: str) -> None:
        self.name = name
        self.ip = ip
        self.place = place_of(name, ip)
        self.claims: dict[bytes, Found] = {}
        """By node key."""
        self.key: bytes | None = None
        """Of the node that answered there."""
        self.failures = 0
        self.waits = False
        """It is in one of the queues."""

    def claim(self, found: Found) -> None:
        """Note whose address it is said to be."""
        key = found.record.node_key
        known = self.claims.get(key)
        if known is None and len(self.claims) >= CLAIMS_MAX:
            return
        if known is None or known.record.issued <= found.record.issued:
            self.claims[key] = found


class _Quota:
    """Counts public addresses by their networks; private and local ones are exempt."""

    def __init__(self, caps: tuple[int, ...]) -> None:
        self._caps = caps
        self._counts: Counter[bytes] = Counter()

    def has_room(self, packed: bytes) -> bool:
        counted = zip(networks_of(packed), self._caps, strict=True)
        return all(self._counts[network] < cap for network, cap in counted)

    def take(self, packed: bytes) -> None:
        if scope_of(packed) == Scope.GLOBAL:
            self._counts.update(networks_of(packed))


def place_of(name: str, ip: str) -> str:
    """What is left alone after a failure: a machine, with all its ports, where they may be those of a service
    that has nothing to do with this; on this machine and on private networks, where a machine has many nodes,
    the one port.
    """
    packed = pack_ip(ip)
    return networks_of(packed)[0].hex() if scope_of(packed) == Scope.GLOBAL else name


class _Pause(NamedTuple):
    until: float
    seconds: float


class Candidates:
    """All of one fetch."""

    def __init__(self, chance: Callable[[], float]) -> None:
        """``chance`` gives numbers from 0 to 1, and decides between what is equal."""
        self._chance = chance
        self._known: dict[str, Candidate] = {}
        self._orders: dict[str, Order] = {}
        self._due: list[tuple[Order, str]] = []
        self._later: list[tuple[float, str]] = []
        self._pauses: dict[str, _Pause] = {}
        self._busy: set[str] = set()
        """Places where somebody is being tried."""
        self._room = _Quota(KNOWN_CAPS)
        self._failed = _Quota(FAILURES_CAPS)
        self._before: Counter[bytes] = Counter()
        """Candidates by site and provider so far. An IPv4 and an IPv6 prefix of one length hardly meet."""

    def get(self, name: str) -> Candidate | None:
        return self._known.get(name)

    def add(
        self, name: str, found: Found, standing: Standing = Standing.TOLD, weight: int = WEIGHT
    ) -> Candidate | None:
        """Note that a node is said to be at ``name`` (HOST:PORT, numeric); None if there is no room for it,
        or its network has named too many in vain. Of two that are equal otherwise, one of twice the
        ``weight`` comes first twice as often (Efraimidis and Spirakis, 2006).
        """
        candidate = self._known.get(name)
        if candidate is None:
            ip = host_and_port(name)[0]
            packed = pack_ip(ip)
            if standing == Standing.TOLD and not self._is_welcome(packed):
                return None
            self._room.take(packed)
            candidate = self._known[name] = Candidate(name, ip)
            # Also where they are local: the order costs nobody anything.
            _, site, provider = networks_of(packed)
            chance = 1.0 - self._chance() ** (WEIGHT / weight) if weight else 1.0
            order = Order(standing, 0, self._before[site], self._before[provider], chance)
            self._before.update((site, provider))
            self._orders[name] = order
            self._wait(candidate)
        elif standing < self._orders[name].standing:
            self._orders[name] = self._orders[name]._replace(standing=standing)
            if candidate.waits:
                self._wait(candidate)
        candidate.claim(found)
        return candidate

    def _is_welcome(self, packed: bytes) -> bool:
        return (
            len(self._known) < CANDIDATES_MAX
            and len(self._pauses) < PLACES_MAX
            and self._room.has_room(packed)
            and self._failed.has_room(packed)
        )

    def _wait(self, candidate: Candidate) -> None:
        candidate.waits = True
        heapq.heappush(self._due, (self._orders[candidate.name], candidate.name))

    def next(self, now: float) -> Candidate | None:
        """Whom to try now; whoever gets it says what came of it. None: nobody is due."""
        while self._later and self._later[0][0] <= now:
            name = heapq.heappop(self._later)[1]
            heapq.heappush(self._due, (self._orders[name], name))
        held: list[tuple[Order, str]] = []
        chosen: Candidate | None = None
        while self._due and chosen is None:
            order, name = heapq.heappop(self._due)
            candidate = self._known[name]
            pause = self._pauses.get(candidate.place)
            if not candidate.waits or order is not self._orders[name]:
                continue  # It is in the queue once more, or was.
            if candidate.place in self._busy:
                held.append((order, name))
            elif pause is not None and pause.until > now:
                heapq.heappush(self._later, (pause.until, name))
            elif order.standing == Standing.TOLD and not self._failed.has_room(pack_ip(candidate.ip)):
                candidate.waits = False  # Its network has had its tries.
            else:
                chosen = candidate
        for each in held:
            heapq.heappush(self._due, each)
        if chosen is not None:
            chosen.waits = False
            self._busy.add(chosen.place)
        return chosen

    @property
    def has_due(self) -> bool:
        """Whether somebody waits who has not been tried, or whose time has come."""
        return bool(self._due)

    def wake_at(self) -> float | None:
        """When somebody is due again of those that are left alone; None if there are none."""
        return self._later[0][0] if self._later else None

    def succeeded(self, candidate: Candidate, key: bytes) -> None:
        """The node with ``key`` answered there, and its record said so."""
        self._busy.discard(candidate.place)
        self._pauses.pop(candidate.place, None)
        candidate.key = key

    def failed(self, candidate: Candidate, now: float) -> None:
        """Nobody answered there, or another than was said; it is tried again some time."""
        place = candidate.place
        self._busy.discard(place)
        before = self._pauses.get(place)
        pause = PAUSE_FIRST if before is None else min(2 * before.seconds, PAUSE_MAX)
        self._pauses[place] = _Pause(now + pause, pause)
        if not candidate.failures:
            self._failed.take(pack_ip(candidate.ip))
        candidate.failures += 1
        candidate.waits = True
        self._orders[candidate.name] = self._orders[candidate.name]._replace(failures=candidate.failures)
        heapq.heappush(self._later, (now + pause, candidate.name))
