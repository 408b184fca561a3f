"""Files and links that are put into their places together, when all of them have come (rsync's
--delay-updates): until then they wait in the folder of unfinished files.

Objects of several chunks wait under their ids, so that a run that is killed leaves them to the next one. All
else waits in a folder of its own, by directory, which the next run removes: it has no more than small files.
"""

from __future__ import annotations

import contextlib
import os
from typing import Final

from p2psync.format.paths import join
from p2psync.tree.beneath import NAME_ONLY, Beneath
from p2psync.tree.files import result_of
from p2psync.tree.folder import Folder
from p2psync.tree.orders import Land, Landing, Result
from p2psync.tree.placing import Placing
from p2psync.tree.removal import remove_tree
from p2psync.tree.trouble import Trouble
from p2psync.tree.way import Way

NOT_HERE: Final = ""
"""The result of what has not come: whoever asked for it knows why."""
_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class DelayedPlacing(Placing):
    """Lets everything wait, and puts it into its place when it is told to."""

    def __init__(self, beneath: Beneath, folder: Folder, way: Way) -> None:
        super().__init__(beneath, folder, way)
        self._temporary = folder.temporary
        self._held = folder.temporary + b"-held"
        self._numbers: dict[bytes, int] = {}

    def _place_of(self, directory: bytes, *, make: bool) -> bytes:
        """The folder in which what is for a directory waits; made if it is not there and ``make`` is on."""
        number = self._numbers.get(directory)
        if number is None:
            number = len(self._numbers)
            if make:
                if not number:
                    os.mkdir(self._held, 0o700, dir_fd=self._folder)
                os.mkdir(join(self._held, b"%d" % number), 0o700, dir_fd=self._folder)
                self._numbers[directory] = number
        return join(self._held, b"%d" % number)

    def put_file(
        self, name: bytes, fd: int, directory: bytes, own_name: bytes, mode: int, mtime_ns: int
    ) -> os.stat_result:
        """Let a finished file wait; what was made. Raises OSError: it is where it was."""
        if name == self._temporary:
            place = join(self._place_of(directory, make=True), own_name)
            os.rename(name, place, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        return os.fstat(fd)

    def put_link(
        self, name: bytes, directory: bytes, own_name: bytes, target: bytes, mtime_ns: int
    ) -> os.stat_result:
        """The same for a symbolic link."""
        place = join(self._place_of(directory, make=True), own_name)
        os.rename(name, place, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        return os.stat(place, dir_fd=self._folder, follow_symlinks=False)

    def land(self, order: Land, trouble: Trouble) -> list[Result]:
        """Put what waits for a directory into its place. Raises Stopped."""
        results: list[Result] = []
        for landing in order.landings:
            try:
                results.append(result_of(self._land(order.directory, landing)))
            except FileNotFoundError:
                results.append(NOT_HERE)
            except OSError as error:
                results.append(trouble.reason(error, join(order.directory, landing.name), "writing"))
        return results

    def _land(self, directory: bytes, landing: Landing) -> os.stat_result:
        name, mode, mtime_ns, digest, target = landing
        waiting = join(self._place_of(directory, make=False), name)
        if target:
            return super().put_link(waiting, directory, name, target, mtime_ns)
        try:
            fd = self._open(waiting)
        except FileNotFoundError:
            waiting = digest.hex().encode()
            fd = self._open(waiting)
        try:
            return super().put_file(waiting, fd, directory, name, mode, mtime_ns)
        finally:
            os.close(fd)

    def _open(self, name: bytes) -> int:
        try:
            return os.open(name, _OPEN, dir_fd=self._folder)
        except PermissionError:  # By its mode; it is ours, and need not be read to be renamed.
            return os.open(name, NAME_ONLY, dir_fd=self._folder)

    def close(self) -> None:
        """Remove what still waits in a folder of its own."""
        if self._numbers:
            with contextlib.suppress(OSError):  # The next run will.
                remove_tree(self._folder, self._held)
            self._numbers.clear()
