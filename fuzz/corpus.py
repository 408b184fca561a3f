"""The inputs that are kept in the repository: few, and small, that reach together what a long run has
reached.

`python -m fuzz.corpus TARGET FOLDER` keeps those of a folder (of libFuzzer's -merge=1), the shortest first as
far as there is room. One file for each target, an input in base64 on each line.
"""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent / "corpus"
KEPT_MAX: Final = 48 << 10
"""Bytes of a target's inputs: what a run of ten minutes finds, and no more than a source file or two."""


def kept(name: str) -> list[bytes]:
    """The inputs of a target, or none."""
    path = FOLDER / f"{name}.txt"
    return [base64.b64decode(line) for line in path.read_text().splitlines()] if path.exists() else []


def keep(name: str, inputs: list[bytes]) -> int:
    """Keep these in place of those before; how many there was room for."""
    chosen: list[bytes] = []
    for each in sorted(set(inputs), key=lambda one: (len(one), one)):
        if sum(map(len, chosen)) + len(each) <= KEPT_MAX:
            chosen.append(each)
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.txt").write_text("".join(base64.b64encode(one).decode() + "\n" for one in chosen))
    return len(chosen)


def main() -> None:
    """Keep the inputs of a folder."""
    if len(sys.argv) != 3:
        raise SystemExit("usage: python -m fuzz.corpus TARGET FOLDER")
    inputs = [path.read_bytes() for path in Path(sys.argv[2]).iterdir()]
    print(f"{sys.argv[1]}: {keep(sys.argv[1], inputs)} of {len(inputs)} inputs kept")


if __name__ == "__main__":
    main()
