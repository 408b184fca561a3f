"""Options that commands share, and where their values come from.

Precedence: command line, then ``P2PSYNC_<COMMAND>_<OPTION>``, then ``p2psync.toml``, then the default.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from p2psync.cli.egress_options import egress_options
from p2psync.cli.output import Output
from p2psync.cli.settings import configure
from p2psync.cli.types import (
    ADDRESS,
    BOOTSTRAP,
    DNS_SERVER,
    LISTEN,
    METRICS,
    RULE,
    SEEDS,
    SEEDS_KEY,
    SOURCE,
    Address,
    BareHost,
    PathType,
)
from p2psync.config import DEFAULT_PORT, EVERYWHERE

if TYPE_CHECKING:
    from pathlib import Path

    from p2psync.fetch.keywords import Asking
    from p2psync.network.seeds.query import SeedQuery
    from p2psync.state import State

F = TypeVar("F", bound=Callable[..., Any])

NODE_LISTEN = f"[{EVERYWHERE}]:{DEFAULT_PORT}"
FETCH_LISTEN = f"[{EVERYWHERE}]:0"
"""Port 0: a fetch may run beside a node."""


class Common(NamedTuple):
    """What every command has: where its state is and how it speaks."""

    state_path: Path | None
    out: Output

    def open_state(self) -> State:
        """Open the state directory, making it when needed. Raises FileError."""
        from p2psync.state import State

        return State.open(self.state_path)


class Network(NamedTuple):
    """Where to listen and whom to ask."""

    listen: Address
    bootstrap: tuple[Address | SeedQuery, ...]
    """As texts: addresses to join by, and sources of seeds."""
    sources: tuple[str, ...]
    dns: str | None = None
    """``HOST:PORT`` of the DNS server to ask; None for those of the system."""

    def asking(self) -> Asking:
        """As the client wants it."""
        return {"sources": self.sources, "bootstrap": tuple(map(str, self.bootstrap))}


def stack(function: F, *decorators: Callable[[F], F]) -> F:
    """Apply decorators so that the first is listed first in the help."""
    for decorator in reversed(decorators):
        function = decorator(function)
    return function


def common_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--state --config --json --quiet -v``; the command receives ``common: Common`` as its first
    argument.
    """

    @functools.wraps(function)
    def command(*args: Any, state: Path | None, json: bool, quiet: bool, verbose: int, **others: Any) -> Any:
        from p2psync.cli.environment import check_environment
        from p2psync.cli.logs import listen_to_logs

        check_environment(click.get_current_context())
        out = Output(json, quiet, verbose)
        listen_to_logs(out)
        return function(Common(state, out), *args, **others)

    return stack(
        command,
        click.option(
            "--state",
            type=PathType(file_okay=False, readable=False),
            metavar="DIR",
            help="Where keys, the index and what is known of the network are kept. Default: "
            "$STATE_DIRECTORY, else ~/.local/state/p2psync.",
        ),
        click.option(
            "--config",
            type=PathType(dir_okay=False),
            metavar="FILE",
            is_eager=True,
            expose_value=False,
            callback=configure,
            help="Read settings from FILE, and not from /etc/p2psync.toml and "
            "~/.config/p2psync/p2psync.toml.",
        ),
        click.option(
            "--json", is_flag=True, help="Print one JSON object per line on standard output, for programs."
        ),
        click.option("-q", "--quiet", is_flag=True, help="No progress and no summary."),
        click.option("-v", "--verbose", count=True, help="Say more, without a terminal too; -vv still more."),
    )


