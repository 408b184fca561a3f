"""The list of recommended mirrors: signed where an archive is published, whenever checks have changed it, and
kept in the DHT and up to date by every node that has the archive.

Which mirrors are in it is ``policy``'s; what a list is, ``format.mirror_list``'s.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Final

from p2psync.daemon.mirror_checks import looks_after
from p2psync.daemon.policy import Policy, differ, recommended
from p2psync.errors import P2psyncError, TrustError
from p2psync.format.mirror_list import Mirror, MirrorList, decode_list, sign_list
from p2psync.network.protocols import Network
from p2psync.sources.node import PeerSource
from p2psync.state import State
from p2psync.state.off_loop import off_loop
from p2psync.trust import CLOCK_SKEW
from p2psync_dht import Head

FRESH_FOR: Final = 7 * 24 * 3600
"""Seconds for which a list is vouched for, as a head is."""
RENEW: Final = 12 * 3600.0
"""Seconds after which it is signed again though nothing changed: when mirrors were verified is in it."""
PAUSE: Final = 60.0
"""Seconds between two lists of one archive, at least: a mirror that comes and goes changes it each time."""
LOOK: Final = 5.0
"""Seconds between looks whether anything was written to the index."""
AGAIN: Final = 300.0
"""Seconds between looks into it though nothing was: mirrors lag by time alone."""
HEAD_ROUND: Final = 3600.0
"""Seconds between looks whether a list is well held in the DHT, and whether there is a newer one."""
RETRY: Final = 15.0
"""Seconds until a record that nobody else took is put into the DHT again, and so much more each time."""
REFRESHERS: Final = 20
"""Holders that refresh it in each round, on average, however many there are; as with heads."""
CONNECT_TIMEOUT: Final = 3.0
ASK_TIMEOUT: Final = 10.0
ASKED: Final = 4
"""Holders that are asked for a list that is said to be newer, until one has it."""


@dataclass(slots=True)
class _Said:
    """What was last said of an archive's list. Times are of the monotonic clock."""

    look_at: float
    """When it is looked whether the DHT holds it well, and has a newer one."""
    looked: bool = False
    """It was: whoever signs has to know the last one."""
    record: bytes = b""
    """What the DHT has."""
    alone: int = 0
    """How often in a row nobody else took the record."""
    put_at: float = 0.0
    signed_at: float = float("-inf")
    signed: bytes = b""
    """The record that was signed here last."""
    pause: float = PAUSE
    """Seconds until another one may be: longer and longer where somebody else signs lists in between."""
    refused: str = ""
    """Why it could not be signed: said once."""


