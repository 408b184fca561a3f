"""Sockets bound at an address, or everywhere: for IPv4 and IPv6 one each, on the same port.

One socket for both ("dual stack") would name IPv4 peers as ::ffff:192.0.2.1, which every table, limit and
record would have to undo; OpenBSD has none, and other systems by default have none either (RFC 3493, section
5.3). Two are alike everywhere, and what they give is IPv4 as IPv4.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from typing import Final

EVERYWHERE: Final = "::"
"""All addresses of both families; IPv4's alone where IPv6 is switched off."""
ANY_IPV4: Final = "0.0.0.0"  # noqa: S104 - all addresses of IPv4 alone
DATAGRAM_BUFFER: Final = 1024 * 1024  # bytes: a second of bulk stores while the event loop is busy
PORT_TRIES: Final = 16  # to find a port that is free for IPv4 and IPv6
_PROBES: Final = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}
"""Addresses that nobody has (RFC 5737, RFC 3849): the way there is the way to anybody."""
_NO_FAMILY: Final = frozenset({errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.EADDRNOTAVAIL})


def family_of(ip: str) -> socket.AddressFamily:
    """The family of a numeric address."""
    return socket.AF_INET6 if ":" in ip else socket.AF_INET


def has_ipv6() -> bool:
    """Whether this machine has any IPv6 address: a kernel without IPv6 has none, and neither has one where it
    is switched off (sysctl net.ipv6.conf.all.disable_ipv6).
    """
    return _has("::1") or own_address(socket.AF_INET6) is not None


def _has(ip: str) -> bool:
    try:
        with socket.socket(family_of(ip), socket.SOCK_DGRAM) as probe:
            probe.bind((ip, 0))
    except OSError:
        return False
    return True


def own_address(family: socket.AddressFamily, towards: str | None = None) -> str | None:
    """Our address on the way to `towards` (numeric; by default to anybody), None if no way leads there.

    Connecting a datagram socket sends nothing; it makes the kernel choose the address (ip(7)).
    """
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((towards or _PROBES[family], 9))
            return str(probe.getsockname()[0])
    except OSError:
        return None


def open_sockets(host: str, port: int, kind: socket.SocketKind = socket.SOCK_DGRAM) -> list[socket.socket]:
    """Bound sockets that do not block, IPv4's first: for `EVERYWHERE` those of both families, on one port.
    `host` may be a name that is known here. Raises OSError.
    """
    if host != EVERYWHERE:
        where = host if ":" in host else socket.getaddrinfo(host, port, type=kind)[0][4][0]
        return [_bound(str(where), port, kind)]
    if not has_ipv6():
        return [_bound(ANY_IPV4, port, kind)]
    for tries in range(PORT_TRIES):
        try:
            first = _bound(EVERYWHERE, port, kind)
        except OSError as error:
            if error.errno not in _NO_FAMILY:
                raise
            return [_bound(ANY_IPV4, port, kind)]
        try:
            return [_bound(ANY_IPV4, first.getsockname()[1], kind), first]
        except OSError as error:
            if error.errno in _NO_FAMILY:
                return [first]
            first.close()
            if port or tries == PORT_TRIES - 1:
                raise
    raise OSError(errno.EADDRINUSE, "no port is free for both IPv4 and IPv6")


def _bound(host: str, port: int, kind: socket.SocketKind) -> socket.socket:
    family = family_of(host)
    sock = socket.socket(family, kind)
    try:
        sock.setblocking(False)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_STREAM:
            # Connections of an earlier run that still wait for their end are no reason not to listen.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            with contextlib.suppress(OSError):  # Some systems refuse what is over their limit.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, DATAGRAM_BUFFER)
        sock.bind((host, port))
    except BaseException:
        sock.close()
        raise
    return sock
