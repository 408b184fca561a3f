"""The writer: carries out orders in one directory, DEST, one after the other, and says what came of each.

It knows names, attributes and where in the arena bytes lie; what they mean, whether they are right and what
is noted of them is its caller's business. Nothing is touched before an order asks for it. Used from one
thread, in this process or in one of its own.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import Any, Final

from p2psync.format.reserved import PARTIAL
from p2psync.tree.beneath import Beneath
from p2psync.tree.delayed import NOT_HERE, DelayedPlacing
from p2psync.tree.directories import dress, make_directory, remove
from p2psync.tree.files import Files, set_attributes
from p2psync.tree.folder import Folder, FolderBusy
from p2psync.tree.identity import Identity, identity
from p2psync.tree.objects import Objects
from p2psync.tree.orders import (
    Attributes,
    Broken,
    Done,
    DressDirectories,
    Fact,
    FinishObject,
    Land,
    MakeDirectory,
    MakeFiles,
    MakeLinks,
    MayReplace,
    OpenObject,
    Order,
    Remove,
    Result,
    SetAttributes,
    Target,
    Tidy,
    WorkIn,
    WriteObject,
)
from p2psync.tree.placing import Placing
from p2psync.tree.trouble import Stopped, Trouble
from p2psync.tree.way import Way, clear

LOCK_SECONDS: Final = 5.0
"""How long a writer in a thread or process of its own waits for the writer of a run that was killed, which is
at its last order.
"""
NOTHING_DONE: Final = -1
"""The token of a ``Broken`` that no order led to."""


class TreeWriter:
    """Makes, replaces and removes what is in one directory."""

    def __init__(
        self,
        root: bytes,
        spared: frozenset[bytes] = frozenset(),
        arena: memoryview | None = None,
        *,
        wait: float = 0.0,
    ) -> None:
        """``root``: DEST, which need not exist before an order to make it. ``spared``: paths below it that
        are left alone, and so are the directories above them. ``arena``: where the bytes of files lie.
        ``wait``: seconds to wait for another writer to end.
        """
        self._root = root
        self._spared = spared
        self._arena = memoryview(b"") if arena is None else arena
        self._wait = wait
        self._may_go: dict[bytes, bytes | None] = {}
        self._which: Identity | None = None
        self._delays = False
        self._beneath: Beneath | None = None
        self._workplace: _Workplace | None = None
        self._stopped = False

    def carry_out(self, order: Order) -> Fact | None:
        """Do what the order says; None for one that is not answered. After a ``Broken``, only ``close``."""
        if isinstance(order, MayReplace):
            self._may_go.update(order.seals)
            return None
        if isinstance(order, WorkIn):
            self._which, self._delays = (order.device, order.inode), order.delays
            return None
        token = order.token
        try:
            results = self._results(order)
        except Stopped as stopped:
            self._stopped = True
            return Broken(token, stopped.errno, stopped.path, stopped.doing)
        if self._workplace is None:
            return Done(token, results, [])
        displaced, removed = self._workplace.way.take()
        return Done(token, results, displaced, removed)

    def _results(self, order: Any) -> list[Result]:  # noqa: PLR0911 - one for each order
        match order:
            case MakeFiles():
                return self._begun().files.make_files(order)
            case WriteObject():
                return [self._begun().objects.write(order)]
            case OpenObject():
                return [self._begun().objects.open(order)]
            case FinishObject():
                return self._begun().objects.finish(order)
            case MakeLinks():
                return self._begun().files.make_links(order)
            case SetAttributes():
                return set_attributes(self._open_root(), self._trouble, order, self._make_anew)
            case MakeDirectory():
                return [make_directory(self._open_root(make=True), self._trouble, order)]
            case Land():
                return self._begun().land(order, self._trouble)
            case Remove():
                return remove(self._open_root(), self._trouble, order)
            case DressDirectories():
                return dress(self._open_root(), self._trouble, order)
            case Tidy():
                return [self._tidy(order.everything)]
        raise TypeError(f"{type(order).__name__} is no order")

    def _open_root(self, *, make: bool = False) -> Beneath:
        if self._beneath is None:
            try:
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(self._root, 0o700)
                beneath = Beneath(self._root, self._spared)
            except OSError as error:
                raise Stopped(error.errno or 0, b"", "opening the directory") from error
            if self._which not in (None, identity(beneath.dir(b""))):
                beneath.close()
                raise Stopped(errno.ESTALE, os.path.abspath(self._root), "opening the directory")
            self._beneath = beneath
            self._trouble = Trouble(beneath)
        return self._beneath

    def _make_anew(self, source: int, directory: bytes, file: Attributes) -> os.stat_result:
        target = Target(directory, file.name, file.mode, file.mtime_ns, replaces=False)
        return self._begun().objects.put_copy(source, target)

    def _begun(self) -> _Workplace:
        if self._workplace is None:
            beneath = self._open_root()
            try:
                folder = Folder(beneath, self._wait)
            except FolderBusy as error:
                raise Stopped(errno.EWOULDBLOCK, os.path.abspath(self._root), error.holder) from error
            except OSError as error:
                doing = "making the folder of unfinished files in"
                raise Stopped(error.errno or 0, os.path.abspath(self._root), doing) from error
            self._workplace = _Workplace(
                beneath, folder, self._trouble, self._may_go, self._arena, self._delays
            )
        return self._workplace

    def _tidy(self, everything: bool) -> Result:
        beneath = self._open_root()
        if not _has_folder(beneath):
            return 0, 0, 0, 0
        workplace = self._begun()
        workplace.objects.close()
        workplace.placing.close()
        try:
            clear(workplace.folder.fd, everything=everything)
        except OSError as error:
            return f"removing {os.fsdecode(error.filename or b'')!r} failed: {error.strerror}"
        finally:
            self._end_work()
        return 0, 0, 0, 0

    def _end_work(self) -> None:
        workplace, self._workplace = self._workplace, None
        if workplace is not None:
            workplace.objects.close()
            workplace.placing.close()
            workplace.folder.close()

    def close(self) -> None:
        """End. Unfinished files stay for a later run; what made way, too, if ``Tidy`` was not ordered: its
        chunks may still serve. After a ``Broken`` nobody can order that, and the space may be what is short.
        """
        if self._workplace is not None and self._stopped:
            with contextlib.suppress(OSError):
                clear(self._workplace.folder.fd)
        self._end_work()
        beneath, self._beneath = self._beneath, None
        if beneath is not None:
            beneath.close()


def _has_folder(beneath: Beneath) -> bool:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        beneath.dir(PARTIAL)
        beneath.forget(PARTIAL)
        return True
    return False


class _Workplace:
    """All that making files needs, from the first one on: the folder, locked."""

    def __init__(
        self,
        beneath: Beneath,
        folder: Folder,
        trouble: Trouble,
        may_go: dict[bytes, bytes | None],
        arena: memoryview,
        delays: bool,
    ) -> None:
        self.folder = folder
        self.way = Way(beneath, folder, may_go)
        self._delayed = DelayedPlacing(beneath, folder, self.way) if delays else None
        self.placing = self._delayed or Placing(beneath, folder, self.way)
        self.files = Files(beneath, folder, trouble, self.way, self.placing, arena)
        self.objects = Objects(folder, trouble, self.way, self.placing, arena)

    def land(self, order: Land, trouble: Trouble) -> list[Result]:
        """Put what waits into its place; without any that waits, it has not come. Raises Stopped."""
        return (
            [NOT_HERE] * len(order.landings) if self._delayed is None else self._delayed.land(order, trouble)
        )
