"""The DHT as somebody outside sees it: under an identity that is made for one command.

With the identity of the state directory, a node that runs on it would take the questions for its own and
leave them unanswered, and so be missing from what is found.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from p2psync.errors import NetworkError, P2psyncError

if TYPE_CHECKING:
    from p2psync.cli.options import Network
    from p2psync.state import State
    from p2psync_dht import DhtNode


@contextlib.asynccontextmanager
async def outside(
    state: State, network: Network, *, hints: Sequence[str] = (), archive: bytes | None = None
) -> AsyncIterator[DhtNode]:
    """A client that has joined by the options, by what the state directory remembers and by the node that
    runs on it; also by the ``hints`` of a URL (HOST:PORT) and by the known holders of ``archive``.

    Raises NetworkError: nobody answered.
    """
    from p2psync.network.dht import open_dht
    from p2psync.network.over_dht import way_of
    from p2psync.network.seeds.query import split
    from p2psync.state.off_loop import off_loop
    from p2psync_dht import Identity

    here = await off_loop(partial(running_node, state))
    bootstrap = [*map(str, network.bootstrap), *hints, *here]
    identity = Identity.generate()
    async with open_dht(state, bootstrap=bootstrap, identity=identity, archive=archive) as node:
        if not node.contacts():
            way = way_of(node, split(bootstrap)[0])
            raise NetworkError(f"no node of the network answered: {way}; name one that runs with --bootstrap")
        yield node


def running_node(state: State) -> Sequence[str]:
    """HOST:PORT of the node that runs on a state directory, as seen from this machine; empty if none does."""
    from p2psync.cli.types import parse_address
    from p2psync.state.ask import ask

    try:
        return (str(parse_address(str(ask(state.path, "status")["listen"]))),)
    except (P2psyncError, KeyError):
        return ()


def milliseconds(seconds: float | None) -> str:
    """A round trip for people."""
    return "-" if seconds is None else f"{seconds * 1000:.1f} ms"


def place(address: tuple[str, int] | None) -> str | None:
    """HOST:PORT of an address, for JSON and for people."""
    from p2psync.cli.types import Address

    return None if address is None else str(Address(*address))
