"""Seed lists: signed TOML that names nodes to join a network by. Pure; where lists come from is ``ask``'s.

    # p2psync seed list
    version = 1
    issued = 2026-11-22T12:00:00Z
    expires = 2026-12-22T12:00:00Z
    seeds = ["boot1.example.org:8730", "192.0.2.7:8730"]
    #signature <key, 52 characters> <signature, 86 characters>

The last line is a comment for TOML and signs the bytes of all lines before it, as they are.
docs/spec/seeds.md has the rules and the reasons.
"""

from __future__ import annotations

import base64
import binascii
import datetime
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from p2psync.config import DEFAULT_PORT
from p2psync.errors import FormatError, P2psyncError, TrustError, UsageError
from p2psync.format.url import archive_text, host_and_port, host_port, parse_archive_text
from p2psync_dht import Identity, verify_signature

DOMAIN: Final = b"p2psync seeds v1"
"""Set apart from every other thing that a key of this program may sign."""
VERSION: Final = 1
LIST_MAX: Final = 16 << 10
"""Bytes of a list, signature included: 128 seeds with long names. It is read before anything of it is
known."""
SEEDS_MAX: Final = 128
"""Seeds of one list: a few that answer are enough, and each costs whoever joins a datagram."""
HOST_MAX: Final = 253
"""Characters of a host name (RFC 1035, section 2.3.4)."""
LIFETIME_MAX: Final = 400 * 86400
"""Seconds from issue to expiry: a list that nobody looks after for over a year names strangers' addresses."""
SKEW_MAX: Final = 3600
"""Seconds that an issuer's clock may be ahead of ours."""
DEPTH_MAX: Final = 8
"""Brackets that may be open at once: TOML's reader calls itself for each."""
LINE_BREAK: Final = "|"
"""Stands for a line break in a DNS TXT record; a list that is published there has no such character."""
TXT_STRING_MAX: Final = 255
"""Bytes of one character string of a TXT record (RFC 1035, section 3.3)."""

_SIGNATURE: Final = "#signature "


@dataclass(frozen=True, slots=True)
class SeedList:
    """What a list says. Times in Unix seconds."""

    seeds: tuple[str, ...]
    """``HOST:PORT``, IPv6 addresses in brackets."""
    issued: int = 0
    expires: int | None = None
    """None only in a file that its user wrote without a signature."""
    key: bytes | None = None
    """The Ed25519 public key that signed it (32 bytes); None: unsigned."""
    successor: bytes | None = None
    """The key that will sign later lists."""
    raw: bytes = b""

    def is_expired(self, now: float) -> bool:
        return self.expires is not None and self.expires <= now


def key_text(key: bytes) -> str:
    """52 characters of base32 for a key of 32 bytes, written as archive ids are."""
    return archive_text(key)


def parse_key(text: str) -> bytes:
    """The key of 32 bytes that ``text`` stands for. Raises UsageError."""
    try:
        return parse_archive_text(text)
    except UsageError:
        raise UsageError(
            f"{text!r} is not a key of seed lists: it should be the 52 characters that "
            "'p2psync seeds keygen' and 'p2psync seeds verify' print"
        ) from None


def sign(
    identity: Identity,
    seeds: Iterable[str],
    *,
    issued: int,
    expires: int,
    successor: bytes | None = None,
) -> bytes:
    """A signed list. Raises UsageError for what no reader would take."""
    lines = ["# p2psync seed list", f"version = {VERSION}"]
    lines += [f"issued = {_time_text(issued)}", f"expires = {_time_text(expires)}"]
    if successor is not None:
        lines.append(f'successor = "{key_text(successor)}"')
    listed = [_quoted(_seed(text)) for text in seeds]
    lines += ["seeds = [", *(f"  {text}," for text in listed), "]", ""]
    body = "\n".join(lines).encode()
    signature = base64.b64encode(identity.sign(body, domain=DOMAIN)).decode().rstrip("=")
    raw = body + f"{_SIGNATURE}{key_text(identity.public_key)} {signature}\n".encode()
    try:
        decode(raw, now=issued)
    except P2psyncError as error:
        raise UsageError(f"this makes no seed list: {error}") from None
    return raw


def decode(
    raw: bytes, *, now: float, keys: Iterable[bytes] | None = None, unsigned: bool = False
) -> SeedList:
    """Check a list and read it.

    ``keys``: one of them must have signed it; None: any key will do. ``unsigned``: a list without a signature
    will do. An expired list is returned: its readers know whether they have anything better.

    Raises:
        FormatError: not a seed list, or beyond a limit. TrustError: the signature is wrong, missing, or
            another's; the times are impossible.
    """
    if len(raw) > LIST_MAX:
        raise FormatError(f"a seed list of more than {LIST_MAX} bytes is not read")
    key = _check_signature(raw)
    if key is None and not unsigned:
        raise TrustError("the seed list is not signed")
    if keys is not None and key not in (allowed := tuple(keys)):
        signer = "nobody" if key is None else key_text(key)
        wanted = " or ".join(map(key_text, allowed))
        raise TrustError(f"the seed list is signed by {signer}, not by {wanted}")
    # Only now is anything of it looked at that its signer could not have written.
    table = _parse(raw)
    made = _read(table, key, raw)
    _check_times(made, now)
    return made


