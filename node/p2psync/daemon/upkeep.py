"""What every node does by itself, whatever its role: save, find company, tell its supervisor, measure
lookups."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

from p2psync.daemon.commands import archives_command, look_order, release_order
from p2psync.daemon.control import control_server, status_command
from p2psync.daemon.health import Vitals
from p2psync.daemon.metered import MeteredDht
from p2psync.daemon.mirrors import neighbours
from p2psync.daemon.options import Ready
from p2psync.daemon.supervisor import Supervisor
from p2psync.errors import P2psyncError
from p2psync.network.dht import RECORDS, Entry, addresses, settle_mode
from p2psync.network.here import reached_at
from p2psync.network.over_dht import way_of
from p2psync.network.seeds.find import join
from p2psync.network.seeds.query import split
from p2psync.state.off_loop import off_loop

SAVE: Final = 300.0
"""Seconds between savings of the records that are stored for others: nineteen nodes have each of them too."""
SAVE_CONTACTS: Final = 10.0
"""Seconds between savings of the contacts, if they have changed: a bootstrap node that is killed and knows
nobody when it returns would found a network of its own."""
REVISIT: Final = 1800.0
"""Seconds between visits to the nodes that we were told to join by, give or take a quarter: one that has lost
its memory, or was dead for long, learns of the network again."""
TEST: Final = 1800.0
"""Seconds between questions whether others reach us, give or take a quarter."""
LOOK: Final = 10.0
"""Seconds between looks whether anybody is there."""
REJOIN_FIRST: Final = 30.0
"""Seconds until a lonely node asks seeds again; doubles up to ``REJOIN_LAST``: seeds are asked by many."""
REJOIN_LAST: Final = 600.0
REFRESH: Final = 3600.0
"""Seconds between looks whether a seed list is due to be fetched again."""
READY_GRACE: Final = 0.5
"""Seconds that a node which serves already has to join the network before it says that it serves."""
PROBE: Final = 300.0
"""Seconds between lookups that are made to be measured: some fifty datagrams each."""


async def open_doors(
    stack: AsyncExitStack,
    vitals: Vitals,
    supervisor: Supervisor,
    listen: tuple[str, int],
    entry: Entry,
    on_ready: Ready,
    *,
    look: Callable[[], None] | None = None,
) -> None:
    """Open what only this machine reaches (the control socket, the monitor), and say that the node serves.
    It does before it has joined the network; where that is quick, it has when it says so. ``look`` is
    called when a command says that the state directory has something new.

    Raises:
        NetworkError, FileError: one of them cannot be had. TrustError: there are only seeds that must not be
        believed.
    """
    reached, metrics = reached_at(*listen), None
    where = reached[0]
    commands = {
        "status": status_command(vitals.dht, where, lambda: vitals.company),
        "archives": archives_command(vitals.state, vitals.mirrors, where, vitals.losses),
    }
    orders = {"release": release_order(vitals.mirrors), "look": look_order(look)}
    await stack.enter_async_context(control_server(vitals.state.path, commands, orders))
    if vitals.options.metrics is not None:
        from p2psync.daemon.monitor import monitoring  # noqa: PLC0415 - prometheus-client, 60 ms

        metrics = await stack.enter_async_context(monitoring(vitals, vitals.options.metrics))
    stack.callback(supervisor.stopping)
    if entry.sure:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READY_GRACE):
                await entry.entered()
    on_ready(reached, vitals.dht.node_id.hex(), metrics)
    supervisor.ready(vitals.status())


class Upkeep:
    """Runs beside the node's own work until cancelled."""

    def __init__(
        self, vitals: Vitals, supervisor: Supervisor, entry: Entry, warn: Callable[[str], None]
    ) -> None:
        self._vitals = vitals
        self._supervisor = supervisor
        self._entry = entry
        self._warn = warn
        self._unsaved: int | None = None

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._enter())
            group.create_task(self._save_contacts())
            group.create_task(self._save_records())
            group.create_task(self._revisit())
            group.create_task(self._keep_company())
            group.create_task(self._refresh_seeds())
            if self._vitals.options.role.tests_reachability:
                group.create_task(self._settle_mode())
            if self._supervisor.beat is not None:
                group.create_task(self._beat(self._supervisor.beat))
            if self._vitals.options.metrics is not None:
                group.create_task(self._probe())

    async def _enter(self) -> None:
        """Raises TrustError: there are only seeds that must not be believed."""
        await self._entry.entered()
        self._supervisor.status(self._vitals.status())

    async def _save_contacts(self) -> None:
        dht, path = self._vitals.dht, self._vitals.state.contacts_path
        saved: set[tuple[bytes, str, int]] = set()
        while True:
            known = {(contact.id, contact.ip, contact.port) for contact in dht.contacts()}
            if known != saved:
                await self._saving("contacts", dht.saving_contacts(path))
                saved = known
            await asyncio.sleep(SAVE_CONTACTS)

    async def _save_records(self) -> None:
        dht, path = self._vitals.dht, self._vitals.state.path / RECORDS
        while True:
            await asyncio.sleep(SAVE)
            await self._saving("records", dht.saving_records(path))

    async def _saving(self, what: str, save: Callable[[], int]) -> None:
        try:
            await off_loop(save)
        except OSError as error:
            if (
                self._unsaved != error.errno
            ):  # Said once, not every ten seconds for as long as the disk is full.
                self._warn(f"the {what} of the DHT cannot be saved: {error.strerror or error}")
            self._unsaved = error.errno
        else:
            self._unsaved = None

    async def _revisit(self) -> None:
        texts, _ = split(self._vitals.options.bootstrap)
        while texts:
            await asyncio.sleep(REVISIT * random.uniform(0.75, 1.25))  # noqa: S311 - spreads load, guards nothing
            await self._vitals.dht.join(addresses(texts))

    async def _keep_company(self) -> None:
        """Look after contacts; without any, join again, as long as it takes."""
        vitals = self._vitals
        pause = REJOIN_FIRST
        texts, _ = split(vitals.options.bootstrap)
        told = False
        waited = 0.0
        while True:
            contacts = vitals.look()
            self._supervisor.status(vitals.status())
            if contacts:
                pause, waited, told = REJOIN_FIRST, 0.0, False
            elif waited >= pause:
                waited, pause = 0.0, min(2 * pause, REJOIN_LAST)
                # Sources of seeds say by themselves what is wrong, and so do those who need the index.
                with contextlib.suppress(P2psyncError):
                    others = await off_loop(partial(neighbours, vitals.state))
                    await join(vitals.dht, addresses([*texts, *others]), vitals.seeds)
                if vitals.options.bootstrap and not told and not vitals.dht.contacts():
                    told = True
                    way = way_of(vitals.dht, texts)
                    self._warn(f"no node of the network answers; trying again until one does ({way})")
            await asyncio.sleep(LOOK)
            waited += LOOK

    async def _refresh_seeds(self) -> None:
        """Keep lists current while all is well: on the day when all contacts are gone they are wanted."""
        while self._vitals.seeds.queries:
            with contextlib.suppress(P2psyncError):  # Logged where it happened.
                await self._vitals.seeds.find(everyone=True)
            await asyncio.sleep(REFRESH)

    async def _settle_mode(self) -> None:
        """Follow the answer to whether others reach us: networks change, ports are opened and closed."""
        await self._entry.entered()  # Which has found out for the first time.
        while True:
            await asyncio.sleep(TEST * random.uniform(0.75, 1.25))  # noqa: S311 - spreads load, guards nothing
            await settle_mode(self._vitals.dht)

    async def _beat(self, seconds: float) -> None:
        while True:
            self._supervisor.alive()
            await asyncio.sleep(seconds)

    async def _probe(self) -> None:
        while isinstance(self._vitals.dht, MeteredDht):
            if not self._vitals.look():
                await asyncio.sleep(LOOK)
                continue
            await self._vitals.dht.probe()
            await asyncio.sleep(PROBE)
