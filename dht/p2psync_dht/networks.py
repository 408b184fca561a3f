"""The networks that an address belongs to, and how places are shared out among networks.

Addresses are what strangers are counted by, and one party has many of them for little money. So wherever they
are counted, they count at three widths: as one client, as one site, and as one provider. What is counted,
and how many are too many, is said where it is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple, TypeVar

from p2psync_dht.scope import Scope, pack_ip, scope_of

T = TypeVar("T")

_WIDTHS: Final = {4: (4, 3, 2), 16: (8, 6, 4)}  # bytes of the prefixes, by the size of the address


class Networks(NamedTuple):
    """The networks of one address, as the bytes of their prefixes.

    A client is one IPv4 address, or the /64 of IPv6 that one machine has (RFC 6177). A site is the /24 that
    somebody rents, or the /48 that tunnel brokers give away. A provider is a /16 or a /32: it has honest
    customers too, but a /32 is easily somebody's own.
    """

    client: bytes
    site: bytes
    provider: bytes


class Caps(NamedTuple):
    """How many may count for one network of each width."""

    client: int
    site: int
    provider: int


def networks_of(packed_ip: bytes) -> Networks:
    """The networks of a packed address (4 or 16 bytes)."""
    client, site, provider = _WIDTHS[len(packed_ip)]
    return Networks(packed_ip[:client], packed_ip[:site], packed_ip[:provider])


def public_networks_of(packed_ip: bytes, *, diversify_local: bool = False) -> Networks | None:
    """The same; None for loopback and private addresses, unless `diversify_local`: there, one party has all
    of them or none, and somebody's machine room is one network.
    """
    is_public = diversify_local or scope_of(packed_ip) == Scope.GLOBAL
    return networks_of(packed_ip) if is_public else None


# Of addresses that are chosen from what others told: in a bucket, in a lookup's shortlist, among those who
# are asked. Two of what somebody rents or is given, and of a provider no more than two fifths of k.
PER_NETWORK: Final = Caps(client=2, site=2, provider=8)
KEPT: Final = (
    1024  # addresses whose networks are remembered: those of a bucket are asked for with each newcomer
)


class NetworkQuota:
    """Places for addresses, as many as `caps` says for each network. Local addresses take none, unless
    `diversify_local`.
    """

    def __init__(
        self, admitted: Iterable[str] = (), *, caps: Caps = PER_NETWORK, diversify_local: bool = False
    ) -> None:
        """`admitted`: IP addresses that have their places already."""
        self._caps = caps
        self._diversify_local = diversify_local
        self._counts: tuple[dict[bytes, int], ...] = ({}, {}, {})
        for ip in admitted:
            self._take(self._networks(ip))

    def _networks(self, ip: str) -> Networks | tuple[()]:
        return _networks_of_ip(ip, self._diversify_local)

    def _take(self, networks: Iterable[bytes]) -> None:
        for counts, network in zip(self._counts, networks, strict=False):
            counts[network] = counts.get(network, 0) + 1

    def admit(self, ip: str) -> bool:
        """Whether there is a place for an address, which is taken from now on."""
        networks = self._networks(ip)
        counted = zip(self._counts, networks, self._caps, strict=False)
        if any(counts.get(network, 0) >= cap for counts, network, cap in counted):
            return False
        self._take(networks)
        return True

    def admit_all(self, ips: Iterable[str]) -> bool:
        """Whether there was a place for each address of one party. Those before one that has none keep
        theirs: who names an address too many is not asked twice.
        """
        return all(self.admit(ip) for ip in ips)

    def release(self, ip: str) -> None:
        """Give the place of an admitted address back."""
        for counts, network in zip(self._counts, self._networks(ip), strict=False):
            counts[network] -= 1
            if not counts[network]:
                del counts[network]


@lru_cache(KEPT)
def _networks_of_ip(ip: str, diversify_local: bool) -> Networks | tuple[()]:
    return public_networks_of(pack_ip(ip), diversify_local=diversify_local) or ()


def fairly(items: Iterable[T], networks: Callable[[T], Sequence[Networks]]) -> list[T]:
    """The items in an order in which no network comes twice before each other one has come once: of all
    providers one, of all providers a second, and in each provider the same by site, in each site by client.
    What is equal in that keeps its order; shuffle before where the order given may be somebody's choice.

    `networks` gives those of an item's addresses. One with several addresses stands where the worst of them
    does, so that naming one more address makes nobody come sooner; those without any are of one network.
    """
    ordered = [(item, networks(item)) for item in items]
    for width in range(len(Networks._fields)):
        seen: Counter[bytes] = Counter()
        ranked = []
        for item, theirs in ordered:
            groups = {each[width] for each in theirs} or {b""}
            ranked.append((max(seen[group] for group in groups), item, theirs))
            seen.update(groups)
        ranked.sort(key=lambda entry: entry[0])
        ordered = [(item, theirs) for _, item, theirs in ranked]
    return [item for item, _ in ordered]