def text_for_dns(raw: bytes) -> list[str]:
    """The character strings of a TXT record that carries a signed list: its lines, joined by ``|``.

    Raises FormatError: a character of the list cannot stand there.
    """
    if LINE_BREAK.encode() in raw or not raw.isascii() or any(byte < 32 and byte != 10 for byte in raw):
        raise FormatError(f"a list with {LINE_BREAK} or with other than printable ASCII cannot stand in DNS")
    text = raw.decode("ascii").rstrip("\n").replace("\n", LINE_BREAK)
    return [text[at : at + TXT_STRING_MAX] for at in range(0, len(text), TXT_STRING_MAX)]


def from_dns(strings: Iterable[bytes]) -> bytes:
    """The list that the character strings of a TXT record carry. Raises FormatError: too large."""
    joined = b"".join(strings)
    if len(joined) > LIST_MAX:
        raise FormatError(f"a seed list of more than {LIST_MAX} bytes is not read")
    return joined.replace(LINE_BREAK.encode(), b"\n") + b"\n"


def _check_signature(raw: bytes) -> bytes | None:
    """The key that signed the list; None if it has no signature. Raises FormatError, TrustError."""
    body, found, last = raw.rpartition(_SIGNATURE.encode())
    if not found or (body and not body.endswith(b"\n")):
        return None
    words = last.split()
    try:
        key, signature = (word.decode("ascii") for word in words)
        key_bytes = parse_archive_text(key)
        signature_bytes = base64.b64decode(signature + "==", validate=True)
    except (ValueError, UsageError, binascii.Error):
        raise FormatError("the signature line of the seed list is damaged") from None
    if not verify_signature(key_bytes, DOMAIN, body, signature_bytes):
        raise TrustError("the signature of the seed list is wrong: it was changed after it was signed")
    return key_bytes


def _parse(raw: bytes) -> dict[str, Any]:
    depth = 0
    for byte in raw:
        depth += (byte in b"[{") - (byte in b"]}")
        if depth > DEPTH_MAX:
            raise FormatError("the seed list is nested too deeply")
    import tomllib  # noqa: PLC0415 - 10 ms, where there is a list to read

    try:
        return tomllib.loads(raw.decode("utf-8"))
    except UnicodeDecodeError:
        raise FormatError("the seed list is not UTF-8 text") from None
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise FormatError(f"the seed list is not TOML: {error}") from None


def _read(table: dict[str, Any], key: bytes | None, raw: bytes) -> SeedList:
    version = table.get("version", VERSION)
    if type(version) is not int or version != VERSION:
        raise FormatError(f"the seed list is of version {version!r}; this program knows {VERSION}: update it")
    seeds = table.get("seeds")
    if not isinstance(seeds, list) or not all(isinstance(text, str) for text in seeds):
        raise FormatError('the seed list has no list of texts "seeds"')
    if not 0 < len(seeds) <= SEEDS_MAX:
        raise FormatError(f"a seed list has 1 to {SEEDS_MAX} seeds, not {len(seeds)}")
    issued, expires = _time(table, "issued"), _time(table, "expires")
    if key is not None and (issued is None or expires is None):
        raise FormatError("a signed seed list says when it was issued and when it expires")
    try:
        checked = tuple(dict.fromkeys(_seed(text) for text in seeds))
        named = table.get("successor")
        successor = None if named is None else parse_key(str(named))
    except UsageError as error:
        raise FormatError(f"in the seed list, {error}") from None
    return SeedList(checked, issued or 0, expires, key, successor, raw)


def _check_times(made: SeedList, now: float) -> None:
    if made.key is None or made.expires is None:
        return
    if made.issued > now + SKEW_MAX:
        raise TrustError("the seed list was issued in the future; is the clock of this machine right?")
    if not 0 < made.expires - made.issued <= LIFETIME_MAX:
        raise TrustError(
            f"the seed list is valid for longer than {LIFETIME_MAX // 86400} days, or for no time"
        )


def _time(table: dict[str, Any], name: str) -> int | None:
    value = table.get(name)
    if value is None:
        return None
    if not isinstance(value, datetime.datetime) or value.tzinfo is None:
        raise FormatError(f'"{name}" in the seed list is not a time such as 2026-01-31T12:00:00Z')
    try:
        return int(value.timestamp())
    except (OverflowError, ValueError):
        raise FormatError(f'"{name}" in the seed list is a time that cannot be') from None


def _time_text(seconds: int) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _seed(text: str) -> str:
    """One seed as ``HOST:PORT``. Raises UsageError."""
    host, port = host_and_port(text, DEFAULT_PORT)
    if len(host) > HOST_MAX or not host.isascii() or not port or set(host) & set("|'`;,$%"):
        raise UsageError(f"{text[:HOST_MAX]!r} is not HOST:PORT (an international name stands as xn--...)")
    return host_port(host, port)


def _quoted(text: str) -> str:
    return f'"{text}"'
