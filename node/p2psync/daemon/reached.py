"""Whether others reach this node's content server, as those find who are told of it: by address family,
since one may be forwarded and the other not.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Final

from p2psync.format.url import host_and_port
from p2psync.network.here import family_of
from p2psync_dht import Endpoint

UNREACHED_MIN: Final = 2
"""Holders that could not reach us, and none that could, before we believe that nobody can."""


class Reached:
    """What came of their tries."""

    def __init__(self) -> None:
        self._in_vain: dict[socket.AddressFamily, set[str]] = {}
        self._ever: set[socket.AddressFamily] = set()
        self._now: set[socket.AddressFamily] = set()

    def begin(self) -> None:
        """They are told once more. Who fails after another one has got through is not believed."""
        self._now.clear()

    def failed(self, name: str) -> None:
        """The node at ``name`` (HOST:PORT, with an IP address) did not get through to us."""
        family = _family(name)
        if family not in self._now:
            self._in_vain.setdefault(family, set()).add(name)

    def succeeded(self, name: str) -> None:
        """That one did."""
        family = _family(name)
        self._in_vain.pop(family, None)
        self._now.add(family)
        self._ever.add(family)

    def lost(self, endpoints: Iterable[Endpoint]) -> list[Endpoint]:
        """Of these, our own, where others tried to reach us in vain."""
        return [each for each in endpoints if self._is_lost(family_of(each.ip))]

    def worth_announcing(self, endpoints: list[Endpoint]) -> list[Endpoint]:
        """Those that are left, if any was ever reached: what nobody can reach is not worth announcing to the
        world.
        """
        left = [each for each in endpoints if not self._is_lost(family_of(each.ip))]
        all_left = len(left) == len(endpoints)
        return left if all_left or any(family_of(each.ip) in self._ever for each in left) else []

    def _is_lost(self, family: socket.AddressFamily) -> bool:
        return len(self._in_vain.get(family, ())) >= UNREACHED_MIN


def _family(name: str) -> socket.AddressFamily:
    return family_of(host_and_port(name)[0])
