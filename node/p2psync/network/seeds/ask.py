"""Asks sources for seeds: reads files, DNS and HTTPS within bounds. What may be believed is ``book``'s to
say.

DNS: SRV records of ``_p2psync._udp.<domain>`` (RFC 2782) name seeds without a signature; TXT records of
``_p2psync-seeds.<domain>`` carry a signed list, and so does ``https://<domain>/.well-known/p2psync-seeds``
(RFC 8615).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final
from urllib.parse import urljoin

from p2psync.errors import FileError, NetworkError, P2psyncError
from p2psync.format.url import host_and_port, host_port
from p2psync.network.seeds.query import Kind, SeedQuery, seed_query
from p2psync.network.seeds.seedlist import LIST_MAX, SEEDS_MAX, from_dns

if TYPE_CHECKING:
    import aiohttp
    from dns.asyncresolver import Resolver
    from dns.rdata import Rdata

WELL_KNOWN: Final = "/.well-known/p2psync-seeds"
ASK_TIMEOUT: Final = 8.0
"""Seconds for one source, everything included: somebody waits for the start."""
REDIRECTS_MAX: Final = 3
TXT_MAX: Final = 8
"""TXT records of one name that are looked at: an old list, a new one, and what others put there."""


def read_file(path: str) -> bytes:
    """A list from a file. Raises FileError."""
    try:
        with open(path, "rb") as stream:
            return stream.read(LIST_MAX + 1)
    except OSError as error:
        raise FileError(f"cannot read the seed list {path}: {error.strerror}") from None


async def fetch_url(url: str) -> bytes:
    """A list from a web server. Redirects are followed to https:// only. Raises NetworkError."""
    import aiohttp  # noqa: PLC0415 - only who asks a web server waits for its import

    try:
        async with (
            asyncio.timeout(ASK_TIMEOUT),
            aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False) as session,
        ):
            for _ in range(REDIRECTS_MAX + 1):
                headers = {"Accept-Encoding": "identity"}
                async with session.get(url, allow_redirects=False, headers=headers) as response:
                    if response.status in (301, 302, 303, 307, 308):
                        url = _redirected(url, response.headers.get("Location", ""))
                        continue
                    if response.status != 200:
                        raise NetworkError(f"{url} answers {response.status}")
                    return await _body(response)
    except TimeoutError:
        raise NetworkError(f"{url} did not answer in {ASK_TIMEOUT:.0f} seconds") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise NetworkError(f"{url} cannot be had: {error}") from None
    raise NetworkError(f"{url} redirects without an end")


def _redirected(url: str, location: str) -> str:
    target = urljoin(url, location)
    if not target.startswith("https://"):
        raise NetworkError(f"{url} redirects to {target[:200]!r}, which is not https://")
    return seed_query(target).name


async def _body(response: aiohttp.ClientResponse) -> bytes:
    made = bytearray()
    async for piece in response.content.iter_chunked(LIST_MAX):
        made += piece
        if len(made) > LIST_MAX:
            break  # One byte more than a list may have says enough.
    return bytes(made[: LIST_MAX + 1])


async def lists_of(query: SeedQuery) -> list[tuple[str, bytes]]:
    """Every list that a source has now, not checked, with a name for where it was. Raises P2psyncError:
    none."""
    if query.kind is Kind.FILE:
        return [(query.name, read_file(query.name))]
    if query.kind is Kind.URL:
        return [(query.name, await fetch_url(query.name))]
    url = f"https://{query.name}{WELL_KNOWN}"
    texts, web = await asyncio.gather(Dns(query).txt(query.name), fetch_url(url), return_exceptions=True)
    found: list[tuple[str, bytes]] = []
    if not isinstance(texts, BaseException):
        found += [(f"DNS TXT _p2psync-seeds.{query.name}", raw) for raw in texts]
    if isinstance(web, bytes):
        found.append((url, web))
    if not found:
        reasons = "; ".join(str(reason) for reason in (texts, web))
        raise NetworkError(f"{query.name} has no seed list: {reasons}")
    return found


class Dns:
    """Looks things up in DNS, at the server of a query or at those of the system."""

    def __init__(self, query: SeedQuery) -> None:
        self._server = query.dns

    def _resolver(self) -> Resolver:
        from dns.asyncresolver import Resolver  # noqa: PLC0415 - 90 ms that only who asks DNS pays

        resolver = Resolver(configure=self._server is None)
        resolver.lifetime = ASK_TIMEOUT
        if self._server is not None:
            host, port = host_and_port(self._server)
            resolver.nameservers, resolver.port = [host], port
        return resolver

    async def srv(self, domain: str) -> list[str]:
        """``HOST:PORT`` of the seeds in SRV records, best priority first. Raises NetworkError."""
        from dns.rdtypes.IN.SRV import SRV  # noqa: PLC0415

        name = f"_p2psync._udp.{domain}"
        found = [record for record in await self._ask(name, "SRV") if isinstance(record, SRV)]
        found.sort(key=lambda record: (record.priority, -record.weight))
        hosts = [(record.target.to_text(omit_final_dot=True), record.port) for record in found[:SEEDS_MAX]]
        hosts = [(host, port) for host, port in hosts if host not in ("", ".", "@") and port]
        if self._server is None:
            return [f"{host}:{port}" for host, port in hosts]
        # Whoever names a DNS server wants its view of the targets as well.
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(self._addresses(host)) for host, _ in hosts]
        pairs = zip(asked, hosts, strict=True)
        return [host_port(ip, port) for task, (_, port) in pairs for ip in task.result()]

    async def txt(self, domain: str) -> list[bytes]:
        """The lists in TXT records, not checked. Raises NetworkError."""
        from dns.rdtypes.ANY.TXT import TXT  # noqa: PLC0415

        found = [
            record for record in await self._ask(f"_p2psync-seeds.{domain}", "TXT") if isinstance(record, TXT)
        ]
        made: list[bytes] = []
        for record in found[:TXT_MAX]:
            with contextlib.suppress(P2psyncError):  # Too large to be a list: somebody else's record.
                made.append(from_dns(record.strings))
        return made

    async def _addresses(self, host: str) -> list[str]:
        made: list[str] = []
        for kind in ("A", "AAAA"):
            with contextlib.suppress(NetworkError):
                made += [record.to_text() for record in await self._ask(host, kind)]
        return made

    async def _ask(self, name: str, kind: str) -> Sequence[Rdata]:
        from dns.exception import DNSException  # noqa: PLC0415

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
