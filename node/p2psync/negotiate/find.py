"""Finds the archive that a place on a server is, and holds the server to it.

Asked are, until one of them names an archive: the tree itself for its signed head (in one connection), then
``/.well-known/p2psync``, DNS and an rsync server's own words, at once. Whichever it is, the archive's id is
all that is taken from it: what is fetched is verified under that id. So it is remembered, and a server that
names another one later is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from p2psync.errors import NetworkError, P2psyncError
from p2psync.format.head import decode_head
from p2psync.format.url import ArchiveUrl, archive_text, bracketed
from p2psync.negotiate import rsync
from p2psync.negotiate.mapping import TEXT_MAX, Mapped, choose, place, read_mapping
from p2psync.negotiate.origin import HEAD_NAMES, Kind, Origin
from p2psync.negotiate.pins import Pins
from p2psync.network.names import Dns
from p2psync.network.seeds.query import is_domain
from p2psync.network.web_file import web_file
from p2psync.state.off_loop import off_loop

WELL_KNOWN: Final = "/.well-known/p2psync"
"""RFC 8615."""
DNS_NAME: Final = "_p2psync"
TXT_MAX: Final = 64
"""TXT records of one name that are looked at."""
ASK_TIMEOUT: Final = 5.0
"""Seconds for one question to the web or to DNS: somebody waits for his first byte."""


class Named(NamedTuple):
    """An archive that somebody names for a directory of the origin."""

    path: bytes
    url: ArchiveUrl
    how: str
    """Who does, for people."""
    in_tree: bool = False
    """It is the head that lies there."""


class Found(NamedTuple):
    """What SRC is."""

    url: ArchiveUrl
    """The archive, or the part of it that SRC names, with hints whom to ask."""
    name: bytes
    """What has to be put behind DEST, as rsync would: SRC is a directory that is all of the archive."""
    how: str
    is_first: bool
    """The origin is held to the archive from now on."""
    has_folder: bool = False
    """SRC is all of the archive, and the folder with its static files lies in it."""


@dataclass(slots=True)
class Search:
    """What a search came to. ``found`` None: no archive was named."""

    origin: Origin
    found: Found | None = None
    rests: bool = False
    """Nobody was asked, since there was none within the last day."""
    asked: list[str] = field(default_factory=list)
    """Who named none, and why, for people."""
    warnings: list[str] = field(default_factory=list)
    is_news: bool = True
    """It was not known before that there is none."""
    answered: bool = False
    """The tree could be looked into, and has no head."""


async def find(
    origin: Origin, state: Path, *, now: float, dns: str | None = None, keep: bool = True
) -> Search:
    """The archive that ``origin`` is. ``state``: the state directory; ``now`` in Unix seconds; ``dns``:
    ``HOST:PORT`` of the DNS server to ask in place of the system's. ``keep``: remember what is found, and ask
    nobody where it is remembered that there is none.

    Raises OriginChanged: it is another one than before. FileError.
    """
    pins = Pins(state)
    search = Search(origin)
    known = await off_loop(lambda: pins.known(origin))
    if keep and known is None and await off_loop(lambda: pins.rests(origin, now)):
        search.rests, search.is_news = True, False
        return search
    named = await _in_tree(search) or await _said(search, dns)
    if named is not None:
        found = named
        first = await off_loop(lambda: pins.hold(origin, found.path, found.url.archive, found.how, keep=keep))
        search.found = _found(origin, named, is_first=first)
    elif known is not None:
        path, archive = known
        search.warnings.append(
            f"{origin} names no archive any more ({'; '.join(search.asked)}); going on with the one that it "
            f"had, {archive_text(archive)}"
        )
        search.found = _found(origin, Named(path, ArchiveUrl(archive), "what is remembered"), is_first=False)
    elif keep and search.answered and origin.is_rsync:
        search.is_news = await off_loop(lambda: pins.note_without(origin, now))
    return search


def _found(origin: Origin, named: Named, *, is_first: bool) -> Found:
    below = origin.path[len(named.path) :].strip(b"/")
    url = place(named.url, below, inside=origin.inside or not below)
    if origin.is_web and not named.url.path:
        url = url._replace(webs=tuple(dict.fromkeys((*url.webs, origin.url(named.path)))))
    name = origin.name if origin.is_rsync and not below else b""
    return Found(url, name, named.how, is_first, named.in_tree and not below)


# The tree itself.


async def _in_tree(search: Search) -> Named | None:
    """The archive whose head lies in the tree, of several the one nearest to the path."""
    origin = search.origin
    if origin.is_pattern:
        search.asked.append("a path with a pattern is no part of an archive")
        return None
    if origin.kind is Kind.HOST:
        return None
    try:
        heads = await (rsync.heads(origin) if origin.is_rsync else _web_heads(origin))
    except NetworkError as error:
        search.asked.append(str(error))
        return None
    search.answered = True
    for path in sorted(heads, key=len, reverse=True):
        how = f"the head in {origin.at(path)}"
        try:
            archive = decode_head(heads[path]).archive
        except P2psyncError as error:
            search.asked.append(f"{how}: {error}")
        else:
            return Named(path, ArchiveUrl(archive), how, in_tree=True)
    if not heads:
        search.asked.append(f"no head lies in {origin}")
    return None


async def _web_heads(origin: Origin) -> dict[bytes, bytes]:
    places = [(level, name) for level in origin.levels() for name in HEAD_NAMES]
    urls = [origin.url(level + b"/" + name if level else name) for level, name in places]
    asked = [web_file(url, rsync.HEAD_MAX, seconds=ASK_TIMEOUT) for url in urls]
    found: dict[bytes, bytes] = {}
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    for (level, _), outcome in zip(places, outcomes, strict=True):
        if isinstance(outcome, bytes):
            found.setdefault(level, outcome)
        elif not isinstance(outcome, NetworkError):
            raise outcome
    return found


# What the host says.


async def _said(search: Search, dns: str | None) -> Named | None:
    """The archive that the host names, in the order of how hard it is to forge: within TLS, in DNS, in the
    clear."""
    origin = search.origin
    ways: dict[str, Awaitable[list[Mapped]]] = {}
    well_known = _well_known_url(origin)
    ways[well_known] = _well_known(well_known)
    if is_domain(origin.host):
        name = f"{DNS_NAME}.{origin.host}"
        ways[f"DNS TXT {name}"] = _in_dns(name, dns)
    if not origin.is_web and not origin.is_pattern:
        server = origin if origin.is_rsync else origin._replace(kind=Kind.RSYNC, port=873)
        ways[f"what {server.server} says of itself"] = _own_words(search, server)
    outcomes = await asyncio.gather(*ways.values(), return_exceptions=True)
    best: Named | None = None
    for how, outcome in zip(ways, outcomes, strict=True):
        if isinstance(outcome, NetworkError):
            search.asked.append(str(outcome))
            continue
        if isinstance(outcome, BaseException):
            raise outcome
        mapped = choose(outcome, origin.path)
        if mapped is None:
            search.asked.append(f"{how} names none")
        elif best is None:
            best = Named(mapped.prefix or b"", mapped.url, how)
    return best


def _well_known_url(origin: Origin) -> str:
    """Of a web server its own, of others the one on the port that browsers ask."""
    return f"{origin.server if origin.is_web else f'https://{bracketed(origin.host)}'}{WELL_KNOWN}"


async def _well_known(url: str) -> list[Mapped]:
    return read_mapping((await web_file(url, TEXT_MAX, seconds=ASK_TIMEOUT)).decode("utf-8", "replace"))


async def _in_dns(name: str, server: str | None) -> list[Mapped]:
    records = await Dns(server, ASK_TIMEOUT).txt(name, TXT_MAX)
    texts = (b"".join(strings).decode("utf-8", "replace") for strings in records)
    return [mapped for text in texts for mapped in read_mapping(text)]


async def _own_words(search: Search, server: Origin) -> list[Mapped]:
    """What an rsync server's list of modules says: the module's comment, else the message of the day.

    A message without a directory in it says nothing about which module it means, unless there is one only.
    """
    comments: dict[bytes, str] = {}
    message: list[str] = []
    for line in (await rsync.listing(server)).splitlines():
        name, tab, comment = line.partition("\t")
        if tab:
            comments[name.rstrip().encode()] = comment
        else:
            message.append(line)
    module = server.module
    of_module = [
        one if one.prefix is not None else one._replace(prefix=module)
        for one in read_mapping(comments.get(module, ""))
    ]
    if of_module:
        return of_module
    of_message = read_mapping("\n".join(message))
    if not module or set(comments) == {module}:
        return [one if one.prefix is not None else one._replace(prefix=module) for one in of_message]
    named = [one for one in of_message if one.prefix is not None]
    if of_message and not named:
        search.warnings.append(
            f"the message of the day of {server.server} names p2psync://"
            f"{archive_text(of_message[0].url.archive)}, and does not say for which module; fetch that "
            "address itself if it is the archive that you mean"
        )
    return named
