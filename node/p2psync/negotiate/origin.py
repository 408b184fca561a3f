"""A server of another kind, as SRC names it: rsync, rsync within TLS, the web, or a host alone. Pure.

    rsync://[USER@]HOST[:PORT]/MODULE/PATH   [USER@]HOST::MODULE/PATH   rsyncs://...   http(s)://...   HOST

Paths of rsync servers are taken as they stand (rsync(1) decodes nothing), those of web servers are
percent-encoded.
"""

from __future__ import annotations

import ipaddress
import os
import re
from enum import StrEnum
from typing import Final, NamedTuple
from urllib.parse import quote_from_bytes, unquote_to_bytes, urlsplit

from p2psync.errors import UsageError
from p2psync.format.limits import PATH_MAX
from p2psync.format.pack import FOLDERS, HEAD
from p2psync.format.url import bracketed, host_and_port
from p2psync.network.seeds.query import is_domain

HEAD_NAMES: Final = tuple(os.fsencode(f"{folder}/{HEAD}") for folder in FOLDERS)
"""Where the signed head lies in a tree that was published with it."""
LEVELS_MAX: Final = 8
"""Directories, from the first one on, of which each may be an archive's root: mirrored trees begin near the
top of a server, and each is asked for two names."""
_SAFE: Final = "/~!$&'()*+,;=:@"
_GLOB: Final = frozenset(b"*?[\\")
"""What makes a path a pattern, which an rsync server expands (rsync(1), ADVANCED USAGE)."""
_USER: Final = re.compile(r"[^\s/@:\-][^\s/@:]*")
_DOUBLE_COLON: Final = re.compile(r"(?P<host>(?:[^/@]*@)?(?:\[[^/\]]*\]|[^/:@]*))::(?P<path>.*)")


class Kind(StrEnum):
    """What speaks there."""

    RSYNC = "rsync"
    RSYNCS = "rsyncs"
    """rsync within TLS, as rsync-ssl(1) speaks it."""
    HTTP = "http"
    HTTPS = "https"
    HOST = "host"
    """Nothing is known but the name."""


PORTS: Final = {Kind.RSYNC: 873, Kind.RSYNCS: 874, Kind.HTTP: 80, Kind.HTTPS: 443, Kind.HOST: 0}
_SCHEMES: Final = {str(kind): kind for kind in (Kind.RSYNC, Kind.RSYNCS, Kind.HTTP, Kind.HTTPS)}


class Origin(NamedTuple):
    """A place on such a server. ``path``: bytes below the server's root, the module first, without slashes
    at its ends; ``inside``: a slash stood there.
    """

    kind: Kind
    host: str
    port: int
    path: bytes
    inside: bool = False
    user: str = ""

    @property
    def is_rsync(self) -> bool:
        return self.kind in (Kind.RSYNC, Kind.RSYNCS)

    @property
    def is_plain(self) -> bool:
        """Whether an rsync daemon speaks there that is heard without TLS."""
        return self.kind is Kind.RSYNC

    @property
    def is_web(self) -> bool:
        return self.kind in (Kind.HTTP, Kind.HTTPS)

    @property
    def module(self) -> bytes:
        """What an rsync server calls the first part of the path."""
        return self.path.partition(b"/")[0]

    @property
    def name(self) -> bytes:
        """The last part of the path; as rsync has it, what is copied below DEST is called so. b"" where the
        content of a directory is meant, or all of a module.
        """
        above, _, name = self.path.rpartition(b"/")
        return b"" if self.inside or (self.is_rsync and not above) else name

    @property
    def server(self) -> str:
        """Scheme, host and port, as a name that the server has in files and messages."""
        port = "" if self.port == PORTS[self.kind] else f":{self.port}"
        return f"{self.kind}://{bracketed(self.host)}{port}"

    def at(self, path: bytes) -> str:
        """The name of a place on the server, without blanks and always the same, to remember it by."""
        return f"{self.server}/{quote_from_bytes(path, safe=_SAFE)}".rstrip("/")

    def levels(self) -> list[bytes]:
        """Paths that may be the root of the archive, the first one nearest to the server's root: of an rsync
        server the module, and directories on the way to the path. None whose name is a pattern.
        """
        parts = self.path.split(b"/") if self.path else []
        made = [] if self.is_rsync else [b""]
        for end in range(1, len(parts) + 1):
            if _GLOB & set(parts[end - 1]):
                break
            made.append(b"/".join(parts[:end]))
        return made[:LEVELS_MAX]

    @property
    def is_pattern(self) -> bool:
        """Whether the path names several files by a pattern."""
        return self.is_rsync and bool(_GLOB & set(self.path))

    def url(self, path: bytes) -> str:
        """A place on the server as rsync takes it (for which ``rsyncs`` is another program's word), or a
        browser.
        """
        if not self.is_rsync:
            return f"{self.server}/{quote_from_bytes(path, safe=_SAFE)}"
        user = f"{self.user}@" if self.user else ""
        where = self.server.partition("://")[2]
        return f"rsync://{user}{where}/{os.fsdecode(path)}"

    def __str__(self) -> str:
        if self.kind is Kind.HOST:
            return self.host
        rest = self.url(self.path).partition("://")[2]
        return f"{self.kind}://{rest}" + ("/" if self.inside else "")


