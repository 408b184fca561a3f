"""Standard input, output and error as a program finds them: closed, full, or read by nobody any more.

Who starts programs may close all three (``>&-``). The next files that are opened would then get their
numbers, and what a library writes to "standard error" would land in one of them: so each gets /dev/null
instead.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from typing import Final, TextIO

UNWRITABLE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})
"""What a write to a file fails with."""


def open_streams() -> None:
    """Let there be all three, and let no name that is printed break one."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # Gets the smallest free number, which is this one.
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115 - for as long as the process lives
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # A terminal may not be UTF-8.


def is_of_output(error: BaseException) -> bool:
    """Whether standard output could not be written to: whoever works with files names them in what goes
    wrong.
    """
    return isinstance(error, OSError) and error.filename is None and error.errno in UNWRITABLE


def give_up(stream: TextIO) -> None:
    """Let what is still to be written go nowhere, also at the end, where Python would make a 120 of it."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
