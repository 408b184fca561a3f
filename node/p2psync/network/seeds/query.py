"""What to ask for seeds: a file, a URL or a DNS name, with the keys and the resolver that belong to it. Pure.

A ``SeedQuery`` travels as text among the addresses to join by (``HOST:PORT``), so that whatever passes
those on needs to know nothing of seeds.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from p2psync.errors import UsageError
from p2psync.format.url import host_and_port, host_port
from p2psync.network.seeds.seedlist import HOST_MAX, key_text, parse_key

SCHEME: Final = "seeds:"
URL_MAX: Final = 2048
"""Characters of a URL: far beyond what a list's address needs."""
KEYS_MAX: Final = 16
"""Keys that are allowed at once: the old and the new one of a few operators."""
DNS_PORT: Final = 53
_LABEL: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")


class Kind(StrEnum):
    """What a source of seeds is."""

    FILE = "file"
    URL = "url"
    DOMAIN = "domain"
    SRV = "srv"
    """A DNS name given as a bootstrap node: its SRV record only."""


@dataclass(frozen=True, slots=True)
class SeedQuery:
    """A source of seeds. ``name`` is the path, the URL or the domain in lower case."""

    kind: Kind
    name: str
    keys: tuple[bytes, ...] = ()
    """One of these must have signed the list; none: whichever key is met first is pinned."""
    dns: str | None = None
    """``HOST:PORT`` of the DNS server to ask; None: those of the system."""

    @property
    def source(self) -> str:
        """How messages and pins name it."""
        return self.name

    def __str__(self) -> str:
        fields = [("key", key_text(key)) for key in self.keys] + ([("dns", self.dns)] if self.dns else [])
        return f"{SCHEME}{self.kind}:{quote(self.name, safe='/:')}?{urlencode(fields)}"

    @classmethod
    def parse(cls, text: str) -> SeedQuery:
        """The inverse of ``str``. Raises UsageError."""
        kind, _, rest = text.removeprefix(SCHEME).partition(":")
        name, _, query = rest.partition("?")
        if not text.startswith(SCHEME) or kind not in list(Kind):
            raise UsageError(f"{text!r} names no source of seeds")
        fields = parse_qsl(query)
        keys = tuple(parse_key(value) for key, value in fields if key == "key")
        return cls(Kind(kind), unquote(name), keys, dict(fields).get("dns"))


def seed_query(text: str, keys: tuple[bytes, ...] = (), dns: str | None = None) -> SeedQuery:
    """What ``--seeds`` means. A text with a slash or that ends in ``.toml`` is a file.

    Raises UsageError: it is nothing of the kind, or an http:// URL without a key to check its list by.
    """
    if len(keys) > KEYS_MAX:
        raise UsageError(f"more than {KEYS_MAX} keys for seed lists are not used")
    if "://" in text:
        return SeedQuery(Kind.URL, _url(text, keys), keys, dns)
    if "/" in text or text.endswith(".toml"):
        return SeedQuery(Kind.FILE, text, keys, dns)
    if not is_domain(text):
        raise UsageError(
            f"{text!r} is no source of seeds: give a file (with a slash or .toml), an https:// URL, "
            "or a DNS name"
        )
    return SeedQuery(Kind.DOMAIN, text.lower().rstrip("."), keys, dns)


def split(texts: Iterable[str]) -> tuple[list[str], list[SeedQuery]]:
    """The addresses and the sources of seeds among the ways to join. Raises UsageError."""
    addresses: list[str] = []
    queries: list[SeedQuery] = []
    for text in texts:
        if text.startswith(SCHEME):
            queries.append(SeedQuery.parse(text))
        else:
            addresses.append(text)
    return addresses, queries


def is_domain(text: str) -> bool:
    """Whether a text is a DNS name of at least two labels, and no IP address."""
    labels = text.removesuffix(".").split(".")
    named = all(_LABEL.fullmatch(label) for label in labels)
    return len(text) <= HOST_MAX and len(labels) > 1 and named and not labels[-1].isdigit()


def parse_dns(text: str) -> str:
    """``HOST:PORT`` of a DNS server given by its IP address. Raises UsageError."""
    host, port = host_and_port(text, DNS_PORT)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise UsageError(
            f"{text!r} is no DNS server: give its IP address, with :PORT if that is not 53"
        ) from None
    return host_port(host, port)


def _url(text: str, keys: tuple[bytes, ...]) -> str:
    plain = text.isascii() and text.isprintable() and " " not in text and len(text) <= URL_MAX
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018 - checks it
    except ValueError:
        plain = False
    if not plain or parts.scheme not in ("https", "http") or not parts.hostname or "@" in parts.netloc:
        raise UsageError(f"{text[:URL_MAX]!r} is not an https:// URL of a seed list")
    if parts.scheme == "http" and not keys:
        raise UsageError(
            f"anybody on the way could replace the list at {text!r}: use https://, or name its key "
            "with --seeds-key"
        )
    return text
