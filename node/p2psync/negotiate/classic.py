"""Runs the real rsync in place of a fetch, where a server has no archive: the same options, its own words and
exit code.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Sequence
from typing import Final

from p2psync.errors import FileError, InterruptedFetch, UsageError
from p2psync.fetch.destination import refuse_published
from p2psync.fetch.keywords import TransferOptions, rules_in
from p2psync.fetch.options import Delete
from p2psync.format.reserved import PARTIAL
from p2psync.negotiate.origin import Kind, Origin
from p2psync.negotiate.rsync import environment_for, program_for
from p2psync.state import State
from p2psync.supply.download import STALL_SECONDS

KIB: Final = 1024
"""rsync's unit of --bwlimit."""
_SWITCHES: Final = (
    "prune_empty_dirs",
    "safe_links",
    "update",
    "existing",
    "ignore_existing",
    "size_only",
    "omit_dir_times",
    "delay_updates",
    "force",
    "ignore_errors",
)
_SPECIAL: Final = re.compile(rb"[*?\[\\]")


def arguments(
    origin: Origin,
    dest: bytes,
    options: TransferOptions,
    *,
    spared: Sequence[bytes] = (),
    verbose: int = 0,
    quiet: bool = False,
) -> list[bytes]:
    """The words behind ``rsync`` that do what the options of a fetch ask for. ``spared``: paths below DEST
    that are not deleted, whatever the options say.

    Raises UsageError: rsync has nothing like one of them.
    """
    for option in ("max_total", "max_files", "require_fresh"):
        if options.get(option):
            raise UsageError(
                f"{origin} names no archive, and rsync itself, which would fetch it, has no "
                f"--{option.replace('_', '-')}; without that option it does"
            )
    if options.get("files_from") is not None:
        raise UsageError(
            f"{origin} names no archive, and a list of files is not handed on to rsync, which would fetch "
            "it; run rsync --files-from itself"
        )
    timeout, contimeout = options.get("timeout"), options.get("contimeout")
    limit, most = options.get("bwlimit"), options.get("max_delete")
    words = ["-rlpt", "--no-motd", f"--timeout={STALL_SECONDS if timeout is None else timeout:.0f}"]
    words += [f"--contimeout={contimeout:.0f}"] if contimeout and origin.kind is not Kind.RSYNCS else []
    words += [] if options.get("special_bits") else ["--chmod=ug-s,a-t"]
    words += [f"--bwlimit={max(round(limit / KIB), 1)}"] if limit else []
    words += ["--checksum"] if options.get("checksum") else []
    words += ["--delete"] if options.get("delete") is Delete.ALL else []
    words += [] if most is None else [f"--max-delete={most}"]
    words += [f"--filter=P {pattern}" for pattern in options.get("protect", ())]
    words += [f"--{name.replace('_', '-')}" for name in _SWITCHES if options.get(name)]
    sizes = {"max-size": options.get("max_size"), "min-size": options.get("min_size")}
    words += [f"--{name}={size}" for name, size in sizes.items() if size is not None]
    words += [f"--modify-window={options['modify_window']}"] if options.get("modify_window") else []
    words += ["--dry-run", "--itemize-changes"] if options.get("dry_run") else []
    words += ["-q"] if quiet else ["-v"] * verbose
    rules = [b"--filter=" + rule for rule in rules_in(options)]
    kept = [b"--filter=P /" + _SPECIAL.sub(rb"\\\g<0>", path) for path in (PARTIAL, *spared)]
    source = origin.url(origin.path) + ("/" if origin.inside else "")
    return [*map(os.fsencode, words), *kept, *rules, b"--", os.fsencode(source), dest]


async def run_rsync(
    origin: Origin,
    dest: bytes,
    options: TransferOptions,
    state: State,
    *,
    verbose: int = 0,
    quiet: bool = False,
    out: int | None = None,
) -> int:
    """Let rsync make ``dest`` like the origin; its exit code. It speaks for itself, on the standard output
    or, with ``out``, on that descriptor.

    Raises UsageError: rsync is not installed, or cannot do what the options ask for. FileError, BusyError:
    DEST is not to be written to. NetworkError: a proxy is to be used that rsync cannot use.
    """
    place = os.path.realpath(dest)
    refuse_published(state, os.path.join(place, origin.name) if origin.name else place)
    argv = arguments(origin, dest, options, spared=sorted(state.within(place)), verbose=verbose, quiet=quiet)
    program = program_for(origin)
    if program is None:
        raise UsageError(
            f"{origin} names no archive, and there is no rsync here that could fetch it: install rsync, or "
            "give the archive's p2psync://ID"
        )
    environment = environment_for(origin)
    with state.lock_place(place):
        try:
            process = await asyncio.create_subprocess_exec(
                program, *argv, stdin=asyncio.subprocess.DEVNULL, stdout=out, env=environment
            )
        except OSError as error:
            raise FileError(f"{program} cannot be run: {error.strerror}") from error
        try:
            code = await process.wait()
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)  # It tells its own children, and cleans up (rsync(1)).
                await process.wait()
    return code if code >= 0 else InterruptedFetch.exit_code
