"""SOCKS5 (RFC 1928, RFC 1929) on a connection to a proxy, by python-socks, which gets the connection
instead of making it: so whoever waits for it can give up at once. Names are looked up by the proxy.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, cast

from python_socks import ProxyError, ProxyTimeoutError, ProxyType
from python_socks.async_.asyncio import Proxy as AsyncSocks
from python_socks.sync import Proxy as Socks

from p2psync.network.proxy import Proxy


def pass_through(
    connected: socket.socket, proxy: Proxy, host: str, port: int, left: Callable[[], float]
) -> str:
    """Have the proxy connect to a host; why it does not, or "". ``left``: the seconds that are left, or
    TimeoutError. Raises OSError: the connection failed; TimeoutError.
    """
    timed = cast(socket.socket, _Timed(connected, left))
    try:
        Socks(*_words(proxy), rdns=True, forward=_Reached(timed)).connect(host, port)
    except ProxyTimeoutError:
        raise TimeoutError("timed out") from None
    except (ProxyError, ValueError) as error:  # ValueError: an answer or a login that is none.
        return str(error) or "its answer is not one of SOCKS5"
    return ""


async def pass_through_async(connected: socket.socket, proxy: Proxy, host: str, port: int) -> str:
    """The same for a socket that does not block, in the caller's time."""
    try:
        await AsyncSocks(*_words(proxy), rdns=True, forward=_ReachedAsync(connected)).connect(host, port)
    except ProxyTimeoutError:
        raise TimeoutError("timed out") from None
    except (ProxyError, ValueError) as error:
        return str(error) or "its answer is not one of SOCKS5"
    return ""


class _Timed:
    """A socket each of whose calls gets the time that is left of all."""

    def __init__(self, connected: socket.socket, left: Callable[[], float]) -> None:
        self._connected = connected
        self._left = left

    def sendall(self, data: bytes) -> None:
        self._connected.settimeout(self._left())
        self._connected.sendall(data)

    def recv(self, most: int) -> bytes:
        self._connected.settimeout(self._left())
        return self._connected.recv(most)

    def close(self) -> None:
        """Whoever gave the socket closes it."""


class _Reached(Socks):
    """Stands in front of a proxy to which there is a connection."""

    def __init__(self, connected: socket.socket) -> None:
        super().__init__(ProxyType.SOCKS5, "", 0)
        self._connected = connected

    def connect(
        self, dest_host: str, dest_port: int, timeout: float | None = None, **kwargs: Any
    ) -> socket.socket:
        return self._connected


class _ReachedAsync(AsyncSocks):
    """The same on the event loop."""

    def __init__(self, connected: socket.socket) -> None:
        super().__init__(ProxyType.SOCKS5, "", 0)
        self._connected = connected

    async def connect(
        self,
        dest_host: str,
        dest_port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - as in the library
        **kwargs: Any,
    ) -> socket.socket:
        return self._connected


def _words(proxy: Proxy) -> tuple[ProxyType, str, int, str | None, str | None]:
    user, password = (part.decode("utf-8", "surrogateescape") for part in (proxy.user, proxy.password))
    return ProxyType.SOCKS5, proxy.host, proxy.port, user or None, password or None
