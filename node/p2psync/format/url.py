"""URLs of archives: ``p2psync://<52 characters of lower-case base32>[/path][?peer=HOST:PORT&web=URL]``. Pure.

The id is RFC 4648 base32 without padding, in lower case. The path is percent-encoded bytes. ``peer`` and
``web`` are hints where to begin: they are never trusted, since all that they give is verified under the id.
What is refused here is explained by ``mistakes``.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, quote, quote_from_bytes, unquote_to_bytes, urlsplit

from p2psync.errors import FormatError, UsageError
from p2psync.format import mistakes
from p2psync.format.limits import PATH_MAX
from p2psync.format.listing import check_name
from p2psync.format.paths import split

SCHEME: Final = "p2psync"
ARCHIVE_ID_SIZE: Final = 32
ARCHIVE_TEXT_SIZE: Final = 52
HINTS_MAX: Final = 32
"""Hints of each kind in one URL: more would be a list, not a hint."""
_SAFE: Final = "/~!$&'()*+,;=:@"
_NEVER_IN_A_HOST: Final = frozenset(' /?#@\\"<>[]')
"""What would end or change the host when it is put into a URL or a request."""


def archive_text(archive: bytes) -> str:
    """The 52 characters that stand for an archive id of 32 bytes."""
    return base64.b32encode(archive).decode().rstrip("=").lower()


def parse_archive_text(text: str) -> bytes:
    """The archive id that ``text`` stands for. Raises UsageError if it is none, or not the one way to write
    it.
    """
    try:
        archive = base64.b32decode(text.upper() + "====") if len(text) == ARCHIVE_TEXT_SIZE else b""
    except (binascii.Error, ValueError):
        archive = b""
    if len(archive) != ARCHIVE_ID_SIZE or archive_text(archive) != text:
        raise UsageError(mistakes.no_id(text))
    return archive


def host_and_port(text: str, default_port: int | None = None) -> tuple[str, int]:
    """Split ``HOST:PORT`` (IPv6 in brackets); IPv4 that is written as IPv6 is IPv4. Raises UsageError if it
    is not that, or the port is out of range.
    """
    host, colon, port = text.rpartition(":")
    if default_port is not None and (not colon or (host.count(":") > 0 and not host.endswith("]"))):
        host, port = text, str(default_port)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    port_ok = port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535
    if not host or not host.isprintable() or set(host) & _NEVER_IN_A_HOST or not port_ok:
        raise UsageError(
            f"{text!r} is not HOST:PORT (an IPv6 address stands in brackets, the port is below 65536)"
        )
    return _plain(host), int(port)


def _plain(host: str) -> str:
    """Without ``::ffff:`` before IPv4 (RFC 4291, section 2.5.5.2): one address has one spelling."""
    if host.count(":") > 1:
        import ipaddress  # noqa: PLC0415 - 3 ms, and few write addresses of IPv6

        with contextlib.suppress(ValueError):
            mapped = ipaddress.IPv6Address(host).ipv4_mapped
            return host if mapped is None else str(mapped)
    return host


def host_port(host: str, port: int) -> str:
    """``HOST:PORT``, an IPv6 address in brackets: what `host_and_port` splits."""
    return f"{bracketed(host)}:{port}"


def bracketed(host: str) -> str:
    """A host as it stands in a URL (RFC 3986, section 3.2.2)."""
    return f"[{host}]" if ":" in host else host


class ArchiveUrl(NamedTuple):
    """An archive, perhaps a path in it (b"" for all; no leading or trailing slash), and hints where to
    begin. ``inside``: what is in the directory at the path is meant, and not the directory itself; so says a
    slash at its end, as in rsync. Of a whole archive its content is always meant.
    """

    archive: bytes
    path: bytes = b""
    peers: tuple[str, ...] = ()
    webs: tuple[str, ...] = ()
    inside: bool = False

    @classmethod
    def parse(cls, text: str) -> ArchiveUrl:
        """Raises UsageError: not such a URL, or a path that leads out of the archive."""
        if not text.isprintable():
            # urlsplit would take line breaks out; bytes of a path that are not UTF-8 must be percent-encoded.
            raise UsageError(f"{text!r} is not a {SCHEME}:// URL: it has characters that cannot be printed")
        if not text.lower().startswith(f"{SCHEME}://"):
            raise UsageError(mistakes.no_url(text))
        try:
            parts = urlsplit(text)
            fields = parse_qsl(parts.query, keep_blank_values=True, max_num_fields=4 * HINTS_MAX)
        except ValueError as error:
            raise UsageError(f"{text!r} is not a {SCHEME}:// URL: {error}") from None
        if "#" in text:
            raise UsageError(mistakes.no_fragment(text))
        for name, value in fields:
            if name not in ("peer", "web") and (wrong := mistakes.bad_hint(name, value)) is not None:
                raise UsageError(wrong)
        whole = unquote_to_bytes(parts.path)
        path = whole.strip(b"/")
        check_path(path)
        peers = tuple(value for key, value in fields if key == "peer")
        webs = tuple(value for key, value in fields if key == "web")
        if len(peers) > HINTS_MAX or len(webs) > HINTS_MAX:
            raise UsageError(f"a URL with more than {HINTS_MAX} hints of one kind is not used")
        for peer in peers:
            try:
                host_and_port(peer)
            except UsageError as error:
                raise UsageError(f"of the hint peer={peer}: {error}") from None
        for web in webs:
            # A line break would end the request line that a client makes of it, and begin another.
            plain = web.isascii() and web.isprintable() and " " not in web
            if not plain or not web.startswith(("http://", "https://")):
                raise UsageError(f"the hint web={web!r} is not an http:// or https:// URL")
        return cls(_archive_of(parts.netloc), path, peers, webs, bool(path) and whole.endswith(b"/"))

    @property
    def inner(self) -> ArchiveUrl:
        """The same, with what is in the directory meant."""
        return self._replace(inside=bool(self.path))

    @property
    def name(self) -> bytes:
        """What the directory at the path is called below DEST; b"" where only its content is meant."""
        return b"" if self.inside else split(self.path)[1]

    def __str__(self) -> str:
        path = "/" + quote_from_bytes(self.path, safe=_SAFE) + "/" * self.inside if self.path else ""
        hints = [f"peer={quote(peer, safe=':[]')}" for peer in self.peers]
        hints += [f"web={quote(web, safe=':/[]')}" for web in self.webs]
        return f"{SCHEME}://{archive_text(self.archive)}{path}" + ("?" + "&".join(hints) if hints else "")


def _archive_of(netloc: str) -> bytes:
    """The archive that the part between ``//`` and the path names."""
    if len(netloc) > ARCHIVE_TEXT_SIZE and set(netloc) & {":", "@"}:
        raise UsageError(mistakes.no_host(netloc))
    return parse_archive_text(netloc)


def check_path(path: bytes) -> None:
    """Refuse a path below an archive's root that is too long or has a part that no name can be. Raises
    UsageError.
    """
    if len(path) > PATH_MAX:
        raise UsageError(f"a path of {len(path)} bytes is longer than {PATH_MAX}")
    if path:
        try:
            for part in path.split(b"/"):
                check_name(part)
        except FormatError:
            raise UsageError(f"{path!r} is not a path inside an archive") from None