def network_options(
    *, listen: str | None = None, sources: bool = True
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """``--listen --bootstrap --seeds --seeds-key --dns --source``, and those of `egress_options`; the command
    receives ``network: Network``.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def command(*args: Any, bootstrap: tuple[Address, ...], **others: Any) -> Any:
            where = others.pop("listen", None) or Address(EVERYWHERE, 0)
            dns = others.pop("dns")
            ways = _ways_to_join(bootstrap, others.pop("seeds"), others.pop("seeds_key"), dns)
            network = Network(where, ways, others.pop("source", ()), dns)
            return function(*args, network=network, **others)

        decorators = [
            click.option(
                "--bootstrap",
                type=BOOTSTRAP,
                multiple=True,
                metavar="HOST:PORT",
                help="Join the network by this node; may be repeated. Needed once: nodes that were met are "
                "remembered.",
            ),
            *_seeds_options(),
        ]
        if listen is not None:
            described = "a free port" if listen.endswith(":0") else listen
            decorators.append(
                click.option(
                    "--listen",
                    type=LISTEN,
                    default=listen,
                    metavar="HOST:PORT",
                    help="Listen on this address, UDP and TCP: [::] is everywhere, 0.0.0.0 is IPv4 alone; "
                    f"port 0 picks a free one. Default: {described}.",
                )
            )
        if sources:
            decorators.append(
                click.option(
                    "--source",
                    type=SOURCE,
                    multiple=True,
                    metavar="HOST:PORT|URL",
                    help="Begin with this node or web mirror; may be repeated. It names others.",
                )
            )
        return stack(egress_options(command), *decorators)

    return decorate


def _seeds_options() -> list[Callable[[F], F]]:
    return [
        click.option(
            "--seeds",
            type=SEEDS,
            multiple=True,
            metavar="FILE|URL|DOMAIN",
            help="Join by the nodes of a signed list: a file, an https:// URL or a DNS name; may be "
            "repeated.",
        ),
        click.option(
            "--seeds-key",
            type=SEEDS_KEY,
            multiple=True,
            metavar="KEY",
            help="Believe only seed lists that this key signed; may be repeated. Default: the key that a "
            "source had when it was first asked.",
        ),
        click.option(
            "--dns",
            type=DNS_SERVER,
            envvar="P2PSYNC_DNS",
            metavar="IP[:PORT]",
            help="Ask this DNS server for seeds and archives. Default: the system's.",
        ),
    ]


def _ways_to_join(
    bootstrap: tuple[Address, ...], seeds: tuple[str, ...], keys: tuple[bytes, ...], dns: str | None
) -> tuple[Address | SeedQuery, ...]:
    """All that a node can join by. A host without a port may have an SRV record that names better ones."""
    if not seeds and not any(isinstance(address, BareHost) for address in bootstrap):
        return bootstrap
    from p2psync.network.seeds.query import Kind, SeedQuery, is_domain, seed_query

    named = [
        address.host for address in bootstrap if isinstance(address, BareHost) and is_domain(address.host)
    ]
    queries = [SeedQuery(Kind.SRV, host, dns=dns) for host in named]
    queries += [seed_query(text, keys, dns) for text in seeds]
    return (*bootstrap, *queries)


def advertise_option(function: F) -> F:
    """``--advertise``, for commands that run a node."""
    return click.option(
        "--advertise",
        type=ADDRESS,
        metavar="HOST:PORT",
        help="Tell others this address for content (TCP), where a router forwards another port to the node. "
        "Default: the address at which others see it.",
    )(function)


def metrics_option(function: F) -> F:
    """``--metrics``, for commands that run a node."""
    return click.option(
        "--metrics",
        type=METRICS,
        metavar="HOST:PORT",
        help="Answer /metrics (Prometheus) and /health at this address, which should be a local one such as "
        "127.0.0.1:9730. Default: nowhere.",
    )(function)


def filter_options(function: F) -> F:
    """``--filter --include --exclude`` and their files; the command receives ``rules``, in the order of the
    command line, and ``cvs_exclude`` and ``from0``.
    """
    return stack(
        function,
        _rule_option(
            "--filter", "RULE", "Add a filter rule of rsync, such as '- *.tmp'; may be repeated.", "-f"
        ),
        _rule_option("--include", "PATTERN", "Do not leave out what matches PATTERN; may be repeated."),
        _rule_option(
            "--exclude",
            "PATTERN",
            "Leave out what matches PATTERN; may be repeated. Of all rules the first that matches decides.",
        ),
        _rule_option(
            "--include-from",
            "FILE",
            "Take the patterns of --include from a file, one a line; - is the standard input.",
        ),
        _rule_option("--exclude-from", "FILE", "Take the patterns of --exclude from a file, one a line."),
        click.option(
            "--from0",
            "-0",
            is_flag=True,
            help="In files of patterns and of names, they are separated by NUL and not by the ends of lines.",
        ),
        click.option(
            "--cvs-exclude",
            "-C",
            is_flag=True,
            help="Leave out, after all other rules, what cvs ignores: its own list, that of ~/.cvsignore and "
            "of $CVSIGNORE. Files .cvsignore in the tree are not read.",
        ),
    )


def _rule_option(name: str, metavar: str, text: str, short: str | None = None) -> Callable[[F], F]:
    names = [name] if short is None else [name, short]
    return click.option(*names, type=RULE, multiple=True, metavar=metavar, help=text)
