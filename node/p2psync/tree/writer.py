"""Where files of DEST are made: written beside the tree, verified, and renamed into place when they are
whole.

The folder ``.p2psync.partial`` at the root of DEST holds objects of several chunks under their ids, with
their full size and holes where chunks are missing, so that a later run finds them; small files are there for
a moment. Whoever looks at DEST at any time, or pulls the plug, sees an old file or a new one. Everything here
runs in one thread, the one that touches the disk.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Iterator
from itertools import count
from typing import Final

from p2psync.format.ids import Ref, chunk_id
from p2psync.format.listing import Entry
from p2psync.format.recipe import Recipe
from p2psync.plan.changes import DirWork
from p2psync.plan.compare import file_row
from p2psync.state import State
from p2psync.state.trees import FileRow, Tree
from p2psync.supply.jobs import Job, Target
from p2psync.supply.local import PARTIAL, LocalChunks
from p2psync.tree.beneath import Beneath, ChangedMeanwhile, join
from p2psync.tree.displaced import Aside
from p2psync.tree.way import InTheWay

ROWS_WAITING_MAX: Final = 1000
"""Index rows kept until they are written in one go; a crash costs only that the next run compares these files
again.
"""
COPY_BUFFER: Final = 1 << 20
_CREATE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Workspace:
    """Makes files, links and directories in DEST."""

    def __init__(self, state: State, tree: Tree, beneath: Beneath) -> None:
        self._state = state
        self._tree = tree
        self._beneath = beneath
        self._numbers = count()
        self._rows: dict[bytes, list[FileRow]] = {}
        self._recent: dict[bytes, bytes] = {}
        self._waiting = 0
        self._unfinished: set[Job] = set()
        self._compared_dir: bytes | None = None
        self._compared: dict[bytes, FileRow] = {}
        self.reused = 0
        """Bytes taken from this machine instead of the network."""
        self._partial_fd = self._open_folder()
        self.aside = Aside(state, tree, beneath, self._partial_fd)

    def _open_folder(self) -> int:
        fd = self._beneath.make_dir(PARTIAL)
        for name in map(os.fsencode, os.listdir(fd)):
            if name.startswith(b"tmp-"):
                os.unlink(name, dir_fd=fd)
        return os.dup(fd)

    def close(self, *, complete: bool) -> None:
        """Write what is waiting; after a complete fetch nothing unfinished is kept. The disk thread has ended
        before.
        """
        try:
            self.flush()
            if complete:
                self.aside.clear(everything=True)
        finally:
            for job in list(self._unfinished):
                self.release(job)
            os.close(self._partial_fd)
        try:
            self._beneath.forget(PARTIAL)
            os.rmdir(PARTIAL, dir_fd=self._beneath.dir(b""))
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise

    # The index.

    def _note(self, directory: bytes, row: FileRow) -> None:
        self._rows.setdefault(directory, []).append(row)
        self._recent[row.digest] = join(directory, row.name)
        self._waiting += 1
        if self._waiting >= ROWS_WAITING_MAX:
            self.flush()

    def flush(self) -> None:
        """Write the rows of the files that were made, so that they are served and found again."""
        if not self._rows:
            return
        with self._state.transaction():
            for directory, rows in self._rows.items():
                self._state.trees.put_files(self._tree.id, directory, rows)
        self._rows.clear()
        self._recent.clear()
        self._waiting = 0

    # Objects of several chunks.

    def open_job(self, job: Job) -> None:
        """Open the file of an unfinished object and mark the chunks that it has: each is read and
        verified.
        """
        name = job.ref.digest.hex().encode()
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            job.fd = os.open(name, flags, 0o600, dir_fd=self._partial_fd)
        except PermissionError:
            # Whole, with its own mode, and stopped just before it was put in place. The folder is ours alone.
            os.chmod(name, 0o600, dir_fd=self._partial_fd)
            job.fd = os.open(name, flags, 0o600, dir_fd=self._partial_fd)
        self._unfinished.add(job)
        found = os.fstat(job.fd)
        if found.st_size != job.ref.size:
            os.ftruncate(job.fd, job.ref.size)
        if found.st_size and found.st_blocks:
            self._verify_partial(job)

    def _verify_partial(self, job: Job) -> None:
        assert job.fd is not None  # noqa: S101 - opened by the caller
        offsets = job.recipe.offsets
        for index, (digest, length) in enumerate(job.recipe):
            if _is_hole(job.fd, offsets[index], length):
                continue
            data = os.pread(job.fd, length, offsets[index])
            if len(data) == length and chunk_id(data) == digest:
                job.mark(index)
                self.reused += length

    def fill(self, job: Job, local: LocalChunks) -> None:
        """Take the chunks of ``job`` that are on this machine."""
        fd = self._open_recent(job.ref) if job.ref.digest in self._recent else local.whole(job.ref)
        offsets = job.recipe.offsets
        try:
            for index in job.missing():
                digest, length = job.recipe.chunk(index)
                data = None if fd is None else _pread(fd, length, offsets[index])
                if data is None or len(data) != length or chunk_id(data) != digest:
                    data = local.read(digest, length)
                if data is not None:
                    self.write(job, index, memoryview(data))
                    self.reused += length
        finally:
            if fd is not None:
                os.close(fd)

    def _open_recent(self, ref: Ref) -> int | None:
        """The file that this run made of the same object a moment ago, before the index knows it."""
        parent, _, name = self._recent[ref.digest].rpartition(b"/")
        try:
            return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._beneath.dir(parent))
        except OSError:
            return None

    def write(self, job: Job, index: int, data: memoryview) -> None:
        """Put verified chunk ``index`` of ``job`` in its place."""
        if job.fd is None:
            job.data = bytes(data)
        else:
            _pwrite_all(job.fd, data, job.recipe.offsets[index])
        job.mark(index)

    def place(self, target: Target, job: Job, local: LocalChunks, last: bool) -> None:
        """All chunks are there: put the object in the place of ``target``, the ``last`` one or not."""
        if job.fd is None:
            self._place_bytes(target, job.data, local)
        elif last:
            self._dress(job.fd, target.entry)
            self._rename(job.ref.digest.hex().encode(), job.fd, target, local)
        else:
            self._place_copy(target, job.fd, local)

    def release(self, job: Job) -> None:
        """Close the file of a job; what it has stays for a later run."""
        job.data = b""
        if job.fd is not None:
            self._unfinished.discard(job)
            os.close(job.fd)
            job.fd = None

    # Placing files.

    def open_dir(self, work: DirWork) -> None:
        """Make a directory, or make it writable until its own mode is set at the end."""
        fd = self._beneath.make_dir(work.path)
        mode = stat.S_IMODE(os.fstat(fd).st_mode)
        if os.geteuid() and mode & stat.S_IRWXU != stat.S_IRWXU:
            os.fchmod(fd, mode | stat.S_IRWXU)
            work.retouch = True

    def place_empty(self, target: Target, local: LocalChunks) -> None:
        self._place_bytes(target, b"", local)

    def _place_bytes(self, target: Target, data: bytes, local: LocalChunks) -> None:
        with self._temporary() as (fd, name):
            if data:
                _pwrite_all(fd, memoryview(data), 0)
            self._dress(fd, target.entry)
            self._rename(name, fd, target, local)

    def _place_copy(self, target: Target, source: int, local: LocalChunks) -> None:
        """A second file with the same bytes as the open file ``source``."""
        with self._temporary() as (fd, name):
            _copy(source, fd)
            self._dress(fd, target.entry)
            self._rename(name, fd, target, local)

    @contextlib.contextmanager
    def _temporary(self) -> Iterator[tuple[int, bytes]]:
        """A new file in the folder and its name, which is gone again if the block fails."""
        name = b"tmp-%d" % next(self._numbers)
        fd = os.open(name, _CREATE, 0o600, dir_fd=self._partial_fd)
        try:
            yield fd, name
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=self._partial_fd)
            raise
        finally:
            os.close(fd)

    def _dress(self, fd: int, entry: Entry) -> None:
        os.fchmod(fd, entry.mode)
        os.utime(fd, ns=(time.time_ns(), entry.mtime_ns))

    def _rename(self, name: bytes, fd: int, target: Target, local: LocalChunks) -> None:
        """Put the file ``fd``, which is ``name`` in the folder, in the place of ``target``."""
        directory = self._beneath.make_dir(target.directory)
        if target.replaces:
            self.aside.keep_file(target, directory, local)
        entry = target.entry
        try:
            self._move(name, directory, target, local)
            found = os.fstat(fd)  # Of what was made, whatever stands under that name by now.
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            found = self._rename_across(name, fd, directory, entry)
        self._note(target.directory, file_row(entry.name, found, entry.digest))

    def _rename_across(self, name: bytes, fd: int, directory: int, entry: Entry) -> os.stat_result:
        """Another file system is mounted within DEST: the last step is a copy beside the target, then a
        rename.
        """
        beside = b".p2psync-%d-%d" % (os.getpid(), next(self._numbers))
        made = os.open(beside, _CREATE, 0o600, dir_fd=directory)
        try:
            _copy(fd, made)
            self._dress(made, entry)
        except OSError:
            os.unlink(beside, dir_fd=directory)
            raise
        else:
            _rename_beside(beside, directory, entry.name)
            found = os.fstat(made)
        finally:
            os.close(made)
        os.unlink(name, dir_fd=self._partial_fd)
        return found

    def make_symlink(self, target: Target, local: LocalChunks) -> None:
        """A symbolic link, replaced in one step where something stands already."""
        entry = target.entry
        directory = self._beneath.make_dir(target.directory)
        name = b"tmp-%d" % next(self._numbers)
        os.symlink(entry.target, name, dir_fd=self._partial_fd)
        try:
            os.utime(
                name, ns=(time.time_ns(), entry.mtime_ns), dir_fd=self._partial_fd, follow_symlinks=False
            )
            self._move(name, directory, target, local)
        except OSError as error:
            os.unlink(name, dir_fd=self._partial_fd)
            if error.errno != errno.EXDEV:
                raise
            beside = b".p2psync-%d-%d" % (os.getpid(), next(self._numbers))
            os.symlink(entry.target, beside, dir_fd=directory)
            os.utime(beside, ns=(time.time_ns(), entry.mtime_ns), dir_fd=directory, follow_symlinks=False)
            _rename_beside(beside, directory, entry.name)

    def _move(self, name: bytes, directory: int, target: Target, local: LocalChunks) -> None:
        """Put ``name`` from the folder in the place of ``target``. ``directory`` is not valid afterwards,
        unless this raises EXDEV: another file system is mounted there.
        """
        try:
            os.rename(name, target.entry.name, src_dir_fd=self._partial_fd, dst_dir_fd=directory)
        except IsADirectoryError:
            self.aside.replace_directory(name, target, local)

    def set_metadata(self, target: Target) -> None:
        """Mode and time of a file whose content is right already."""
        entry = target.entry
        directory = self._beneath.dir(target.directory)
        if not self._as_compared(target, os.stat(entry.name, dir_fd=directory, follow_symlinks=False)):
            raise ChangedMeanwhile(errno.EBUSY, "it was changed while the fetch went on; run again")
        try:
            fd = os.open(entry.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        except PermissionError:
            # Ours, but unreadable: compared a moment ago as a regular file, so the name is safe to use.
            os.chmod(entry.name, entry.mode | stat.S_IRUSR, dir_fd=directory)
            fd = os.open(entry.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            self._dress(fd, entry)
            found = os.fstat(fd)
        finally:
            os.close(fd)
        self._note(target.directory, file_row(entry.name, found, entry.digest))

    def _as_compared(self, target: Target, found: os.stat_result) -> bool:
        """Whether a file is still the one whose content the comparison knew."""
        if self._compared_dir != target.directory:
            self._compared_dir = target.directory
            self._compared = self._state.trees.files_in(self._tree.id, target.directory)
        row = self._compared.get(target.entry.name)
        known = None if row is None else row._replace(hashed_ns=0)
        return known == file_row(target.entry.name, found, target.entry.digest)


def job_for(target: Target, recipe: Recipe | None) -> Job:
    """The job that makes ``target``; ``recipe`` is needed for an object of several chunks."""
    entry = target.entry
    ref = Ref(entry.size, entry.digest)
    return Job(ref, Recipe.single(ref) if recipe is None else recipe, [target])


def _rename_beside(beside: bytes, directory: int, name: bytes) -> None:
    """The last step on another file system within DEST."""
    try:
        os.rename(beside, name, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError as error:
        os.unlink(beside, dir_fd=directory)
        if isinstance(error, IsADirectoryError):
            raise InTheWay(os.strerror(errno.EXDEV)) from None
        raise


def _is_hole(fd: int, offset: int, length: int) -> bool:
    """Whether the file system knows that nothing was ever written there (lseek(2), SEEK_DATA)."""
    try:
        return os.lseek(fd, offset, os.SEEK_DATA) >= offset + length
    except OSError as error:
        return error.errno == errno.ENXIO


def _pread(fd: int, length: int, offset: int) -> bytes | None:
    """Bytes of a file that may serve again; None where they cannot be read."""
    try:
        return os.pread(fd, length, offset)
    except OSError:
        return None


def _copy(source: int, to: int) -> None:
    """All bytes of one open file into another."""
    position = 0
    while data := os.pread(source, COPY_BUFFER, position):
        _pwrite_all(to, memoryview(data), position)
        position += len(data)


def _pwrite_all(fd: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(fd, data, offset)
        data = data[written:]
        offset += written
