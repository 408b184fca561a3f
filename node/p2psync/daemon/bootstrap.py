"""The bootstrap node: the DHT alone, on UDP. A place to join by, which serves no archive and mirrors none."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack

from p2psync.daemon.health import Vitals
from p2psync.daemon.metered import MeteredDht
from p2psync.daemon.options import NodeOptions, Ready
from p2psync.daemon.supervisor import Supervisor
from p2psync.daemon.upkeep import Upkeep, open_doors
from p2psync.network.dht import start_dht
from p2psync.network.seeds.find import Seeds
from p2psync.network.seeds.query import split
from p2psync.state import NODE_LOCK, State


async def run_bootstrap(
    options: NodeOptions, state: State, *, on_ready: Ready, warn: Callable[[str], None]
) -> None:
    """Run until cancelled.

    Raises:
        NetworkError: an address cannot be listened at. FileError: another node runs on this state directory.
        TrustError: there are only seeds that must not be believed.
    """
    supervisor = Supervisor(warn)
    async with AsyncExitStack() as stack:
        stack.enter_context(state.lock(NODE_LOCK, on=f"the state directory {str(state.path)!r}"))
        host, port = options.listen
        seeds = Seeds(state.path, split(options.bootstrap)[1])
        opened = start_dht(
            state,
            bootstrap=options.bootstrap,
            host=host,
            port=port,
            server=True,
            tests_reachability=options.role.tests_reachability,
            records=True,
            node_class=MeteredDht,
            seeds=seeds,
        )
        entry = await stack.enter_async_context(opened)
        vitals = Vitals(options, state, entry.node, seeds)
        if vitals.archives():
            warn("a bootstrap node serves and updates none of the archives in its state directory")
        await open_doors(stack, vitals, supervisor, entry.node.address, entry, on_ready)
        await Upkeep(vitals, supervisor, entry, warn).run()
