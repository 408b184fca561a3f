"""``p2psync dht ping HOST:PORT``: whether a node answers, how fast, and whether it is who it says it is."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

import click

from p2psync.cli.command import Command
from p2psync.cli.dht.outside import milliseconds, place
from p2psync.cli.egress_options import egress_options
from p2psync.cli.options import Common, common_options
from p2psync.cli.output import Output
from p2psync.cli.types import ADDRESS, Address
from p2psync.errors import NetworkError, TrustError

if TYPE_CHECKING:
    from p2psync_dht.trace import PingReport, Pong

DEFAULT_COUNT = 5
MAX_COUNT = 1000


@click.command("ping", cls=Command)
@click.argument("address", type=ADDRESS, metavar="HOST:PORT")
@click.option(
    "--count",
    type=click.IntRange(1, MAX_COUNT),
    default=DEFAULT_COUNT,
    metavar="N",
    help=f"Send N pings. Default: {DEFAULT_COUNT}.",
)
@egress_options
@common_options
def command(common: Common, address: Address, count: int) -> None:
    """Ping a node of the DHT.

    Shows the round trips, the node's id and software, at which address it sees us, and whether it proved its
    id with its key. No network is joined: this works between any two machines that UDP passes between. The
    exit code is 10 if nobody answers, and 5 if the id was not proved.
    """
    from p2psync.cli.signals import run_async

    out = common.out
    report = run_async(ping(out, address, count))
    show(out, address, report)


async def ping(out: Output, address: Address, count: int) -> PingReport:
    """Ping a named or numeric address. Raises NetworkError: it cannot be resolved or sent to."""
    import asyncio
    import socket

    from p2psync.network.egress import check_udp
    from p2psync_dht import DhtNode, Identity
    from p2psync_dht.trace import ping_address

    check_udp()
    try:
        found = await asyncio.get_running_loop().getaddrinfo(*address, type=socket.SOCK_DGRAM)
        family, where = found[0][0], (str(found[0][4][0]), int(found[0][4][1]))
        everywhere = "::" if family == socket.AF_INET6 else "0.0.0.0"  # noqa: S104 - a client's own socket
        node = await DhtNode.start(Identity.generate(), everywhere, 0, server=False)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise NetworkError(f"{address} cannot be pinged: {reason}") from None
    async with node:
        return await ping_address(node, where, count=count, on_pong=lambda pong: _tell(out, pong))


def _tell(out: Output, pong: Pong) -> None:
    out.event("pong", rtt=pong.rtt, resent=pong.resent, verified=pong.verified)
    if pong.rtt is None:
        out.say("an answer that is none" if pong.bad else "no answer")
    else:
        out.say(milliseconds(pong.rtt) + (" (sent twice)" if pong.resent else ""))


def show(out: Output, address: Address, report: PingReport) -> None:
    """The result. Raises NetworkError: nobody answered. TrustError: somebody did, without proof of an id."""
    from p2psync_dht.wire import VERSION

    rtts, last = report.rtts, report.last
    bad = any(pong.bad for pong in report.pongs)
    out.event(
        "pinged",
        address=place(report.address),
        node=last.node_id.hex() if last is not None else None,
        verified=last is not None and last.verified,
        protocol=VERSION if last is not None else None,
        software=(last.agent or None) if last is not None else None,
        observed=place(last.observed) if last is not None else None,
        sent=len(report.pongs),
        answered=len(rtts),
        rtt_min=min(rtts, default=None),
        rtt_median=statistics.median(rtts) if rtts else None,
        rtt_max=max(rtts, default=None),
    )
    if last is None:
        if bad:
            raise TrustError(
                f"whoever answers at {address} is no node of this network, or cannot prove its id"
            )
        raise NetworkError(
            f"no node answers at {address}: it is down or not reachable, is a client, or UDP does not pass"
        )
    out.result(f"node {last.node_id.hex()} at {place(report.address)}, {last.agent or 'software unknown'}")
    out.result(
        f"{len(rtts)} of {len(report.pongs)} pings answered, round trip {milliseconds(min(rtts))} to "
        f"{milliseconds(max(rtts))}, median {milliseconds(statistics.median(rtts))}"
    )
    out.result(f"it sees us at {place(last.observed)}")
    if not last.verified:
        raise TrustError(f"the node at {address} did not prove its id: somebody may stand between it and us")
