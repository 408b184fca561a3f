"""Sending those who download a file by its path on to a mirror that has it: browsers, curl, wget, apt and
others that know nothing of p2psync, so that the publisher is relieved even of them.

Which mirrors have what is others' to find out; here it is decided who is sent where, and who is not:

- what is p2psync's own is answered here, and so is whatever does not say which program it is (p2psync does
not); - nobody is sent on twice: the address says that its reader was sent; - nobody is sent from TLS to
none, nor to an address that does not reach as far as his own.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple
from urllib.parse import quote_from_bytes

from aiohttp import web

from p2psync.content.ranges import select
from p2psync.format.listing import Entry
from p2psync.format.mirror_list import Mirror
from p2psync.format.url import archive_text, host_port
from p2psync.network.here import family_of, plain_ip
from p2psync_dht.scope import may_name

MARK: Final = "p2psync=redirected"
"""The query of an address that a reader was sent to."""
OTHERS_MAX: Final = 3
"""Further mirrors that an answer names (RFC 6249)."""


class Having(NamedTuple):
    """Who has a snapshot, and answers."""

    root: bytes
    """The digest of its root directory: what is shown may be a newer one by the time that somebody asks."""
    mirrors: Sequence[Mirror]


class Redirects:
    """Where readers of files are sent."""

    def __init__(self, smallest: int | None, chance: random.Random | None = None) -> None:
        """``smallest``: bytes of a file from which on its readers are sent to mirrors; None: never."""
        self.smallest = smallest
        self.mirrors: Mapping[bytes, Having] = {}
        """By archive, those that have the snapshot that is shown here."""
        self._chance = chance or random.Random()  # noqa: S311 - spreads load, guards nothing

    def answer(
        self, request: web.Request, archive: bytes, root: bytes, parts: Sequence[bytes], entry: Entry
    ) -> web.Response | None:
        """Where the reader of a file at a path is sent; None: he is served here. ``root``: of the snapshot
        that the file was found in.
        """
        having = self.mirrors.get(archive)
        if having is None or having.root != root:
            return None
        if self.smallest is None or entry.size < max(self.smallest, 1):
            return None
        if "User-Agent" not in request.headers or MARK in request.query_string or _is_secure(request):
            return None
        if _is_current(request, entry):
            return None
        urls = [
            f"http://{place}/{archive_text(archive)}/{_quoted(parts)}?{MARK}"
            for place in self.places(having.mirrors, parts, _client_of(request))
        ]
        if not urls:
            return None
        headers = {"Location": urls[0], "Cache-Control": "no-store"}
        named = [f"<{url}>; rel=duplicate; pri={rank}" for rank, url in enumerate(urls[: 1 + OTHERS_MAX], 1)]
        return web.Response(status=302, headers=headers | {"Link": ", ".join(named)})

    def places(self, mirrors: Sequence[Mirror], parts: Sequence[bytes], client: str) -> list[str]:
        """HOST:PORT of mirrors that have what is at a path, for a client at an IP address: those for its
        network before others, and of these each as often as its weight says.
        """
        found: list[tuple[bool, float, str]] = []
        for mirror in mirrors:
            near = mirror.near([client])
            has_it = mirror.parts is None or (bool(parts) and parts[0] in mirror.parts)
            if not has_it or not mirror.weight or (mirror.site and not near):
                continue
            reached = [place for place in mirror.places if place.ip and _reaches(client, place.ip)]
            if reached:
                # Weighted random order (Efraimidis and Spirakis 2006).
                chance = self._chance.random() ** (1 / mirror.weight)
                found.append((near, chance, host_port(reached[0].ip, reached[0].port)))
        return [place for _, _, place in sorted(found, reverse=True)]


def _reaches(client: str, ip: str) -> bool:
    """Whether a client at an address can be sent to another one."""
    return family_of(client) == family_of(ip) and may_name(client, ip)


def _client_of(request: web.Request) -> str:
    """The IP address of whoever asks; by way of a proxy on this machine, as that says."""
    seen = plain_ip(request.remote or "127.0.0.1")
    told = request.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip()
    if told and seen in ("127.0.0.1", "::1"):
        try:
            return plain_ip(told)
        except ValueError:
            return seen
    return seen


def _is_secure(request: web.Request) -> bool:
    """Whether it came within TLS, here or as far as a proxy."""
    return request.secure or request.headers.get("X-Forwarded-Proto", "http").lower() != "http"


def _is_current(request: web.Request, entry: Entry) -> bool:
    """Whether the reader has the file already: the answer is shorter than a way to it."""
    given = request.headers
    etag, modified = f'"{entry.digest.hex()}"', entry.mtime_ns // 1_000_000_000
    since, match = given.get("If-Modified-Since"), given.get("If-None-Match")
    chosen = select(entry.size, etag, modified, if_none_match=match, if_modified_since=since)
    return chosen.status == 304


def _quoted(parts: Sequence[bytes]) -> str:
    return "/".join(quote_from_bytes(part, safe="") for part in parts)
