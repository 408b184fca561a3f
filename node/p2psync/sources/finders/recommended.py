"""The mirrors that an archive recommends, as sources of a fetch: which of them are for this machine, and
which come first.

The list is signed by the archive, so whoever hands it out may be anybody. Whether a mirror in it is there,
and is who it is said to be, is found out as with all holders (``joining``).
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Final

from p2psync.format.mirror_list import WEIGHT, Mirror, MirrorList, decode_list
from p2psync.network.here import local_address
from p2psync.network.told import may_look_at
from p2psync.sources.finders.records import NOTHING, Found
from p2psync.sources.web_answers import elsewhere
from p2psync.state import State
from p2psync.state.off_loop import off_loop
from p2psync.trust import CLOCK_SKEW, Standing
from p2psync_dht import HolderRecord, HolderRole, holders_key

WEB_MAX: Final = 4
"""Web servers of a list that are made sources: each has a place of its own, whatever it gives."""


class Recommended:
    """What is known of the list of ``archive``."""

    def __init__(
        self,
        state: State,
        archive: bytes,
        observed: Callable[[socket.AddressFamily], str | None] = lambda _: None,
    ) -> None:
        """``observed`` gives this machine's address of a family as others see it, once they have told."""
        self._state = state
        self._archive = archive
        self._observed = observed
        self._list: MirrorList | None = None
        self._local: set[str] = set()
        """This machine's addresses on the way to mirrors."""
        self._own: set[str] = set()
        """These, and as others see it."""
        self._mirrors: list[Mirror] = []
        """Those in it that are for this machine."""
        self._near: set[Mirror] = set()
        """Of these, such as are for the network that it is in."""
        self._weights: dict[bytes, int] = {}

    async def load(self) -> None:
        """Begin with the list that is remembered."""
        self._list = await off_loop(partial(self._state.lists.newest, self._archive))
        await self._look_around()

    async def take(self, raw: tuple[bytes, bytes] | None) -> bool:
        """Take a list that somebody has; whether it is newer than all before. Raises FormatError,
        TrustError.
        """
        if raw is None or (self._list is not None and raw[0] == self._list.record.raw):
            return False
        made = decode_list(*raw)
        if made.archive != self._archive or made.record.signed_at > time.time() + CLOCK_SKEW:
            return False
        if self._list is not None and made.order <= self._list.order:
            return False
        self._list = made
        await off_loop(partial(self._state.lists.put, made))
        await self._look_around()
        return True

    async def _look_around(self) -> None:
        """Find out where this machine is: that is seen on the way to mirrors."""
        mirrors = () if self._list is None else self._list.mirrors
        self._local = set()
        if any(mirror.networks for mirror in mirrors):
            places = {":" in each.ip: str(each) for mirror in mirrors for each in mirror.places if each.ip}
            for place in places.values():
                if address := await local_address(place):
                    self._local.add(address)
        self._choose(self._local)

    def _choose(self, own: set[str]) -> None:
        """Find out which mirrors are for a machine with these addresses."""
        mirrors = () if self._list is None else self._list.mirrors
        self._own = own
        self._near = {mirror for mirror in mirrors if mirror.near(own)}
        self._mirrors = [mirror for mirror in mirrors if not mirror.site or mirror in self._near]
        self._weights = {mirror.key: mirror.weight for mirror in self._mirrors}

    def _settle(self) -> list[Mirror]:
        """The mirrors that are for this machine, by what is known of its addresses now."""
        if self._list is not None and any(mirror.networks for mirror in self._list.mirrors):
            seen = map(self._observed, (socket.AF_INET, socket.AF_INET6))
            own = self._local | {address for address in seen if address is not None}
            if own != self._own:
                self._choose(own)
        return self._mirrors

    def standings(self, known: Mapping[bytes, Standing]) -> dict[bytes, Standing]:
        """How holders stand, by node key, with what the list says of them; ``known``: without."""
        made = dict(known)
        for mirror in self._settle():
            if mirror.key in made:
                made[mirror.key] = self._standing(mirror)
        return made

    def _standing(self, mirror: Mirror) -> Standing:
        return Standing.NEAR if mirror in self._near else Standing.RECOMMENDED

    def weight(self, node_key: bytes) -> int:
        """How much a holder is to be preferred to others that stand as it does."""
        return self._weights.get(node_key, WEIGHT)

    def found(self, teller: str) -> list[tuple[Found, Standing]]:
        """The nodes in the list as if each had said that it has something, at those addresses that are
        looked at on the word of somebody at the IP address ``teller``, which handed it out.
        """
        made = []
        for mirror in self._settle():
            places = tuple(place for place in mirror.places if place.ip and may_look_at(place.ip, teller))
            if places:
                record = HolderRecord(
                    node_key=mirror.key,
                    key=holders_key(self._archive),
                    endpoints=places,
                    issued=0,  # Whatever the node says itself is newer.
                    expires=0,
                    role=HolderRole.MIRROR,
                    payload=b"",
                    raw=b"",
                )
                made.append((Found(record, NOTHING), self._standing(mirror)))
        return made

    def web(self, teller: str) -> Iterable[str]:
        """URLs of web servers in the list, as far as the node at ``teller`` (HOST:PORT) may lead there."""
        urls = [place.url for mirror in self._settle() for place in mirror.places if place.url]
        led = (elsewhere(f"http://{teller}/", url) for url in urls)
        return [url for url in led if url is not None][:WEB_MAX]
