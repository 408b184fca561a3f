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
    try:
        sockets = await off_loop(partial(open_sockets, host, port, socket.SOCK_STREAM), lost=_close)
        try:
            return [await loop.create_server(protocol, sock=each, backlog=BACKLOG) for each in sockets]
        except OSError:
            _close(sockets)
            raise
    except OSError as error:
        raise NetworkError(
            f"cannot listen at {host_port(host, port)}: {error.strerror or error}; "
            f"choose another address with {option}"
        ) from None


def _close(sockets: Iterable[socket.socket]) -> None:
    for each in sockets:
        each.close()
