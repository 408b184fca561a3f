"""Runs rsync's command lines with the real rsync and with `p2psync rsync`, which asks a node."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from tests.e2e.fork_server import forked
from tests.e2e.harness import need

NOBODY = 65534


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

    def run(
        self,
        *words: object,
        program: tuple[str, ...] = (),
        as_nobody: bool = False,
        **env: str,
    ) -> Ran:
        """Run a command line by ``program``, by default `p2psync rsync`, forked. ``as_nobody``: where root
        runs it, as a user without rights.
        """
        who = NOBODY if as_nobody and os.geteuid() == 0 else None
        argv = [str(word) for word in words]
        if not program:
            return self._forked(["rsync", *argv], self._env | env, who)
        done = subprocess.run(
            [*program, *argv],
            env=self._env | env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=120,
            user=who,
            group=who,
            extra_groups=None if who is None else [],
        )
        return Ran(done.returncode, _text(done.stdout), _text(done.stderr))

    def _forked(self, argv: list[str], env: dict[str, str], user: int | None) -> Ran:
        with tempfile.TemporaryFile() as errors:
            process = forked(argv, env, errors, user=user)
            with process.stdout as out:
                said = out.read()
            code = process.wait(120)
            errors.seek(0)
            return Ran(code, _text(said), _text(errors.read()))

    @property
    def environment(self) -> dict[str, str]:
        """What it is run with."""
        return dict(self._env)

    def real(self, *words: object, **env: str) -> Ran:
        """Run it by the real rsync."""
        return self.run(*words, program=(need("rsync"),), as_nobody=False, **env)


def _text(raw: bytes) -> str:
    return raw.decode(errors="surrogateescape")
