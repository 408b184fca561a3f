"""`python -m fuzz TARGET [libFuzzer options]`: run one target of `targets` or `formats` under atheris.

The corpus is kept in build/fuzz/TARGET and begins with the target's seeds; the input of a crash is left
beside it.
"""

from __future__ import annotations

import hashlib
import sys
from functools import partial
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["p2psync_dht", "p2psync"]):
    from fuzz import formats, targets

TARGETS = {one.__name__: one for one in (targets.datagram, targets.reply, targets.look, targets.record)}
TARGETS |= {name: partial(formats.check, name) for name in formats.FORMATS}
MAX_LENGTH = 1500  # bytes: a datagram is 1,200 at most, and a little more has to be refused


def main() -> None:
    """Write the seeds, and hand over to libFuzzer, which ends the process."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in TARGETS:
        raise SystemExit(f"usage: python -m fuzz {{{','.join(TARGETS)}}} [-max_total_time=SECONDS] ...")
    corpus = Path("build/fuzz") / name
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in (formats if name in formats.FORMATS else targets).seeds(name):
        (corpus / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    options = [f"-max_len={MAX_LENGTH}", f"-artifact_prefix={corpus.parent}/{name}-", *sys.argv[2:]]
    if all(option.startswith("-") for option in sys.argv[2:]):
        options.append(str(corpus))  # otherwise those inputs are run, once each
    atheris.Setup([sys.argv[0], *options], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
