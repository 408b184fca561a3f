"""Parameter types of the command line: addresses, rates, seconds, sources. They refuse early, with the
remedy.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

import click

from p2psync.config import DEFAULT_PORT, EVERYWHERE
from p2psync.errors import UsageError
from p2psync.rsync.units import parse_rate, parse_seconds, parse_size

if TYPE_CHECKING:
    from p2psync.daemon.policy import Who
    from p2psync.format.mirror_list import IpNetwork
    from p2psync.format.url import ArchiveUrl
    from p2psync.negotiate.origin import Origin

    _ParamType = click.ParamType[Any]
else:  # Generic only since click 8.4.
    _ParamType = click.ParamType

METRICS_PORT = 9730
RSYNC_PORT = 873
TLS_PORT = 443
THIS_MACHINE = "127.0.0.1"


class Address(NamedTuple):
    """A host name or IP address, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        from p2psync.format.url import host_port

        return host_port(*self)


class BareHost(Address):
    """A host that was named without a port: the default one, unless DNS has an SRV record of it."""

    __slots__ = ()


class Parsed(_ParamType):
    """A type made from a function that raises ValueError or UsageError."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except (ValueError, UsageError) as error:
            self.fail(str(error), param, ctx)


def parse_address(text: str) -> Address:
    """``HOST:PORT``, ``[IPv6]:PORT``, or a host alone for port 8730. Raises UsageError."""
    from p2psync.format.url import host_and_port

    return Address(*host_and_port(text, DEFAULT_PORT))


def parse_metrics(text: str) -> Address:
    """As an address; ``:PORT`` alone is on this machine only, and the default port is 9730."""
    from p2psync.format.url import host_and_port

    return Address(*host_and_port(f"{THIS_MACHINE}{text}" if text.startswith(":") else text, METRICS_PORT))


def parse_bootstrap(text: str) -> Address:
    """As an address; a ``BareHost`` where the port is missing."""
    if "://" in text:
        remedy = "one that is asked by HTTP goes with --source, and a list of nodes with --seeds"
        raise UsageError(f"{text!r} is no node to join the network by: give HOST:PORT; {remedy}")
    address = parse_address(text)
    return BareHost(*address) if text == address.host else address


def parse_seeds(text: str) -> str:
    """A file, URL or domain that has seeds, checked as far as it can be without its keys. Raises
    UsageError."""
    from p2psync.network.seeds.query import Kind, seed_query

    if seed_query(text, keys=(bytes(32),)).kind is Kind.FILE and not os.path.exists(text):
        raise UsageError(f"there is no seed list {text!r}")
    return text


def parse_seeds_key(text: str) -> bytes:
    """The key of a seed list, 32 bytes. Raises UsageError."""
    from p2psync.network.seeds.seedlist import parse_key

    return parse_key(text)


def parse_dns_server(text: str) -> str:
    """``IP[:PORT]`` of a DNS server. Raises UsageError."""
    from p2psync.network.seeds.query import parse_dns

    return parse_dns(text)


def parse_listen(text: str) -> Address:
    """As an address; ``:PORT`` alone listens everywhere, as ``[::]:PORT`` does."""
    return parse_address(f"[{EVERYWHERE}]{text}" if text.startswith(":") else text)


def parse_tls_listen(text: str) -> Address:
    """As an address; the default port is 443."""
    from p2psync.format.url import host_and_port

    return Address(*host_and_port(text, TLS_PORT))


def parse_rsync_listen(text: str) -> Address:
    """As where to listen; the default port is that of rsync daemons."""
    from p2psync.format.url import host_and_port

    return Address(*host_and_port(f"[{EVERYWHERE}]{text}" if text.startswith(":") else text, RSYNC_PORT))


def parse_source(text: str) -> str:
    """A source to begin with: ``HOST:PORT`` of a node, or the ``http(s)://`` URL of a node or of a web
    mirror.
    """
    scheme, separator, rest = text.partition("://")
    if scheme in ("http", "https") and rest.strip("/"):
        return text
    if scheme == "p2psync":
        raise UsageError(f"{text!r} is an archive and no source: a source is where to ask for it, HOST:PORT")
    if scheme == "rsync":
        raise UsageError(f"{text!r} is no source: p2psync cannot fetch from rsync servers; give HOST:PORT")
    if separator:
        raise UsageError(f"{text!r} is no source: give HOST:PORT, or the http(s):// URL of a web mirror")
    return str(parse_address(text))


def parse_archive(text: str) -> bytes:
    """The id, 32 bytes, in ``ID`` or ``p2psync://ID``. Raises UsageError."""
    from p2psync.format.url import ArchiveUrl, parse_archive_text

    return ArchiveUrl.parse(text).archive if "://" in text else parse_archive_text(text)


