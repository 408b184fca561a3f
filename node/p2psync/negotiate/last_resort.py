"""What nobody else has, from the rsync server that SRC named: whole files, by name.

They are no better than what any rsync brings. So they lie in a folder of their own, and are a source there
like others (``sources.local_tree``): only what is verified is put in place.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Final

from p2psync.errors import FileError, UsageError
from p2psync.format.paths import split
from p2psync.format.url import ArchiveUrl
from p2psync.negotiate.classic import KIB
from p2psync.negotiate.origin import Origin
from p2psync.negotiate.rsync import CONNECT_TIMEOUT, program_for

LIST: Final = b"list"
CAME: Final = b"came"
FILES: Final = b"files"
"""What is in the folder: the names that are asked for, what came, and that as it lies in the archive."""


async def fetch_files(
    origin: Origin,
    url: ArchiveUrl,
    names: Sequence[bytes],
    folder: bytes,
    *,
    bwlimit: int | None,
    silence: float,
) -> bytes:
    """Fetch files by their names below the origin's path, which is what ``url`` names, into ``folder``; the
    directory below which each then lies under its path in the archive. What does not come is left out: rsync
    tells why, on the standard error. ``bwlimit`` in bytes a second; ``silence``: seconds, 0 for any.

    Raises UsageError: rsync is not installed. FileError: the folder cannot be used.
    """
    program = program_for(origin)
    if program is None:
        raise UsageError(f"{origin.server} cannot be asked: rsync is not installed here; install it")
    # From the module on: rsync 3.5.0 does not find what --files-from names below a directory of it.
    at, inner = url.path, origin.path.partition(b"/")[2]
    if not url.inside and list(names) == [split(at)[1]]:  # It is a file, and not a directory.
        at, inner = split(at)[0], split(inner)[0]
    listed, came, files = (os.path.join(folder, name) for name in (LIST, CAME, FILES))
    try:
        os.mkdir(came)
        with open(listed, "xb") as stream:
            stream.writelines(os.path.join(inner, name) + b"\0" for name in names)
    except OSError as error:
        raise _unusable(folder, error) from error
    words = ["--whole-file", "--no-motd", f"--timeout={silence:.0f}", "--from0"]
    words += [f"--bwlimit={max(round(bwlimit / KIB), 1)}"] if bwlimit else []
    words += [f"--contimeout={CONNECT_TIMEOUT}"] if origin.is_plain else []
    process = await asyncio.create_subprocess_exec(
        program,
        *words,
        b"--files-from=" + listed,
        "--",
        origin.url(origin.module) + "/",
        came + b"/",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        await process.wait()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    try:
        place = os.path.join(files, at).rstrip(b"/")
        os.makedirs(os.path.dirname(place), exist_ok=True)
        if os.path.isdir(os.path.join(came, inner)):
            os.rename(os.path.join(came, inner).rstrip(b"/"), place)
    except OSError as error:
        raise _unusable(folder, error) from error
    return files


def _unusable(folder: bytes, error: OSError) -> FileError:
    return FileError(f"{os.fsdecode(folder)} cannot be used: {error.strerror}; set $TMPDIR to another place")
