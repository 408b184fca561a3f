"""Run the circumstances and print what came of them, as a table.

python -m tests.circumstances [--only WORD ...] [--places NAME ...] [--write FILE] [-v]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.circumstances.cases import CIRCUMSTANCES, Circumstance
from tests.circumstances.places import FILE_SYSTEMS, WITHOUT_MODES, Unavailable
from tests.circumstances.stage import Outcome, P2psync, Program, Rsync, clean
from tests.circumstances.table import Row, page


def main(argv: Sequence[str] | None = None) -> int:
    """Run them; 1 if p2psync did worse than rsync anywhere."""
    parser = argparse.ArgumentParser(prog="python -m tests.circumstances", description=__doc__)
    parser.add_argument("--only", nargs="*", default=[], metavar="WORD", help="those whose name has this")
    parser.add_argument("--places", nargs="*", default=list(FILE_SYSTEMS), choices=list(FILE_SYSTEMS))
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table into this page")
    parser.add_argument("-v", "--verbose", action="store_true", help="print what the programs said")
    options = parser.parse_args(argv)
    if os.geteuid():
        print("circumstances: this mounts file systems; run it as root", file=sys.stderr)
        return 2
    chosen = [each for each in CIRCUMSTANCES if not options.only or any(w in each.name for w in options.only)]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="circumstances-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with Rsync(folder).running() as rsync, P2psync(folder).running() as p2psync:
            for row in _run(chosen, options.places, folder, rsync, p2psync):
                rows.append(row)
                print(row.line(), flush=True)
                if options.verbose:
                    print(row.details(), flush=True)
    if options.write is not None:
        options.write.write_text(page(options.write.read_text(), rows))
    return 1 if any(row.worse for row in rows) else 0


def _run(
    chosen: Sequence[Circumstance], places: Sequence[str], folder: Path, rsync: Program, p2psync: Program
) -> Iterator[Row]:
    for circumstance in chosen:
        for place in circumstance.places:
            for plain in circumstance.plain:
                if place not in places:
                    continue
                try:
                    theirs = _outcome(circumstance, place, plain, folder, rsync)
                    ours = _outcome(circumstance, place, plain, folder, p2psync)
                except Unavailable as error:
                    print(f"{circumstance.name} on {place}: left out: {error}", file=sys.stderr)
                    continue
                yield Row(circumstance, place, plain, ours, theirs)


def _outcome(circumstance: Circumstance, place: str, plain: bool, folder: Path, program: Program) -> Outcome:
    own = Path(tempfile.mkdtemp(dir=folder))
    own.chmod(0o755)
    try:
        with FILE_SYSTEMS[place](own) as mounted:
            mounted.chmod(0o755)
            return circumstance.outcome(program, own, mounted, plain=plain, no_modes=place in WITHOUT_MODES)
    finally:
        clean(own)


if __name__ == "__main__":
    sys.exit(main())
