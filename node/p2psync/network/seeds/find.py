"""Finds seeds: asks all sources at once, believes what ``book`` believes, and joins a DHT node by them.

Seeds are asked only when what is remembered does not lead into the network: an address book need not be
told of every start.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

from p2psync.config import DEFAULT_PORT
from p2psync.errors import FormatError, NetworkError, P2psyncError, TrustError
from p2psync.format.url import host_and_port
from p2psync.network.seeds.ask import WELL_KNOWN, dns_lists, dns_seeds, fetch_url, read_file
from p2psync.network.seeds.book import SeedBook
from p2psync.network.seeds.query import Kind, SeedQuery
from p2psync.network.seeds.seedlist import SeedList
from p2psync_dht import DhtNode
from p2psync_dht.networks import Networks, fairly, networks_of
from p2psync_dht.scope import pack_ip

FOLDER: Final = "seeds"
"""In the state directory."""
HEAD_START: Final = 1.0
"""Seconds that remembered contacts and given addresses have before sources of seeds are asked as well."""
JOIN_SEEDS: Final = 16
"""Seeds that are tried at once, chosen at random: enough to find a living one, and all seeds share the
load."""
SOURCES_MAX: Final = 16
"""Sources that are asked: each is a connection or a few datagrams."""
GRACE: Final = 0.5
"""Seconds that other sources have once one has answered: their seeds may be the ones that live."""

_LOG: Final = logging.getLogger("p2psync.network.seeds")

Addresses = list[tuple[str, int]]
T = TypeVar("T")


class Seeds:
    """The sources of seeds of one command or node. ``state`` is the state directory."""

    def __init__(
        self, state: Path, queries: Sequence[SeedQuery], *, clock: Callable[[], float] = time.time
    ) -> None:
        self.queries = list(dict.fromkeys(queries))[:SOURCES_MAX]
        self._book = SeedBook(state / FOLDER)
        self._clock = clock
        self._told: dict[str, str] = {}
        self._remembered = False

    @property
    def remembered(self) -> bool:
        """Whether the last `find` took seeds from a list that it remembered, without asking for a new one."""
        return self._remembered

    async def find(self, *, fresh: bool = False, everyone: bool = False) -> list[str]:
        """``HOST:PORT`` of seeds, from lists that are remembered if they are fresh and ``fresh`` is off.

        Once a source has answered, the others have ``GRACE``, unless ``everyone`` is waited for.

        What a source does wrong is logged. Raises TrustError: no source gave any, and one must not be
        believed.
        """
        made: dict[str, None] = {}
        self._remembered = False
        refused: TrustError | None = None
        asked = {asyncio.ensure_future(self._ask(query, fresh=fresh)): query for query in self.queries}
        waiting = set(asked)
        deadline: float | None = None
        try:
            while waiting:
                left = None if deadline is None else max(deadline - time.monotonic(), 0)
                done, waiting = await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    break
                for task in done:
                    try:
                        made |= dict.fromkeys(task.result())
                    except P2psyncError as error:
                        self._warn(asked[task], str(error))
                        refused = error if isinstance(error, TrustError) else refused
                if made and deadline is None and not everyone:
                    deadline = time.monotonic() + GRACE
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        if not made and refused is not None:
            raise refused
        return list(made)

    def expiries(self) -> dict[str, int]:
        """By source: when the list that is kept of it expires, in Unix seconds. Raises FileError."""
        now = self._clock()
        kept = {query.source: self._book.kept(query, now) for query in self.queries}
        return {name: one.list.expires for name, one in kept.items() if one and one.list.expires}

    async def _ask(self, query: SeedQuery, *, fresh: bool) -> tuple[str, ...]:
        """The seeds of one source. A list that has expired is better than none, and is used with a
        warning."""
        now = self._clock()
        kept = None if query.kind is Kind.SRV else self._book.kept(query, now)
        if kept is not None and not fresh and kept.is_fresh(now):
            self._remembered = True
            return kept.list.seeds
        try:
            found = await self._received(query)
        except P2psyncError as error:
            if kept is None:
                raise
            self._warn(query, f"{error}; the list received before is used")
            found = kept.list
        if isinstance(found, SeedList):
            if found.is_expired(now):
                self._warn(query, "the list has expired; its operator should sign a new one")
            return found.seeds
        return tuple(found)

    def _warn(self, query: SeedQuery, text: str) -> None:
        """Log what is wrong with a source; once, however often it is asked, until it is something else."""
        if self._told.get(query.source) != text:
            self._told[query.source] = text
            _LOG.warning("seeds of %s: %s", query.source, text)

    async def _received(self, query: SeedQuery) -> SeedList | list[str]:
        """What a source says now: a list, or unsigned addresses where nothing signed is expected of it."""
        now = self._clock()
        if query.kind is Kind.SRV:
            return await dns_seeds(query)
        if query.kind is Kind.FILE:
            return self._book.take(query, read_file(query.name), now)
        if query.kind is Kind.URL:
            return self._book.take(query, await fetch_url(query.name), now)
        return await self._domain(query)

    async def _domain(self, query: SeedQuery) -> SeedList | list[str]:
        """DNS and HTTPS of a domain at once: the newest signed list that may be believed, else SRV records.

        Once a source has signed, unsigned answers are no longer taken from it: who is on the way could
        suppress the signed one.
        """
        signed_only = bool(query.keys) or self._book.pin(query) is not None
        lists, web, srv = await asyncio.gather(
            dns_lists(query),
            fetch_url(f"https://{query.name}{WELL_KNOWN}"),
            dns_seeds(query),
            return_exceptions=True,
        )
        errors: list[P2psyncError] = []
        best: SeedList | None = None
        for raw in [*(_good(lists, errors) or []), *filter(None, [_good(web, errors)])]:
            try:
                best = _newer(best, self._book.take(query, raw, self._clock()))
            except (TrustError, FormatError) as error:
                errors.insert(0, error)
        if best is not None:
            return best
        unsigned = _good(srv, errors) or []
        if unsigned and not signed_only:
            return unsigned
        for noted in errors:
            if isinstance(noted, TrustError):
                raise noted
        raise NetworkError(f"neither DNS nor https:// has seeds: {_all(errors)}")


async def join(node: DhtNode, addresses: Addresses, seeds: Seeds, *, enough: int | None = None) -> int:
    """Join by what ``node`` remembers and by ``addresses``; if that finds nobody, by seeds. Contacts known
    then: ``enough`` if that is given, and the rest meanwhile.

    Raises TrustError, as ``Seeds.find``.
    """
    if not seeds.queries:
        return await node.join(addresses, enough=enough)
    first = asyncio.ensure_future(node.join(addresses, enough=enough))
    try:
        await asyncio.wait([first], timeout=HEAD_START)
        if node.contacts():
            return await first
        for fresh in (False, True):
            found = await seeds.find(fresh=fresh)
            if await node.join([*addresses, *some(found)], enough=enough) or not seeds.remembered:
                break
    finally:
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
    return len(node.contacts())


def some(found: list[str]) -> Addresses:
    """Addresses of some of the ``HOST:PORT`` that ``Seeds.find`` found, at random, but of each network, host
    and domain one before any has a second: who gets many names into a list does not keep others out.
    """
    asked = [host_and_port(text, DEFAULT_PORT) for text in random.sample(found, len(found))]
    return fairly(asked, lambda address: [_networks(address[0])])[:JOIN_SEEDS]


def _networks(host: str) -> Networks:
    try:
        return networks_of(pack_ip(host))
    except ValueError:
        name = host.lower().encode()
        return Networks(name, name, b".".join(name.split(b".")[-2:]))


def _newer(one: SeedList | None, other: SeedList) -> SeedList:
    return other if one is None or other.issued > one.issued else one


def _good(outcome: T | BaseException, errors: list[P2psyncError]) -> T | None:
    """The outcome of a question, or None with its error noted; other exceptions are raised."""
    if isinstance(outcome, P2psyncError):
        errors.append(outcome)
        return None
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def _all(errors: list[P2psyncError]) -> str:
    return "; ".join(map(str, errors)) or "nothing there"
