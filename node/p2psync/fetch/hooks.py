"""Commands of the user's that are run before and after each update of a mirror.

Before a mirror is looked at, ``before`` is run; where it fails, nothing is done. Afterwards exactly one of
the others is: ``after`` where the mirror has all of the newest snapshot, whether anything had changed or
not, ``failed`` where it has not. They are programs with arguments, and no shell looks at them. What they
are to know is in their environment (`VARIABLES`). An update that is stopped, with its process, is followed
by none.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Final, NamedTuple

from p2psync.errors import DeleteLimitError, HookError, P2psyncError
from p2psync.fetch.options import FetchSummary
from p2psync.format.url import ArchiveUrl
from p2psync.text import clean_text

TIMEOUT: Final = 60.0
"""Seconds for a command, unless the user says otherwise."""
GRACE: Final = 5.0
"""Seconds from SIGTERM to SIGKILL for one that is too slow, and for its output once it has ended: what it
left running may keep that open.
"""
OUTPUT_MAX: Final = 16 << 10
"""Bytes of a command's output that are told, on both channels together; the rest is read and dropped."""
VALUE_MAX: Final = 4096
"""Characters of a sentence in the environment: what an archive is called in it is not the user's choice."""
VARIABLES: Final = (
    "P2PSYNC_HOOK",
    "P2PSYNC_ARCHIVE",
    "P2PSYNC_DIR",
    "P2PSYNC_SEQ",
    "P2PSYNC_RESULT",
    "P2PSYNC_EXIT",
    "P2PSYNC_CHANGED",
    "P2PSYNC_DELETED",
    "P2PSYNC_RECEIVED",
    "P2PSYNC_ERROR",
)
"""What a command finds in its environment beside everything that this process has there."""

Argv = tuple[str, ...]


class Hooks(NamedTuple):
    """What is run; nothing where a list is empty."""

    before: Argv = ()
    after: Argv = ()
    failed: Argv = ()
    timeout: float = TIMEOUT
    """Seconds that each may take; 0: any number."""


NONE: Final = Hooks()


class Updated(NamedTuple):
    """Which mirror is updated."""

    archive: bytes
    directory: bytes
    seq: int
    """The snapshot that it has; 0: none."""


async def with_hooks(
    hooks: Hooks,
    mirror: Updated,
    update: Callable[[], Awaitable[FetchSummary]],
    warn: Callable[[str], None],
    detail: Callable[[str], None],
) -> FetchSummary:
    """Run ``update``, between the commands. ``detail`` hears their output, ``warn`` what went wrong with
    those that come afterwards.

    Raises HookError: the command before failed, so that nothing was updated. P2psyncError: the update failed.
    """
    about = {
        "ARCHIVE": str(ArchiveUrl(mirror.archive)),
        "DIR": os.fsdecode(mirror.directory),
        "SEQ": str(mirror.seq),
    }
    problem = await _run("before", hooks.before, about, hooks.timeout, detail)
    if problem is not None:
        raise HookError(f"{problem}; nothing was updated")
    try:
        done = await update()
    except P2psyncError as error:
        result = "refused" if isinstance(error, DeleteLimitError) else "failed"
        told = {"RESULT": result, "EXIT": str(error.exit_code), "ERROR": clean_text(str(error))[:VALUE_MAX]}
        await _afterwards("failed", hooks.failed, about | told, hooks.timeout, warn, detail)
        raise
    changed = "changed" if done.changed or done.deleted or done.touched else "unchanged"
    told = {
        "RESULT": changed if done.complete else "partial",
        "EXIT": str(done.exit_code),
        "SEQ": str(done.seq),
        "CHANGED": str(done.changed),
        "DELETED": str(done.deleted),
        "RECEIVED": str(done.received),
    }
    name, argv = ("after", hooks.after) if done.complete else ("failed", hooks.failed)
    await _afterwards(name, argv, about | told, hooks.timeout, warn, detail)
    return done


async def _afterwards(
    name: str,
    argv: Argv,
    about: Mapping[str, str],
    seconds: float,
    warn: Callable[[str], None],
    detail: Callable[[str], None],
) -> None:
    problem = await _run(name, argv, about, seconds, detail)
    if problem is not None:
        warn(problem)


async def _run(
    name: str, argv: Argv, about: Mapping[str, str], seconds: float, detail: Callable[[str], None]
) -> str | None:
    """Run a command to its end; what went wrong, as a clause."""
    if not argv:
        return None
    called = f"the command of the hook {name!r}, {clean_text(argv[0])},"
    told = {f"P2PSYNC_{key}": value.replace("\0", "") for key, value in about.items()} | {
        "P2PSYNC_HOOK": name
    }
    inherited = {key: value for key, value in os.environ.items() if key not in VARIABLES}
    async with _output() as (end, heard):
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=subprocess.DEVNULL,
                stdout=end,
                stderr=end,
                env=inherited | told,
                start_new_session=True,  # So that what it starts can be ended with it.
            )
        except (OSError, ValueError) as error:
            return f"{called} could not be started: {getattr(error, 'strerror', None) or error}"
        finally:
            os.close(end)
        late = False
        try:
            async with asyncio.timeout(seconds or None):
                await process.wait()
        except TimeoutError:
            late = True
        finally:
            await _end(process)
        await asyncio.wait([heard], timeout=GRACE)
    lines = heard.result().decode("utf-8", "replace").splitlines()
    lines = [clean_text(line) for line in lines if line.strip()]
    for line in lines:
        detail(f"hook {name}: {line}")
    last = f" ({lines[-1]})" if lines else ""
    if late:
        return f"{called} took longer than {seconds:.0f} seconds and was ended{last}"
    if process.returncode:
        how = f"ended with {process.returncode}"
        if process.returncode < 0:
            how = f"was ended by signal {-process.returncode}"
        return f"{called} {how}{last}"
    return None


@contextlib.asynccontextmanager
async def _output() -> AsyncIterator[tuple[int, asyncio.Task[bytes]]]:
    """A descriptor to write to, and what will have been read from it by then. Nobody reads any more at the
    end of the block, whoever may have the descriptor.
    """
    begin, end = os.pipe()
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(begin, "rb", 0)
    )
    heard = asyncio.create_task(_beginning(reader))
    try:
        yield end, heard
    finally:
        heard.cancel()
        await asyncio.wait([heard])
        transport.close()


async def _beginning(reader: asyncio.StreamReader) -> bytes:
    """The first bytes of what is read, to its end, or until cancelled."""
    kept = b""
    with contextlib.suppress(asyncio.CancelledError):
        while data := await reader.read(4096):
            kept += data[: OUTPUT_MAX - len(kept)]
    return kept


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a command, if it has not ended, and what it started."""
    if process.returncode is not None:
        return
    for number, patience in ((signal.SIGTERM, GRACE), (signal.SIGKILL, None)):
        with contextlib.suppress(ProcessLookupError):  # Of all that it started nothing may be left.
            os.killpg(process.pid, number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await process.wait()
