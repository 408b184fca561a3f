"""Measure the DHT against its targets, and the plain kademlia package beside it.

The network rows run on a virtual clock with a fixed seed, so their latencies and counts do not depend on
the machine. The rows about speed and memory are of this machine and process.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.dht import adversaries, days, local, network, package, poisoning, report
from bench.dht.figures import Figure, Note, Results

Row = Callable[[int, int, Note], None]
ROWS: dict[str, Row] = {
    "local": local.records,
    "hostile": adversaries.hostile,
    "sockets": local.sockets,
    "lookups": network.lookups,
    "sweep": network.sweep,
    "liars": adversaries.liars,
    "newcomers": adversaries.newcomers,
    "sybils": adversaries.sybils,
    "crowds": adversaries.crowds,
    "tables": poisoning.tables,
    "silent": poisoning.silent,
    "eclipse": poisoning.eclipse,
    "named": poisoning.named,
    "churn": network.churn,
    "day": days.day,
}
PACKAGE_ROWS: dict[str, Row] = {
    "package-local": package.local,
    "package-hostile": package.hostile,
    "package-lookups": package.lookups,
    "package-liars": package.liars,
    "package-sybils": package.sybils,
}


def main() -> int:
    """Measure, print the table, write it into the document if asked to; exit code 1 if a target was
    missed.
    """
    parser = argparse.ArgumentParser(prog="python -m bench.dht", description=__doc__)
    every = [*ROWS, *PACKAGE_ROWS]
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(every)}; all by default")
    parser.add_argument("--nodes", type=int, default=200, help="nodes of a network (200)")
    parser.add_argument(
        "--reads", type=int, default=300, help="reads of a row, three times those of the package (300)"
    )
    parser.add_argument("--churn-nodes", type=int, default=200, help="nodes of the days of churn (200)")
    parser.add_argument(
        "--results", type=Path, help="keep figures in this JSON file, and begin with those in it"
    )
    parser.add_argument("--write", type=Path, help="put the table into this document")
    parser.add_argument(
        "--only-report", action="store_true", help="measure nothing, report what is in --results"
    )
    options = parser.parse_args()
    results = Results(options.results)
    for name in [] if options.only_report else options.rows or every:
        if name not in every:
            parser.error(f"no row {name!r}; there are {', '.join(every)}")
        began = time.perf_counter()
        if name in ROWS:
            nodes = options.churn_nodes if name in ("churn", "day") else options.nodes
            ROWS[name](nodes, options.reads, partial(_note, results, "ours"))
        else:
            note = partial(_note, results, "package")
            PACKAGE_ROWS[name](options.nodes, max(1, options.reads // 3), note)
        print(f"# {name}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    print("\n".join(report.lines(results)))
    if options.write is not None:
        report.write(results, options.write)
    return 1 if any(results.not_met()) else 0


def _note(
    results: Results,
    side: str,
    name: str,
    value: float | None,
    detail: str = "",
    *,
    nodes: int = 0,
    count: int = 0,
) -> None:
    figure = Figure(value, detail, nodes, count)
    results.note(side, name, figure)
    print(
        f"# {side:<8} {name:<20} {value if value is not None else '-'} {detail}", file=sys.stderr, flush=True
    )


if __name__ == "__main__":
    sys.exit(main())
