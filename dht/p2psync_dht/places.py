"""Who has the places under one key of the store: how many each network may have, and who gives one up.

Pure. Records are the store's; here they are the networks of those who sent them, by node.
"""

from __future__ import annotations

import random
import zlib
from collections import Counter
from collections.abc import Iterable
from typing import Final

from p2psync_dht.holder_record import addresses_in
from p2psync_dht.networks import Caps, Networks, networks_of, public_networks_of
from p2psync_dht.scope import pack_ip

# Holder records under one key, and what a reader takes of one key. A client may be several nodes behind one
# address; a site with more mirrors than eight is found by eight of them. (docs/adr/0026)
HOLDERS_PER_NETWORK: Final = Caps(client=4, site=8, provider=32)

_WIDEST_FIRST: Final = (2, 1, 0)  # positions in `Networks`


def source_of(ip: str) -> int:
    """A number for the provider that `ip` belongs to, or for a local address (a collision makes two share a
    quota).
    """
    return _number_of(pack_ip(ip))


def _number_of(packed_ip: bytes) -> int:
    networks = public_networks_of(packed_ip)
    return zlib.crc32(packed_ip if networks is None else networks.provider)


def networks_behind(record: bytes, source: int) -> tuple[Networks, bool]:
    """The networks that a stored holder record counts for, and whether it counts towards no cap. `source`:
    the number of where it came from (`source_of`); 0: from this node itself.

    The address itself is one that the record names, or else its sender would not have been believed. Of one
    that names URLs alone no more is known than its provider, which has no more of them than one client.
    """
    sender = next((packed for packed in addresses_in(record) if _number_of(packed) == source), None)
    if sender is not None:
        return networks_of(sender), public_networks_of(sender) is None
    number = source.to_bytes(4, "big")
    return Networks(number, number, number), not source


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
