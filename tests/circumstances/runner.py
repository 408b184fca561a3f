"""Runs p2psync commands in forks of itself: one JSON object a line says what and as whom, one answers.

What a command of root's loads is loaded here too from then on: a plain user might not be able to read where
Python is installed.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import signal
import sys
import tempfile
from typing import NoReturn

from tests.circumstances.limits import DEADLINE, PLAIN_USER


def main() -> None:
    """Answer until there is nothing more to read."""
    for line in sys.stdin:
        asked = json.loads(line)
        with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as loaded:
            child = os.fork()
            if not child:
                _run(asked["argv"], asked["plain"], asked["limit"], said.fileno(), loaded.fileno())
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            said.seek(0)
            loaded.seek(0)
            text = said.read().decode("utf-8", "backslashreplace")
            for name in loaded.read().decode().split():
                with contextlib.suppress(ImportError):
                    importlib.import_module(name)
        print(json.dumps({"code": code, "said": text}), flush=True)


def _run(argv: list[str], plain: bool, limit: int, said: int, loaded: int) -> NoReturn:
    from p2psync.cli.app import run

    for number in (0, 1, 2):
        os.dup2(said, number)
    signal.alarm(DEADLINE)
    os.chdir("/")
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    if plain:
        os.setgroups([])
        os.setresgid(PLAIN_USER, PLAIN_USER, PLAIN_USER)
        os.setresuid(PLAIN_USER, PLAIN_USER, PLAIN_USER)
    code = run(argv)
    sys.stdout.flush()
    sys.stderr.flush()
    if not plain:
        os.write(loaded, "\n".join(name for name in sys.modules if name != "__main__").encode())
    os._exit(code)


if __name__ == "__main__":
    main()