def parse_archive_part(text: str) -> ArchiveUrl:
    """An archive, or a part of it: as ``parse_url``, also ``ID[/PATH]`` alone. Raises UsageError."""
    from p2psync.format.url import ARCHIVE_TEXT_SIZE, SCHEME, ArchiveUrl, archive_text, parse_archive_text

    name, slash, path = text.partition("/")
    if "://" not in text and (not slash or len(name) == ARCHIVE_TEXT_SIZE):
        text = f"{SCHEME}://{archive_text(parse_archive_text(name))}{slash}{path}"
    return ArchiveUrl.parse(text)


def parse_url(text: str) -> ArchiveUrl:
    """Where an archive is found: ``p2psync://ID[/PATH][?peer=HOST:PORT&web=URL]``. Raises UsageError."""
    from p2psync.format.url import ArchiveUrl

    return ArchiveUrl.parse(text)


def parse_src(text: str) -> ArchiveUrl | Origin:
    """What to fetch: an archive's URL, or a place on a server of another kind. Raises UsageError."""
    if text.startswith("p2psync://"):
        return parse_url(text)
    from p2psync.negotiate.origin import is_origin, parse_origin

    return parse_origin(text) if is_origin(text) else parse_url(text)


def url_of(archive: bytes) -> str:
    """The URL of an archive, without hints."""
    from p2psync.format.url import archive_text

    return f"p2psync://{archive_text(archive)}"


class PathType(click.Path):
    """A ``pathlib.Path``, which --help loads nothing for."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from pathlib import Path

        return Path(os.fsdecode(super().convert(value, param, ctx)))


class Local(click.Path):
    """A path on this machine: ``HOST:PATH``, which is elsewhere in rsync, is refused (rsync(1), GENERAL).

    Where the path has to exist, one that does is taken, whatever its name.
    """

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and not (self.exists and os.path.exists(value)):
            wrong = not_local(value)
            if wrong is not None:
                self.fail(wrong, param, ctx)
        return super().convert(value, param, ctx)


def not_local(text: str) -> str | None:
    """Why a path cannot be one on this machine; None if it can."""
    if not text:
        return "it is empty, perhaps a variable without a value; write . for the current directory"
    if text.startswith("p2psync:"):
        return f"{text!r} is the address of an archive, where a directory on this machine is expected"
    if ":" in text.partition("/")[0]:
        return (
            f"{text!r} is on another machine, and p2psync works on this one alone: run it over there; a name "
            f"of something here that has a colon is written {shlex.quote('./' + text)}"
        )
    return None


class Which(Local):
    """An archive by its URL or its id, which is made bytes; else a directory, which need not be there any
    more. One that is called like an id is written ``./ID``.
    """

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and (value.startswith("p2psync://") or _is_id(value)):
            return ARCHIVE.convert(value, param, ctx)
        return super().convert(value, param, ctx)


def _is_id(text: str) -> bool:
    try:
        return bool(parse_archive(text))
    except UsageError:
        return False


def parse_words(text: str) -> tuple[str, ...]:
    """A command and its arguments, in words as a shell tells them apart (shlex)."""
    import shlex

    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise ValueError(f"{text!r} is no list of words ({error}); quote it as for a shell") from None
    if not words or not words[0]:
        raise ValueError("it names no program")
    return words


class RuleText(_ParamType):
    """A filter rule or pattern. In an environment variable, rules stand one a line, since they may hold
    spaces.
    """

    name = "rule"
    envvar_list_splitter = "\n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return str(value)


def parse_mirror(text: str) -> Who:
    """A mirror: its node's key, or where it is. Raises UsageError."""
    from p2psync.daemon.policy import parse_who

    return parse_who(text)


