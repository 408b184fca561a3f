"""``p2psync dht lookup KEY|URL``: follow one lookup, node by node, and see every copy that there is."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from p2psync.cli.command import Command
from p2psync.cli.dht.outside import milliseconds, outside, place
from p2psync.cli.options import Common, Network, common_options, network_options
from p2psync.cli.output import Output
from p2psync.cli.types import Parsed, parse_archive, parse_url, url_of
from p2psync.errors import UsageError
from p2psync.text import count

if TYPE_CHECKING:
    from p2psync_dht.trace import Step, Trace

KEY_DIGITS = 40
SHOWN_DIGITS = 8
"""Of a node id in a table; JSON has all of them."""


class Subject(NamedTuple):
    """What is looked up: an archive (32 bytes), or a key of the DHT as it is (20 bytes)."""

    archive: bytes | None
    key: bytes | None
    hints: tuple[str, ...] = ()
    """HOST:PORT of nodes that the URL names."""

    def key_for(self, holders: bool) -> bytes:
        """The key, of the archive's holders or of its head."""
        from p2psync_dht import head_key, holders_key

        if self.archive is None:
            return self.key or b""
        return holders_key(self.archive) if holders else head_key(self.archive)


def parse_subject(text: str) -> Subject:
    """40 hexadecimal digits are a key; all else is an archive. Raises UsageError."""
    if len(text) == KEY_DIGITS:
        try:
            return Subject(None, bytes.fromhex(text))
        except ValueError:
            raise UsageError(f"{text!r} is no key: a key is {KEY_DIGITS} hexadecimal digits") from None
    if "://" in text:
        url = parse_url(text)
        return Subject(url.archive, None, url.peers)
    return Subject(parse_archive(text), None)


@click.command("lookup", cls=Command)
@click.argument("subject", type=Parsed("key|url", parse_subject), metavar="KEY|URL")
@click.option("--holders", is_flag=True, help="Look for the holders of the archive, and not for its head.")
@network_options(sources=False)
@common_options
def command(common: Common, network: Network, subject: Subject, holders: bool) -> None:
    """Follow a lookup through the DHT, node by node.

    KEY|URL is an archive (p2psync://ID, or the ID alone) or 40 hexadecimal digits: any key of the DHT, or the
    id of a node. All nodes nearest to the key are asked, so that every copy is seen; other commands stop when
    enough nodes agree.

    HOP says how the node was found: 1 was known before, 2 was named by one of those, and so on. BITS is the
    distance to the key: each bit less is half as far. A silent node was asked twice; an open one had not
    answered when the lookup ended; a bad one answered without proof or without sense.
    """
    from p2psync.cli.signals import run_async
    from p2psync_dht.trace import trace_lookup
    from p2psync_dht.wire import Want

    out = common.out
    want = Want.HOLDERS if holders else Want.HEAD

    async def follow() -> Trace:
        async with outside(state, network, hints=subject.hints, archive=subject.archive) as node:
            key = subject.key_for(holders)
            return await trace_lookup(node, key, want, on_step=lambda step: _tell(out, step))

    with common.open_state() as state:
        trace = run_async(follow())
    _report(out, subject, trace, holders)


def _tell(out: Output, step: Step) -> None:
    """One node asked, for machines."""
    fields: dict[str, Any] = {
        "node": step.contact.id.hex(),
        "address": place(step.contact.address),
        "hop": step.hop,
        "from": step.teller.hex() if step.teller is not None else None,
        "bits": step.bits,
        "asked_after": round(step.asked_at, 6),
        "rtt": step.rtt,
        "resent": step.resent,
        "outcome": str(step.outcome),
        "contacts": step.told,
        "new": step.new,
        "invalid": step.invalid,
    }
    if step.head is not None:
        fields |= {"epoch": step.head.epoch, "seq": step.head.seq}
    if step.kept:
        fields |= {"holders": step.kept}
    out.event("asked", **fields)


