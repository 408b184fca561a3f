"""The DHT as commands and the daemon use it: opened with what the state directory remembers, saved when it is
closed.

Once a client has been bootstrapped it needs no bootstrap node again: the contacts that it met and the holders
that it heard of are addresses to join by, and so are the peers that it was given as sources. Where that finds
nobody, sources of seeds are asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypedDict, Unpack

from p2psync import __version__
from p2psync.config import DEFAULT_PORT
from p2psync.errors import NetworkError
from p2psync.format.url import host_and_port, host_port
from p2psync.network.egress import check_udp, egress
from p2psync.network.holders import holder_addresses
from p2psync.network.over_dht import DhtNetwork
from p2psync.network.seeds.find import Seeds, join, some
from p2psync.network.seeds.query import split
from p2psync.state import State
from p2psync_dht import DhtNode, Identity
from p2psync_dht.sockets import EVERYWHERE

log = logging.getLogger(__name__)

ASKED: Final = 6
"""Nodes that are asked to have us called back."""
ASKS_ONLY: Final = (
    "other nodes cannot reach the DHT's UDP port here: it only asks, and serves no records; "
    "open or forward the port"
)
SERVES: Final = "other nodes reach the DHT's UDP port here: it serves records"
RECORDS: Final = "records.msgpack"
"""The file in the state directory with the records that a node stores for others."""
UNREAD: Final = ("read", "going on without it; remove it, or make it readable to the user that this runs as")
UNSAVED: Final = (
    "saved",
    "the next start does without it; free space, or make it writable to the user that this runs as",
)
"""What becomes of a file that is only a cache, and what to do about it."""
ALONE: Final = "127.0.0.1"
"""Where a node of the DHT listens that may not use UDP: from there no packet leaves this machine."""
ENOUGH: Final = 12
"""Contacts with which a client begins to ask, half a second before it knows all that it ever will: a read
hears eight of them.
"""
JOIN_PEERS: Final = 8
"""Peers given as sources that are tried so: a URL with many hints leaves room for what is known otherwise."""


def addresses(texts: Iterable[str]) -> list[tuple[str, int]]:
    """(host, port) of ``HOST[:PORT]`` texts. Raises UsageError."""
    return [host_and_port(text, DEFAULT_PORT) for text in texts]


class Entry:
    """A node of the DHT, and its way into the network."""

    def __init__(
        self,
        node: DhtNode,
        entering: Coroutine[Any, Any, None],
        loading: Coroutine[Any, Any, None],
        *,
        sure: bool,
        bootstrap: Sequence[str] = (),
    ) -> None:
        self.node = node
        self._bootstrap = bootstrap
        self.sure = sure
        """Whether more than guesses leads into the network, so that it is worth waiting for."""
        self.entering = asyncio.ensure_future(entering)
        self._loading = asyncio.ensure_future(loading)
        self._awaited = False

    async def entered(self) -> None:
        """Wait until the node has joined, or tried to. Raises TrustError: there are only seeds that must not
        be believed.
        """
        self._awaited = True
        await asyncio.wait([self.entering, self._loading])
        self.entering.result()

    @property
    def has_loaded(self) -> bool:
        """Whether all records of the run before are stored again, so that they may be saved anew."""
        return self._loading.done() and not self._loading.cancelled()

    @property
    def network(self) -> DhtNetwork:
        """The node behind the protocols of ``protocols``."""
        return DhtNetwork(self.node, self.entering, sure=self.sure, bootstrap=self._bootstrap)

    async def end(self) -> None:
        """End a way that leads nowhere in time, and say why it failed if nobody else has heard of it."""
        self.entering.cancel()
        self._loading.cancel()
        for outcome in await asyncio.gather(self.entering, self._loading, return_exceptions=True):
            if isinstance(outcome, Exception) and not self._awaited:
                log.warning("the network could not be joined: %s", outcome)


class Options(TypedDict, total=False):
    """The keyword arguments of `start_dht`, which explains them."""

    bootstrap: Sequence[str]
    peers: Sequence[str]
    host: str
    port: int
    server: bool
    archive: bytes | None
    records: bool
    tests_reachability: bool
    node_class: type[DhtNode]
    identity: Identity | None
    seeds: Seeds | None


@contextlib.asynccontextmanager
async def open_dht(state: State, **options: Unpack[Options]) -> AsyncIterator[DhtNode]:
    """A node of the DHT as `start_dht` makes it, that has joined, or tried to. A client knows a few contacts
    by then, and more as it goes on.

    Raises: NetworkError: the address cannot be used, or UDP altogether (`egress`). UsageError: a bootstrap
    address is none. TrustError: there are only seeds that must not be believed.
    """
    check_udp()
    async with start_dht(state, **options) as entry:
        if entry.sure:
            await entry.entered()
        yield entry.node


@contextlib.asynccontextmanager
async def start_dht(
    state: State,
    *,
    bootstrap: Sequence[str] = (),
    peers: Sequence[str] = (),
    host: str = EVERYWHERE,
    port: int = 0,
    server: bool = False,
    archive: bytes | None = None,
    records: bool = False,
    tests_reachability: bool = False,
    node_class: type[DhtNode] = DhtNode,
    identity: Identity | None = None,
    seeds: Seeds | None = None,
) -> AsyncIterator[Entry]:
    """A node of the DHT with what the state directory remembers, on its way into the network; its contacts
    are saved at the end. Where what it remembers cannot be read or saved, it says so and does without.

    ``bootstrap``: addresses to join by, and sources of seeds (``seeds.query``), unless ``seeds`` are given.
    ``peers``: HOST:PORT of nodes that are known as sources, and may be in the DHT. Where nothing else leads
    into it they are tried, and not waited for: at an address that was given for HTTP, UDP may well be silent.
    ``archive``: its known holders are tried as contacts too. ``records``: what was stored for others before a
    restart is stored again. ``tests_reachability``: have strangers call back first, and become a client if
    none gets through; until that is known a server answers those who know it, and enters no table.
    ``identity``: that of the state directory if None; a node that runs on it answers only others.

    Where UDP may not be used (`egress`), it is a node that nobody meets.

    Raises:
        NetworkError: the address cannot be used. UsageError: a bootstrap address is none.
    """
    way = egress()
    if not way.udp:
        way.say_no_udp()
        async with _alone(state, node_class, port) as alone:
            yield alone
        return
    texts, queries = split(bootstrap)
    given, hints = addresses(texts), addresses(peers)[:JOIN_PEERS]
    try:
        node = await node_class.start(
            identity or state.identity(),
            host,
            port,
            server=server and not tests_reachability,
            agent=f"p2psync/{__version__}",
        )
    except OSError as error:
        raise _unusable(host, port, error) from None
    # As a listed server it would enter the tables of those whom it asks whether it can be one.
    node.serve(server, listed=not tests_reachability)
    entry: Entry | None = None
    try:
        with _only_a_cache(state.contacts_path, *UNREAD):
            node.load_contacts(state.contacts_path)
        known = [] if archive is None else addresses(holder_addresses(state, archive))
        seeds = seeds or Seeds(state.path, queries)
        sure = bool(given or node.remembered or seeds.queries or not hints)
        entering = _enter(node, given, hints, known, seeds, server=server, tests=tests_reachability)
        entry = Entry(
            node, entering, _load(node, state.path / RECORDS if records else None), sure=sure, bootstrap=texts
        )
        yield entry
    finally:
        if entry is not None:
            await entry.end()
        with _only_a_cache(state.contacts_path, *UNSAVED):
            node.save_contacts(state.contacts_path)
        if records and entry is not None and entry.has_loaded:
            with _only_a_cache(state.path / RECORDS, *UNSAVED):
                node.save_records(state.path / RECORDS)
        await node.close()


@contextlib.asynccontextmanager
async def _alone(state: State, node_class: type[DhtNode], port: int) -> AsyncIterator[Entry]:
    """A node that knows nobody, and whose socket can reach this machine alone; nothing is loaded or saved."""
    try:
        node = await node_class.start(state.identity(), ALONE, port, server=False)
    except OSError as error:
        raise _unusable(ALONE, port, error) from None
    entry = Entry(node, _nothing(), _nothing(), sure=False)
    try:
        yield entry
    finally:
        await entry.end()
        await node.close()


async def _nothing() -> None:
    """Neither the way in nor what is stored takes any time."""


def _unusable(host: str, port: int, error: OSError) -> NetworkError:
    return NetworkError(
        f"cannot use UDP at {host_port(host, port)}: {error.strerror or error}; choose another address with "
        "--listen"
    )


async def _load(node: DhtNode, records: Path | None) -> None:
    if records is not None:
        with _only_a_cache(records, *UNREAD):
            await node.load_records(records)


async def _enter(
    node: DhtNode,
    given: list[tuple[str, int]],
    hints: list[tuple[str, int]],
    known: list[tuple[str, int]],
    seeds: Seeds,
    *,
    server: bool,
    tests: bool,
) -> None:
    """Find out whether others reach the node, where that is asked for, and join."""
    if tests:
        if not given and not node.remembered:
            given = some(await seeds.find()) or hints
        reached = await _is_reached(node, given)
        node.serve(server and reached is not False)
        if reached is False:
            log.warning("%s", ASKS_ONLY)
    enough = None if server else ENOUGH
    await join(node, list(dict.fromkeys([*given, *hints, *known])), seeds, enough=enough)


@contextlib.contextmanager
def _only_a_cache(path: Path, doing: str, remedy: str) -> Iterator[None]:
    """Warn where a file cannot be read or saved that is a help to the next start, and nothing more."""
    try:
        yield
    except OSError as error:
        log.warning("%s cannot be %s: %s; %s", path, doing, error.strerror or error, remedy)


async def settle_mode(node: DhtNode, addresses: Sequence[tuple[str, int]] = ()) -> None:
    """Serve, or only ask, as others find that they can reach us; no change where that cannot be found out.

    A node that nobody reaches would cost everybody a time-out in each lookup that meets it.
    """
    reached = await _is_reached(node, addresses)
    if reached is not None and reached != node.is_server:
        log.warning("%s", SERVES if reached else ASKS_ONLY)
    if reached is not None:
        node.serve(reached)


async def _is_reached(node: DhtNode, addresses: Sequence[tuple[str, int]]) -> bool | None:
    asked = [*addresses, *node.remembered]
    numeric = await asyncio.gather(*(_resolve(address) for address in asked[:ASKED]))
    return await node.probe_reachable([address for address in numeric if address is not None])


async def _resolve(address: tuple[str, int]) -> tuple[str, int] | None:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(*address, type=socket.SOCK_DGRAM)
    except OSError:
        return None
    return str(found[0][4][0]), int(found[0][4][1])
