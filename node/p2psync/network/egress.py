"""How connections leave this machine: by which proxy, trusting whose certificates, and whether UDP may.

Whoever was told to use a proxy is never taken past it, so this holds for all that dials, and is no argument
that somebody could forget to hand on: it is that of the context (`contextvars`) in which a source is made,
and there, unless `leaving_by` says otherwise, what the environment says (curl(1), ENVIRONMENT).
"""

from __future__ import annotations

import contextlib
import logging
import os
import ssl
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from functools import cache
from typing import Final

from p2psync.errors import NetworkError, UsageError
from p2psync.network.proxy import DIRECT, NoProxy, Proxy
from p2psync.network.server import Server

log = logging.getLogger(__name__)

PLAIN: Final = ("http_proxy", "HTTP_PROXY")
"""Variables with the proxy for plain connections. The second is not looked at in a CGI program, where it is a
header that a stranger sent (httpoxy).
"""
TLS: Final = ("https_proxy", "HTTPS_PROXY")
ALL: Final = ("all_proxy", "ALL_PROXY")
RSYNC: Final = ("RSYNC_PROXY", "rsync_proxy")
"""rsync(1) knows the first; the second is in many people's files."""
EXCEPTIONS: Final = ("no_proxy", "NO_PROXY")
VARIABLES: Final = (*PLAIN, *TLS, *ALL, *RSYNC)


class Egress:
    """The way out.

    ``plain`` and ``tls`` are the proxies for connections without and with TLS, ``rsync`` the one for rsync;
    None: these are dialled directly. ``udp`` None: UDP is used where there is no proxy.
    """

    def __init__(
        self,
        plain: Proxy | None = None,
        tls: Proxy | None = None,
        rsync: Proxy | None = None,
        exceptions: NoProxy | None = None,
        *,
        udp: bool | None = None,
        ca_file: str | None = None,
    ) -> None:
        self._plain = plain
        self._tls = tls
        self._rsync = rsync
        self._exceptions = exceptions or NoProxy()
        self._udp = udp
        self._ca_file = ca_file
        self._said = False
        self.forwarded: set[int] = set()
        """Ports to which the proxy makes no tunnels: requests to servers there are handed to the proxy
        itself.
        """

    @property
    def proxy(self) -> Proxy | None:
        """The one that is named in messages, of several; None if there is none."""
        return self._tls or self._plain or self._rsync

    @property
    def udp(self) -> bool:
        """Whether UDP may be used: no proxy of these carries it."""
        return self.proxy is None if self._udp is None else self._udp

    def proxy_for(self, server: Server) -> Proxy | None:
        """By which proxy a server is reached; None: directly."""
        proxy = self._tls if server.tls else self._plain
        return None if proxy is None or self._exceptions.covers(server.host, server.port) else proxy

    def only(self, proxy: Proxy) -> Egress:
        """The same by one proxy alone, without exceptions."""
        return Egress(proxy, proxy, proxy, udp=self._udp, ca_file=self._ca_file)

    def rsync_proxy(self, host: str, port: int) -> Proxy | None:
        """By which proxy an rsync daemon is reached; None: directly."""
        proxy = self._rsync
        return None if proxy is None or self._exceptions.covers(host, port) else proxy

    @property
    def wants_udp(self) -> bool:
        """Whether UDP is asked for in so many words."""
        return self._udp is True

    @property
    def why_no_udp(self) -> str:
        """A clause that says why the DHT is not asked."""
        if self._udp is not None:
            return "the DHT is not asked by UDP, as --no-udp wants it"
        why = f"since the proxy {self.proxy} carries none (--udp asks all the same)"
        return f"the DHT is not asked by UDP, {why}"

    def say_no_udp(self) -> None:
        """Log it, once, unless it was wanted."""
        if not self._said and self._udp is None:
            self._said = True
            log.warning("%s", self.why_no_udp)

    @property
    def context(self) -> ssl.SSLContext:
        """For TLS, with certificates and names verified."""
        return _context(self._ca_file)

    def check(self) -> None:
        """Raises UsageError: the file of certificates cannot be used."""
        if self._ca_file is not None:
            _ = self.context


@cache
def _context(ca_file: str | None) -> ssl.SSLContext:
    """Trusts what the system trusts ($SSL_CERT_FILE, $SSL_CERT_DIR), and what is in ``ca_file``."""
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except OSError as error:  # ssl.SSLError is one: no certificates in it.
            why = "it has none" if isinstance(error, ssl.SSLError) else str(error.strerror or error)
            raise UsageError(
                f"no certificates can be read from {ca_file!r}: {why}; give a file in PEM format"
            ) from None
    return context


def egress_of(
    environ: Mapping[str, str] = os.environ,
    *,
    proxy: str | None = None,
    no_proxy: str | None = None,
    udp: bool | None = None,
    ca_file: str | None = None,
) -> Egress:
    """The way out that the arguments describe and, where they say nothing, the environment.

    ``proxy`` stands for all connections; ``none`` there is none, whatever the environment says. Where a
    variable names a proxy for one kind of connection alone, the other kinds use it too. Raises UsageError.
    """
    exceptions = NoProxy(_value(environ, EXCEPTIONS) if no_proxy is None else no_proxy)
    if proxy == DIRECT:
        return Egress(udp=udp, ca_file=ca_file)
    if proxy is not None:
        only = Proxy.parse(proxy)
        return Egress(only, only, only, exceptions, udp=udp, ca_file=ca_file)
    plain = _proxy(environ, PLAIN[:1] if "REQUEST_METHOD" in environ else PLAIN)
    tls, every, rsync = (_proxy(environ, names) for names in (TLS, ALL, RSYNC))
    return Egress(
        plain or every or tls or rsync,
        tls or every or plain or rsync,
        rsync or every or tls or plain,
        exceptions,
        udp=udp,
        ca_file=ca_file,
    )


def _value(environ: Mapping[str, str], names: tuple[str, ...]) -> str:
    """Of the first of some variables that is not empty."""
    return next((environ[name] for name in names if environ.get(name)), "")


def _proxy(environ: Mapping[str, str], names: tuple[str, ...]) -> Proxy | None:
    name = next((name for name in names if environ.get(name)), None)
    if name is None:
        return None
    try:
        return Proxy.parse(environ[name], encoded=name not in RSYNC or "://" in environ[name])
    except UsageError as error:
        raise UsageError(f"the environment variable {name}: {error}") from None


_CHOSEN: Final[ContextVar[Egress | None]] = ContextVar("p2psync egress", default=None)


@cache
def _of_environment(*values: str | None) -> Egress:
    return egress_of()


def egress() -> Egress:
    """The way out in this context. Raises UsageError: the environment names a proxy that is none."""
    chosen = _CHOSEN.get()
    if chosen is not None:
        return chosen
    names = (*VARIABLES, *EXCEPTIONS, "REQUEST_METHOD")
    return _of_environment(*(os.environ.get(name) for name in names))


@contextlib.contextmanager
def leaving_by(way: Egress | None) -> Iterator[None]:
    """Within the block `egress` is this one; None: as it was."""
    token = None if way is None else _CHOSEN.set(way)
    try:
        yield
    finally:
        if token is not None:
            _CHOSEN.reset(token)


def check_udp() -> None:
    """Raises NetworkError: UDP may not be used here, and so the DHT not be asked."""
    way = egress()
    if not way.udp:
        raise NetworkError(way.why_no_udp)