def is_origin(text: str) -> bool:
    """Whether SRC names such a server, and no archive. A host alone is one, unless it names a file here."""
    scheme, separator, _ = text.partition("://")
    if separator:
        return scheme.lower() in _SCHEMES
    if _DOUBLE_COLON.fullmatch(text):
        return True
    return (is_domain(text) or _is_ip(text)) and not os.path.lexists(text)


def parse_origin(text: str) -> Origin:
    """Raises UsageError: it is written wrongly."""
    if not text.isprintable():
        raise UsageError(f"{text!r} has characters that cannot be printed, which no address has")
    scheme, separator, rest = text.partition("://")
    if separator:
        kind = _SCHEMES[scheme.lower()]
        return _web(kind, text) if kind in (Kind.HTTP, Kind.HTTPS) else _rsync(kind, text, *_split(rest))
    doubled = _DOUBLE_COLON.fullmatch(text)
    if doubled is not None:
        return _rsync(Kind.RSYNC, text, doubled["host"], doubled["path"])
    return Origin(Kind.HOST, _host(text, text), 0, b"")


def _split(rest: str) -> tuple[str, str]:
    where, _, path = rest.partition("/")
    return where, path


def _rsync(kind: Kind, text: str, where: str, path: str) -> Origin:
    user, at, where = where.rpartition("@")
    if at and not _USER.fullmatch(user):
        raise UsageError(f"{text!r}: {user!r} is no user's name; a password goes into $RSYNC_PASSWORD")
    host, port = host_and_port(where, PORTS[kind])
    raw = os.fsencode(path)
    plain = raw.strip(b"/")
    if not plain:
        raise UsageError(f"{text!r} names no module; `rsync {text.rstrip('/')}/` lists those that there are")
    return Origin(kind, _host(host, text), port, _checked(plain, text), raw.endswith(b"/"), user)


def _web(kind: Kind, text: str) -> Origin:
    try:
        parts = urlsplit(text)
        port = PORTS[kind] if parts.port is None else parts.port
    except ValueError as error:
        raise UsageError(f"{text!r} is not a URL: {error}") from None
    if parts.username is not None or parts.query or parts.fragment or "?" in text or "#" in text:
        raise UsageError(f"{text!r}: name the directory alone, without user, ? and #")
    raw = unquote_to_bytes(parts.path)
    path = _checked(raw.strip(b"/"), text)
    return Origin(kind, _host(parts.hostname or "", text), port, path, bool(path) and raw.endswith(b"/"))


def _host(host: str, text: str) -> str:
    """A host's name in lower case, or an IP address. Raises UsageError."""
    if not host or host.startswith("-") or not (_is_ip(host) or is_domain(f"{host}.x")):
        raise UsageError(f"{text!r} names no host")
    return host.lower().removesuffix(".")


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _checked(path: bytes, text: str) -> bytes:
    parts = [part for part in path.split(b"/") if part]
    if len(path) > PATH_MAX or any(part in (b".", b"..") or b"\0" in part for part in parts):
        raise UsageError(
            f"{text!r}: its path leads elsewhere, or is too long; write it without the parts '.' and '..'"
        )
    return b"/".join(parts)