class Recommender:
    """Signs and keeps the lists of a state directory's archives."""

    def __init__(
        self,
        state: State,
        network: Network,
        policy: Policy,
        *,
        archives: Callable[[], Collection[bytes]],
        warn: Callable[[str], None],
        detail: Callable[[str], None],
    ) -> None:
        """``archives`` are announced here."""
        self._state = state
        self._network = network
        self._policy = policy
        self._archives = archives
        self._warn = warn
        self._detail = detail
        self._said: dict[bytes, _Said] = {}
        self._records: dict[bytes, bytes] = {}
        """Of the lists that are here, by archive."""
        self._version = -1
        """Of the index, when it was looked into last."""
        self._again_at = 0.0
        self._random = random.Random()  # noqa: S311 - spreads load, guards nothing

    async def round(self) -> float:
        """Sign what changed, and tell the DHT what is due; seconds until it is looked again."""
        now, version = time.monotonic(), self._state.data_version()
        if version != self._version or now >= self._again_at:
            self._version, self._again_at = version, now + AGAIN
            archives = await off_loop(lambda: list(self._archives()))
            known, self._said = self._said, {}
            for archive in archives:
                first = now + HEAD_ROUND * self._random.random()
                self._said[archive] = known.get(archive) or _Said(first)
            for archive in await off_loop(self._state.checks.archives):
                if archive in self._said:
                    await self._sign(archive, self._said[archive])
            self._records = await off_loop(self._state.lists.records)
        for archive, said in self._said.items():
            if time.monotonic() >= said.look_at:
                await self._look(archive, said)
                await self._refresh(archive, said)
            if archive in self._records and self._records[archive] != said.record:
                await self._put(self._records[archive], said)
        return LOOK

    async def _look(self, archive: bytes, said: _Said) -> None:
        """Get a newer list, if the DHT knows of one: of those who have the archive."""
        said.look_at, said.looked = time.monotonic() + HEAD_ROUND * self._random.uniform(0.9, 1.1), True
        named = await self._network.get_mirrors_head(archive)
        ours = await off_loop(partial(self._state.lists.newest, archive))
        if named is None or (ours is not None and named.order <= ours.order):
            return
        holders = await off_loop(lambda: self._state.holders.ordered(archive, time.time()))
        places = [str(endpoint) for each in holders for endpoint in each.endpoints if endpoint.ip]
        for place in places[:ASKED]:
            if await take_list(self._state, place, archive, named):
                return

    async def _sign(self, archive: bytes, said: _Said) -> None:
        """Sign a list where this machine publishes the archive, and the one that is here is not as it should
        be.
        """
        early = said.signed_at + said.pause
        if time.monotonic() < early:
            self._again_at = min(self._again_at, early)
            return
        if await off_loop(partial(self._wanted, archive, time.time())) is None:
            return
        if not said.looked:
            await self._look(archive, said)
        await off_loop(partial(self._sign_wanted, archive, said, time.time()))

    def _wanted(self, archive: bytes, now: float) -> tuple[Mirror, ...] | None:
        """The mirrors for another list; None if none is to be signed. Blocks."""
        head = self._state.heads.newest(archive)
        trees = self._state.trees.by_archive(archive)
        if (
            head is None
            or head.ended is not None
            or not any(looks_after(self._state, tree) for tree in trees)
        ):
            return None
        wanted = recommended(
            self._state.checks.of_archive(archive),
            self._state.holders.present(archive, now),
            self._policy,
            now,
        )
        ours = self._state.lists.newest(archive)
        if ours is None:
            return wanted or None
        is_old = now - ours.record.signed_at >= RENEW
        return wanted if is_old or differ(ours.mirrors, wanted) else None

    def _sign_wanted(self, archive: bytes, said: _Said, now: float) -> None:
        wanted = self._wanted(archive, now)
        if wanted is None:
            return
        before = self._state.lists.raw(archive)
        try:
            made = self._signed(archive, wanted, int(now))
        except TrustError as error:
            if said.refused != str(error):
                said.refused = str(error)
                self._warn(str(error))
            return
        if made is not None and self._state.lists.put(made):
            foreign = before is not None and said.signed not in (b"", before[0])
            said.pause = min(2 * said.pause, RENEW) if foreign else PAUSE
            said.signed_at, said.signed = time.monotonic(), made.record.raw
            self._detail(f"signed list {made.record.seq} of recommended mirrors, which has {len(wanted)}")

    def _signed(self, archive: bytes, wanted: tuple[Mirror, ...], now: int) -> MirrorList | None:
        """The next list; None where no key is here. Raises TrustError."""
        found = self._state.keys.signing(archive)
        head = self._state.heads.newest(archive)
        if found is None or head is None:
            return None
        signer, delegation = found
        ours = self._state.lists.newest(archive)
        last = (0, 0) if ours is None else ours.order[:2]
        chosen = max(last[0], head.epoch) if delegation is None else delegation.epoch
        if chosen < last[0]:
            raise TrustError(
                "the list of recommended mirrors is signed for a later epoch than the key here may sign: "
                "delegate to it again with the root key"
            )
        return sign_list(
            signer,
            archive,
            wanted,
            epoch=chosen,
            seq=last[1] + 1 if chosen == last[0] else 1,
            signed_at=now,
            fresh_until=now + FRESH_FOR,
            delegation=delegation,
        )

    async def _put(self, record: bytes, said: _Said) -> None:
        """Put a list's record into the DHT, where it is new."""
        if time.monotonic() < said.put_at:
            return
        copies = await self._network.put_head(record)
        said.alone = said.alone + 1 if copies <= 1 else 0  # One copy is our own.
        said.put_at = time.monotonic() + min(RETRY * said.alone, HEAD_ROUND)
        said.record = said.record if said.alone else record

    async def _refresh(self, archive: bytes, said: _Said) -> None:
        """Keep it there, with all others who have it."""
        record = self._records.get(archive)
        if record is None or record != said.record:
            return
        others = await off_loop(lambda: self._state.holders.count(archive, time.time()))
        if self._random.random() * others <= REFRESHERS:
            await self._network.refresh_head(record)


async def take_list(state: State, place: str, archive: bytes, at_least: Head | None = None) -> bool:
    """Ask the node at ``place`` (HOST:PORT) for a list; whether it had one that is newer than what is here,
    and as new as that of ``at_least``.
    """
    source = PeerSource(place, connections=1, connect_timeout=CONNECT_TIMEOUT)
    try:
        async with asyncio.timeout(ASK_TIMEOUT):
            return await keep_list(state, archive, await source.mirrors(archive), at_least)
    except (P2psyncError, TimeoutError):
        return False
    finally:
        await source.close()


async def keep_list(
    state: State, archive: bytes, raw: tuple[bytes, bytes] | None, at_least: Head | None = None
) -> bool:
    """Keep a list that somebody has, if it is the archive's and newer; whether it was. Raises FormatError,
    TrustError.
    """
    if raw is None:
        return False
    made = decode_list(*raw)
    if made.archive != archive or made.record.signed_at > time.time() + CLOCK_SKEW:
        return False
    newer = await off_loop(partial(state.lists.put, made))
    return newer and (at_least is None or made.order >= at_least.order)
