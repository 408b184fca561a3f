"""The DHT, and gateways to it where nobody in it answers: so it is where a firewall drops UDP. That is
remembered for a while, and then nobody waits for it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable, Collection, Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar

from p2psync.network.gateways import Gateways
from p2psync.network.protocols import Network
from p2psync.network.way import Way
from p2psync_dht import Head, HolderRecord
from p2psync_dht.sockets import own_address

T = TypeVar("T")
log = logging.getLogger(__name__)

NAME: Final = "udp-blocked"
"""The file in the state directory."""
REMEMBERED: Final = 3600.0
"""Seconds for which UDP is not tried again by those who have a gateway."""
PATIENCE: Final = 2.0
"""Seconds from the beginning of the way into the DHT until gateways are asked, where nobody was met: those
who answer at all answer in one. Remembered nodes that are all silent take three.
"""
MARK_MAX: Final = 1024
"""Bytes of the file that are read."""


class UdpMark:
    """Whether UDP was found not to pass, at this place: another address of this machine is another one."""

    def __init__(self, state: Path) -> None:
        self._file = state / NAME

    def age(self, now: float) -> float | None:
        """Seconds since it was found; None where it may pass. ``now``: Unix seconds."""
        try:
            with self._file.open("rb") as stream:
                import json  # noqa: PLC0415 - 3 ms, where there is one

                found = json.loads(stream.read(MARK_MAX))
            since = now - float(found["at"])
            return since if 0 <= since < REMEMBERED and found["from"] == _here() else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def set(self, now: float) -> None:
        """UDP does not pass. It is only a help to the next run, and nothing where it cannot be written."""
        made = self._file.with_name(f".{NAME}.{os.getpid()}")
        import json  # noqa: PLC0415 - 3 ms, for once

        with contextlib.suppress(OSError):
            made.write_text(json.dumps({"at": now, "from": _here()}))
            made.replace(self._file)

    def clear(self) -> None:
        """Somebody answers by UDP."""
        with contextlib.suppress(OSError):
            self._file.unlink(missing_ok=True)


def _here() -> str | None:
    return own_address(socket.AF_INET) or own_address(socket.AF_INET6)


class WithGateways:
    """A `protocols.Network`: what ``dht`` does not answer since it has met nobody, gateways are asked."""

    def __init__(self, dht: Network, gateways: Gateways, mark: UdpMark, began: float | None = None) -> None:
        """``began``: when the way into the network was begun, in the monotonic clock; None: now."""
        self._dht = dht
        self._gateways = gateways
        self._mark = mark
        self._began = time.monotonic() if began is None else began
        self._said = False

    @property
    def reachable(self) -> bool:
        return self._dht.reachable or (self._dht.way.tried and self._gateways.reachable)

    @property
    def way(self) -> Way:
        return self._dht.way

    @property
    def received(self) -> int:
        return self._dht.received + self._gateways.received

    def observed(self, family: socket.AddressFamily) -> str | None:
        return self._dht.observed(family)

    async def get_head(self, archive: bytes) -> Head | None:
        return await self._first(lambda network: network.get_head(archive))

    async def get_mirrors_head(self, archive: bytes) -> Head | None:
        return await self._first(lambda network: network.get_mirrors_head(archive))

    async def get_holders(self, key: bytes) -> list[HolderRecord]:
        return await self._first(lambda network: network.get_holders(key))

    async def put_head(self, raw: bytes) -> int:
        return await self._dht.put_head(raw)

    async def refresh_head(self, raw: bytes) -> int:
        return await self._dht.refresh_head(raw)

    async def announce(self, raws: Collection[bytes]) -> dict[bytes, int]:
        return await self._dht.announce(raws)

    async def _first(self, ask: Callable[[Network], Coroutine[Any, Any, T]]) -> T:
        """What the DHT says or, where it says nothing and nobody in it is met, what gateways do."""
        asking = asyncio.ensure_future(ask(self._dht))
        try:
            left = self._began + PATIENCE - time.monotonic()
            await asyncio.wait([asking], timeout=max(left, 0.0) if self._gateways.reachable else None)
            if self._is_met() or (asking.done() and asking.result()):
                return await asking
            seconds = time.monotonic() - self._began
            found = await ask(self._gateways)
            self._note(seconds)
            return found if self._gateways.answered else await asking
        finally:
            asking.cancel()

    def _is_met(self) -> bool:
        """Whether anybody answers by UDP."""
        return bool(self._dht.way.contacts)

    def _note(self, seconds: float) -> None:
        """Nobody has answered by UDP in so many seconds. Who answers by TCP says that it is UDP's fault."""
        if self._gateways.answered and not self._said and self._dht.way.tried:
            self._said = True
            self._mark.set(time.time())
            log.warning(
                "UDP does not seem to pass: nobody in the DHT answered in %.1f seconds; it is asked by way "
                "of %s, and by UDP again in %.0f minutes",
                seconds,
                ", ".join(sorted(self._gateways.answered)),
                REMEMBERED / 60,
            )
