"""Tries one way each: DNS, UDP, TCP, the web, an rsync daemon, a proxy. None of them changes anything.

Every one ends in `SECONDS`, and returns what came of it instead of raising. Answers are bounded, and what
strangers say of themselves is not repeated at length.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Awaitable, Callable
from email.utils import parsedate_to_datetime
from functools import wraps
from http import HTTPStatus
from typing import Final, ParamSpec

from p2psync.doctor.check import Check
from p2psync.errors import NetworkError, P2psyncError
from p2psync.format.url import ArchiveUrl, host_and_port, host_port
from p2psync.negotiate import rsync
from p2psync.negotiate.origin import Origin
from p2psync.network.connect import connect
from p2psync.network.egress import Egress, egress
from p2psync.network.gateways import ANSWER_MAX, NOTHING, holders_target
from p2psync.network.proxy import Proxy
from p2psync.network.resolve import is_numeric
from p2psync.network.server import Server
from p2psync.network.tunnel import LOGIN_NEEDED, ProxyRefused
from p2psync.network.web_file import web_get, web_head
from p2psync.sources.node import PeerSource
from p2psync.text import count
from p2psync_dht import DhtNode
from p2psync_dht.keys import ID_SIZE
from p2psync_dht.trace import ping_address

SECONDS: Final = 6.0
"""For one way, all included: a way that takes longer is none for a person who waits."""
LINE_MAX: Final = 256
"""Bytes of an answer that are looked at."""
PINGS: Final = 2
_ADDRESSES_SHOWN: Final = 4

P = ParamSpec("P")


def timed(way: str) -> Callable[[Callable[P, Awaitable[Check]]], Callable[P, Awaitable[Check]]]:
    """End a check after `SECONDS`, and note how long it took."""

    def decorate(check: Callable[P, Awaitable[Check]]) -> Callable[P, Awaitable[Check]]:
        @wraps(check)
        async def limited(*args: P.args, **keywords: P.kwargs) -> Check:
            begun = time.monotonic()
            try:
                async with asyncio.timeout(SECONDS):
                    made = await check(*args, **keywords)
            except TimeoutError:
                named = (each.name if isinstance(each, Server) else each for each in args)
                target = next((str(each) for each in named if isinstance(each, str | Origin | Proxy)), "")
                made = Check(way, target, False, f"no answer in {SECONDS:.0f} seconds", _DROPPED.get(way, ""))
            return made._replace(seconds=time.monotonic() - begun)

        return limited

    return decorate


_DROPPED: Final = {
    "dns": "the DNS servers of this machine do not answer: look at /etc/resolv.conf",
    "tcp": "a firewall on the way drops it, or the address is wrong: have this TCP port opened, or ask a "
    "holder at a port that is open",
    "gateway": "a firewall on the way drops it, or the address is wrong: have this TCP port opened, or name "
    "another node",
    "proxy": "it is down, or its address is wrong",
    "web": "a firewall on the way drops it, or the server is down: try another mirror",
    "rsync": "a firewall on the way drops it, or the server is down: have TCP port 873 opened, or name an "
    "https:// address",
}


@timed("dns")
async def dns(host: str) -> Check:
    """Whether a host's name has addresses."""
    if not is_numeric(host) and egress().proxy_for(Server(host, 0, True, host)) is not None:
        return Check("dns", host, None, "is left to the proxy")
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host.encode(), None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        return Check("dns", host, False, f"has no address: {why}", "check the name, and /etc/resolv.conf")
    addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
    more = len(addresses) - _ADDRESSES_SHOWN
    shown = ", ".join(addresses[:_ADDRESSES_SHOWN]) + (f" and {more} more" if more > 0 else "")
    return Check("dns", host, True, f"is {shown}")


