"""Where connections within TLS come in: admitted first, since a handshake takes time and memory, and then
as any other. All that they ask for is answered by the HTTP library: the threads for bulk bytes have
sockets, and what goes into TLS passes through this program.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Sequence
from typing import Final

from p2psync.content.door import Door, House
from p2psync.errors import UsageError
from p2psync.network.here import client_of

HANDSHAKE_TIMEOUT: Final = 10.0
"""Seconds from the connection to the end of the handshake."""
PAUSE: Final = 1.0
"""Seconds until a connection is accepted again where that failed, as for want of descriptors."""
LOOK: Final = 10.0
"""Seconds between looks whether the certificate is another one: it is replaced months before it expires."""


class Certificate:
    """A certificate with its chain, and its key, in PEM files that may be replaced while the program
    runs.
    """

    def __init__(self, chain: str, key: str) -> None:
        self._files = chain, key
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._stamp = self._now()

    @classmethod
    def load(cls, chain: str, key: str) -> Certificate:
        """Raises UsageError: they cannot be read, or do not belong together. Reads files."""
        made = cls(chain, key)
        made._take()
        return made

    def refresh(self) -> bool:
        """Whether there is another certificate, which new connections get from now on; not before its key is
        there too. Raises UsageError: it cannot be used, and the one before stays. Reads files.
        """
        stamp = self._now()
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        self._take()
        return True

    def _take(self) -> None:
        chain, key = self._files
        try:
            # One that does not fit is refused before anything of it is used.
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(chain, key, _no_password)
            self.context.load_cert_chain(chain, key, _no_password)
        except OSError as error:  # ssl.SSLError is one.
            why = error.reason if isinstance(error, ssl.SSLError) else error.strerror
            raise UsageError(
                f"the certificate {chain!r} and the key {key!r} cannot be used: {why or error}; give PEM "
                "files that belong together, the key without a password"
            ) from None

    def _now(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(map(_stamp, self._files))


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _no_password() -> str:
    """A terminal would be asked otherwise."""
    return ""


class TlsDoor:
    """Accepts connections at some sockets. Made on a running event loop; close it."""

    def __init__(self, house: House, listeners: Sequence[socket.socket], context: ssl.SSLContext) -> None:
        self._house = house
        self._context = context
        self._listeners = listeners
        self._tasks = {asyncio.ensure_future(self._accept(each)) for each in listeners}

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, port = self._listeners[-1].getsockname()[:2]
        return host, port

    async def close(self) -> None:
        """Accept no more; connections that are there are the house's."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for listener in self._listeners:
            listener.close()

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, address = await loop.sock_accept(listener)
            except OSError:
                await asyncio.sleep(PAUSE)
                continue
            task = loop.create_task(self._let_in(client, str(address[0])))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _let_in(self, client: socket.socket, ip: str) -> None:
        ticket = self._house.admission.admit(client_of(ip))
        if ticket is None:
            client.close()
            return

        def cut() -> None:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

        ticket.cut = cut
        door = Door(self._house, ticket=ticket, tls=True)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: door, client, ssl=self._context, ssl_handshake_timeout=HANDSHAKE_TIMEOUT
            )
        except BaseException as error:
            ticket.release()
            client.close()
            if not isinstance(error, OSError):  # ssl.SSLError is one.
                raise
