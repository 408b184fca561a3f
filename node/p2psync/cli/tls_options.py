"""Options for a node that serves within TLS."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from p2psync.cli.types import TLS_LISTEN, TLS_PORT, Address
from p2psync.config import EVERYWHERE
from p2psync.errors import UsageError

if TYPE_CHECKING:
    from p2psync.daemon.options import Tls

WHERE = f"[{EVERYWHERE}]:{TLS_PORT}"


def tls_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--tls-cert --tls-key --tls-listen``; the command receives ``tls: Tls | None``."""

    @functools.wraps(function)
    def command(
        *args: Any, tls_cert: str | None, tls_key: str | None, tls_listen: Address, **others: Any
    ) -> Any:
        return function(*args, tls=_tls(tls_cert, tls_key, tls_listen), **others)

    options = [
        click.option(
            "--tls-cert",
            type=click.Path(exists=True, dir_okay=False),
            metavar="FILE",
            help="Serve within TLS too, with this certificate and its chain (PEM). It is read again when it "
            "changes. Default: without.",
        ),
        click.option(
            "--tls-key",
            type=click.Path(exists=True, dir_okay=False),
            metavar="FILE",
            help="The key of --tls-cert (PEM, without a password). Default: in the same file.",
        ),
        click.option(
            "--tls-listen",
            type=TLS_LISTEN,
            default=WHERE,
            metavar="HOST:PORT",
            help=f"Where to serve within TLS. Default: {WHERE}.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _tls(certificate: str | None, key: str | None, listen: Address) -> Tls | None:
    from p2psync.daemon.options import Tls

    if certificate is None and key is not None:
        raise UsageError("--tls-key is the key of a certificate, which --tls-cert names")
    return None if certificate is None else Tls(certificate, key or certificate, listen)
