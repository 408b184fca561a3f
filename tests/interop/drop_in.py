"""Runs rsync's command lines with the real rsync and with `p2psync rsync`, which asks a node."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.e2e.harness import need


class Ran(NamedTuple):
    """What came of a command line."""

    code: int
    out: str
    errors: str


class DropIn:
    """`p2psync rsync` with a state directory of its own; ``source`` is the node that it is told of."""

    def __init__(self, path: Path, source: str | None = None) -> None:
        self.state = path / "drop-in-state"
        self._env = {name: value for name, value in os.environ.items() if "P2PSYNC" not in name}
        self._env |= {
            "XDG_CONFIG_HOME": os.fspath(path / "config"),
            "PYTHONPATH": os.pathsep.join(sys.path),
            "P2PSYNC_RSYNC_STATE": os.fspath(self.state),
        }
        if source is not None:
            self._env["P2PSYNC_RSYNC_SOURCE"] = source
        self._env |= {"HOME": os.fspath(path)}

    def run(self, *words: object, program: tuple[str, ...] = (), cwd: Path | None = None, **env: str) -> Ran:
        """Run a command line by ``program``, by default `p2psync rsync`."""
        started = program or (sys.executable, "-m", "p2psync", "rsync")
        done = subprocess.run(
            [*started, *map(os.fspath, map(str, words))],
            env=self._env | env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            cwd=cwd,
            timeout=120,
        )
        return Ran(done.returncode, _text(done.stdout), _text(done.stderr))

    def real(self, *words: object, cwd: Path | None = None, **env: str) -> Ran:
        """Run it by the real rsync."""
        return self.run(*words, program=(need("rsync"),), cwd=cwd, **env)


def _text(raw: bytes) -> str:
    return raw.decode(errors="surrogateescape")
