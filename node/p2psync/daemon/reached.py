"""Whether others reach this node's content server, as those find who are told of it: by address family,
since one may be forwarded and the other not.

Anybody can say that he did not reach us. So one who did outweighs all who did not, one network has one
vote, and what strangers say decides nothing by itself: somebody else must have found the same, who was
given by hand or has given us content that was right, or the node's own test.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable
from typing import Final

from p2psync.format.url import host_and_port
from p2psync.network.here import family_of
from p2psync_dht import Endpoint
from p2psync_dht.networks import public_networks_of
from p2psync_dht.scope import pack_ip

UNREACHED_MIN: Final = 2
"""Networks from which holders could not reach us, before we believe that nobody can."""
REACHED_FOR: Final = 24 * 3600.0
"""Seconds for which one that could outweighs them: as long as what is announced lasts. A door that is shut
later is noticed a day later, and until then liars shut none that is open.
"""
VOTES_MAX: Final = 4096
"""Networks whose votes are remembered; strangers could come from any number."""


class Reached:
    """What came of their tries."""

    def __init__(self, closed: Callable[[], bool]) -> None:
        """``closed`` says whether the node's own test (the DHT's) has found that strangers do not get
        through.
        """
        self._closed = closed
        self._in_vain: dict[socket.AddressFamily, dict[bytes, bool]] = {}
        """By family: networks of those that did not get through since somebody did, and whether one that is
        no stranger is among them.
        """
        self._reached_at: dict[socket.AddressFamily, float] = {}

    def failed(self, name: str, *, stranger: bool) -> None:
        """The node at ``name`` (HOST:PORT, with an IP address) did not get through to us, or says so."""
        votes, network = self._in_vain.setdefault(_family(name), {}), _network(name)
        if network in votes or len(votes) < VOTES_MAX:
            votes[network] = votes.get(network, False) or not stranger

    def succeeded(self, name: str) -> None:
        """That one did."""
        family = _family(name)
        self._in_vain.pop(family, None)
        self._reached_at[family] = time.monotonic()

    def lost(self, endpoints: Iterable[Endpoint]) -> list[Endpoint]:
        """Of these, our own, where others tried to reach us in vain."""
        return [each for each in endpoints if self._is_lost(family_of(each.ip))]

    def worth_announcing(self, endpoints: list[Endpoint]) -> list[Endpoint]:
        """Those that are left, if any was ever reached: what nobody can reach is not worth announcing to the
        world.
        """
        left = [each for each in endpoints if not self._is_lost(family_of(each.ip))]
        all_left = len(left) == len(endpoints)
        return left if all_left or any(family_of(each.ip) in self._reached_at for each in left) else []

    def are_doubtful(self, endpoints: Iterable[Endpoint]) -> bool:
        """Whether nobody got through to any of these, our own, and as many did not as would be enough, were
        they to be believed.
        """
        return all(self._is_doubtful(family_of(each.ip)) for each in endpoints)

    def _is_doubtful(self, family: socket.AddressFamily) -> bool:
        reached_at = self._reached_at.get(family)
        if reached_at is not None and time.monotonic() - reached_at < REACHED_FOR:
            return False
        return len(self._in_vain.get(family, {})) >= UNREACHED_MIN

    def _is_lost(self, family: socket.AddressFamily) -> bool:
        believed = self._closed() or any(self._in_vain.get(family, {}).values())
        return believed and self._is_doubtful(family)


def _family(name: str) -> socket.AddressFamily:
    return family_of(host_and_port(name)[0])


def _network(name: str) -> bytes:
    """Whose vote one at an address has: its provider's, or a local address its own."""
    packed = pack_ip(host_and_port(name)[0])
    networks = public_networks_of(packed)
    return packed if networks is None else networks.provider
