"""Keeps the index true to the disk: files whose stamps do not hold are hashed again, in the background.

What is the same gets a row with its new stamp, and is sent from disk to wire again. What is not is lost: it
is announced no more, and people are told, once. Requests do not wait for any of this
(`p2psync.content.doubts`); they say where to look first.

One thread reads, and rests twice as long as it works. All trees are looked at after the start and once a day,
by their attributes alone: the time of a directory walk, and no reading where nothing has changed.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from p2psync.content.doubts import Doubts, Place, recipe_of
from p2psync.daemon.losses import Listings, Loss
from p2psync.errors import P2psyncError, show_path
from p2psync.format.ids import EMPTY, Ref
from p2psync.state import FileRow, State, Tree
from p2psync.state.off_loop import to_its_end
from p2psync.tree.opener import Stamp, open_beneath
from p2psync.tree.recheck import MISSING, UNREADABLE, Checked, recheck, stamp_at, stamp_in

FIRST_LOOK: Final = 15.0
"""Seconds after the start until the trees are looked at: others are served first."""
DAILY: Final = 24 * 3600.0
AGAIN: Final = 60.0
"""Seconds until a tree with a loss, or a directory about which there was a doubt, is looked at again."""
AGAIN_SHARE: Final = 20
"""So many times as long as the last look at a tree took is the least until the next one."""
WORK: Final = 0.05
"""Seconds of work until the thread rests, ``REST`` times as long."""
REST: Final = 2
SETTLE: Final = 0.5
"""Seconds between rounds: what a batch finds is looked at together."""
BUSY: Final = 10.0
"""Seconds until a tree that is being changed or published is looked at again."""
RENEWED_AT_ONCE: Final = 5_000
"""Rows that are written in one transaction: about 20 ms, in which nobody else writes."""
KNOWN_MAX: Final = 10_000
"""Files of which it is remembered what was found, so that none is read again while it stays as it is."""
FAILED: Final = 60.0
"""Seconds of rest after the index could not be read or written."""


class _Stopped(Exception):
    """The node ends."""


class Recheck:
    """Looks after the trees of a state directory, for as long as `run` does."""

    def __init__(
        self,
        state: State,
        doubts: Doubts,
        warn: Callable[[str], None],
        detail: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._state = state
        self._doubts = doubts
        self._warn = warn
        self._detail = detail
        self._clock = clock
        self._losses: dict[int, Loss] = {}
        self._due: dict[int, float] = {}
        self._looked: dict[Place, float] = {}
        self._rests: dict[int, float] = {}
        self._known: dict[tuple[int, bytes, FileRow], Checked] = {}
        self._listings = Listings(state)
        self._began = self._since = clock()
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self.changed: Callable[[], object] | None = None
        """Called from another thread when a tree has lost something, or has it again."""

    def losses(self) -> Mapping[int, Loss]:
        """What trees have lost, by their ids; those that have lost nothing are absent."""
        return dict(self._losses)

    async def run(self) -> None:
        """Until cancelled."""
        self._doubts.wake = self._wake.set
        thread = ThreadPoolExecutor(1, thread_name_prefix="recheck")
        working = asyncio.get_running_loop().run_in_executor(thread, self._work)
        try:
            await to_its_end(working, stop=self._stop)
        finally:
            self._doubts.wake = None
            thread.shutdown()

    def _stop(self) -> None:
        self._stopping.set()
        self._wake.set()

    # In the thread.

    def _work(self) -> None:
        pause = FIRST_LOOK
        while not self._stopping.is_set():
            self._wake.wait(pause)
            self._wake.clear()
            try:
                pause = self.round()
            except _Stopped:
                return
            except P2psyncError as error:
                self._warn(f"files could not be looked at again: {error}")
                pause = FAILED
            self._stopping.wait(SETTLE)

    def round(self) -> float:
        """Look at what is due; seconds until something is due again, if nobody finds anything before."""
        self._since = self._clock()
        trees = {
            tree.id: tree
            for tree in self._state.trees.all()
            if tree.role != "fetch" and tree.archive is not None
        }
        for tree_id in self._due.keys() - trees.keys():
            del self._due[tree_id]
            self._losses.pop(tree_id, None)
            self._doubts.set_damaged(tree_id, {})
        for tree_id in trees.keys() - self._due.keys():
            self._due[tree_id] = self._began + FIRST_LOOK
        for place in self._doubts.take():
            tree = trees.get(place.tree_id)
            if (
                tree is not None
                and self._is_doubtful(place)
                and self._look_into(tree, place.directory, Loss())
            ):
                soon = max(self._clock(), self._rests.get(tree.id, 0.0))
                self._due[tree.id] = min(self._due[tree.id], soon)
        for tree in trees.values():
            if self._due[tree.id] <= self._clock():
                self._due[tree.id] = self._clock() + self._look_at(tree)
        return max(min(self._due.values(), default=self._clock() + DAILY) - self._clock(), SETTLE)

    def _is_doubtful(self, place: Place) -> bool:
        """Whether a directory was not looked at just now."""
        now = self._clock()
        if now < self._looked.get(place, now):
            return False
        if len(self._looked) >= KNOWN_MAX:
            self._looked.clear()
        self._looked[place] = now + AGAIN
        return True

    def _look_at(self, tree: Tree) -> float:
        """Look at all files of a tree; seconds until it is to be done again."""
        if self._is_busy(tree):
            return BUSY
        began = self._clock()
        loss = Loss()
        for directory in self._state.trees.file_directories(tree.id):
            self._look_into(tree, directory, loss)
        loss.gone = loss.files > 0 and not loss.found
        now = self._state.trees.get(tree.path)
        if self._is_busy(tree) or now != tree:
            return BUSY  # what was found may be of a file that was just replaced
        self._note(tree, loss if loss else None)
        rest = max(AGAIN, AGAIN_SHARE * (self._clock() - began))
        self._rests[tree.id] = self._clock() + rest
        return BUSY if loss.unsettled else rest if loss else DAILY

    def _is_busy(self, tree: Tree) -> bool:
        return self._state.place_is_held(tree.path)

    def _note(self, tree: Tree, loss: Loss | None) -> None:
        """Note what a tree has lost, and tell people if it is the first, or the last that was there."""
        before = self._losses.get(tree.id)
        self._doubts.set_damaged(tree.id, {} if loss is None else loss.left)
        if loss is not None:
            self._losses[tree.id] = loss
        else:
            self._losses.pop(tree.id, None)
        kind, was = (None if each is None else each.gone for each in (loss, before))
        if kind == was:
            return
        if loss is None:
            self._detail(f"{show_path(tree.path)} has all of its archive again")
        elif before is None or loss.gone:
            self._warn(loss.sentence(self._state, tree))
        if self.changed is not None:
            self.changed()

    def _look_into(self, tree: Tree, directory: bytes, loss: Loss) -> bool:
        """Look at the files of a directory, and note the stamps of those that are the same; whether any was
        not as the index has it. ``loss`` gets those of the archive that are not.
        """
        try:
            folder = open_beneath(tree.path, directory)
        except OSError:
            folder = -1
        differs = False
        renewed: list[tuple[FileRow, FileRow]] = []
        try:
            for row in self._state.trees.files_in(tree.id, directory).values():
                self._breathe()
                stamp = None if folder < 0 else stamp_at(folder, row.name)
                if stamp == stamp_in(row):
                    loss.found += 1
                    continue
                differs = True
                found = MISSING if stamp is None else self._read(tree, directory, row, folder, stamp)
                loss.found += found.whole
                if found.row is not None:
                    renewed.append((row, found.row))
                    if len(renewed) >= RENEWED_AT_ONCE:
                        self._state.trees.renew_files(tree.id, directory, renewed)
                        renewed.clear()
                elif found.whole:
                    loss.unsettled = loss.unsettled or found.is_unsettled(row)
                elif self._listings.has(tree, directory, row):
                    loss.add(directory, row, found)
        finally:
            if folder >= 0:
                os.close(folder)
            if renewed:
                self._state.trees.renew_files(tree.id, directory, renewed)
        return differs

    def _read(self, tree: Tree, directory: bytes, row: FileRow, folder: int, stamp: Stamp) -> Checked:
        """Hash a file, unless that was done since it was changed last."""
        key = tree.id, directory, row
        known = self._known.get(key)
        if known is not None and known.stamp == stamp:
            return known
        recipe = recipe_of(self._state.meta, Ref(row.size, row.digest) if row.size else EMPTY)
        if recipe is None:
            return UNREADABLE._replace(problem="cannot be checked, as the index has lost its recipe")
        found = recheck(folder, row, recipe, self._breathe)
        if found.row is None and not found.is_unsettled(row):
            if len(self._known) >= KNOWN_MAX:
                self._known.clear()
            self._known[key] = found
        return found

    def _breathe(self) -> None:
        """Rest, if it is time to. Raises _Stopped."""
        worked = self._clock() - self._since
        if worked >= WORK:
            self._stopping.wait(REST * worked)
            self._since = self._clock()
        if self._stopping.is_set():
            raise _Stopped
