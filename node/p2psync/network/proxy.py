"""How proxies are written, and which hosts need none. Pure; who reads these settings is ``egress``'s."""

from __future__ import annotations

import base64
import ipaddress
import os
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes, urlsplit

from p2psync.errors import UsageError, show_path
from p2psync.format.url import host_and_port, host_port

PROXY_PORT: Final = 1080
"""Of a proxy that is named without a port (curl(1), --proxy)."""
TLS_PORT: Final = 443
"""The same, where the connection to the proxy itself is within TLS."""
TEXT_MAX: Final = 2048
"""Characters of a proxy's URL: far beyond what one has."""
LOGIN_MAX: Final = 255
"""Bytes of a name or a password (RFC 1929 has room for no more)."""
EXCEPTIONS_MAX: Final = 1024
"""Entries of no_proxy that are looked at, for each connection anew."""
DIRECT: Final = "none"
"""What is written in place of a proxy where none is to be used, whatever the environment says."""
_HOST: Final = re.compile(r"[A-Za-z0-9._:-]+")


class Kind(StrEnum):
    """What is spoken with a proxy."""

    HTTP = "http"
    """CONNECT (RFC 9110, section 9.3.6); requests that are forwarded, where the proxy refuses that."""
    HTTPS = "https"
    """The same within TLS."""
    SOCKS5 = "socks5h"
    """RFC 1928. Names are looked up by the proxy, as curl's name for it says."""


_KINDS: Final[Mapping[str, Kind]] = {
    "http": Kind.HTTP,
    "https": Kind.HTTPS,
    "socks5": Kind.SOCKS5,
    "socks5h": Kind.SOCKS5,
    "socks": Kind.SOCKS5,
}


class Proxy(NamedTuple):
    """A proxy. ``str`` has no password in it."""

    kind: Kind
    host: str
    port: int
    user: bytes = b""
    password: bytes = b""

    @classmethod
    def parse(cls, text: str, *, encoded: bool = True) -> Proxy:
        """From ``[SCHEME://][USER[:PASSWORD]@]HOST[:PORT]``, as in curl(1); user and password are
        percent-encoded, or not. Raises UsageError, without a password in its message.
        """
        scheme, mark, rest = text.partition("://")
        kind = _KINDS.get(scheme.lower()) if mark else Kind.HTTP
        login, _, where = (rest if mark else text).rpartition("@")
        shown = f"{scheme}://{where}" if mark else where
        if kind is None:
            raise UsageError(
                f"{show_path(shown[:TEXT_MAX])!r} is no proxy that can be used; write http://HOST:PORT, "
                "https://HOST:PORT or socks5://HOST:PORT"
            )
        try:
            parts = urlsplit(f"//{where}")
            host, port = host_and_port(parts.netloc, TLS_PORT if kind is Kind.HTTPS else PROXY_PORT)
            plain = len(text) <= TEXT_MAX and parts.path in ("", "/") and not (parts.query or parts.fragment)
            if not plain or not port or not _HOST.fullmatch(host):
                raise ValueError
        except (UsageError, ValueError):
            raise UsageError(
                f"{show_path(shown[:TEXT_MAX])!r} is no address of a proxy; write http://HOST:PORT"
            ) from None
        decode = unquote_to_bytes if encoded else os.fsencode
        user, _, password = (decode(part) for part in login.partition(":"))
        if max(len(user), len(password)) > LOGIN_MAX or b":" in user:
            raise UsageError(f"the user or password for the proxy {host_port(host, port)} cannot be used")
        return cls(kind, host, port, user, password)

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return host_port(self.host, self.port)

    @property
    def authorization(self) -> str:
        """The value of Proxy-Authorization (RFC 7617); empty where no user is given."""
        if not self.user:
            return ""
        return "Basic " + base64.b64encode(self.user + b":" + self.password).decode("ascii")

    @property
    def speaks_http(self) -> bool:
        return self.kind is not Kind.SOCKS5

    def __str__(self) -> str:
        return f"{self.kind}://{self.address}"


class _Exception(NamedTuple):
    """One entry of no_proxy. ``network`` or ``name`` (lower case) is set; an empty name is every host."""

    name: str
    network: ipaddress.IPv4Network | ipaddress.IPv6Network | None
    port: int | None


class NoProxy:
    """Hosts that are reached without a proxy, as $no_proxy lists them for curl(1).

    Names mean themselves and all below them, with or without a dot in front; addresses mean themselves;
    ``ADDRESS/BITS`` a network; ``*`` everything. ``:PORT`` behind one limits it to that port. What is none
    of these means nothing.
    """

    def __init__(self, text: str = "") -> None:
        self._entries = [
            made for word in re.split(r"[\s,]+", text)[:EXCEPTIONS_MAX] if (made := _entry(word.lower()))
        ]

    def covers(self, host: str, port: int) -> bool:
        """Whether a host, as it was named, is one of them. No name is looked up."""
        name = host.lower().rstrip(".")
        address = _address(name)
        for entry in self._entries:
            if entry.port not in (None, port):
                continue
            if entry.network is not None:
                if address is not None and address in entry.network:
                    return True
            elif (
                not entry.name or name == entry.name or (address is None and name.endswith(f".{entry.name}"))
            ):
                return True
        return False


def _entry(word: str) -> _Exception | None:
    if word == "*":
        return _Exception("", None, None)
    network = _network(word)
    if network is not None:
        return _Exception("", network, None)
    host, mark, port = word.rpartition(":")
    if not mark:
        host = word
    elif not port.isdecimal() or len(port) > 5:
        return None
    number = int(port) if mark else None
    name = host.strip(".")
    network = _network(host)
    if network is None and not name:
        return None
    return _Exception("" if network is not None else name, network, number)


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    address, slash, bits = text.partition("/")
    try:
        return ipaddress.ip_network(address.removeprefix("[").removesuffix("]") + slash + bits, strict=False)
    except ValueError:
        return None


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text.removeprefix("[").removesuffix("]").partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