def parse_web_mirror(text: str) -> str:
    """The URL of a web server. Raises UsageError."""
    from p2psync.daemon.policy import parse_web

    return parse_web(text)


def parse_network_of(text: str) -> tuple[IpNetwork, Who]:
    """``NETWORK=WHO``. Raises UsageError."""
    from p2psync.daemon.policy import parse_network, parse_who

    network, separator, who = text.partition("=")
    if not separator:
        raise UsageError(f"{text!r} lacks the mirror: write NETWORK=WHO, such as 192.0.2.0/24=198.51.100.7")
    return parse_network(network), parse_who(who)


def parse_weight_of(text: str) -> tuple[Who, int]:
    """``WHO=NUMBER``. Raises UsageError."""
    from p2psync.daemon.policy import parse_who
    from p2psync.format.mirror_list import WEIGHT_MAX

    who, _, number = text.rpartition("=")
    if not (number.isascii() and number.isdigit() and len(number) < 5 and int(number) <= WEIGHT_MAX):
        raise UsageError(f"{text!r} has no weight: write WHO=NUMBER, with a number from 0 to {WEIGHT_MAX}")
    return parse_who(who), int(number)


ADDRESS = Parsed("host:port", parse_address)
BOOTSTRAP = Parsed("host:port", parse_bootstrap)
METRICS = Parsed("host:port", parse_metrics)
SEEDS = Parsed("file|url|domain", parse_seeds)
SEEDS_KEY = Parsed("key", parse_seeds_key)
DNS_SERVER = Parsed("ip:port", parse_dns_server)
LISTEN = Parsed("host:port", parse_listen)
TLS_LISTEN = Parsed("host:port", parse_tls_listen)
RSYNC_LISTEN = Parsed("host:port", parse_rsync_listen)


def parse_proxy(text: str) -> str:
    """The text of a proxy, which is checked; or of none. Raises UsageError."""
    from p2psync.network.proxy import DIRECT, Proxy

    if text != DIRECT:
        Proxy.parse(text)
    return text


PROXY = Parsed("url", parse_proxy)
SOURCE = Parsed("host:port|url", parse_source)
RATE = Parsed("rate", parse_rate)
SIZE = Parsed("size", parse_size)
WORDS = Parsed("command", parse_words)
SECONDS = Parsed("seconds", parse_seconds)
WEB_MIRROR = Parsed("url", parse_web_mirror)
WHO = Parsed("who", parse_mirror)
NETWORK_OF = Parsed("network=who", parse_network_of)
WEIGHT_OF = Parsed("who=number", parse_weight_of)
ARCHIVE = Parsed("archive", parse_archive)
ARCHIVE_PART = Parsed("src", parse_archive_part)
URL = Parsed("src", parse_url)
SRC = Parsed("src", parse_src)
DEST = Local(path_type=str)
WHICH = Which(path_type=str)
DEST_DIRECTORY = Local(file_okay=False, path_type=str)
DIRECTORY = Local(exists=True, file_okay=False, path_type=str)
RULE = RuleText()


class Consent(click.Option):
    """A switch that says yes to one run, and so is read from the command line alone: in a file or a variable
    it would say yes to every run, also to the one that nobody looked at.
    """

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        return None


def is_setting(param: click.Parameter) -> TypeGuard[click.Option]:
    """Whether it is an option that the configuration and the environment may set."""
    return isinstance(param, click.Option) and not isinstance(param, Consent)