def _report(out: Output, subject: Subject, trace: Trace, holders: bool) -> None:
    from p2psync.cli.holder_rows import holder_fields
    from p2psync.fetch.holders import Holder
    from p2psync.ui.tables import show
    from p2psync_dht.trace import Outcome

    for step in trace.steps:
        if step.outcome is Outcome.OPEN:
            _tell(out, step)
    for record in trace.holders:
        out.event("holder", **holder_fields(Holder.of(record)))
    best = trace.best
    outcomes = {str(outcome): trace.count(outcome) for outcome in Outcome}
    out.event(
        "looked_up",
        key=trace.key.hex(),
        archive=url_of(subject.archive) if subject.archive is not None else None,
        want="holders" if holders else "head",
        asked=len(trace.steps),
        **outcomes,
        copies=[{"epoch": e, "seq": s, "nodes": n} for (e, s), n in _copies(trace).items()],
        epoch=best.epoch if best is not None else None,
        seq=best.seq if best is not None else None,
        holders=len(trace.holders) - _withdrawn(trace),
        withdrawn=_withdrawn(trace),
        seconds=round(trace.seconds, 6),
        datagrams_out=trace.datagrams_out,
        datagrams_in=trace.datagrams_in,
    )
    if out.json:
        return
    show(_path_table(trace))
    if holders:
        show(_holders_table(trace))
    out.result(_found(trace, holders))
    said = ", ".join(f"{number} {outcome}" for outcome, number in outcomes.items() if number)
    out.result(
        f"{count(len(trace.steps), 'node')} asked in {milliseconds(trace.seconds)}: {said}; "
        f"{count(trace.datagrams_out, 'datagram')} sent, {trace.datagrams_in:,} received"
    )


def _withdrawn(trace: Trace) -> int:
    """How many of the records found say that a holder has left."""
    return sum(record.withdrawn for record in trace.holders)


def _copies(trace: Trace) -> dict[tuple[int, int], int]:
    """How many nodes gave a head, by its (epoch, sequence number), newest first."""
    heads = Counter((step.head.epoch, step.head.seq) for step in trace.steps if step.head is not None)
    return dict(sorted(heads.items(), reverse=True))


def _path_table(trace: Trace) -> Any:
    from p2psync.ui.tables import Table

    table = Table(
        f"key {trace.key.hex()}",
        ("HOP", "BITS", "NODE", "ADDRESS", "ANSWER", "RECORDS", "CONTACTS"),
        right=frozenset({0, 1, 4}),
    )
    for step in trace.steps:
        answer = str(step.outcome) if step.rtt is None else milliseconds(step.rtt)
        row = [str(step.hop), str(step.bits), step.contact.id.hex()[:SHOWN_DIGITS]]
        row += [place(step.contact.address) or "", answer, _records(step)]
        row.append(f"{step.told}, {step.new} new" if step.told else "")
        table.rows.append(row)
    return table


def _records(step: Step) -> str:
    """The records in an answer, for people."""
    parts = []
    if step.head is not None:
        parts.append(f"head ({step.head.epoch}, {step.head.seq})")
    if step.kept:
        parts.append(f"{len(step.holders)} of {count(step.kept, 'holder')}")
    if step.invalid:
        parts.append(f"{step.invalid} invalid")
    return ", ".join(parts)


def _holders_table(trace: Trace) -> Any:
    from p2psync.cli.holder_rows import HEADINGS, holder_row
    from p2psync.fetch.holders import Holder
    from p2psync.ui.tables import Table

    now = time.time()
    return Table("holders", HEADINGS, [holder_row(Holder.of(record), None, now) for record in trace.holders])


def _found(trace: Trace, holders: bool) -> str:
    """The result in one sentence."""
    if holders:
        keeping = sum(step.kept > 0 for step in trace.steps)
        gone = _withdrawn(trace)
        found = count(len(trace.holders) - gone, "holder")
        more = f" and {count(gone, 'withdrawal')}" if gone else ""
        return f"{found}{more} found, with records at {count(keeping, 'node')}"
    copies = [
        f"{number} of (epoch {epoch}, sequence number {seq})"
        for (epoch, seq), number in _copies(trace).items()
    ]
    return f"copies of the head: {', '.join(copies)}" if copies else "no node gave a head under this key"
