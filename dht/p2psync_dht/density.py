"""How dense the ids of nodes lie, and whether those near a key lie denser than the network's size explains.

Ids are hashes of keys, so honest ones are uniform. Whoever wants to be responsible for a key makes keys until
the hash of one is near it, and cannot do so without lying denser there than all others elsewhere. Records
of such a key belong to a region: to all nodes within the distance in which as many honest ones are to be
expected as are asked elsewhere, however many strangers lie between them (Sridhar et al., "Content Censorship
in the InterPlanetary File System", NDSS 2024). Who asks the nodes of a region is `lookup`.
"""

from __future__ import annotations

import random
import statistics
from collections import OrderedDict
from collections.abc import Sequence
from math import sqrt
from typing import Final

from p2psync_dht.keys import ID_SIZE
from p2psync_dht.routing import KEY_BITS, ContactTable

SAMPLES: Final = 31  # neighbourhoods remembered: the median of so many is within 10 %
MIN_SAMPLE: Final = 8  # nodes of a neighbourhood: fewer say little, and are a crowd by chance too often
# Deviations below what the size explains from which nodes are a crowd: of 400 honest neighbourhoods one is.
CROWDED: Final = 2.8
REGION: Final = 1.25  # times the distance that k honest nodes fill on average: of 20, so 17 and more do
PARTS: Final = 3  # outer parts of a region that are looked into: seven of eight honest nodes are there


def gamma_quantile(shape: float, deviations: float) -> float:
    """A quantile of the gamma distribution (scale 1) by Wilson and Hilferty's cube root (1931)."""
    ninth = 1 / (9 * shape)
    return shape * max(1 - ninth + deviations * sqrt(ninth), 0.0) ** 3


class Density:
    """Nodes per unit of distance in one address family, as far as this node has seen.

    One neighbourhood is that of the own id, which is in the table; others are those of finished lookups.
    Their median counts, so that whoever lies close to some of them changes nothing.
    """

    def __init__(self, table: ContactTable) -> None:
        self._table = table
        self._samples: OrderedDict[int, float] = OrderedDict()

    def note(self, target: int, distances: Sequence[int]) -> None:
        """The nodes nearest to some id, nearest first, all of them."""
        if len(distances) < MIN_SAMPLE:
            return
        self._samples.pop(target, None)
        self._samples[target] = len(distances) / max(distances[-1], 1)
        if len(self._samples) > SAMPLES:
            self._samples.popitem(last=False)

    def per_distance(self) -> float | None:
        """None in networks that a table holds whole."""
        own = self._table.density()
        return None if own is None else statistics.median((own, *self._samples.values()))

    def region(self, distances: Sequence[int]) -> int:
        """How far from a key its records are, if the nodes at these distances, nearest first, are a crowd; 0
        if they are not.

        Of n uniform ids the jth smallest distance is gamma distributed with shape j, in units of the mean
        gap. What is known of that gap comes from as many ids as the shape of its own distribution says.
        """
        density = self.per_distance()
        if density is None:
            return 0
        ksize: int = self._table.ksize
        known = ksize * (1 + len(self._samples) // 2)
        for count in (MIN_SAMPLE, ksize):
            if not count <= len(distances):
                continue
            shape = count * known / (count + known)
            least = gamma_quantile(shape, -CROWDED) / shape
            if distances[count - 1] * density < least * count:
                return min(round(REGION * ksize / density), (1 << KEY_BITS) - 1)
        return 0


def parts_of(target: int, region: int, rng: random.Random) -> list[bytes]:
    """Ids, one in each of the outer parts of a region: in the half of its nodes farthest from the target, the
    next quarter, and so on. Those who crowd round the target are not near these.
    """
    farthest = region.bit_length() - 1
    bits = range(farthest, max(farthest - PARTS, -1), -1)
    return [
        (target ^ (1 << bit | rng.getrandbits(bit or 1) & (1 << bit) - 1)).to_bytes(ID_SIZE, "big")
        for bit in bits
    ]