@timed("udp")
async def udp(node: DhtNode, address: str) -> Check:
    """Whether a node of the DHT answers there."""
    host, port = host_and_port(address)
    refused = Check(
        "udp",
        address,
        False,
        "no node answers",
        f"if it runs, UDP does not pass: have UDP port {port} opened to it. Without UDP, fetch with --source "
        "HOST:PORT of a holder, whose TCP is enough",
    )
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host.encode(), port, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        return refused._replace(detail="its name has no address", remedy="check the name")
    report = await ping_address(node, (str(found[0][4][0]), port), count=PINGS)
    if report.last is None:
        return refused
    rtt = min(report.rtts) * 1000
    if not report.last.verified:
        wrong = "did not prove its id: somebody may stand between"
        return refused._replace(detail=wrong, remedy="use another node")
    return Check("udp", address, True, f"a node answers in {rtt:.0f} ms")


@timed("tcp")
async def tcp(address: str, archive: bytes | None) -> Check:
    """Whether a node serves content there and, if an archive is given, has it."""
    source = PeerSource(address, connect_timeout=SECONDS, idle_timeout=SECONDS)
    try:
        info = await source.info()
    except P2psyncError as error:
        why = str(error).removeprefix(f"{address}: ")
        remedy = "check that a node runs there and that its TCP port is open on the way"
        return Check("tcp", address, False, why, remedy)
    finally:
        await source.close()
    if archive is not None and archive not in info.archives:
        return Check("tcp", address, True, "a node answers, and does not list this archive")
    return Check("tcp", address, True, "a node answers" + ("" if archive is None else " and has the archive"))


@timed("gateway")
async def gateway(server: Server) -> Check:
    """Whether a node asks the DHT for others."""
    try:
        answer = await web_get(server, holders_target(bytes(ID_SIZE)), ANSWER_MAX, seconds=SECONDS)
    except NetworkError as error:
        why = str(error).removeprefix(f"{server.name}: ").removeprefix(f"{server.name} ")
        return Check("gateway", server.name, False, why, "check the address, and that its TCP port is open")
    told = _date(answer.headers.get("date", ""))
    if answer.status in (HTTPStatus.OK, NOTHING):
        works = "asks the DHT for those whose UDP does not pass"
        return Check("gateway", server.name, True, works, told=told)
    not_so = f"does not ask the DHT for others (status {answer.status})"
    return Check("gateway", server.name, None, not_so, told=told)


@timed("web")
async def web(url: str) -> Check:
    """Whether a web server answers; what it says to a URL is its business."""
    try:
        answer = await web_head(url, seconds=SECONDS)
    except NetworkError as error:
        why = str(error).removeprefix(f"{url}: ").removeprefix(f"{url} ")
        remedy = "check the address, and that its TCP port is open"
        if "certificate" in why:
            remedy = "a proxy may open TLS here: have its certificate installed, or give it with --ca-file"
        return Check("web", url, False, why, remedy)
    told = _date(answer.headers.get("date", ""))
    return Check("web", url, True, f"answers with status {answer.status}", told=told)


def _date(text: str) -> float | None:
    with contextlib.suppress(ValueError, OverflowError):
        return parsedate_to_datetime(text).timestamp() if len(text) < LINE_MAX else None
    return None


@timed("rsync")
async def rsync_daemon(origin: Origin) -> Check:
    """Whether an rsync daemon greets there, and rsync is here to speak with it. (Within TLS, whether there is
    a server.)
    """
    server = Server(origin.host, origin.port, False, host_port(origin.host, origin.port))
    target, proxy = server.name, egress().rsync_proxy(*server[:2])
    where = "have its TCP port opened, or name an https:// address"
    try:
        # Not handed on: what an rsync daemon speaks needs a tunnel, as what TLS has does.
        way = Egress(tls=proxy)
        dialled = await connect(server._replace(tls=proxy is not None), _socket, way, seconds=SECONDS)
    except NetworkError as error:
        why = str(error).removeprefix(f"{target}: ")
        return Check("rsync", target, False, why, f"check the address; {where}")
    reader, writer = await asyncio.open_connection(sock=dialled.sock, limit=LINE_MAX)
    try:
        greeting = b"" if not origin.is_plain else await reader.readline()
    except (OSError, ValueError) as error:
        return Check("rsync", target, False, f"is silent: {error}", where)
    finally:
        writer.close()
    if origin.is_plain and not greeting.startswith(b"@RSYNCD:"):
        return Check("rsync", target, False, "somebody answers who is no rsync daemon", "check the port")
    if rsync.program_for(origin) is None:
        return Check("rsync", target, False, "answers, and rsync is not installed here", "install rsync")
    return Check("rsync", target, True, "an rsync daemon answers" if greeting else "a server answers")


