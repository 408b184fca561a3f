"""Every error a user can meet, in one place: exception -> exit code -> the sentence that a person reads.

Exit codes are rsync's (rsync(1), EXIT VALUES), since cron jobs already know them.

    P2psyncError
    ├── UsageError          1   the command line or the configuration is wrong
    │   └── LinksNotKept    1   hard links were asked for, and are not known
    ├── TrustError          5   a signature, a pinned key or the order of heads forbids going on
    │   └── OriginChanged   76   a server names another archive than the one that it is held to
    ├── NetworkError       10   a socket failed, or nobody could be reached
    │   ├── NoHead         10   nobody who was asked tells what is newest of an archive
    │   ├── TransferTimeout 30  a connection fell silent
    │   └── ConnectTimeout  35  a connection did not come about in time
    ├── FileError          11   a local file or directory could not be read or written
    │   ├── SelectionError  3   SRC and DEST do not fit together
    │   └── BusyError      75   another process is at work on the same
    │       └── PlaceBusy  75   in the same directory
    ├── FormatError        12   damaged or hostile bytes
    ├── HookError          14   a command that is to be run before an update failed
    ├── InterruptedFetch   20   the user or a signal stopped it
    ├── PartialError       23   some of the work could not be done
    ├── VanishedWarning    24   files vanished while they were read
    └── DeleteLimitError   25   a limit on deletions was reached
"""

from __future__ import annotations

from typing import Any, ClassVar


def show_path(name: bytes | str) -> str:
    """A name or path as it stands in a sentence, and as rsync prints it: each byte of what is not printable
    is ``\\#ooo`` (octal).

    It can then neither move the cursor nor end the line, nor turn round what stands beside it: not
    printable are control characters (C0, C1), what changes the direction of writing, separators of lines
    and paragraphs, invisible ones, and surrogates (`str.isprintable`). All that strangers have written is
    shown through here. Exact names are in the JSON output.

    >>> show_path(b"caf\\xe9\\n"), show_path("café")
    ('caf\\\\#351\\\\#012', 'café')
    """
    text = name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name
    return text if text.isprintable() else "".join(c if c.isprintable() else _octal(c) for c in text)


def _octal(character: str) -> str:
    # Half of a pair that names no byte of a name comes from text such as JSON (PEP 383).
    how = "surrogateescape" if "\udc80" <= character <= "\udcff" else "surrogatepass"
    return "".join(f"\\#{byte:03o}" for byte in character.encode("utf-8", how))


class P2psyncError(Exception):
    """What happened, to what, and what to do about it, in one sentence: ``str(error)`` is shown as it is."""

    exit_code: ClassVar[int] = 1

    def as_event(self) -> dict[str, Any]:
        """The object that ``--json`` prints for this error."""
        return {"event": "error", "code": self.exit_code, "message": str(self)}


class UsageError(P2psyncError):
    """A command was called with something it cannot use."""

    exit_code = 1


class LinksNotKept(UsageError):
    """Hard links are to be kept, of an archive that has some, or may have some."""


class TrustError(P2psyncError):
    """Bytes are well formed but must not be believed: wrong signer, expired delegation, older than what is
    known.
    """

    exit_code = 5


class OriginChanged(TrustError):
    """A server names another archive than it did when it was first asked (sysexits.h, EX_PROTOCOL; rsync has
    no such code).
    """

    exit_code = 76


class NetworkError(P2psyncError):
    """Nothing could be sent to, or received from, somebody."""

    exit_code = 10


class NoHead(NetworkError):
    """Nobody who was asked knows what is newest of an archive."""


class TransferTimeout(NetworkError):
    """A connection was silent for longer than allowed."""

    exit_code = 30


class ConnectTimeout(NetworkError):
    """A connection was not accepted in time."""

    exit_code = 35


class FileError(P2psyncError):
    """The local file system refused something."""

    exit_code = 11


class SelectionError(FileError):
    """DEST is not of the kind that SRC needs: a file where a directory should be, or nothing at all; or SRC
    is more than was asked for.
    """

    exit_code = 3


class FormatError(P2psyncError):
    """Bytes do not follow the format, or exceed a limit of it."""

    exit_code = 12


class HookError(P2psyncError):
    """A command that the user wants to be run before an update failed, and the update was not begun
    (rsync's code for errors with its own processes).
    """

    exit_code = 14


class InterruptedFetch(P2psyncError):
    """Stopped by the user; what was done is kept."""

    exit_code = 20


class PartialError(P2psyncError):
    """Part of the work could not be done; the rest was."""

    exit_code = 23


class VanishedWarning(P2psyncError):
    """Files vanished while they were read; they are left out."""

    exit_code = 24


class DeleteLimitError(P2psyncError):
    """More would have been deleted than was allowed."""

    exit_code = 25


class BusyError(FileError):
    """Another process is at work on the same: try again later (sysexits.h, EX_TEMPFAIL; rsync has none)."""

    exit_code = 75


class PlaceBusy(BusyError):
    """Another process is at work in the directory, or on the file, that is to be changed or published."""
