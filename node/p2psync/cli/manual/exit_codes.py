"""Every exit code, what it means and what to do: for the man pages and for docs/exit-codes.md.

Which error has which code is in ``p2psync.errors``.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class ExitCode(NamedTuple):
    """A code's meaning for all commands, and the typical remedy."""

    means: str
    remedy: str = ""


EXIT_CODES: Final[dict[int, ExitCode]] = {
    0: ExitCode("done"),
    1: ExitCode(
        "wrong command line or configuration; or a defect in p2psync",
        "the message says which; `-v` shows where",
    ),
    3: ExitCode(
        "SRC and DEST do not fit together: what is asked for has more than `--max-total` or `--max-files` "
        "allows; DEST is a file where a directory is needed, or the directory for "
        "a single file is missing; or the directory or archive that `forget` or `unpublish` was given is not "
        "known here",
        "name another DEST, or make the directory; `p2psync list` shows what is known here",
    ),
    5: ExitCode(
        "refused for trust: wrong signature, expired delegation, older than what is known here, not fresh "
        "under `--require-fresh`",
        "look at the message; somebody may be replaying old data",
    ),
    10: ExitCode(
        "nobody could be reached, or a socket failed", "check the network, give `--bootstrap` or `--source`"
    ),
    11: ExitCode(
        "a local file or directory, or standard output, could not be read or written; the disk is full, or "
        "has no room for what is to be fetched; the "
        "state directory is damaged",
        "the message names it and says what to do",
    ),
    12: ExitCode("damaged or hostile data", "other sources may have good data; run again"),
    14: ExitCode(
        "a command of the user's that is to be run before an update (`--hooks-before`) failed, and nothing "
        "was updated",
        "the message has the last line that it wrote; `-v` shows all",
    ),
    20: ExitCode("stopped by a signal (SIGINT, SIGTERM, SIGHUP)", "run the same command again; it goes on"),
    23: ExitCode(
        "some of the work could not be done: parts that no source has, differences found by `verify` or "
        "`demo`, files that `publish` could not read (the snapshot is published, and nothing counts as "
        "deleted for that), also when what they could not read is missing from what is fetched",
        "the message names what is missing",
    ),
    24: ExitCode("files vanished while they were read (`publish`)", "publish again later"),
    25: ExitCode(
        "`--max-delete` stopped deletions; or a snapshot has lost more than half of what is here, or a "
        "directory that was to be published most of its files, and nothing was done",
        "look whether that is meant to be so; then `--accept-shrink`",
    ),
    30: ExitCode("no data came for `--timeout` seconds (60 if not given)"),
    35: ExitCode("a connection did not come about within `--contimeout` seconds"),
    75: ExitCode(
        "another p2psync is at work on the same directory, file, archive or state directory (rsync has no "
        "such code; this one is EX_TEMPFAIL of sysexits.h)",
        "the message names the process and its command; wait until it ends, or stop it. A lock ends with the "
        "process that held it",
    ),
    76: ExitCode(
        "the server that SRC names has another archive than when it was first asked, and nothing was fetched "
        "(rsync has no such code; this one is EX_PROTOCOL of sysexits.h)",
        "ask whoever runs the server; if it is right, remove the line that the message names",
    ),
}
