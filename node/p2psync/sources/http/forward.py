"""Requests that a proxy is asked to hand on, where it makes no tunnel to the server (RFC 9112, section
3.2.2).
"""

from __future__ import annotations

from p2psync.errors import NetworkError
from p2psync.network.proxy import Proxy
from p2psync.network.server import Server
from p2psync.network.tunnel import LOGIN_NEEDED, login_error, wanted_logins
from p2psync.sources.http.head import ResponseHead


class Forward:
    """The proxy at the other end of a connection, and the server behind it, which has no TLS."""

    def __init__(self, proxy: Proxy, server: Server) -> None:
        self._proxy = proxy
        self._origin = f"http://{server.authority}".encode("ascii")
        login = proxy.authorization
        self._login = f"Proxy-Authorization: {login}\r\n".encode("ascii") if login else b""

    def request(self, raw: bytes) -> bytes:
        """A request to the server, head and perhaps body, as the proxy wants it."""
        line, _, rest = raw.partition(b"\r\n")
        method, _, target = line.partition(b" ")
        return b"".join([method, b" ", self._origin, target, b"\r\n", self._login, rest])

    def check(self, head: ResponseHead) -> None:
        """Raises NetworkError, which does not name the server: the proxy hands nothing on."""
        if head.status == LOGIN_NEEDED:
            wants = wanted_logins(head.headers.get("proxy-authenticate", ""))
            raise NetworkError(login_error(self._proxy, wants))
