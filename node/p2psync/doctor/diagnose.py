"""Tries every way to an archive, or into the network, and tells of each as it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, NamedTuple

from p2psync.doctor import ways
from p2psync.doctor.check import Check
from p2psync.errors import NetworkError, P2psyncError
from p2psync.fetch.holders import find_holders
from p2psync.format.url import ArchiveUrl, host_and_port, host_port
from p2psync.negotiate.find import find
from p2psync.negotiate.origin import PORTS, Kind, Origin
from p2psync.network.dht import open_dht
from p2psync.network.egress import egress
from p2psync.network.gateways import gateways_of
from p2psync.network.holders import holder_addresses
from p2psync.network.seeds.query import is_domain, split
from p2psync.network.server import Server
from p2psync.state import State
from p2psync.trust import CLOCK_SKEW
from p2psync_dht import DhtNode, Identity

TARGETS_MAX: Final = 8
"""Addresses of one kind that are tried: a person reads the result."""
Tell = Callable[[Check], None]


class Asked(NamedTuple):
    """What is to be reached, and by what."""

    src: ArchiveUrl | Origin | None
    sources: tuple[str, ...] = ()
    bootstrap: tuple[str, ...] = ()
    dns: str | None = None


async def diagnose(asked: Asked, state: State, tell: Tell) -> bool:
    """Whether the archive is found and somebody who may have it answers; without one, whether the network is.

    ``tell`` hears of each check, in the order in which they end within a kind. Remembered is
    what any look at an archive leaves, and no server is held to anything.
    """
    done: list[Check] = []

    def heard(check: Check) -> None:
        done.append(check)
        tell(check)

    src = asked.src
    url = src if isinstance(src, ArchiveUrl) else None
    if isinstance(src, Origin):
        await _in_turn(_ways_to(src), heard)
        url = await _archive_of(src, asked, state, heard)
    await _in_turn(_ways_of(url, asked, state), heard)
    await _dht(url, asked, state, heard)
    told = next((check for check in done if check.told is not None), None)
    by = "" if told is None else told.target
    heard(ways.clock(None if told is None else told.told, time.time(), by, CLOCK_SKEW))
    if url is None:
        return src is None and any(check.ok for check in done if check.way == "dht")
    found = await _found(url, asked, state)
    heard(found)
    return bool(found.ok) or (found.ok is None and any(check.ok for check in done if check.way == "web"))


async def _in_turn(checks: Iterable[Awaitable[Check]], heard: Tell) -> None:
    """All at once; told in their order."""
    for check in await asyncio.gather(*checks):
        heard(check)


def _ways_to(origin: Origin) -> list[Awaitable[Check]]:
    """To the server itself, and by which proxies."""
    made: list[Awaitable[Check]] = [ways.dns(origin.host)] if is_domain(origin.host) else []
    daemon = origin if origin.is_rsync else origin._replace(kind=Kind.RSYNC, port=PORTS[Kind.RSYNC])
    if not origin.is_web:
        made.append(ways.rsync_daemon(daemon))
    server = origin if origin.is_web else origin._replace(kind=Kind.HTTPS, port=PORTS[Kind.HTTPS])
    made.append(ways.web(f"{server.server}/"))
    way = egress()
    asked = [(way.proxy_for(_server(server)), server)]
    asked += [] if origin.is_web else [(way.rsync_proxy(daemon.host, daemon.port), daemon)]
    made += [ways.proxy(proxy, _server(at)) for proxy, at in asked if proxy is not None]
    return made


def _server(origin: Origin) -> Server:
    """As a proxy is asked for it: by a tunnel, whatever is spoken within."""
    return Server(origin.host, origin.port, True, host_port(origin.host, origin.port))


async def _archive_of(origin: Origin, asked: Asked, state: State, heard: Tell) -> ArchiveUrl | None:
    try:
        search = await find(origin, state.path, now=time.time(), dns=asked.dns, keep=False)
    except P2psyncError as error:
        heard(Check("archive", str(origin), False, str(error)))
        return None
    if search.found is not None:
        heard(Check("archive", str(origin), True, f"is {search.found.url} (so says {search.found.how})"))
        return search.found.url
    why = "; ".join(dict.fromkeys(search.asked))
    remedy = "give the archive's p2psync://ID"
    if origin.is_rsync and search.answered:
        remedy = "p2psync fetch lets rsync itself fetch from there"
    heard(Check("archive", str(origin), False, f"names no archive ({why})", remedy))
    return None


def _ways_of(url: ArchiveUrl | None, asked: Asked, state: State) -> list[Awaitable[Check]]:
    """To those who were named as holders, or are remembered."""
    named = [source for source in asked.sources if "://" not in source]
    webs = [source for source in asked.sources if "://" in source]
    archive = None
    if url is not None:
        archive = url.archive
        named += [*url.peers, *holder_addresses(state, archive)]
        webs += url.webs
    peers = list(dict.fromkeys(named))[:TARGETS_MAX]
    hosts = dict.fromkeys(host_and_port(each)[0] for each in [*peers, *split(asked.bootstrap)[0]])
    made: list[Awaitable[Check]] = [ways.dns(host) for host in hosts if is_domain(host)]
    way = egress()
    by_proxy = ((way.proxy_for(server), server) for server in map(Server.peer, peers))
    made += [ways.proxy(proxy, server) for proxy, server in by_proxy if proxy is not None][:1]
    made += [ways.tcp(peer, archive) for peer in peers]
    made += [ways.web(web) for web in list(dict.fromkeys(webs))[:TARGETS_MAX]]
    return made


async def _dht(url: ArchiveUrl | None, asked: Asked, state: State, heard: Tell) -> None:
    """By way of others; by UDP the nodes that were named, one by one, and the network as a whole."""
    way = egress()
    places = [*split(asked.bootstrap)[0], *asked.sources, *(() if url is None else (*url.webs, *url.peers))]
    await _in_turn([ways.gateway(server) for server in gateways_of(places)], heard)
    if not way.udp:
        heard(Check("udp", "", None, way.why_no_udp))
        return
    texts = split(asked.bootstrap)[0]
    targets = list(dict.fromkeys([*texts, *(() if url is None else url.peers)]))[:TARGETS_MAX]
    try:
        node = await DhtNode.start(Identity.generate(), "::", 0, server=False)
    except OSError as error:
        heard(Check("udp", "", False, f"UDP cannot be used: {error.strerror or error}"))
        return
    async with node:
        await _in_turn([ways.udp(node, target) for target in targets], heard)
    # As addresses to join by, which are waited for, and not as hints that may be silent.
    heard(await ways.dht(_join(state, [*asked.bootstrap, *(() if url is None else url.peers)])))


async def _join(state: State, bootstrap: Sequence[str]) -> int:
    async with open_dht(state, bootstrap=bootstrap, identity=Identity.generate()) as dht:
        return len(dht.contacts())


async def _found(url: ArchiveUrl, asked: Asked, state: State) -> Check:
    said: list[str] = []
    try:
        found = await find_holders(url, state, said.append, sources=asked.sources, bootstrap=asked.bootstrap)
    except NetworkError as error:
        return ways.archive_check(url, None, 0, 0, str(error))
    answering = sum(holder.state == "answers" for holder in found.holders)
    seq = None if found.head is None else found.head.seq
    return ways.archive_check(url, seq, len(found.holders), answering, "; ".join(said))
