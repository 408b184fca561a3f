"""Finds the real rsync, also where p2psync is installed under its name, and becomes it."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NoReturn

from p2psync.errors import FileError, UsageError

RSYNC: Final = "rsync"
HEAD_MAX: Final = 4096
"""Bytes of a program that are looked at: a script names what it runs near its beginning."""
PASSED_ON: Final = "_P2PSYNC_PASSED_ON"
"""Environment variable: how often a command line was passed on to a real rsync that turned out to be p2psync.
"""
PASSED_ON_MAX: Final = 4
"""Beyond it, each takes the other for the real one. rsync itself may run rsync once or twice (rsync-ssl)."""

OWN_ENVIRONMENT: Final = "/proc/self/environ"
"""What a process was started with (proc(5))."""


def find_rsync(name: str = RSYNC, environ: Mapping[str, str] = os.environ) -> str | None:
    """The path of the first program of that name on ``PATH`` that is not p2psync, or None."""
    return next((path for path in _on_path(name, environ) if not is_p2psync(path)), None)


def _on_path(name: str, environ: Mapping[str, str]) -> Iterator[str]:
    for folder in environ.get("PATH", os.defpath).split(os.pathsep):
        found = shutil.which(name, path=folder or os.curdir)
        if found is not None:
            yield found


def is_p2psync(path: str) -> bool:
    """Whether a program is p2psync under another name: a link to it, or a script that runs it."""
    try:
        with open(path, "rb") as program:
            head = program.read(HEAD_MAX)
    except OSError:
        return False  # Whoever runs it hears why.
    return (head.startswith(b"#!") and b"p2psync" in head) or _is_running(path)


def _is_running(path: str) -> bool:
    try:
        return os.path.samefile(path, sys.argv[0])
    except OSError:
        return False


def environment() -> dict[str, str]:
    """The environment that this process was started with: where nobody has said anything of characters,
    Python says UTF-8 to those that it starts (PEP 538), and rsync would then show names otherwise.
    """
    made = dict(os.environ)
    try:
        with open(OWN_ENVIRONMENT, "rb") as file:
            said = any(line.startswith(b"LC_CTYPE=") for line in file.read().split(b"\0"))
    except OSError:
        return made
    if not said:
        made.pop("LC_CTYPE", None)
    return made


def has_utf8(environ: Mapping[str, str]) -> bool:
    """Whether names are UTF-8 in the locale that is asked for (locale(7))."""
    asked = next((environ[key] for key in ("LC_ALL", "LC_CTYPE", "LANG") if environ.get(key)), "C")
    return asked.lower().replace("-", "").partition("@")[0].endswith("utf8")


def become_rsync(words: Sequence[str], program: str | None = None) -> NoReturn:
    """Be the real rsync from now on, with these words behind its name. Raises UsageError: there is none.
    FileError: it cannot be run.
    """
    found = program or find_rsync()
    if found is None:
        raise UsageError(
            "there is no rsync on PATH beside p2psync, and this command line is one for it: install it"
        )
    environ = environment()
    passed_on = int(environ.get(PASSED_ON, "0") or 0) + 1
    if passed_on > PASSED_ON_MAX:
        raise UsageError(f"{found} leads back to p2psync; name the real rsync with $P2PSYNC_RSYNC_PROGRAM")
    environ[PASSED_ON] = str(passed_on)
    sys.stdout.flush()
    sys.stderr.flush()
    # Python ignores these for itself, and what is ignored stays so in whatever it becomes (execve(2)).
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execve(found, [RSYNC, *words], environ)  # noqa: S606 - no shell is wanted
    except OSError as error:
        raise FileError(f"{found} cannot be run: {error.strerror}") from error
