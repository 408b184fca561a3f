"""From a connection to a proxy to one to a server behind it: CONNECT (RFC 9110, section 9.3.6) or SOCKS5
(RFC 1928, ``socks``), blocking and on the event loop.

What the proxy answers is hostile as all else: bounded, and shown escaped. Whose time it is, and which proxy
is asked, is decided by those who connect.
"""

from __future__ import annotations

import asyncio
import re
import socket
import time
from typing import Final

from p2psync.errors import NetworkError, show_path
from p2psync.format.url import host_port
from p2psync.network.proxy import Proxy
from p2psync.network.server import Server

ANSWER_MAX: Final = 16 << 10
"""Bytes of a proxy's answer before its empty line."""
WORDS_MAX: Final = 120
"""Characters of a proxy's own words that are repeated."""
NO_TUNNELS: Final = frozenset({400, 403, 405, 501})
"""Statuses with which proxies refuse CONNECT, to a port or altogether, and may well forward requests."""
LOGIN_NEEDED: Final = 407
"""Proxy Authentication Required (RFC 9110, section 15.5.8)."""
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: ([^\r\n]*))?")
_NAME: Final = re.compile(r"[!-~]+")
"""A host, with nothing in it that could end a request line."""
_WANTS: Final = re.compile(rb"\r\nproxy-authenticate:([^\r\n]*)", re.IGNORECASE)


class ProxyRefused(NetworkError):
    """A proxy does not connect to a server; ``status`` is that of HTTP, or 0."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


def pass_through(connected: socket.socket, proxy: Proxy, server: Server, deadline: float) -> None:
    """Have the proxy at the other end of a blocking socket connect to ``server``, until ``deadline``
    (monotonic). What is on the socket afterwards is the server's.

    Raises:
        ProxyRefused: as the message says, which names both. OSError: the connection failed; TimeoutError.
    """
    if proxy.speaks_http:
        answer = _Answer()
        connected.settimeout(_left(deadline))
        connected.sendall(_request(proxy, server))
        while not answer.complete:
            connected.settimeout(_left(deadline))
            answer.take(connected.recv(answer.room))
        answer.check(proxy, server)
        return
    from p2psync.network import socks  # noqa: PLC0415 - what few use

    why = socks.pass_through(connected, proxy, *_target(server), lambda: _left(deadline))
    _check_socks(why, proxy, server)


async def pass_through_async(connected: socket.socket, proxy: Proxy, server: Server) -> None:
    """As `pass_through`, for a socket that does not block, in the caller's time."""
    if proxy.speaks_http:
        loop = asyncio.get_running_loop()
        answer = _Answer()
        await loop.sock_sendall(connected, _request(proxy, server))
        while not answer.complete:
            answer.take(await loop.sock_recv(connected, answer.room))
        answer.check(proxy, server)
        return
    from p2psync.network import socks  # noqa: PLC0415 - what few use

    _check_socks(await socks.pass_through_async(connected, proxy, *_target(server)), proxy, server)


# CONNECT.


def _request(proxy: Proxy, server: Server) -> bytes:
    target = host_port(*_target(server))
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if proxy.authorization:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    return "\r\n".join([*lines, "", ""]).encode("ascii")


class _Answer:
    """The head of a proxy's answer to CONNECT."""

    def __init__(self) -> None:
        self._raw = bytearray()

    @property
    def complete(self) -> bool:
        return b"\r\n\r\n" in self._raw

    @property
    def room(self) -> int:
        """How many bytes may be received next: the server sends nothing before it is asked."""
        return ANSWER_MAX - len(self._raw)

    def take(self, came: bytes) -> None:
        if not came:
            raise ConnectionError("closed the connection before it answered")
        self._raw += came
        if not self.complete and len(self._raw) >= ANSWER_MAX:
            raise ConnectionError(f"answered with a head of more than {ANSWER_MAX} bytes")

    def check(self, proxy: Proxy, server: Server) -> None:
        """Raises ProxyRefused."""
        head, _, rest = bytes(self._raw).partition(b"\r\n\r\n")
        line = _STATUS_LINE.match(head)
        if line is None:
            raise ProxyRefused(
                f"{server.name}: the proxy {proxy} answers with something that is not HTTP/1.1; check that "
                "it is an HTTP proxy"
            )
        status = int(line[1])
        if 200 <= status < 300:
            if rest:
                raise ProxyRefused(f"{server.name}: the proxy {proxy} sent something that was not asked for")
            return
        if status == LOGIN_NEEDED:
            fields = (match[1].decode("latin-1") for match in _WANTS.finditer(head))
            raise ProxyRefused(
                f"{server.name}: {login_error(proxy, wanted_logins(', '.join(fields)))}", status
            )
        words = show_path((line[2] or b"").strip())[:WORDS_MAX]
        said = f"{status} {words}".strip()
        raise ProxyRefused(
            f"{server.name}: the proxy {proxy} does not connect to {host_port(*_target(server))}: "
            f"it answers {said!r}",
            status,
        )


def wanted_logins(fields: str) -> set[str]:
    """The schemes that a Proxy-Authenticate field names, in lower case (RFC 9110, section 11.6.1): words that
    no ``=`` follows.
    """
    return {word.lower() for word in re.findall(r"(?:^|,)\s*([A-Za-z][A-Za-z0-9-]*)(?![^\s,])", fields)}


def login_error(proxy: Proxy, wants: set[str]) -> str:
    """Why status 407, in words. ``wants``: what the proxy takes, in lower case (RFC 9110, 11.7.1)."""
    if wants and "basic" not in wants:
        names = ", ".join(sorted(show_path(want)[:WORDS_MAX] for want in wants))
        return (
            f"the proxy {proxy} wants a login by {names}, which is not spoken here; run a proxy that does "
            "so, such as px-proxy, and name that"
        )
    if proxy.user:
        return f"the proxy {proxy} does not take the name and password that its URL has"
    return (
        f"the proxy {proxy} wants a name and a password; write them into its URL, "
        f"{proxy.kind}://USER:PASSWORD@{proxy.address}"
    )


def _check_socks(why: str, proxy: Proxy, server: Server) -> None:
    """Raises ProxyRefused: there is a reason."""
    if why:
        target, words = host_port(*_target(server)), show_path(why)[:WORDS_MAX]
        raise ProxyRefused(f"{server.name}: the proxy {proxy} does not connect to {target}: {words}")


def _target(server: Server) -> tuple[str, int]:
    """What a proxy is asked for. A name is handed to it as it is. Raises ProxyRefused: it is none."""
    if not _NAME.fullmatch(server.host):
        raise ProxyRefused(f"{server.name}: no proxy can be asked for this name")
    return server.host, server.port


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left
