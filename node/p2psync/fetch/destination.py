"""DEST: the directory that a fetch works in, what the index knows of it, and its last touches.

Which directory that is follows from SRC as in rsync (rsync(1), USAGE): ``ID`` and ``ID/dir/`` become DEST,
``ID/dir`` becomes ``DEST/dir``, and a single file goes into DEST if that is a directory, else to that name.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from p2psync.errors import SelectionError, UsageError, show_path
from p2psync.fetch import put
from p2psync.fetch.guards import UNDER_WAY, check_place, find_moved, note_begun, note_place
from p2psync.fetch.options import FetchOptions
from p2psync.fetch.placed import is_directory, placed
from p2psync.fetch.recorded import to_record
from p2psync.format.head import ArchiveHead
from p2psync.format.ids import Ref
from p2psync.format.reserved import PARTIAL
from p2psync.plan.changes import Plan
from p2psync.plan.listings import Listings
from p2psync.state import State
from p2psync.state.locks import PROBES_LAST
from p2psync.state.trees import Role, Tree
from p2psync.tree.beneath import Beneath, file_error
from p2psync.tree.maker import LOCK_SECONDS

if TYPE_CHECKING:
    from p2psync.fetch.wanted import Wanted


class Destination:
    """Where a fetch puts what it gets."""

    def __init__(self, options: FetchOptions, state: State, held: bytes | None = None) -> None:
        """``held``: a directory whose lock is held already."""
        self._options = options
        self._state = state
        self._place = os.path.realpath(options.dest)
        self._as_directory = is_directory(options.dest)
        self._held = set() if held is None else {held}
        self._locks = contextlib.ExitStack()
        state.within(self._place)  # Refuses the state directory before anything is looked at.
        self.path = self._place
        """The directory that is worked in: what the user named, or where the single file goes."""
        self.single = False
        """Whether only one file or link is wanted, and all else in the directory is not ours."""
        self._is_new = False
        self.shared = False
        """Whether others are given what is in it; known once `tree` is."""
        self.spared: frozenset[bytes] = frozenset()
        """Paths below it that are left alone: the state directory."""

    def name_for(self, name: bytes) -> bytes:
        """What a single file of this name is called: DEST may be the directory for it, or its new name."""
        return name if self._as_directory else os.path.basename(self._place)

    @contextlib.contextmanager
    def holding(self) -> Iterator[None]:
        """Keep every other fetch out of DEST until the end of the block, from now on or, where it is not yet
        known which directory that is, from `settle` on. Raises BusyError: another one is at work there.
        """
        with self._locks:
            if not self._options.url.name:
                self._hold(self._place)
            yield

    def _hold(self, place: bytes, patience: float = PROBES_LAST) -> None:
        if place not in self._held:
            self._locks.enter_context(self._state.lock_place(place, patience=patience))
            self._held.add(place)

    def settle(self, *, single: bool) -> None:
        """Decide which directory is worked in, and hold it. Raises UsageError, FileError: it cannot be.

        Blocks: a single file waits for others that come into the same directory, as the writer does for its
        folder there.
        """
        self.single = single
        is_file = os.path.lexists(self._place) and not os.path.isdir(self._place)
        if is_file and (self._as_directory or not single):
            what = "what is fetched is one" if not single else "the slash at its end says that it is one"
            raise SelectionError(f"DEST {show_path(self._place)!r} is no directory, and {what}")
        if single:
            self.path = os.path.dirname(placed(self._options.dest, self._options.url, single=True))
        else:
            self.path = placed(self._options.dest, self._options.url, single=False)
        if not single and os.path.lexists(self.path) and not _is_plain_directory(self.path, self._place):
            raise SelectionError(
                f"{show_path(self.path)!r} is in the way of the directory that is fetched; remove it, or end "
                "SRC in a slash to put what is in the directory straight into DEST"
            )
        if single:
            self._hold(self._place, LOCK_SECONDS)
        else:
            self._hold(self.path)
        self.spared = self._state.within(self.path)
        for own in self.spared:
            if own.split(b"/")[0] == PARTIAL:
                raise UsageError(
                    f"the state directory {self._state.path} lies in a folder that goes when the fetch into "
                    f"{os.fsdecode(self.path)} is complete; name another one with --state"
                )

    def tree(self, head: ArchiveHead) -> tuple[Tree, Ref | None]:
        """The tree at DEST, and the snapshot that it had when it was last complete."""
        if not self.single:
            find_moved(self._state, self.path, head.archive)
        known = self._state.trees.get(self.path)
        role: Role = "mirror" if self._options.mirror else "fetch"
        if not (self.single and role == "fetch"):
            refuse_published(self._state, self.path)
        if self.single and role == "mirror":
            raise SelectionError(
                f"'{show_path(self._options.url.path)}' is a file or a link, and a mirror is of a directory: "
                "fetch it, or end SRC in a slash for the directory that a link leads to"
            )
        self._is_new = known is None
        if known is not None and role == "fetch":
            role = known.role
        with self._state.transaction():  # No node may see it before it is known whether it is for others.
            tree = self._state.trees.ensure(self.path, role, None if self.single else head.archive)
            self.shared = share_as_asked(
                self._state, tree, head.archive, self._options.share, new=known is None
            )
        check_place(self._state, tree, accept=self._options.accept_moved)
        for own in self.spared:
            # Versions before this one took what is in it for content.
            self._state.trees.drop_dir(tree.id, own)
        options = self._options
        before = None if self.single else put.complete_of(tree, options.url.path, options.choice)
        return tree, before

    def forget_new(self, tree: Tree) -> None:
        """Forget a tree that was not known before: nothing was put there."""
        if self._is_new:
            self._state.trees.remove(tree)

    def has_stamps(self, tree: Tree) -> bool:
        """Whether a directory that is as it was left is as it should be now."""
        return not self.single and put.has_special_bits(tree) is self._options.special_bits

    def open(self, *, create: bool) -> Beneath | None:
        """DEST, opened; None where it does not exist and ``create`` is off."""
        try:
            return Beneath(self.path, self.spared)
        except FileNotFoundError:
            if not create and not self.single:
                return None
            if self.single and not self._as_directory:
                raise SelectionError(
                    f"there is no directory {os.fsdecode(self.path)!r} to put the file in; make it first"
                ) from None
        except OSError as error:
            raise file_error(error, self.path, "opening the directory") from None
        try:
            if self.path != self._place and not self.single and not os.path.lexists(self._place):
                Beneath.make(self._place).close()
            return Beneath.make(self.path, self.spared)
        except OSError as error:
            raise file_error(error, self.path, "making the directory") from None

    def begin(self, tree: Tree, head: ArchiveHead, wanted: Wanted, plan: Plan, listings: Listings) -> None:
        """Note what is going to be in DEST, before anything is changed there."""
        if wanted.file is None:
            put.note_chosen(tree, wanted.chosen)
            put.note_begun(tree, head, wanted.path, special_bits=self._options.special_bits)
            note_begun(self._state, tree, head, wanted.path, plan, listings)
        else:
            put.note_file(tree, put.File(wanted.file, wanted.path, head.archive, head.epoch, head.seq, False))
            self._state.trees.update(tree)

    def remember(
        self, tree: Tree, head: ArchiveHead, wanted: Wanted, *, looked: bool = True, leaves: bool = False
    ) -> None:
        """DEST equals the snapshot now, but for what options leave as it is (``leaves``). ``looked``: it was
        looked at, and not only taken to be as it was.
        """
        leaves = leaves or (not looked and tree.snapshot is None)
        if wanted.file is not None:
            put.note_file(tree, put.File(wanted.file, wanted.path, head.archive, head.epoch, head.seq, True))
        else:
            if looked:
                note_place(tree)
            put.note_chosen(tree, wanted.chosen)
            tree.options.pop(UNDER_WAY, None)
            put.note_complete(
                tree,
                head,
                wanted.path,
                special_bits=self._options.special_bits,
                choice=self._options.choice,
            )
            if self._options.mirror:
                tree.source = str(self._options.url.inner)
                tree.options |= to_record(self._options)
            if leaves or (wanted.chosen is not None and not wanted.chosen.whole):
                tree.epoch, tree.seq, tree.snapshot = head.epoch, head.seq, None
            elif not wanted.path:
                tree.epoch, tree.seq, tree.snapshot = head.epoch, head.seq, head.snapshot
        known = self._state.trees.get(self.path)
        if known != tree:
            with self._state.transaction():
                self._state.trees.update(tree)
                self._state.meta.add_snapshot(head.archive, head.epoch, head.seq, head.snapshot)
            self._state.tidy()


def share_as_asked(state: State, tree: Tree, archive: bytes, share: bool | None, *, new: bool) -> bool:
    """Whether a tree is for others, and remember it: as asked, else as the last time, else (for a ``new``
    one) as the others of its archive.
    """
    if share is None:
        share = not state.offers.is_withheld(archive, None if new else tree.id)
    state.offers.withhold(tree.id, archive, withheld=not share)
    return share


def refuse_published(state: State, path: bytes) -> None:
    """Raises UsageError: ``path`` (absolute, real) is or lies in a directory that is published from here."""
    above = path
    while True:
        tree = state.trees.get(above)
        if tree is not None and tree.role == "publish":
            where = (
                f"{show_path(path)} is" if above == path else f"{show_path(path)} lies in a directory that is"
            )
            which = "" if above == path else f" ({show_path(above)}), and would be published with it"
            raise UsageError(f"{where} published from here{which}; name another directory")
        if above == os.path.dirname(above):
            return
        above = os.path.dirname(above)


def _is_plain_directory(path: bytes, dest: bytes) -> bool:
    """Whether a directory is there that may be worked in: DEST as the user named it, or one below it that no
    link leads to, which may be anybody's.
    """
    return os.path.isdir(path) and (path == dest or not os.path.islink(path))


def leave_root(plan: Plan) -> None:
    """Of a plan for what is listed in an archive: leave alone the mode and time of DEST itself."""
    for work in plan.dirs:
        if not work.path:
            work.retouch = False
            work.mode = work.mtime_ns = None
    plan.dirs = [work for work in plan.dirs if work.path or work.changes]
    plan.dress_root = False


def only_the_file(plan: Plan) -> None:
    """Of a plan for a single file: leave alone everything else in the directory that it is in."""
    for work in plan.dirs:
        work.extraneous, work.retouch = [], False
        work.mode = work.mtime_ns = None
    plan.dirs = [work for work in plan.dirs if work.content or work.symlinks or work.metadata]
    plan.dress_root = False
