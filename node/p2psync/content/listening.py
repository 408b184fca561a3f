"""TCP servers at an address, or everywhere: one for each address family."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from p2psync.errors import NetworkError
from p2psync.format.url import host_port
from p2psync.state.off_loop import off_loop
from p2psync_dht.sockets import open_sockets

BACKLOG: Final = 256
"""Connections that the kernel holds until they are accepted: a crowd comes at once."""


async def listening(
    protocol: Callable[[], asyncio.Protocol], host: str, port: int, *, option: str = "--listen"
) -> list[asyncio.Server]:
    """Servers at ``host`` (an IP address or a name of this machine's; "::" is everywhere), IPv4's first, on
    one port; 0: the kernel picks one. ``option`` is where another address can be named.

    Raises NetworkError: the address cannot be listened at.
    """
    loop = asyncio.get_running_loop()
    sockets = await bound(host, port, option=option)
    try:
        return [await loop.create_server(protocol, sock=each, backlog=BACKLOG) for each in sockets]
    except OSError as error:
        _close(sockets)
        raise _refused(host, port, error, option) from None


async def bound(host: str, port: int, *, option: str = "--listen") -> list[socket.socket]:
    """The sockets of such servers, which do not block, listening already. Raises NetworkError."""
    try:
        sockets = await off_loop(partial(open_sockets, host, port, socket.SOCK_STREAM), lost=_close)
        try:
            for each in sockets:
                each.listen(BACKLOG)
        except OSError:
            _close(sockets)
            raise
    except OSError as error:
        raise _refused(host, port, error, option) from None
    return sockets


def _refused(host: str, port: int, error: OSError, option: str) -> NetworkError:
    return NetworkError(
        f"cannot listen at {host_port(host, port)}: {error.strerror or error}; "
        f"choose another address with {option}"
    )


def _close(sockets: Iterable[socket.socket]) -> None:
    for each in sockets:
        each.close()
