"""Files that are replaced as a whole, so that a crash leaves the old one or the new one; and what is left of
those that were being written when their process was killed.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from pathlib import Path
from typing import Final

LEFT_AFTER: Final = 3600.0  # seconds after which nobody can be at work on a temporary file any more
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def temporary_of(path: Path) -> Path:
    """A name beside `path` for what is going to be there, which nobody else has."""
    return path.parent / f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}"


def sweep(path: Path) -> None:
    """Remove what writers of `path` left that were killed: each might be as large as the file."""
    ours = re.compile(rf"\.{re.escape(path.name)}\.[0-9]+\.[0-9a-f]{{8}}")
    with contextlib.suppress(OSError), os.scandir(path.parent) as entries:
        for entry in entries:
            if ours.fullmatch(entry.name):
                with contextlib.suppress(OSError):  # Another process has removed it, or it is none of ours.
                    if time.time() - entry.stat(follow_symlinks=False).st_mtime > LEFT_AFTER:
                        os.unlink(entry.path)


def replace(path: Path, data: bytes) -> None:
    """Replace `path` (mode 0600) so that a crash leaves the old file or the new one. Raises OSError."""
    sweep(path)
    temporary = temporary_of(path)
    try:
        with os.fdopen(os.open(temporary, _CREATE, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
