"""The DHT as commands and the daemon use it: opened with what the state directory remembers, saved when it is
closed.

Once a client has been bootstrapped it needs no bootstrap node again: the contacts that it met and the holders
that it heard of are addresses to join by. Where that finds nobody, sources of seeds are asked.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Final

from p2psync import __version__
from p2psync.errors import NetworkError
from p2psync.format.url import host_and_port
from p2psync.seeds.find import Seeds, join
from p2psync.seeds.query import split
from p2psync.state import State
from p2psync_dht import DhtNode, HolderRecord, Identity, RecordError

DEFAULT_PORT: Final = 8730
RECORDS: Final = "records.msgpack"
"""The file in the state directory with the records that a node stores for others."""
JOIN_HOLDERS: Final = 16
"""Known holders that are tried as contacts too: a node's DHT has the port number of its content server."""


def addresses(texts: Iterable[str]) -> list[tuple[str, int]]:
    """(host, port) of ``HOST[:PORT]`` texts. Raises UsageError."""
    return [host_and_port(text, DEFAULT_PORT) for text in texts]


@contextlib.asynccontextmanager
async def open_dht(
    state: State,
    *,
    bootstrap: Sequence[str] = (),
    host: str = "0.0.0.0",  # noqa: S104 - a client is reached by the answers to its own queries alone
    port: int = 0,
    server: bool = False,
    archive: bytes | None = None,
    records: bool = False,
    node_class: type[DhtNode] = DhtNode,
    identity: Identity | None = None,
    seeds: Seeds | None = None,
) -> AsyncIterator[DhtNode]:
    """A node of the DHT that has joined, or tried to; its contacts are saved at the end.

    ``bootstrap``: addresses to join by, and sources of seeds (``seeds.query``), unless ``seeds`` are given.
    ``archive``: its known holders are tried as contacts too. ``records``: what was stored for others before a
    restart is stored again. ``identity``: that of the state directory if None; a node that runs on it answers
    only others.

    Raises:
        NetworkError: the address cannot be used. UsageError: a bootstrap address is none. TrustError:
        there are
            only seeds that must not be believed.
    """
    texts, queries = split(bootstrap)
    given = addresses(texts)
    try:
        node = await node_class.start(
            identity or state.identity(), host, port, server=server, agent=f"p2psync/{__version__}"
        )
    except OSError as error:
        raise NetworkError(
            f"cannot use UDP port {port} at {host}: {error.strerror or error}; choose another with --listen"
        ) from None
    try:
        node.load_contacts(state.contacts_path)
        if records:
            await node.load_records(state.path / RECORDS)
        known = [] if archive is None else _holder_addresses(state, archive)
        await join(node, [*given, *known], seeds or Seeds(state.path, queries))
        yield node
    finally:
        with contextlib.suppress(OSError):
            node.save_contacts(state.contacts_path)
            if records:
                node.save_records(state.path / RECORDS)
        await node.close()


def _holder_addresses(state: State, archive: bytes) -> list[tuple[str, int]]:
    made: list[tuple[str, int]] = []
    for raw in state.holders.for_archive(archive, time.time())[:JOIN_HOLDERS]:
        with contextlib.suppress(RecordError):
            made += [(e.ip, e.port) for e in HolderRecord.decode(raw).endpoints if e.ip]
    return made
