"""Files that archive keys are read from and copied to: for their owner alone, never over anything else."""

from __future__ import annotations

import os
import stat
import sys
from typing import Final

from p2psync.cli.output import Output
from p2psync.errors import FileError, UsageError

KEY_FILE_MAX: Final = 64 << 10
"""Bytes; a PEM key has some 120, a larger file is something else."""


def read_key(out: Output, file: str) -> bytes:
    """What is in a file, or on standard input for "-". Raises FileError, UsageError."""
    try:
        if file == "-":
            data = sys.stdin.buffer.read(KEY_FILE_MAX + 1)
        else:
            with open(file, "rb") as stream:
                data = stream.read(KEY_FILE_MAX + 1)
                if b"PRIVATE KEY" in data:
                    _warn_readable(out, file, stream.fileno())
    except OSError as error:
        raise FileError(f"cannot read {file!r}: {error.strerror}") from None
    if len(data) > KEY_FILE_MAX:
        raise UsageError(f"{file!r} is larger than {KEY_FILE_MAX} bytes: that is no key")
    return data


def _warn_readable(out: Output, file: str, descriptor: int) -> None:
    """Say that others can read a private key."""
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode) and mode & (stat.S_IRGRP | stat.S_IROTH):
        out.warn(
            f"others on this machine can read the private key in {file!r}, and whoever does may publish with "
            "it: let its owner alone read it (chmod 600)"
        )


def write_key(out: Output, file: str, data: bytes) -> None:
    """Write a file that only its owner can read and that did not exist, or see that it holds the same; on
    disk when this returns. Raises FileError.
    """
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(descriptor)
    except FileExistsError:
        _see_that_it_holds(out, file, data)
    except OSError as error:
        raise FileError(f"cannot write {file!r}: {error.strerror}; name another file") from None


def _see_that_it_holds(out: Output, file: str, data: bytes) -> None:
    """Raises FileError: it is something else."""
    if not os.path.isfile(file):
        raise FileError(f"{file!r} exists already and is no file; name a new file for the copy")
    try:
        with open(file, "rb") as stream:
            if stream.read(len(data) + 1) == data:
                os.fsync(stream.fileno())
                _warn_readable(out, file, stream.fileno())
                return
    except OSError as error:
        raise FileError(
            f"{file!r} exists already, and what it holds cannot be seen ({error.strerror}); name a new file "
            "for the copy"
        ) from None
    raise FileError(
        f"{file!r} exists already and holds something else, which a key is not written over; name a new file "
        "for the copy"
    )
