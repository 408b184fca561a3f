"""Which server a client connects to, what it is called, and the limits that every connection to one has."""

from __future__ import annotations

import os
import socket
from functools import cache
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from p2psync.errors import UsageError
from p2psync.format.url import bracketed, host_and_port, host_port

ATTEMPTS_MAX: Final = 4
"""How often a request is sent that was dropped before its answer: one more than the pipelined neighbours
that can take it along."""
CONNECT_TIMEOUT: Final = 10.0
IDLE_TIMEOUT: Final = 20.0
"""Seconds of silence in a response after which a server counts as gone; the default of the public
constructors."""
RECEIVE_BUFFER: Final = 4 << 20
"""Bytes asked of the kernel for a socket's receive buffer: whole ranges may arrive while Python verifies
the last one (measured: half the CPU of the kernel's own choice). Asked for only where the kernel grants all
of it, since asking ends its own adjustment."""
RECEIVE_BUFFER_LIMIT: Final = "/proc/sys/net/core/rmem_max"
"""Where Linux says what it grants (socket(7))."""
ADDRESSES_MAX: Final = 8
"""Addresses of one name that are tried before it counts as unreachable."""


@cache
def large_buffers() -> bool:
    """Whether the kernel grants ``RECEIVE_BUFFER``."""
    try:
        with open(RECEIVE_BUFFER_LIMIT, "rb") as setting:
            return int(setting.read()) >= RECEIVE_BUFFER
    except (OSError, ValueError):
        return False


def why(error: Exception) -> str:
    """Why no connection came about, in the system's words: asyncio has others, without the reason."""
    if isinstance(error, OSError) and not isinstance(error, socket.gaierror) and error.errno:
        return os.strerror(error.errno)
    return str(getattr(error, "strerror", None) or error)


def is_root(url: str) -> bool:
    """Whether an http:// or https:// URL names a server, and no path on it: there may be a node."""
    return urlsplit(url).path in ("", "/")


class Server(NamedTuple):
    """Where a server is. ``name`` is what people are shown: ``HOST:PORT``, or the URL."""

    host: str
    port: int
    tls: bool
    name: str

    @classmethod
    def peer(cls, text: str) -> Server:
        """From ``HOST:PORT``, IPv6 in brackets. Raises UsageError."""
        host, port = host_and_port(text)
        if port == 0 or not host.isascii() or not host.isprintable() or " " in host:
            raise UsageError(f"{text!r} is not an address that can be connected to")
        return cls(host, port, False, host_port(host, port))

    @classmethod
    def web(cls, url: str) -> Server:
        """From an http:// or https:// URL, without user or query. Raises UsageError."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise UsageError(f"{url!r} is not a URL: {error}") from None
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise UsageError(f"{url!r} is not a plain http:// or https:// URL")
        if parts.query or parts.fragment or not parts.netloc.isascii() or port == 0:
            raise UsageError(f"{url!r} cannot be a web mirror: it may have a host, a port and a path only")
        tls = parts.scheme == "https"
        return cls(parts.hostname, port or (443 if tls else 80), tls, url)

    @classmethod
    def node(cls, text: str) -> Server:
        """A node at ``HOST:PORT``, or at the root of an http:// or https:// URL. Raises UsageError."""
        if "://" not in text:
            return cls.peer(text)
        if not is_root(text):
            raise UsageError(f"{text!r} is no place of a node: it has a path")
        return cls.web(text)

    @property
    def authority(self) -> str:
        """The Host header: the port stands in it unless it is the scheme's own."""
        host = bracketed(self.host)
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"
