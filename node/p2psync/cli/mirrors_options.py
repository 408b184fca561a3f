"""Which mirrors a node recommends: options of commands that run one, and the table ``[mirrors]`` of the
configuration.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from p2psync.cli.options import stack
from p2psync.cli.types import NETWORK_OF, SECONDS, SIZE, WEB_MIRROR, WEIGHT_OF, WHO


def mirrors_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--mirrors-allow --mirrors-deny ...``; the command receives ``policy: Policy``."""

    @functools.wraps(function)
    def command(*args: Any, **others: Any) -> Any:
        from p2psync.daemon.policy import Policy

        policy = Policy(
            allow=others.pop("mirrors_allow"),
            deny=others.pop("mirrors_deny"),
            max_lag=float(others.pop("mirrors_max_lag")),
            networks=others.pop("mirrors_network"),
            sites=others.pop("mirrors_site"),
            weights=others.pop("mirrors_weight"),
            web=tuple(dict.fromkeys(others.pop("mirrors_web"))),
            redirect=others.pop("mirrors_redirect"),
        )
        return function(*args, policy=policy, **others)

    return stack(
        command,
        click.option(
            "--mirrors-allow",
            type=WHO,
            multiple=True,
            metavar="WHO",
            help="Recommend, of the mirrors of what is published here, these alone; may be repeated. WHO is "
            "a node's key, an address, or a network such as 192.0.2.0/24.",
        ),
        click.option(
            "--mirrors-deny", type=WHO, multiple=True, metavar="WHO", help="Recommend all but these."
        ),
        click.option(
            "--mirrors-web",
            type=WEB_MIRROR,
            multiple=True,
            metavar="URL",
            help="Check this web server too, below which the tree of an archive is, and recommend it while "
            "it passes; may be repeated.",
        ),
        click.option(
            "--mirrors-max-lag",
            type=SECONDS,
            default="86400",
            metavar="SECONDS",
            help="Recommend none that has lacked the newest snapshot for longer. Default: 86400, a day.",
        ),
        click.option(
            "--mirrors-network",
            type=NETWORK_OF,
            multiple=True,
            metavar="NETWORK=WHO",
            help="Readers in NETWORK prefer this mirror; may be repeated.",
        ),
        click.option(
            "--mirrors-site",
            type=NETWORK_OF,
            multiple=True,
            metavar="NETWORK=WHO",
            help="The same, of a mirror that is for NETWORK alone, such as a campus.",
        ),
        click.option(
            "--mirrors-weight",
            type=WEIGHT_OF,
            multiple=True,
            metavar="WHO=NUMBER",
            help="How much a mirror is to be preferred, from 0 to 1000; others weigh 100.",
        ),
        click.option(
            "--mirrors-redirect",
            type=SIZE,
            metavar="SIZE",
            help="Send browsers, curl, wget, apt and the like, where they ask for a file of SIZE or more "
            "(64k, 10m; 0 for all) of what is published here, to a mirror that passes its checks and has the "
            "very snapshot. Default: nobody.",
        ),
    )
