"""The door for unmodified rsync clients: the system's rsync, as a daemon, shows what the node has.

The node listens; each connection gets an rsync of its own, as inetd(8) starts it (rsync(1), CONNECTING TO AN
RSYNC DAEMON). So there is no daemon that could die or outlive the node, and the configuration is that of the
moment. What is shown is ``rsync_modules``' business.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import Final

from p2psync.content.listening import bound
from p2psync.daemon.losses import Loss
from p2psync.daemon.rsync_modules import CONNECTIONS_MAX, Host, Modules, configuration, modules_of
from p2psync.errors import FileError, P2psyncError, UsageError
from p2psync.network.here import client_of, reached_at
from p2psync.rsync.program import find_rsync
from p2psync.state import State
from p2psync.state.files import read_private, write_private
from p2psync.state.off_loop import off_loop
from p2psync.state.private import make_folder

FOLDER: Final = "rsyncd"
"""In the state directory: the configuration."""
OPTION: Final = "--rsync-listen"
CLIENT_MAX: Final = 8
"""Connections of one client at once: a person's, or a few jobs'."""
ALL_MAX: Final = CONNECTIONS_MAX + 8
"""Connections at once: rsync itself turns those away that are too many for it, in its own words."""
FRESH: Final = 1.0
"""Seconds for which it is not looked again what can be shown."""
PAUSE: Final = 1.0
"""Seconds until the next connection is taken after one that could not be, for want of descriptors."""
_VERSION: Final = re.compile(r"version v?(\d+(?:\.\d+)*)")
_TOO_MANY: Final = b"@RSYNCD: 31.0\n@ERROR: too many connections -- try again later\n"


class RsyncDoor:
    """A listener for rsync clients, and the rsync processes that serve them."""

    def __init__(
        self,
        state: State,
        program: str,
        host: Host,
        *,
        losses: Callable[[], Mapping[int, Loss]],
        address: Callable[[], str | None],
        warn: Callable[[str], None],
    ) -> None:
        """``losses``: what trees no longer have; ``address``: where the node is reached (HOST:PORT)."""
        self._state = state
        self._program = program
        self._host = host
        self._losses = losses
        self._address = address
        self._warn = warn
        self._folder = state.path / FOLDER
        self._told: set[str] = set()
        self._looked = float("-inf")
        self._looking = asyncio.Lock()
        self._clients: Counter[str] = Counter()
        self._serving: set[asyncio.Task[None]] = set()

    async def refresh(self) -> None:
        """Write the configuration of this moment. Raises P2psyncError."""
        async with self._looking:
            if time.monotonic() - self._looked < FRESH:
                return
            look = partial(modules_of, self._state, self._host, dict(self._losses()), self._address())
            modules: Modules = await off_loop(look)
            await off_loop(partial(self._write, modules))
            self._looked = time.monotonic()
        for sentence in modules.refused:
            if sentence not in self._told:
                self._told.add(sentence)
                self._warn(sentence)

    def _write(self, modules: Modules) -> None:
        try:
            make_folder(self._folder)
        except OSError as error:
            raise FileError(f"{self._folder} cannot be made: {error.strerror}") from None
        for name, raw in configuration(modules.shown, self._host, os.fsencode(self._folder)).items():
            path = self._folder / name
            if read_private(path) != raw:
                write_private(path, raw, replace=True)

    async def accept(self, listener: socket.socket) -> None:
        """Serve whoever connects, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, address = await loop.sock_accept(listener)
            except OSError:
                await asyncio.sleep(PAUSE)
                continue
            who = client_of(str(address[0]))
            if self._clients[who] >= CLIENT_MAX or self._clients.total() >= ALL_MAX:
                with contextlib.suppress(OSError):
                    client.send(_TOO_MANY)
                client.close()
                continue
            self._clients[who] += 1
            task = loop.create_task(self._serve(client, who))
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)

    async def _serve(self, client: socket.socket, who: str) -> None:
        try:
            with client:
                await self.refresh()
                process = await self._start(client)
            await _to_its_end(process)
        except (P2psyncError, OSError) as error:
            self._warn(f"an rsync client could not be served: {error}")
        finally:
            self._clients[who] -= 1
            if not self._clients[who]:
                del self._clients[who]

    async def _start(self, client: socket.socket) -> asyncio.subprocess.Process:
        client.setblocking(True)
        return await asyncio.create_subprocess_exec(
            self._program,
            "--daemon",
            f"--config={self._folder / 'rsyncd.conf'}",
            stdin=client.fileno(),
            stdout=client.fileno(),
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            env={"LC_ALL": "C", "PATH": os.defpath},
        )

    async def close(self) -> None:
        """End all transfers."""
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)


async def _to_its_end(process: asyncio.subprocess.Process) -> None:
    """Wait for a process; it ends with whoever waits."""
    try:
        await process.wait()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


@contextlib.asynccontextmanager
async def rsync_door(
    state: State,
    listen: tuple[str, int],
    *,
    losses: Callable[[], Mapping[int, Loss]],
    address: Callable[[], str | None],
    warn: Callable[[str], None],
) -> AsyncIterator[str]:
    """Serve rsync clients at ``listen`` for the length of the block; where that is, as ``HOST:PORT``.

    Raises NetworkError: the address cannot be listened at. UsageError: there is no rsync here. FileError.
    """
    program = find_rsync()
    if program is None:
        raise UsageError(f"{OPTION} needs the program rsync, which is not installed here; install it")
    host = Host(os.geteuid() == 0, await _version(program))
    door = RsyncDoor(state, program, host, losses=losses, address=address, warn=warn)
    await door.refresh()
    listeners = await bound(*listen, option=OPTION)
    accepting = [asyncio.ensure_future(door.accept(listener)) for listener in listeners]
    try:
        yield reached_at(*listeners[0].getsockname()[:2])[0]
    finally:
        for task in accepting:
            task.cancel()
        await asyncio.gather(*accepting, return_exceptions=True)
        for listener in listeners:
            listener.close()
        await door.close()


async def _version(program: str) -> tuple[int, ...]:
    """The version of rsync; (0,) where it does not say, which is taken for an old one."""
    process = await asyncio.create_subprocess_exec(
        program, "--version", stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    found = _VERSION.search(out.decode("utf-8", "replace"))
    return (0,) if found is None else tuple(int(part) for part in found[1].split("."))
