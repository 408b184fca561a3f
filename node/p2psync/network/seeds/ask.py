"""Asks sources for seeds: reads files, DNS and HTTPS within bounds. What may be believed is ``book``'s to
say.

DNS: SRV records of ``_p2psync._udp.<domain>`` (RFC 2782) name seeds without a signature; TXT records of
``_p2psync-seeds.<domain>`` carry a signed list, and so does ``https://<domain>/.well-known/p2psync-seeds``
(RFC 8615).
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from p2psync.errors import FileError, NetworkError, P2psyncError
from p2psync.network.names import Dns
from p2psync.network.seeds.query import Kind, SeedQuery
from p2psync.network.seeds.seedlist import LIST_MAX, SEEDS_MAX, from_dns
from p2psync.network.web_file import web_file

WELL_KNOWN: Final = "/.well-known/p2psync-seeds"
ASK_TIMEOUT: Final = 8.0
"""Seconds for one source, everything included: somebody waits for the start."""
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
    return await web_file(url, LIST_MAX, seconds=ASK_TIMEOUT)


async def dns_lists(query: SeedQuery) -> list[bytes]:
    """The lists in a domain's TXT records, not checked. Raises NetworkError."""
    made: list[bytes] = []
    for strings in await Dns(query.dns, ASK_TIMEOUT).txt(f"_p2psync-seeds.{query.name}", TXT_MAX):
        with contextlib.suppress(P2psyncError):  # Too large to be a list: somebody else's record.
            made.append(from_dns(strings))
    return made


async def dns_seeds(query: SeedQuery) -> list[str]:
    """``HOST:PORT`` of the seeds in a domain's SRV records, best priority first. Raises NetworkError."""
    return await Dns(query.dns, ASK_TIMEOUT).srv(f"_p2psync._udp.{query.name}", SEEDS_MAX)


async def lists_of(query: SeedQuery) -> list[tuple[str, bytes]]:
    """Every list that a source has now, not checked, with a name for where it was. Raises P2psyncError:
    none."""
    if query.kind is Kind.FILE:
        return [(query.name, read_file(query.name))]
    if query.kind is Kind.URL:
        return [(query.name, await fetch_url(query.name))]
    url = f"https://{query.name}{WELL_KNOWN}"
    texts, web = await asyncio.gather(dns_lists(query), fetch_url(url), return_exceptions=True)
    found: list[tuple[str, bytes]] = []
    if not isinstance(texts, BaseException):
        found += [(f"DNS TXT _p2psync-seeds.{query.name}", raw) for raw in texts]
    if isinstance(web, bytes):
        found.append((url, web))
    if not found:
        reasons = "; ".join(str(reason) for reason in (texts, web))
        raise NetworkError(f"{query.name} has no seed list: {reasons}")
    return found
