"""Hearing of newer heads at once: of each archive that is mirrored here, a few holders are asked for its
head by requests that they leave open until there is another (``content.subscribers``).

It works from behind a firewall that lets nobody in. Heads are verified before they are kept, and kept
before they are told on: that and the update are those of ``announce`` and ``mirrors``, which look at what
is kept. Who answers with anything else than a newer head is left alone for a while, and polling goes on as
ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from p2psync.daemon.mirrors import peers_of
from p2psync.errors import P2psyncError
from p2psync.sources.node import PeerSource
from p2psync.state import State
from p2psync.state.off_loop import off_loop
from p2psync.trust import Standing, handed_on
from p2psync_dht import HolderRecord, HolderRole

LISTENERS: Final = 2
"""Holders of each archive that are listened to: one of them may be behind, dead, or want to keep news back.
"""
LISTENERS_MAX: Final = 64
"""The same in all, each with a connection. Of archives beyond that one hears at their intervals, or from
holders that reach this node.
"""
WAIT: Final = 25
"""Seconds that a holder may leave a request open: less than proxies do that are patient for half a minute."""
SILENCE: Final = WAIT + 15.0
"""Seconds of silence after which it counts as dead."""
CONNECT_TIMEOUT: Final = 5.0
PAUSE: Final = 1.0
"""Seconds from one question to the next, at least: nobody makes this node ask in a loop."""
REST_FIRST: Final = 5.0
"""Seconds for which a holder is left alone that failed, or is of no use as one to listen to; doubles up to
``REST_LAST``, each give or take half, so that not all come back to one that was restarted at the same moment.
"""
REST_LAST: Final = 600.0
RESTING_MAX: Final = 1024
"""Addresses that are left alone that are remembered; strangers could name any number."""
LOOK: Final = 60.0
"""Seconds until it is looked again whether there is somebody to listen to, and for which archives."""


class _Place(NamedTuple):
    """Where somebody may be listened to."""

    address: str
    """HOST:PORT."""
    key: bytes | None
    """Of the node that is there, where a record says so; not of those that were given by hand."""


class _Useless(P2psyncError):
    """A holder is of no use as one to listen to."""


class News:
    """Listens for newer heads of what is mirrored from a state directory."""

    def __init__(
        self,
        state: State,
        own_key: bytes,
        detail: Callable[[str], None],
        rng: random.Random,
    ) -> None:
        self._state = state
        self._own_key = own_key
        self.heard: Callable[[], None] = _nothing
        """Called when a newer head is kept."""
        self._detail = detail
        self._random = rng
        self._listening: dict[tuple[bytes, int], asyncio.Task[None]] = {}
        """By archive and number."""
        self._choosing = asyncio.Lock()
        self._at: dict[tuple[bytes, int], _Place] = {}
        self._resting: dict[tuple[bytes, str], tuple[float, float]] = {}
        """By archive and address: until when, and for how long."""

    @property
    def listening(self) -> list[str]:
        """HOST:PORT of those that are listened to now; one that is so for several archives comes as often."""
        return [place.address for place in self._at.values()]

    async def round(self) -> float:
        """Listen for what is mirrored here now, and for nothing else; seconds until the next look."""
        archives = await off_loop(self._archives)
        wanted = [(archive, number) for number in range(LISTENERS) for archive in archives][:LISTENERS_MAX]
        gone = [self._listening.pop(each) for each in list(self._listening) if each not in set(wanted)]
        await _end(gone)
        for each in wanted:
            if each not in self._listening:
                self._listening[each] = asyncio.create_task(self._listen(*each))
        return LOOK

    async def close(self) -> None:
        """Listen to nobody any more."""
        await _end(list(self._listening.values()))
        self._listening.clear()

    def _archives(self) -> list[bytes]:
        trees = [tree for tree in self._state.trees.all() if tree.role == "mirror" and tree.source]
        archives = dict.fromkeys(tree.archive for tree in trees if tree.archive is not None)
        return [archive for archive in archives if self._state.heads.newest(archive) is not None]

    async def _listen(self, archive: bytes, number: int) -> None:
        """Listen to one holder after the other."""
        loop = asyncio.get_running_loop()
        while True:
            async with self._choosing:  # Two at once would choose the same.
                place, seconds = await self._find(archive, number)
                if place is not None:
                    self._at[archive, number] = place
            if place is None:
                await asyncio.sleep(seconds)
                continue
            began = loop.time()
            try:
                await self._listen_to(place, archive, number)
            except (P2psyncError, OSError) as error:
                self._detail(f"not listening to {place.address} for a newer snapshot for a while: {error}")
            finally:
                del self._at[archive, number]
            self._rest(archive, place.address, loop.time(), loop.time() - began)
            await asyncio.sleep(PAUSE)

    async def _find(self, archive: bytes, number: int) -> tuple[_Place | None, float]:
        """Whom to listen to; or None, and in how many seconds it is worth looking again."""
        now = asyncio.get_running_loop().time()
        taken = [place for (other, _), place in self._at.items() if other == archive]
        again = now + LOOK * self._random.uniform(0.5, 1.5)
        with contextlib.suppress(P2psyncError):  # An index that cannot be read now is read later.
            for place in await off_loop(partial(self._places, archive, number)):
                if any(each.address == place.address or _same(each, place) for each in taken):
                    continue
                until, _ = self._resting.get((archive, place.address), (now, 0.0))
                if until <= now:
                    return place, 0.0
                again = min(again, until)
        return None, again - now

    def _places(self, archive: bytes, number: int) -> list[_Place]:
        """Whom to listen to, the best first. The first listener wants who was given by hand, and the origin;
        the others begin with anybody. Strangers are the last of all.
        """
        given = [
            _Place(peer, None)
            for tree in self._state.trees.by_archive(archive)
            for peer in dict.fromkeys(peers_of(tree))
        ]
        now = time.time()
        records = [
            each for each in self._state.holders.ordered(archive, now) if each.node_key != self._own_key
        ]
        standings = self._state.nodes.standings(records, now)
        self._random.shuffle(records)

        def rank(record: HolderRecord) -> tuple[bool, bool]:
            stranger = standings[record.node_key] == Standing.TOLD
            return stranger, number == 0 and record.role is not HolderRole.ORIGIN

        ordered = sorted((each for each in records if each.role is not HolderRole.PEER), key=rank)
        known = [_Place(str(at), each.node_key) for each in ordered for at in each.endpoints if at.ip]
        if number == 0:
            return given + known
        met = [place for place, each in zip(known, ordered, strict=False) if not rank(each)[0]]
        return [*met, *given, *known]

    async def _listen_to(self, place: _Place, archive: bytes, number: int) -> None:
        """Listen to one holder for as long as it is of use. Raises P2psyncError: it is not, any more."""
        source = PeerSource(
            place.address, connections=1, connect_timeout=CONNECT_TIMEOUT, idle_timeout=SILENCE
        )
        try:
            key = (await source.info()).key
            place = _Place(place.address, key if place.key is None else place.key)
            if key != place.key or key == self._own_key:
                raise _Useless("another node answers there")
            if any(_same(place, each) for at, each in self._at.items() if at == (archive, 1 - number)):
                raise _Useless("it is listened to already")
            self._at[archive, number] = place
            told: set[bytes] = set()
            while True:
                await self._ask(source, archive, told)
        finally:
            await source.close()

    async def _ask(self, source: PeerSource, archive: bytes, told: set[bytes]) -> None:
        """Wait for a newer head once, and at least for a moment. ``told``: heads that the holder was told."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        known = await off_loop(partial(self._state.heads.newest, archive))
        if known is None:
            raise _Useless("no head is known here that a newer one could follow")
        raw = await source.newer_head(archive, known.raw, WAIT)
        newer = raw is not None and await off_loop(partial(self._keep, archive, raw))
        newest = await off_loop(partial(self._state.heads.newest, archive)) or known
        if newer:
            self.heard()
        if raw is None and loop.time() - began < WAIT / 2:
            raise _Useless("it does not wait")
        if raw is not None and raw != newest.raw:
            if newest.raw in told:
                raise _Useless("it tells of an older head than it was told")
            told.add(newest.raw)
            await source.put_head(archive, newest.raw)
        else:
            self._resting.pop((archive, source.name), None)
        await asyncio.sleep(max(PAUSE - (loop.time() - began), 0.0))

    def _keep(self, archive: bytes, raw: bytes) -> bool:
        """Keep a head if it is right and newer. Raises FormatError, TrustError."""
        return self._state.heads.put(handed_on(raw, archive, time.time()), "told")

    def _rest(self, archive: bytes, address: str, now: float, lasted: float) -> None:
        """Leave an address alone; for longer where that was in vain before."""
        _, before = self._resting.get((archive, address), (0.0, 0.0))
        seconds = min(2 * before, REST_LAST) if before and lasted < REST_LAST else REST_FIRST
        if len(self._resting) >= RESTING_MAX:
            self._resting.clear()
        self._resting[archive, address] = now + seconds * self._random.uniform(0.5, 1.5), seconds


def _nothing() -> None:
    return


def _same(one: _Place, other: _Place) -> bool:
    return one.key is not None and one.key == other.key


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
