"""DNS: text and service records, at the servers of the system or at one that was named.

What the records mean is for those who ask: seed lists, and the archives that a host has. Where a proxy is
used, the system's servers are not asked: names are the proxy's.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from p2psync.errors import NetworkError
from p2psync.format.url import host_and_port, host_port
from p2psync.network.egress import egress

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver
    from dns.rdata import Rdata


class Dns:
    """Looks things up in DNS."""

    def __init__(self, server: str | None, timeout: float) -> None:
        """``server``: ``HOST:PORT`` of the one to ask; None for those of the system. ``timeout``: seconds for
        one question.
        """
        self._server = server
        self._timeout = timeout

    def _resolver(self) -> Resolver:
        from dns.asyncresolver import Resolver  # noqa: PLC0415 - 90 ms that only who asks DNS pays

        resolver = Resolver(configure=self._server is None)
        resolver.lifetime = self._timeout
        if self._server is not None:
            host, port = host_and_port(self._server)
            resolver.nameservers, resolver.port = [host], port
        return resolver

    async def srv(self, name: str, most: int) -> list[str]:
        """``HOST:PORT`` of what the SRV records of a name lead to (RFC 2782), best priority first, of at most
        ``most`` of them. Raises NetworkError.
        """
        from dns.rdtypes.IN.SRV import SRV  # noqa: PLC0415

        found = [record for record in await self._ask(name, "SRV") if isinstance(record, SRV)]
        found.sort(key=lambda record: (record.priority, -record.weight))
        hosts = [(record.target.to_text(omit_final_dot=True), record.port) for record in found[:most]]
        hosts = [(host, port) for host, port in hosts if host not in ("", ".", "@") and port]
        if self._server is None:
            return [f"{host}:{port}" for host, port in hosts]
        # Whoever names a DNS server wants its view of the targets as well.
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(self._addresses(host)) for host, _ in hosts]
        pairs = zip(asked, hosts, strict=True)
        return [host_port(ip, port) for task, (_, port) in pairs for ip in task.result()]

    async def txt(self, name: str, most: int) -> list[tuple[bytes, ...]]:
        """The character strings of each TXT record of a name, of at most ``most`` of them. Raises
        NetworkError.
        """
        from dns.rdtypes.ANY.TXT import TXT  # noqa: PLC0415

        found = [record for record in await self._ask(name, "TXT") if isinstance(record, TXT)]
        return [tuple(record.strings) for record in found[:most]]

    async def _addresses(self, host: str) -> list[str]:
        made: list[str] = []
        for kind in ("A", "AAAA"):
            with contextlib.suppress(NetworkError):
                made += [record.to_text() for record in await self._ask(host, kind)]
        return made

    async def _ask(self, name: str, kind: str) -> Sequence[Rdata]:
        from dns.exception import DNSException  # noqa: PLC0415

        proxy = egress().proxy
        if self._server is None and proxy is not None:
            raise NetworkError(f"no {kind} record of {name} is asked for, since the proxy {proxy} is used")
        try:
            answer = await self._resolver().resolve(name, kind, search=False)
        except (DNSException, OSError, ValueError) as error:
            raise NetworkError(f"no {kind} record of {name}: {_reason(error)}") from None
        return list(answer)


def _reason(error: Exception) -> str:
    """In a few words: dnspython's sentences list every server and attempt."""
    words = {
        "NXDOMAIN": "no such name",
        "NoAnswer": "the name has none",
        "LifetimeTimeout": "no answer in time",
    }
    return words.get(type(error).__name__, str(error))