@timed("proxy")
async def proxy(target: Proxy, server: Server) -> Check:
    """Whether a proxy connects to a server."""
    way = egress().only(target)
    try:
        dialled = await connect(server, _socket, way, seconds=SECONDS)
    except NetworkError as error:
        why = str(error).removeprefix(f"{server.name}: ").removeprefix(f"the proxy {target} ")
        remedy = "check its address and its log, or ask its operator"
        if isinstance(error, ProxyRefused) and error.status == LOGIN_NEEDED:
            remedy = f"write {target.kind}://USER:PASSWORD@HOST:PORT, or run px-proxy where NTLM is wanted"
        elif isinstance(error, ProxyRefused):
            remedy = "many proxies connect to port 443 alone: use an https:// source, or ask its operator"
        return Check("proxy", str(target), False, why, remedy)
    dialled.sock.close()
    where = host_port(server.host, server.port)
    if dialled.forward is not None:
        return Check("proxy", str(target), True, f"makes no tunnel to {where}, and takes requests to it")
    return Check("proxy", str(target), True, f"connects to {where}")


def _socket(family: int, kind: int, protocol: int, fileno: int | None = None) -> socket.socket:
    return socket.socket(family, kind, protocol, fileno)


async def dht(joining: Awaitable[int]) -> Check:
    """Whether the network can be joined by what is given and remembered. ``joining``: how many nodes are
    known then.
    """
    begun = time.monotonic()
    try:
        known = await joining
    except NetworkError as error:
        return Check("dht", "", False, str(error), "give another address with --listen")
    except P2psyncError as error:
        return Check("dht", "", False, str(error))
    seconds = time.monotonic() - begun
    if known:
        return Check("dht", "", True, f"joined, {count(known, 'node')} known", seconds=seconds)
    remedy = "name a node that runs with --bootstrap HOST:PORT, and have UDP opened to it"
    return Check("dht", "", False, "nobody in the network answers", remedy, seconds)


def clock(told: float | None, now: float, by: str, allowed: float) -> Check:
    """Whether the clock here agrees with the one of a server. ``allowed``: seconds."""
    if told is None:
        return Check("clock", by, None, "nobody who was asked told the time")
    apart = now - told
    if abs(apart) <= allowed:
        return Check("clock", by, True, f"agrees within {allowed:.0f} seconds")
    which = "ahead" if apart > 0 else "behind"
    remedy = "set the clock: signed heads of the future are not believed, and certificates may seem invalid"
    return Check("clock", by, False, f"the clock here is {abs(apart):.0f} seconds {which}", remedy)


def archive_check(url: ArchiveUrl, seq: int | None, holders: int, answering: int, why: str) -> Check:
    """Whether the archive was found, and by how many holders."""
    target = str(url._replace(path=b"", peers=(), webs=(), inside=False))
    remedy = "ask its publisher for the address of a holder, and give it with --source"
    if seq is None:
        return Check("archive", target, False, why or "nobody who was reached has it", remedy)
    if not answering:
        detail = f"snapshot {seq} is known, and no node that has it was reached"
        return Check("archive", target, None, detail, remedy)
    detail = f"snapshot {seq} was found; {count(holders, 'holder')} known, {answering} of them reached"
    return Check("archive", target, True, detail)
