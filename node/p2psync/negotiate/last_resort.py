"""What nobody else has, from the rsync server that SRC named: whole files, by name, and the static files with
the metadata of an archive of which nobody tells the head.

They are no better than what any rsync brings. So they lie in a folder of their own, and are a source there
like others (``sources.local_tree``): only what is verified is put in place.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Final, TypedDict, Unpack

from p2psync.errors import FileError, UsageError, show_path
from p2psync.format.pack import FOLDERS
from p2psync.format.paths import split
from p2psync.format.url import ArchiveUrl
from p2psync.negotiate.classic import KIB
from p2psync.negotiate.origin import Origin
from p2psync.negotiate.rsync import CONNECT_TIMEOUT, environment_for, program_for

LIST: Final = b"list"
CAME: Final = b"came"
FILES: Final = b"files"
STATIC: Final = b"static"
"""What is in the folder: the names that are asked for, what came, and that as it lies in the archive; static
files.
"""
PACK_BYTES_MAX: Final = 1 << 30
"""Bytes of a static file that is fetched: the metadata of ten million files."""


class Waits(TypedDict):
    """What rsync is held to."""

    bwlimit: int | None
    """Bytes a second."""
    silence: float
    """Seconds in which nothing comes, after which it gives up; 0: never."""


async def fetch_files(
    origin: Origin,
    url: ArchiveUrl,
    names: Sequence[bytes],
    folder: bytes,
    **waits: Unpack[Waits],
) -> bytes:
    """Fetch files by their names below the origin's path, which is what ``url`` names, into ``folder``; the
    directory below which each then lies under its path in the archive. What does not come is left out: rsync
    tells why, on the standard error.

    Raises UsageError: rsync is not installed. FileError: the folder cannot be used.
    """
    program = _program(origin)
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
    words = ["--whole-file", "--from0", *_words(origin, waits)]
    await _run(
        origin, program, *words, b"--files-from=" + listed, "--", origin.url(origin.module) + "/", came + b"/"
    )
    try:
        place = os.path.join(files, at).rstrip(b"/")
        os.makedirs(os.path.dirname(place), exist_ok=True)
        if os.path.isdir(os.path.join(came, inner)):
            os.rename(os.path.join(came, inner).rstrip(b"/"), place)
    except OSError as error:
        raise _unusable(folder, error) from error
    return files


async def copy_folder(origin: Origin, dest: bytes, *, deletes: bool, **waits: Unpack[Waits]) -> int:
    """Bring the folder with the static files of the archive that ``origin`` is all of into ``dest``, as rsync
    does with any other; its exit code. Nothing of it is believed by whoever reads it there.

    Raises UsageError: rsync is not installed. FileError: it cannot be run, or ``dest`` is gone.
    """
    words = ["-rlpt", "--delay-updates", "--ignore-missing-args", *_words(origin, waits)]
    words += ["--delete-delay"] if deletes else []
    places = [origin.url(os.path.join(origin.path, os.fsencode(name))) for name in FOLDERS]
    program = _program(origin)
    try:
        before = os.stat(dest)
        code = await _run(origin, program, *words, "--", *places, dest + b"/")
        # The folder is no part of the archive, whose root has a time of its own.
        os.utime(dest, ns=(before.st_atime_ns, before.st_mtime_ns))
    except OSError as error:
        raise FileError(f"{show_path(dest)} cannot be worked in: {error.strerror}") from error
    return code


async def fetch_static(origin: Origin, url: ArchiveUrl, folder: bytes, **waits: Unpack[Waits]) -> bytes:
    """Fetch the static files of the archive ``url``, of which the origin is the part that ``url`` names; the
    directory below which they then lie as in the archive. For the rest see `fetch_files`.
    """
    program = _program(origin)
    root = origin.path
    if url.path:
        root = root.removesuffix(url.path).rstrip(b"/")
        if root + b"/" + url.path != origin.path:
            raise UsageError(f"{origin} names a part of {url}, and it is not known where all of it lies")
    came = os.path.join(folder, STATIC)
    try:
        os.mkdir(came)
    except OSError as error:
        raise _unusable(folder, error) from error
    words = ["-rt", "--ignore-missing-args", f"--max-size={PACK_BYTES_MAX}", *_words(origin, waits)]
    places = [origin.url(os.path.join(root, os.fsencode(name))) for name in FOLDERS]
    await _run(origin, program, *words, "--", *places, came + b"/")
    return came


def _program(origin: Origin) -> str:
    program = program_for(origin)
    if program is None:
        raise UsageError(f"{origin.server} cannot be asked: rsync is not installed here; install it")
    return program


def _words(origin: Origin, waits: Waits) -> list[str]:
    words = ["--no-motd", f"--timeout={waits['silence']:.0f}"]
    words += [f"--bwlimit={max(round(waits['bwlimit'] / KIB), 1)}"] if waits["bwlimit"] else []
    return words + ([f"--contimeout={CONNECT_TIMEOUT}"] if origin.is_plain else [])


async def _run(origin: Origin, *argv: str | bytes) -> int:
    """Run rsync to its end; its exit code. What it tells goes to the standard error. Raises NetworkError: a
    proxy is to be used that rsync cannot use.
    """
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        env=environment_for(origin),
    )
    try:
        return await process.wait()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


def _unusable(folder: bytes, error: OSError) -> FileError:
    return FileError(f"{os.fsdecode(folder)} cannot be used: {error.strerror}; set $TMPDIR to another place")
