"""``p2psync mirrors SRC``: who holds an archive, how much of it and how fresh."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from p2psync.cli.options import Common, Network, common_options, network_options
from p2psync.cli.types import URL, url_of
from p2psync.errors import FormatError
from p2psync.ui.text import duration

if TYPE_CHECKING:
    from p2psync.format.head import ArchiveHead
    from p2psync.format.url import ArchiveUrl
    from p2psync_dht import HolderRecord

HEADINGS = ("ADDRESS", "ROLE", "HOLDS", "SNAPSHOT", "EXPIRES IN")


@click.command("mirrors")
@click.argument("src", type=URL)
@network_options()
@common_options
def command(common: Common, network: Network, src: ArchiveUrl) -> None:
    """Show who holds an archive, how much of it and how fresh.

    These are the holders' own words, signed by them. What they send is verified when it is fetched.
    """
    from p2psync.cli.signals import run_async
    from p2psync.fetch import find_holders

    out = common.out
    with common.open_state() as state:
        bootstrap = tuple(map(str, network.bootstrap))
        found = run_async(find_holders(src, state, out.warn, sources=network.sources, bootstrap=bootstrap))
    holders = sorted(found.records, key=lambda record: (record.role, record.node_key))
    for record in holders:
        out.event("holder", **holder_fields(record))
    newest = found.head.seq if found.head is not None else None
    out.event("mirrors", archive=url_of(src.archive), seq=newest, holders=len(holders))
    for line in table([holder_row(record, found.head, time.time()) for record in holders]):
        out.result(line)
    if not holders:
        out.say("nobody is known to hold this archive")


def holder_fields(record: HolderRecord) -> dict[str, Any]:
    """A holder record as JSON fields; ``complete``, ``epoch`` and ``seq`` are null where it does not say."""
    from p2psync.format.coverage import Coverage
    from p2psync_dht import node_id_of

    claim: Coverage | None
    try:
        claim = Coverage.decode(record.payload)
    except FormatError:
        claim = None
    return {
        "node": node_id_of(record.node_key).hex(),
        "key": record.node_key.hex(),
        "role": record.role.name.lower(),
        "endpoints": [str(endpoint) for endpoint in record.endpoints],
        "complete": claim.complete if claim is not None else None,
        "epoch": claim.epoch if claim is not None else None,
        "seq": claim.seq if claim is not None else None,
        "issued": record.issued,
        "expires": record.expires,
    }


def holder_row(record: HolderRecord, head: ArchiveHead | None, now: float) -> tuple[str, ...]:
    """The columns of HEADINGS for one holder."""
    fields = holder_fields(record)
    holds = {True: "all", False: "part", None: "?"}[fields["complete"]]
    snapshot = "?"
    if fields["seq"] is not None:
        snapshot = str(fields["seq"])
        if head is not None and (fields["epoch"], fields["seq"]) < (head.epoch, head.seq):
            snapshot += f" (newest is {head.seq})"
    where = ", ".join(fields["endpoints"])
    return where, fields["role"], holds, snapshot, duration(max(0.0, record.expires - now))


def table(rows: list[tuple[str, ...]]) -> list[str]:
    """Columns of text under HEADINGS; nothing for no rows."""
    if not rows:
        return []
    lines = [HEADINGS, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
