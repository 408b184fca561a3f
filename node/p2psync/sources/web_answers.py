"""What the answers of plain web servers mean: gone, elsewhere, later, the same over there. Pure.

A web server belongs to anybody, and may have been changed by anybody on the way. Where it leads to is a
place to ask, as any other hint is; what comes from there is verified.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote, urljoin, urlsplit

from p2psync.sources.http.head import ResponseHead
from p2psync.sources.source import Later

GONE: Final = frozenset({403, 404, 410, 416})
"""Statuses that mean: the server is well, and this path is not (or not like this) on it. 403 is how many
servers hide a file."""
REDIRECTS: Final = range(300, 400)
REDIRECTS_MAX: Final = 5
"""Redirections that are followed for one file: from HTTP to HTTPS, to another name, to a mirror near by;
more go round in circles.
"""
URL_MAX: Final = 2048
"""Characters of a URL that is followed."""
BUSY: Final = frozenset({429, 503})
LATER_MAX: Final = 60.0
"""Seconds that a server may ask for by Retry-After; who asks for more is tried again all the same."""
LINKS_MAX: Final = 8
"""Links of one answer that are looked at."""
_LINK: Final = re.compile(
    r"<([^<>\s]{1,2048})>((?:\s*;\s*[!#$%&'*+.^_`|~0-9A-Za-z-]+\s*(?:=\s*(?:\"[^\"]*\"|[^\s;,\"]+))?)*)"
)
_RELATION: Final = re.compile(r";\s*rel\s*=\s*(?:\"([^\"]*)\"|([^\s;,\"]+))", re.IGNORECASE)


def url_path(url: str) -> str:
    """The path of a mirror's URL as a request has it, without a slash at the end."""
    return quote(urlsplit(url).path, safe="/%~!$&'()*+,;=:@").rstrip("/")


def elsewhere(url: str, location: str) -> str | None:
    """Where a server leads that was asked for ``url`` (RFC 9110, 10.2.2); None: nowhere that is followed.

    Not from TLS to none, and not from outside into this machine or its network, where the same request may
    mean something else.
    """
    try:
        found = urljoin(url, location)
        old, new = urlsplit(url), urlsplit(found)
        host, _ = new.hostname, new.port
    except ValueError:
        return None
    plain = (
        location and len(found) <= URL_MAX and found.isascii() and found.isprintable() and " " not in found
    )
    if not plain or new.scheme not in ("http", "https") or not host or "@" in new.netloc or new.port == 0:
        return None
    if (old.scheme, new.scheme) == ("https", "http"):
        return None
    if is_inner(host) and not is_inner(old.hostname or ""):
        return None
    return found.partition("#")[0]


def is_inner(host: str) -> bool:
    """Whether a host is this machine, or in a network that is not everybody's, as far as its name tells."""
    import ipaddress  # noqa: PLC0415 - 3 ms, and few are led elsewhere

    try:
        return not ipaddress.ip_address(host.partition("%")[0]).is_global
    except ValueError:
        return host == "localhost" or host.endswith((".localhost", ".local", ".internal"))


def base_of(url: str, path: str) -> str | None:
    """The URL of the tree in which ``url`` is the file at ``path`` (as a request has it); None if it cannot
    be one.
    """
    base = url.removesuffix(f"/{path}")
    return None if base == url or "?" in url or not urlsplit(base).netloc else f"{base}/"


def duplicates(url: str, path: str, head: ResponseHead) -> Iterator[str]:
    """The trees that a server names which was asked for ``url``, the file at ``path`` of its own, by
    ``Link: <…>; rel=duplicate`` (RFC 6249, section 3): they have the same file.
    """
    for number, link in enumerate(_LINK.finditer(head.headers.get("link", ""))):
        if number == LINKS_MAX:
            return
        relation = _RELATION.search(link[2])
        relations = (relation[1] or relation[2] or "").lower().split() if relation is not None else []
        found = elsewhere(url, link[1]) if "duplicate" in relations else None
        base = None if found is None else base_of(found, path)
        if base is not None:
            yield base


def later(name: str, head: ResponseHead, now: float) -> Later:
    """When a server that is busy wants to be asked again (RFC 9110, 10.2.3). ``now`` is in Unix seconds."""
    told = head.headers.get("retry-after", "")
    seconds = 0.0
    if told.isascii() and told.isdigit() and len(told) < 10:
        seconds = float(told)
    elif told:
        import email.utils  # noqa: PLC0415 - slow to load, and most say seconds

        try:
            seconds = email.utils.parsedate_to_datetime(told).timestamp() - now
        except (ValueError, OverflowError):
            seconds = 0.0
    seconds = min(max(seconds, 0.0), LATER_MAX)
    wish = f", and wants to be asked again in {seconds:.0f} s" if seconds else ""
    return Later(f"{name}: is busy (HTTP status {head.status}){wish}", seconds)
