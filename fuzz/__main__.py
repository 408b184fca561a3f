"""`python -m fuzz TARGET [libFuzzer options]`: run one target of `targets`, `streams`, `requests` or
`formats` under atheris.

The corpus grows in build/fuzz/TARGET and begins with the target's seeds and what is kept of earlier runs;
the input of a crash is left beside it.
"""

from __future__ import annotations

import hashlib
import shlex
import sys
from pathlib import Path
from typing import Final

import atheris

from fuzz.corpus import kept

with atheris.instrument_imports(include=["p2psync_dht", "p2psync"]):
    from fuzz import formats, requests, streams, targets

MAKERS: Final = (targets, streams, requests, formats)
TARGETS: Final = {name: (target, maker) for maker in MAKERS for name, target in maker.TARGETS.items()}
MAX_LENGTH = 1500  # bytes: a datagram is 1,200 at most, and a little more has to be refused


def main() -> None:
    """Write the seeds, and hand over to libFuzzer, which ends the process."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in TARGETS:
        raise SystemExit(f"usage: python -m fuzz {{{','.join(TARGETS)}}} [-max_total_time=SECONDS] ...")
    corpus = Path("build/fuzz") / name
    corpus.mkdir(parents=True, exist_ok=True)
    target, maker = TARGETS[name]
    for seed in [*maker.seeds(name), *kept(name)]:
        (corpus / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    options = [f"-max_len={MAX_LENGTH}", f"-artifact_prefix={corpus.parent}/{name}-", *sys.argv[2:]]
    if all(option.startswith("-") for option in sys.argv[2:]):
        options.append(str(corpus))  # otherwise those inputs are run, once each
    # libFuzzer runs itself, by a shell, where it merges corpora.
    atheris.Setup([shlex.join([sys.executable, "-m", "fuzz", name]), *options], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
