"""DEST: the directory that a fetch works in, what the index knows of it, and its last touches."""

from __future__ import annotations

import os

from p2psync.errors import FileError, UsageError
from p2psync.fetch.options import FetchOptions
from p2psync.fetch.recorded import to_record
from p2psync.format.head import ArchiveHead
from p2psync.format.ids import Ref
from p2psync.format.reserved import PARTIAL
from p2psync.plan.changes import Plan
from p2psync.state import State
from p2psync.state.trees import Role, Tree
from p2psync.tree.beneath import Beneath, file_error


class Destination:
    """Where a fetch puts what it gets."""

    def __init__(self, options: FetchOptions, state: State) -> None:
        self._options = options
        self._state = state
        self._place = os.path.realpath(options.dest)
        state.within(self._place)  # Refuses the state directory before anything is looked at.
        self.path = self._place
        """The directory that is worked in: what the user named, or where the single file goes."""
        self.single = False
        """Whether only one file or link is wanted, and all else in the directory is not ours."""
        self.spared: frozenset[bytes] = frozenset()
        """Paths below it that are left alone: the state directory."""

    def name_for(self, name: bytes) -> bytes:
        """What a single file of this name is called: DEST may be the directory for it, or its new name."""
        return name if os.path.isdir(self._place) else os.path.basename(self._place)

    def settle(self, *, single: bool) -> None:
        """Decide which directory is worked in. Raises UsageError if it cannot be."""
        self.single = single
        self.path = os.path.dirname(self._place) if single and not os.path.isdir(self._place) else self._place
        self.spared = self._state.within(self.path)
        for own in self.spared:
            if own.split(b"/")[0] == PARTIAL:
                raise UsageError(
                    f"the state directory {self._state.path} lies in a folder that goes when the fetch into "
                    f"{os.fsdecode(self.path)} is complete; name another one with --state"
                )

    def tree(self, head: ArchiveHead) -> tuple[Tree, Ref | None]:
        """The tree at DEST, and the snapshot that it had when it was last complete."""
        known = self._state.trees.get(self.path)
        role: Role = "mirror" if self._options.mirror else "fetch"
        if known is not None and known.role == "publish" and not (self.single and role == "fetch"):
            raise UsageError(f"{os.fsdecode(self.path)} is published from here; fetch into another directory")
        if known is not None and role == "fetch":
            role = known.role
        tree = self._state.trees.ensure(self.path, role, None if self.single else head.archive)
        for own in self.spared:
            # Versions before this one took what is in it for content.
            self._state.trees.drop_dir(tree.id, own)
        if not self.single and known is not None and not os.path.lexists(self.path):
            # It was removed. To look for each file where it was would take longer than to fetch it.
            self._state.trees.drop_dir(tree.id, b"")
        before = tree.options.get("complete")
        same_path = tree.options.get("path", b"") == self._options.url.path
        return tree, Ref(*before) if before and same_path and not self.single else None

    def open(self, *, create: bool) -> Beneath | None:
        """DEST, opened; None where it does not exist and ``create`` is off."""
        try:
            return Beneath(self.path, self.spared)
        except FileNotFoundError:
            if not create and not self.single:
                return None
            if self.single:
                raise FileError(
                    f"there is no directory {os.fsdecode(self.path)!r} to put the file in; make it first"
                ) from None
        except OSError as error:
            raise file_error(error, self.path, "opening the directory") from None
        try:
            return Beneath.make(self.path, self.spared)
        except OSError as error:
            raise file_error(error, self.path, "making the directory") from None

    def remember(self, tree: Tree, head: ArchiveHead) -> None:
        """DEST equals the snapshot now."""
        if self.single:
            return
        whole = not self._options.url.path
        tree.options["path"] = self._options.url.path
        tree.options["complete"] = head.snapshot.to_row()
        if self._options.mirror:
            tree.source = str(self._options.url)
            tree.options |= to_record(self._options)
        if whole:
            tree.epoch, tree.seq, tree.snapshot = head.epoch, head.seq, head.snapshot
        known = self._state.trees.get(self.path)
        if known != tree:
            with self._state.transaction():
                self._state.trees.update(tree)
                self._state.meta.add_snapshot(head.archive, head.epoch, head.seq, head.snapshot)
            self._state.tidy()


def only_the_file(plan: Plan) -> None:
    """Of a plan for a single file: leave alone everything else in the directory that it is in."""
    for work in plan.dirs:
        work.extraneous, work.retouch = [], False
        work.mode = work.mtime_ns = None
    plan.dirs = [work for work in plan.dirs if work.content or work.symlinks or work.metadata]
    plan.dress_root = False
