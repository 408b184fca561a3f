"""Who has the places under one key of the store: how many each network may have, and who gives one up.

Pure. Records are the store's; here they are the networks of those who sent them, by node.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from typing import Final

from p2psync_dht.networks import Caps, Networks

# Holder records under one key, and what a reader takes of one key. A client may be several nodes behind one
# address; a site with more mirrors than eight is found by eight of them. (docs/adr/0026)
HOLDERS_PER_NETWORK: Final = Caps(client=4, site=8, provider=32)

_WIDEST_FIRST: Final = (2, 1, 0)  # positions in `Networks`


class Places:
    """The places under one key. Who is `local` is in no public network, and counts towards no cap."""

    def __init__(self, taken: Iterable[tuple[bytes, Networks, bool]] = ()) -> None:
        self._networks: dict[bytes, Networks] = {}
        self._local: set[bytes] = set()
        self._counts: tuple[Counter[bytes], ...] = (Counter(), Counter(), Counter())
        for node, networks, local in taken:
            self.add(node, networks, local=local)

    def __len__(self) -> int:
        return len(self._networks)

    def add(self, node: bytes, networks: Networks, *, local: bool) -> None:
        """Give a node a place."""
        self._networks[node] = networks
        if local:
            self._local.add(node)
            return
        for counts, network in zip(self._counts, networks, strict=True):
            counts[network] += 1

    def remove(self, node: bytes) -> None:
        """Take a node's place away."""
        networks = self._networks.pop(node)
        if node in self._local:
            self._local.remove(node)
            return
        for counts, network in zip(self._counts, networks, strict=True):
            counts[network] -= 1
            if not counts[network]:
                del counts[network]

    def full(self, networks: Networks) -> int | None:
        """The narrowest width (a position in `Networks`) at which there is no place for one more; or None."""
        counted = zip(self._counts, networks, HOLDERS_PER_NETWORK, strict=True)
        return next(
            (width for width, (counts, network, cap) in enumerate(counted) if counts[network] >= cap), None
        )

    def yields(self, newcomer: Networks, width: int | None, rng: random.Random) -> bytes | None:
        """The node that gives up its place to a newcomer, of those in the newcomer's network of this width,
        or of all; None if the newcomer has no better right to one.

        The largest network gives one up, in it the largest narrower one, and so on. Who is there stays where
        both are equal: or somebody with ever new keys would in time displace everybody of the same network.
        """
        nodes = list(self._networks)
        rival: Networks | None = newcomer
        for each in _WIDEST_FIRST:
            if width is not None and each > width:
                continue
            if each == width:
                nodes = self._within(nodes, each, newcomer[each])
                continue
            sizes = Counter(self._networks[node][each] for node in nodes)
            if rival is not None:
                sizes[rival[each]] += 1
            largest = max(sizes.values(), default=0)
            if rival is not None and sizes[rival[each]] < largest:
                rival = None
            chosen = (
                rival[each]
                if rival is not None
                else rng.choice([network for network, size in sizes.items() if size == largest])
            )
            nodes = self._within(nodes, each, chosen)
        return rng.choice(nodes) if rival is None and nodes else None

    def _within(self, nodes: Iterable[bytes], width: int, network: bytes) -> list[bytes]:
        return [node for node in nodes if self._networks[node][width] == network]
