"""Reading directories: names and attributes of what belongs in a manifest, never through a symbolic link.

Every open is relative to the descriptor of the directory above it and refuses symbolic links, so nobody who
writes to the tree while it is read can lead the walk out of it. What the walk does with the rows is its
caller's business.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from bisect import bisect_left
from collections.abc import Callable
from operator import itemgetter
from typing import Final, NamedTuple

from p2psync.errors import FileError, show_path
from p2psync.events import SILENT, Teller
from p2psync.format.limits import DEPTH_MAX, INT64_MAX, LISTING_ENTRIES_MAX
from p2psync.format.paths import join
from p2psync.format.reserved import RESERVED_NAMES, TEMPORARY_PREFIX
from p2psync.rules.filter import Filter
from p2psync.rules.temporary import is_temporary, may_have_temporary
from p2psync.tree.checker import names_left_out
from p2psync.tree.listed import Listed
from p2psync.tree.report import Report
from p2psync.tree.stamp import DIRECTORY, Row

DIRECTORY_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: a file that has become a pipe since it was listed must not block the walk.
FILE_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_SPECIAL: Final = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a block device",
    stat.S_IFCHR: "a character device",
}
_BECAME_ANOTHER: Final = frozenset({errno.ELOOP, errno.ENOTDIR, errno.ESPIPE, errno.ENXIO, errno.EINVAL})
"""A link now; no directory now; a pipe or socket now; no link now."""
_AT_LIMIT: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_OUT_OF_TIME: Final = "has a modification time outside the years 1678 to 2262"
_by_name: Final = itemgetter(0)
_ENCODING: Final = sys.getfilesystemencoding()
_ERRORS: Final = sys.getfilesystemencodeerrors()


class Found(NamedTuple):
    """One name in a directory, as lstat(2) tells: mode with type bits, times in ns."""

    name: bytes
    mode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    ino: int

    @classmethod
    def of(cls, name: bytes, st: os.stat_result) -> Found:
        return cls(name, st.st_mode, st.st_size, st.st_mtime_ns, st.st_ctime_ns, st.st_ino)

    @property
    def is_dir(self) -> bool:
        return self.mode & 0o170000 == 0o040000

    @property
    def is_file(self) -> bool:
        return self.mode & 0o170000 == 0o100000

    @property
    def permissions(self) -> int:
        return self.mode & 0o7777


class TooManyEntries(Exception):
    """A directory has more names than a listing may hold."""


def scan_directory(
    fd: int, directory: bytes, rules: Filter, report: Report, hidden: frozenset[bytes] = frozenset()
) -> list[Found]:
    """The regular files, directories and symbolic links in a directory that the rules let through, by name.

    `fd` is the directory's descriptor, `directory` its path in the tree; paths in `hidden` are left out
    without a word, as are the names that p2psync keeps for itself. Raises OSError, and TooManyEntries.
    """
    return [Found._make(row) for row in list_directory(fd, directory, rules, report, hidden)]


def list_directory(
    fd: int,
    directory: bytes,
    rules: Filter,
    report: Report,
    hidden: frozenset[bytes] = frozenset(),
    unread: Callable[[bytes, str], None] | None = None,
) -> list[Row]:
    """As `scan_directory`, but plain rows: for those who only want to know whether anything has changed.

    `unread` hears of names that no listing can hold as they are, and why; otherwise the report does.
    """
    rows: list[Row] = []
    leaves_out = _leaver(directory, rules, report, hidden)
    with os.scandir(fd) as entries:
        for entry in entries:
            name = entry.name.encode(_ENCODING, _ERRORS)  # os.fsencode, without a call of its own
            try:
                st = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                if not name.startswith(TEMPORARY_PREFIX):
                    report.gone(join(directory, name))
                continue
            mode = st.st_mode
            kind = mode & 0o170000
            mtime_ns = st.st_mtime_ns
            if leaves_out is not None and leaves_out(name, kind == stat.S_IFDIR):
                continue
            if kind in _SPECIAL:
                if not name.startswith(TEMPORARY_PREFIX):
                    report.skipped(join(directory, name), _SPECIAL[kind])
                continue
            if not -INT64_MAX <= mtime_ns <= INT64_MAX:
                if name.startswith(TEMPORARY_PREFIX):
                    continue
                if unread is not None:
                    unread(name, _OUT_OF_TIME)
                else:
                    report.not_read(join(directory, name), _OUT_OF_TIME)
                continue
            report.linked += st.st_nlink > 1 and kind == stat.S_IFREG
            rows.append((name, mode, st.st_size, mtime_ns, st.st_ctime_ns, st.st_ino))
    if len(rows) > LISTING_ENTRIES_MAX:
        raise TooManyEntries
    rows.sort(key=_by_name)
    first = bisect_left(rows, TEMPORARY_PREFIX, key=_by_name)
    if first < len(rows) and rows[first][0].startswith(TEMPORARY_PREFIX):
        rows = [row for row in rows if not row[0].startswith(TEMPORARY_PREFIX)]
    return rows


def _leaver(
    directory: bytes, rules: Filter, report: Report, hidden: frozenset[bytes]
) -> Callable[[bytes, bool], bool] | None:
    """Who tells of a name in a directory, and whether it is one itself, that it is left out; None: no name
    is.
    """
    special = bool(hidden) or not directory
    if not special and rules.hides_nothing:
        return None
    scope = None if rules.hides_nothing else rules.scope(directory)

    def leaves_out(name: bytes, is_dir: bool) -> bool:
        if special and ((not directory and name in RESERVED_NAMES) or join(directory, name) in hidden):
            return True
        if scope is None or not scope.hides(name, is_dir):
            return False
        if not rules.temporary and is_temporary(name, is_dir):
            report.temporary()
        return True

    return leaves_out


def pack_directory(
    fd: int, directory: bytes, rules: Filter, hidden: frozenset[bytes] = frozenset()
) -> Listed | None:
    """As `list_directory`, in a third of the time; None where names have to be looked at one by one: some
    are left out by the rules or for another reason. Raises OSError.
    """
    listed = Listed.read(fd, names_left_out(directory, hidden))
    if listed is None or len(listed.names) > LISTING_ENTRIES_MAX:
        return None
    names = listed.names
    first = bisect_left(names, TEMPORARY_PREFIX)
    if first < len(names) and names[first].startswith(TEMPORARY_PREFIX):
        return None
    if not rules.temporary and may_have_temporary(names):
        return None
    if rules.rules:
        hides = rules.scope(directory).hides
        kinds = listed.columns.kinds()
        if any(hides(name, kind == DIRECTORY[0]) for name, kind in zip(names, kinds, strict=True)):
            return None
    return listed


def count_tree(
    directory: bytes, rules: Filter, hidden: frozenset[bytes] = frozenset(), tell: Teller = SILENT
) -> tuple[int, int]:
    """(bytes, files) that a walk will find, for a progress bar: what cannot be read is left for the walk to
    report. `tell` hears of files as they are found.
    """
    silent = Report(SILENT)
    size = files = 0
    stack: list[tuple[int, bytes, list[bytes]]] = []
    opened: int | None = os.open(directory, DIRECTORY_FLAGS)
    path = b""
    try:
        while True:
            if opened is not None:
                below: list[bytes] = []
                before = files
                stack.append((opened, path, below))
                with contextlib.suppress(OSError, TooManyEntries):
                    for row in scan_directory(opened, path, rules, silent, hidden):
                        if row.is_dir and len(stack) < DEPTH_MAX:
                            below.append(row.name)
                        elif row.is_file:
                            size += row.size
                            files += 1
                tell.advance(0, files - before)
            while stack and not stack[-1][2]:
                os.close(stack.pop()[0])
            if not stack:
                break
            fd, parent, names = stack[-1]
            name = names.pop()
            path = join(parent, name)
            opened = open_directory(name, fd, path, silent)
    finally:
        for fd, _, _ in stack:
            os.close(fd)
    return size, files


def open_directory(name: bytes, parent_fd: int, path: bytes, report: Report) -> int | None:
    """A descriptor of the directory `name`, or None with a warning."""
    try:
        return os.open(name, DIRECTORY_FLAGS, dir_fd=parent_fd)
    except OSError as error:
        note_error(error, path, report)
        return None


def note_error(error: OSError, path: bytes, report: Report) -> None:
    """Warn of what could not be opened or read. What has become something else since it was listed has
    vanished.
    """
    if error.errno == errno.ENOENT or error.errno in _BECAME_ANOTHER:
        report.gone(path)
    else:
        report.not_read(path, why_not_read(error, path))


def why_not_read(error: OSError, path: bytes) -> str:
    """What is the matter with a file or directory that is there, as words after its name.

    Raises FileError where this process can open nothing more: then what a walk did not read says nothing.
    """
    if error.errno in _AT_LIMIT:
        raise FileError(
            f"{show_path(path)} cannot be opened: {error.strerror}; raise the limit (ulimit -n, or "
            "LimitNOFILE= of a unit) or free memory, and run again"
        ) from error
    if error.errno in _BECAME_ANOTHER:
        return "became something else while the tree was read"
    return f"cannot be read ({error.strerror})"


def read_link(name: bytes, parent_fd: int, path: bytes, report: Report) -> bytes | None:
    """The target of a symbolic link, or None with a warning."""
    try:
        return os.readlink(name, dir_fd=parent_fd)
    except OSError as error:
        note_error(error, path, report)
        return None
