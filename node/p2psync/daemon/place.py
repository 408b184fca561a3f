"""Where others reach this node: the addresses that its holder records name."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final

from p2psync.network.here import family_of, plain_ip
from p2psync_dht import Endpoint, HolderRecord
from p2psync_dht.scope import Scope, pack_ip, scope_of
from p2psync_dht.sockets import ANY_IPV4, EVERYWHERE, own_address

_FAMILIES: Final = {EVERYWHERE: (socket.AF_INET, socket.AF_INET6), ANY_IPV4: (socket.AF_INET,)}
"""Those in which somebody listens at whatever addresses there are."""


class Place:
    """Where the content server is."""

    def __init__(
        self,
        observed: Callable[[socket.AddressFamily], str | None],
        listen: tuple[str, int],
        advertise: tuple[str, int] | None,
    ) -> None:
        """``observed`` gives our IP address of a family as others see it; ``listen`` is where the content
        server is bound, ``advertise`` where others reach it, if that differs.
        """
        self._observed = observed
        self._host, self.port = advertise or listen

    async def endpoints(self) -> list[Endpoint]:
        """Of each address family at most one, IPv4 first: as told, as bound, as other nodes of the DHT see
        us, or else by this machine's own address, where that is public.
        """
        if self._host not in _FAMILIES:
            return await self._named()
        seen = [self._observed(family) or _public(own_address(family)) for family in _FAMILIES[self._host]]
        found = [Endpoint(ip, self.port) for ip in seen if ip is not None]
        # Of two scopes, who sees the one cannot use the other.
        return found if len({scope_of(pack_ip(endpoint.ip)) for endpoint in found}) < 2 else found[:1]

    def is_narrow(self, record: HolderRecord) -> bool:
        """Whether an address may become known that a record lacks: of a family that this machine has, in
        which nobody has told yet as what it is seen.
        """
        named = {family_of(endpoint.ip) for endpoint in record.endpoints}
        wanted = _FAMILIES.get(self._host, ())
        return any(family not in named and own_address(family) is not None for family in wanted)

    async def _named(self) -> list[Endpoint]:
        """Records hold no names, whose addresses may change."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(self._host, self.port, type=socket.SOCK_STREAM)
        except OSError:
            return []
        by_family: dict[socket.AddressFamily, Endpoint] = {}
        for _, _, _, _, address in found:
            ip = plain_ip(str(address[0]))
            by_family.setdefault(family_of(ip), Endpoint(ip, self.port))
        return [by_family[family] for family in sorted(by_family)]


def _public(ip: str | None) -> str | None:
    """An address of this machine, if all the world may use it."""
    return ip if ip is not None and scope_of(pack_ip(ip)) == Scope.GLOBAL else None
