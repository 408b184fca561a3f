"""Options for the way out: proxies, certificates, UDP. What they say holds for all that a command dials."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

from p2psync.cli.types import PROXY

F = TypeVar("F", bound=Callable[..., Any])


def egress_options(function: F) -> Callable[..., Any]:
    """``--proxy --no-proxy --ca-file --udp``; the command receives none of them."""

    @functools.wraps(function)
    def command(
        *args: Any,
        proxy: str | None,
        no_proxy: str | None,
        ca_file: str | None,
        udp: bool | None,
        **others: Any,
    ) -> Any:
        from p2psync.network.egress import egress_of, leaving_by

        way = egress_of(proxy=proxy, no_proxy=no_proxy, ca_file=ca_file, udp=udp)
        way.check()
        with leaving_by(way):
            return function(*args, **others)

    options = [
        click.option(
            "--proxy",
            type=PROXY,
            metavar="URL",
            help="Connect by this proxy, and never without: http://, https:// or socks5://[USER:PASSWORD@]"
            "HOST:PORT. none: by no proxy. Default: $https_proxy, $http_proxy, $all_proxy, $RSYNC_PROXY.",
        ),
        click.option(
            "--no-proxy",
            metavar="HOSTS",
            help="Reach these without a proxy: names, with all below them, addresses and networks, with "
            "commas between. Default: $no_proxy.",
        ),
        click.option(
            "--ca-file",
            type=click.Path(exists=True, dir_okay=False),
            metavar="FILE",
            help="Trust these certificates too (PEM), such as those of a proxy that opens TLS.",
        ),
        click.option(
            "--udp/--no-udp",
            default=None,
            help="Ask the DHT, or not. Default: where no proxy is used, since none carries UDP.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command
