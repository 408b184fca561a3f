"""What ``fetch``, ``mirror`` and ``node`` say when a transfer is done and when a node serves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from p2psync.text import count, duration, rate, share, size

if TYPE_CHECKING:
    from p2psync.cli.output import Output
    from p2psync.daemon.options import Ready
    from p2psync.fetch.options import FetchSummary


def ready(out: Output) -> Ready:
    """What to call when a node serves."""

    def say(
        listen: Sequence[str],
        node: str,
        metrics: str | None,
        rsync: str | None = None,
        tls: str | None = None,
    ) -> None:
        further = {} if metrics is None else {"metrics": metrics}
        further |= {} if rsync is None else {"rsync": rsync}
        further |= {} if tls is None else {"tls": tls}
        out.event("ready", listen=listen[0], addresses=list(listen), node=node, **further)
        where = " and ".join(listen)
        also = "" if metrics is None else f", metrics at {metrics}"
        also += "" if rsync is None else f", rsync clients at {rsync}"
        also += "" if tls is None else f", within TLS at {tls}"
        out.say(f"node {node} serves at {where}{also}")

    return say


def report(out: Output, summary: FetchSummary, *, logged: bool = False) -> int:
    """Print the summary and the last event; returns the exit code. What is missing was warned about
    before. ``logged``: the command stays, and what it says goes into a log.
    """
    always = logged or bool(summary.exit_code or summary.banned)
    for line in describe(summary):
        out.summary(line, always=always)
    event = summary.as_event()
    out.event(event.pop("event"), **event)
    if out.on_summary is not None:
        out.on_summary(event, summary.exit_code)
    return summary.exit_code


def describe(summary: FetchSummary) -> list[str]:
    """The result for people: one line, and one more if anything was taken from several sources."""
    changed = "nothing"
    if summary.changed:
        changed = count(summary.changed, "file")
    elif summary.touched:
        changed = count(summary.touched, "name")
    head = f"snapshot {summary.seq}: {count(summary.files, 'file')}, {size(summary.bytes)}; changed {changed}"
    flow = [f"received {size(summary.received)}"]
    if summary.reused:
        flow.append(f"reused {size(summary.reused)}")
    if summary.deleted:
        flow.append(f"deleted {count(summary.deleted, 'name')}")
    if summary.sent:
        flow.append(f"given to others {size(summary.sent)}")
    speed = f" ({rate(summary.received / summary.seconds)})" if summary.seconds >= 1 else ""
    times = "" if summary.speedup is None else f"; speedup {summary.speedup:,.2f}"
    lines = [f"{head}; {', '.join(flow)} in {duration(summary.seconds)}{speed}{times}"]
    total = sum(summary.sources.values())
    if total:
        largest = sorted(summary.sources.items(), key=lambda item: item[1], reverse=True)
        lines.append("from " + ", ".join(f"{name} {share(sent, total)}" for name, sent in largest if sent))
    lacks = [
        f"{count(len(paths), 'path')} could not be {done}"
        for paths, done in ((summary.missing, "had"), (summary.failed, "put in place"))
        if paths
    ]
    if lacks:
        lines.append(f"NOT complete: {', '.join(lacks)}; run again")
    if summary.kept:
        lines.append(f"left alone: {count(len(summary.kept), 'name')} that the archive does not have")
    if summary.banned:
        lines.append(f"banned for wrong bytes: {', '.join(summary.banned)}")
    return lines
