"""``p2psync dht status``: what the running node's part of the DHT looks like, asked at its control socket."""

from __future__ import annotations

from typing import Any

import click

from p2psync.cli.command import Command
from p2psync.cli.options import Common, common_options
from p2psync.cli.output import Output
from p2psync.text import count, duration, size


@click.command("status", cls=Command)
@common_options
def command(common: Common) -> None:
    """Show the DHT of the node that runs here.

    Of the node on the state directory: its id and addresses, whether it serves others or is a client, its
    contacts by bucket, the records that it keeps for others, its traffic since it started, and what it
    dropped and why.
    """
    from p2psync.errors import FormatError
    from p2psync.state.ask import ask
    from p2psync.state.state import default_path

    path = (common.state_path or default_path()).absolute()
    answer = ask(path, "status")
    common.out.event("status", **answer)
    try:
        show_status(common.out, answer)
    except (KeyError, TypeError, ValueError):
        raise FormatError(
            f"the node that runs on {path} is of a version whose status cannot be shown; use --json"
        ) from None


def show_status(out: Output, answer: dict[str, Any]) -> None:
    """For people. Raises KeyError, TypeError or ValueError if something is missing or of another type."""
    from p2psync.cli.dht.outside import place
    from p2psync.ui.tables import Table, show

    if out.json:
        return
    dht, records, traffic = answer["dht"], answer["dht"]["records"], answer["dht"]["traffic"]
    out.result(
        f"node {dht['node']} ({dht['mode']}), p2psync {answer['version']}, process {answer['pid']}, up "
        f"{duration(answer['uptime'])}"
    )
    seen = ", ".join(str(place((host, port))) for host, port in dht["observed"].values())
    out.result(f"listens at {answer['listen']}; others see it at {seen or 'no address yet'}")
    for family, table in dht["tables"].items():
        buckets = Table(
            f"{family}: {count(table['contacts'], 'contact')}, {table['failing']} of them silent last time",
            ("SHARED BITS", "CONTACTS", "CANDIDATES", "LAST LOOKUP"),
            right=frozenset(range(4)),
        )
        for bucket in table["buckets"]:
            quiet = f"{duration(bucket['quiet'])} ago"
            row = (bucket["bits"], bucket["contacts"], bucket["candidates"], quiet)
            buckets.rows.append([str(cell) for cell in row])
        show(buckets)
    out.result(
        f"keeps {count(records['heads'], 'head')} and {count(records['holders'], 'holder record')} under "
        f"{count(records['holder_keys'], 'key')}"
    )
    company = answer.get("holders")
    if company is not None:
        out.result(
            f"knows {count(company['present'], 'other holder')} of what it announces; "
            f"{company['silent']} more did not answer last, and {company['withdrawn']} have left and said so"
        )
    out.result(
        f"received {count(traffic['datagrams_in'], 'datagram')}, {size(traffic['bytes_in'])}; sent "
        f"{traffic['datagrams_out']:,}, {size(traffic['bytes_out'])}"
    )
    out.result(
        f"served {count(traffic['requests_served'], 'request')}; {traffic['queries_answered']:,} of "
        f"{traffic['queries_sent']:,} own queries answered, {traffic['timeouts']:,} timed out, "
        f"{traffic['retransmissions']:,} sent twice"
    )
    lookups = dht["lookups"]
    if lookups["ended"]:
        mean, queries = lookups["seconds"] / lookups["ended"], lookups["queries"] / lookups["ended"]
        out.result(
            f"{count(lookups['ended'], 'lookup')}, on average {mean * 1000:.0f} ms and {queries:.1f} queries"
        )
    for title, counts in (("dropped datagrams", dht["drops"]), ("other events", dht["events"])):
        rows = [(reason, f"{number:,}") for reason, number in counts.items() if number]
        show(Table(title, ("REASON", "COUNT"), list(rows), right=frozenset({1})))
