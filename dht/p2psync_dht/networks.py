"""The networks that an IP address is of, and how many places whoever has one of them gets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from p2psync_dht.scope import Scope, pack_ip, scope_of


def network_group(packed_ip: bytes, *, diversify_local: bool = False) -> bytes | None:
    """The network whose addresses one party gets cheaply: the /24 or /64, as its prefix bytes.

    None for loopback and private addresses, where the diversity rule is pointless, unless `diversify_local`.
    """
    if not diversify_local and scope_of(packed_ip) != Scope.GLOBAL:
        return None
    return packed_ip[:3] if len(packed_ip) == 4 else packed_ip[:8]


# Addresses of one network in a bucket, in a lookup's shortlist and among whoever else is chosen, by the
# bytes of its prefix. A /24 is what somebody rents, a /64 what one machine has, a /48 what tunnel brokers
# give away. A /32 is a provider's, with honest customers too, but easily somebody's own: no more than two
# fifths of k.
PER_NETWORK: Final = {3: 2, 8: 2, 6: 2, 4: 8}


def networks_of(packed_ip: bytes, *, diversify_local: bool = False) -> tuple[bytes, ...]:
    """All networks of which an address counts as one, narrowest first: the /24, or the /64, /48 and /32. As
    `network_group`, none for local addresses.
    """
    group = network_group(packed_ip, diversify_local=diversify_local)
    if group is None:
        return ()
    return (group,) if len(packed_ip) == 4 else (group, packed_ip[:6], packed_ip[:4])


class NetworkQuota:
    """Admits a limited number of addresses of one network at a time; see `PER_NETWORK`."""

    def __init__(self, admitted: Iterable[str] = (), *, diversify_local: bool = False) -> None:
        """`admitted`: IP addresses that have their places already."""
        self._diversify_local = diversify_local
        self._admitted: Counter[bytes] = Counter()
        for ip in admitted:
            self._admitted.update(self._networks(ip))

    def _networks(self, ip: str) -> tuple[bytes, ...]:
        return networks_of(pack_ip(ip), diversify_local=self._diversify_local)

    def admit(self, ip: str) -> bool:
        """Whether there is a place for an address, which is taken from now on."""
        networks = self._networks(ip)
        if any(self._admitted[network] >= PER_NETWORK[len(network)] for network in networks):
            return False
        self._admitted.update(networks)
        return True

    def release(self, ip: str) -> None:
        """Give the place of an admitted address back."""
        self._admitted.subtract(self._networks(ip))
