"""``p2psync dht crawl``: how large the network is, what it runs, and how many of its contacts answer."""

from __future__ import annotations

import socket
import statistics
from typing import TYPE_CHECKING

import click

from p2psync.cli.command import Command
from p2psync.cli.dht.outside import milliseconds, outside, place
from p2psync.cli.options import Common, Network, common_options, network_options
from p2psync.cli.output import Output
from p2psync.text import count, duration, share

if TYPE_CHECKING:
    from p2psync_dht.crawl import Crawl, CrawledNode

# p2psync_dht.crawl's bounds and defaults, which --help does without.
DEFAULT_LIMIT, MAX_LIMIT = 2000, 100_000
DEFAULT_RATE, MAX_RATE = 100, 1000


@click.command("crawl", cls=Command)
@click.option(
    "--limit",
    type=click.IntRange(1, MAX_LIMIT),
    default=DEFAULT_LIMIT,
    metavar="N",
    help=f"Ask no more than N addresses. Default: {DEFAULT_LIMIT}.",
)
@click.option(
    "--rate",
    type=click.IntRange(1, MAX_RATE),
    default=DEFAULT_RATE,
    metavar="N",
    help=f"Send no more than N queries a second. Default: {DEFAULT_RATE}.",
)
@network_options(sources=False)
@common_options
def command(common: Common, network: Network, limit: int, rate: int) -> None:
    """Measure the network: its size, and what its nodes are.

    The size is estimated from how close nodes lie to some random keys, which works for any network. Then
    every node that is heard of is asked three times, for a proof of its id and for contacts near and far: how
    many answer, and with which version? A network of fewer nodes than --limit is thus counted in full.
    Clients answer nobody and are not counted.
    """
    from p2psync.cli.signals import run_async
    from p2psync_dht.crawl import crawl_network

    out = common.out

    async def walk() -> list[Crawl]:
        async with outside(state, network) as node:
            out.say(f"asking at most {limit:,} addresses, with {rate:,} queries a second")
            return await crawl_network(node, limit=limit, rate=rate, on_node=lambda found: _tell(out, found))

    with common.open_state() as state:
        for found in run_async(walk()):
            _report(out, found)


def _tell(out: Output, node: CrawledNode) -> None:
    out.event(
        "node",
        node=node.node_id.hex(),
        address=place(node.address),
        software=node.agent or None,
        rtt=node.rtt,
        contacts=node.told,
    )
    out.detail(f"{node.node_id.hex()} {place(node.address)} {node.agent} {milliseconds(node.rtt)}")


def _report(out: Output, found: Crawl) -> None:
    from p2psync.ui.tables import Table, show

    estimate, rtts = found.estimate, [node.rtt for node in found.nodes.values()]
    median = statistics.median(rtts) if rtts else None
    family = "IPv6" if found.family == socket.AF_INET6 else "IPv4"
    agents = found.agents.most_common()
    out.event(
        "crawled",
        family=family,
        nodes=len(found.nodes),
        complete=found.complete,
        asked=found.asked,
        silent=found.silent,
        unproved=found.unproved,
        skipped=found.skipped,
        reachable=round(found.reachable, 4),
        estimate=round(estimate.nodes, 1),
        estimate_low=round(estimate.low, 1),
        estimate_high=round(estimate.high, 1) if estimate.targets else None,
        software={agent or "unknown": number for agent, number in agents},
        rtt_median=median,
        seconds=round(found.seconds, 3),
    )
    if out.json:
        return
    rows = [
        ("nodes found", f"{len(found.nodes):,}" + ("" if found.complete else " (there are more)")),
        ("estimated nodes", _estimated(estimate.nodes, estimate.low, estimate.high, estimate.targets)),
        ("addresses asked", f"{found.asked:,}"),
        ("of them reachable", share(found.asked - found.silent - found.unproved, found.asked)),
        ("silent", f"{found.silent:,}"),
        ("without proof of an id", f"{found.unproved:,}"),
        ("heard of, not asked", f"{found.skipped:,}"),
        ("median round trip", milliseconds(median)),
        ("time taken", duration(found.seconds)),
    ]
    show(Table(f"network ({family})", ("WHAT", "VALUE"), list(rows)))
    software = [
        (agent or "unknown", count(number, "node"), share(number, len(found.nodes)))
        for agent, number in agents
    ]
    show(Table("software", ("SOFTWARE", "NODES", "SHARE"), list(software), right=frozenset({1, 2})))


def _estimated(nodes: float, low: float, high: float, targets: int) -> str:
    if not targets:
        return "unknown"
    return f"{nodes:,.0f} ({low:,.0f} to {high:,.0f} with 95 % probability)"
