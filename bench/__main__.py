"""Measure publishing and fetching against their targets, beside the programs that a user would pick instead.

All contestants take turns on the same data, so that whatever else the machine does meets all of them; figures
are medians. Trust the ratios, not the seconds. What a contestant needs and lacks ends its row with an error,
not with a figure.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from bench import report
from bench.figures import Results
from bench.processes import BenchError
from bench.rows import ROWS
from bench.session import Options, Session
from bench.targets import KINDS


def main(argv: list[str] | None = None) -> int:
    """Measure, print the table, write it into the document if asked to. The exit code is 1 if a target was
    missed, 2 if a row failed.
    """
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}; all by default")
    parser.add_argument("--runs", type=int, default=5, help="runs of each, of which the median counts (5)")
    parser.add_argument("--scale", type=float, default=1.0, help="multiply sizes and counts by this (1)")
    parser.add_argument(
        "--large", action="store_true", help="memory of a file of 20 GiB and of 1,000,000 files"
    )
    parser.add_argument(
        "--only", action="append", metavar="CONTESTANT", help="only these, such as p2psync; repeatable"
    )
    parser.add_argument("--folder", type=Path, help="make data in this directory (the system's for such)")
    parser.add_argument("--results", type=Path, help="keep figures in this JSON file, beside those in it")
    parser.add_argument("--write", type=Path, help="put the table into this document, if --scale is 1")
    parser.add_argument("--only-report", action="store_true", help="measure nothing, report --results")
    options = parser.parse_args(argv)
    for name in options.rows:
        if name not in ROWS:
            parser.error(f"no row {name!r}; there are {', '.join(ROWS)}")
    results = Results(options.results)
    failed = (
        [] if options.only_report else measure(options.rows or list(ROWS), session_options(options), results)
    )
    print("\n".join(report.lines(results)))
    if options.write is not None and options.scale == 1:
        report.write(results, options.write)
    if failed:
        print(f"bench: failed: {', '.join(failed)}", file=sys.stderr)
        return 2
    missed = (kind.missed(figure) for kind in KINDS if (figure := results.figures.get((kind.row, kind.name))))
    return 1 if any(missed) else 0


def session_options(given: argparse.Namespace) -> Options:
    only = frozenset(given.only) if given.only else None
    return Options(given.runs, given.scale, given.large, only, given.folder)


def measure(rows: list[str], options: Options, results: Results) -> list[str]:
    """Measure rows one after the other; the names of those that failed, whose reasons were printed."""
    failed = []
    with ExitStack() as stack:
        session = Session(options, results, stack)
        for name in rows:
            began = time.perf_counter()
            session.begin(name)
            try:
                ROWS[name](session)
            except (BenchError, OSError, subprocess.SubprocessError) as error:
                failed.append(name)
                print(f"# {name}: failed: {error}", file=sys.stderr, flush=True)
            print(f"# {name}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    return failed


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # servers and data are removed
    sys.exit(main())
