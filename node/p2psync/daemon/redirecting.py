"""Which mirrors those are sent to who download from what is published here (``content.redirect``): of the
checked ones, such as have the very snapshot, and answered half a minute ago.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Final

from p2psync.checks import CHECK_EVERY
from p2psync.content.browse import snapshot_root
from p2psync.content.redirect import Having, Redirects
from p2psync.daemon.policy import Policy, recommended
from p2psync.errors import P2psyncError
from p2psync.format.mirror_list import Mirror
from p2psync.format.url import host_port
from p2psync.sources.node import PeerSource
from p2psync.state import State
from p2psync.state.off_loop import off_loop
from p2psync_dht import HolderRole

LOOK: Final = 30.0
"""Seconds between questions to each mirror whether it is there: a reader who is sent to a dead one has
nothing.
"""
PAUSE: Final = 2.0
"""Seconds between two looks, at least, however often the index changes."""
PASSED_FOR: Final = 2 * CHECK_EVERY
"""Seconds for which a good check counts: one that was due has not been made then."""
ASKED_MAX: Final = 64
"""Mirrors of an archive that are asked, and to which readers are sent: two small requests a second."""
AT_ONCE: Final = 16
TIMEOUT: Final = 3.0
"""Seconds for an answer."""


class Redirecting:
    """Keeps the mirrors of `Redirects` current."""

    def __init__(self, state: State, own_key: bytes, policy: Policy, redirects: Redirects) -> None:
        self._state = state
        self._own_key = own_key
        self._policy = policy
        self._redirects = redirects
        self._looked = float("-inf")
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._answered: dict[bytes, float] = {}
        """By node key: when it did last, on the monotonic clock."""

    async def round(self) -> float:
        """Look who has what, and who answers; seconds until that is worth doing again."""
        if self._redirects.smallest is None:
            return LOOK
        began = time.monotonic()
        if (early := self._looked + PAUSE - began) > 0:
            return early
        self._looked = began
        fit = await off_loop(partial(self._fit, time.time()))
        asked = {mirror.key: mirror for having in fit.values() for mirror in having.mirrors}
        due = [each for key, each in asked.items() if began - self._answered.get(key, -LOOK) >= LOOK]
        await asyncio.gather(*map(self._ask, due))
        self._answered = {key: at for key, at in self._answered.items() if key in asked}
        self._redirects.mirrors = {
            archive: having._replace(mirrors=there)
            for archive, having in fit.items()
            if (there := [mirror for mirror in having.mirrors if mirror.key in self._answered])
        }
        return LOOK

    def _fit(self, now: float) -> dict[bytes, Having]:
        """By archive that is published here, the mirrors that have the snapshot which is shown here."""
        found: dict[bytes, Having] = {}
        trees = self._state.trees.all()
        for archive in {
            tree.archive for tree in trees if tree.role == "publish" and tree.archive is not None
        }:
            newest = max(
                (tree for tree in trees if tree.archive == archive and tree.snapshot is not None),
                key=lambda tree: (tree.epoch, tree.seq),
                default=None,
            )
            root = newest and newest.snapshot and snapshot_root(self._state, newest.snapshot)
            if newest is not None and root:
                found[archive] = Having(root.digest, self._having(archive, (newest.epoch, newest.seq), now))
        return found

    def _having(self, archive: bytes, shown: tuple[int, int], now: float) -> list[Mirror]:
        tracks = {
            key: track
            for key, track in self._state.checks.of_archive(archive).items()
            if (track.epoch, track.seq) == shown
            and not track.failures
            and not track.behind_since
            and now - track.passed <= PASSED_FOR
        }
        records = [
            record
            for record in self._state.holders.present(archive, now)
            if record.role is HolderRole.MIRROR and record.node_key != self._own_key
        ]
        # Of a web server it is not known which snapshot it has at each path.
        fit = [mirror for mirror in recommended(tracks, records, self._policy, now) if mirror.key]
        return fit[:ASKED_MAX]

    async def _ask(self, mirror: Mirror) -> None:
        """Whether it is there."""
        async with self._slots:
            for place in mirror.places:
                source = PeerSource(
                    host_port(place.ip, place.port),
                    connections=1,
                    connect_timeout=TIMEOUT,
                    idle_timeout=TIMEOUT,
                )
                try:
                    if (await source.info()).key == mirror.key:
                        self._answered[mirror.key] = time.monotonic()
                        return
                except P2psyncError:
                    continue  # The next address may do.
                finally:
                    await source.close()
            self._answered.pop(mirror.key, None)
