"""Names in DEST that the snapshot does not have: which may go. Decides, and removes nothing.

What an archive says of itself is no evidence here: whoever signs a snapshot can name earlier ones that never
were. By default (``Delete.OWN``) only that goes which the index of this state directory says was put into
this DEST, and which is still what was put there: a file that was here before the first fetch, or was edited
since, is its owner's. A directory goes when nothing is left in it. A state directory that lies in DEST stays
whatever the user says, and so do the directories above it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Final, NamedTuple, TypeVar

from p2psync.format.paths import join, split
from p2psync.format.reserved import TEMPORARY_PREFIX
from p2psync.plan.changes import Deletion, Plan
from p2psync.plan.delete import Delete
from p2psync.rules.filter import Filter
from p2psync.state import State
from p2psync.state.made import DIRECTORY
from p2psync.state.off_loop import off_loop
from p2psync.state.rows import was_put
from p2psync.state.trees import FileRow, Tree
from p2psync.tree.beneath import Beneath
from p2psync.tree.reading import Truncated, hash_file
from p2psync.tree.stamp import Stamp
from p2psync.tree.survey import survey

T = TypeVar("T")
NO_RULES: Final = Filter()


class _Verdict(Enum):
    """What becomes of a name."""

    STAYS = 0
    """It stays, or something in it."""
    GOES = 1
    """It goes by itself; a directory if it is empty by then."""
    WHOLE = 2
    """It goes with all below it."""
    INSIDE = 3
    """That follows from what is in it."""


class _Evidence(NamedTuple):
    """What the index knows of the names in one directory of DEST."""

    files: Mapping[bytes, FileRow]
    made: Mapping[bytes, bytes | None]


class _Directory:
    """A directory that goes if everything in it does."""

    __slots__ = ("all_goes", "evidence", "found", "may_go", "names", "path")

    def __init__(
        self, path: bytes, found: Mapping[bytes, os.stat_result], evidence: _Evidence, may_go: bool
    ) -> None:
        self.path = path
        self.found = found
        self.evidence = evidence
        self.may_go = may_go
        self.names = iter(_in_order(found))
        self.all_goes = True


class Deletions:
    """Decides what may go, as far as the policy allows. Everything in it happens in other threads, in one at
    a time.
    """

    def __init__(
        self,
        state: State,
        tree: Tree,
        beneath: Beneath,
        policy: Delete,
        limit: int | None = None,
        rules: Filter = NO_RULES,
    ) -> None:
        """``limit``: names that may go (rsync's --max-delete), None for any number; directories that make way
        do not count, as in rsync. ``rules``: what is protected whatever the policy.
        """
        self._state = state
        self._tree = tree
        self._beneath = beneath
        self._policy = policy
        self._limit = limit
        self._left = limit
        self.rules = rules
        self._made: list[Deletion] = []
        self._stopped = False
        self.kept: list[bytes] = []
        """Names, at the highest level, that stay although the snapshot does not have them."""
        self.edited: list[bytes] = []
        """Files among them that were put here and were changed since."""
        self.withheld = 0
        """Names that stay because of the limit."""
        self.refused: list[str] = []
        """Directories that stay since they cannot be read, each with the reason."""

    async def make_way(self, plan: Plan) -> dict[bytes, bytes | None]:
        """Which of the directories that stand where the snapshot has a file or a link may go when that is
        here, each with the seal (``tree.survey``) that it must have then, None for any.
        """
        if self._policy == Delete.NONE or not any(work.conflicts for work in plan.dirs):
            return {}
        return await self._beside(lambda: self._make_way(plan))

    async def decide(self, plan: Plan) -> None:
        """Fill in ``plan.deletions``, and what is kept."""
        self._made, self._left = [], self._limit
        self.kept, self.edited, self.withheld, self.refused = [], [], 0, []
        self.kept += [join(work.path, name) for work in plan.dirs for name in work.guarded]
        if any(work.extraneous for work in plan.dirs):
            await self._beside(lambda: self._decide(plan))
        plan.deletions = self._made

    async def _beside(self, work: Callable[[], T]) -> T:
        """Do it in a thread. Who cancels this may close DEST afterwards: the thread has ended then."""

        def stop() -> None:
            self._stopped = True

        return await off_loop(work, stop=stop)

    # All of these are called in the thread.

    def _make_way(self, plan: Plan) -> dict[bytes, bytes | None]:
        may_go: dict[bytes, bytes | None] = {}
        for work in plan.dirs:
            for name in work.conflicts:
                path = join(work.path, name)
                if self._stopped or self._beneath.spares(path):
                    continue
                if self._policy == Delete.ALL and not self.rules.rules:
                    may_go[path] = None
                    continue
                try:
                    seal = survey(self._beneath, path).seal
                    if self._is_ours(work.path, name):
                        may_go[path] = seal
                except OSError:
                    continue  # Gone, or unreadable: then it is looked at when its place is needed.
        return may_go

    def _is_ours(self, path: bytes, name: bytes) -> bool:
        """Whether a directory and all below it may go: were put here and are as they were then, unless all is
        to go that is not protected. As in rsync, rules are about what is in it, and not about itself: the
        snapshot has its name.
        """
        made, limit = self._made, self._left
        self._made, self._left = [], None
        try:
            found = self._look(path)
            evidence = self._evidence(path, [name])
            return (
                name in found
                and self._verdict(path, name, found[name], evidence, ruled=False) is _Verdict.GOES
            )
        finally:
            self._made, self._left = made, limit

    def _decide(self, plan: Plan) -> None:
        for work in plan.dirs:
            if self._stopped:
                return
            if work.extraneous:
                self._in_directory(work.path, work.extraneous)

    def _in_directory(self, path: bytes, names: Sequence[bytes]) -> None:
        try:
            found = {name: status for name, status in self._look(path).items() if name in names}
        except OSError as error:
            self.refused.append(f"{os.fsdecode(path)!r}: the directory cannot be read ({error.strerror})")
            return
        evidence = self._evidence(path, found)
        for name in _in_order(found):
            if name.startswith(TEMPORARY_PREFIX) and not stat.S_ISDIR(found[name].st_mode):
                self._emit(
                    path, name, _Verdict.GOES
                )  # A run that was killed left it: it goes whatever the policy.
                continue
            verdict = self._verdict(path, name, found[name], evidence)
            if verdict is _Verdict.STAYS:
                self.kept.append(join(path, name))
            else:
                self._emit(path, name, verdict)

    def _emit(self, path: bytes, name: bytes, verdict: _Verdict) -> None:
        if not self._made or self._made[-1].path != path:
            self._made.append(Deletion(path, []))
        self._made[-1].names.append((name, verdict is _Verdict.WHOLE))

    def _verdict(
        self, path: bytes, name: bytes, found: os.stat_result, evidence: _Evidence, *, ruled: bool = True
    ) -> _Verdict:
        """What becomes of one name; ``ruled``: if rules let it. What is below a directory is decided before
        the directory itself.
        """
        verdict = self._at_once(path, name, found, evidence, inside=False, ruled=ruled)
        if verdict is not _Verdict.INSIDE:
            return verdict
        # Not by recursion: a tree may be deeper than that goes.
        stack = [self._inside(path, name, evidence)]
        while True:
            at = stack[-1]
            for inner in at.names:
                verdict = self._at_once(at.path, inner, at.found[inner], at.evidence, inside=True)
                if verdict is _Verdict.INSIDE:
                    stack.append(self._inside(at.path, inner, at.evidence))
                    break
                self._settle(at, inner, verdict)
            else:
                stack.pop()
                goes = at.all_goes and at.may_go and self._counted()
                verdict = _Verdict.GOES if goes else _Verdict.STAYS
                if not stack:
                    return verdict
                self._settle(stack[-1], split(at.path)[1], verdict)

    def _at_once(
        self,
        path: bytes,
        name: bytes,
        found: os.stat_result,
        evidence: _Evidence,
        *,
        inside: bool,
        ruled: bool = True,
    ) -> _Verdict:
        """What becomes of a name, as far as that does not follow from what is in it. ``inside``: it is in a
        directory that is to go.
        """
        where = join(path, name)
        if self._policy == Delete.NONE or where in self._beneath.spared or self._stopped:
            return _Verdict.STAYS
        is_directory = stat.S_ISDIR(found.st_mode)
        if ruled and self.rules.rules and self.rules.protected(where, is_directory, inside=inside):
            return _Verdict.STAYS
        if is_directory:
            if self._policy == Delete.ALL:
                plain = self._left is None and not self.rules.rules and not self._beneath.spares(where)
                return _Verdict.WHOLE if plain else _Verdict.INSIDE
            known = name in evidence.made or self._state.trees.knows_below(self._tree.id, where)
            return _Verdict.INSIDE if known else _Verdict.STAYS
        goes = self._policy == Delete.ALL or self._untouched(path, name, found, evidence)
        return _Verdict.GOES if goes and self._counted() else _Verdict.STAYS

    def _inside(self, path: bytes, name: bytes, evidence: _Evidence) -> _Directory:
        where = join(path, name)
        try:
            found = self._look(where)
        except OSError as error:
            self.refused.append(f"{os.fsdecode(where)!r}: the directory cannot be read ({error.strerror})")
            return _Directory(where, {}, _Evidence({}, {}), may_go=False)
        made = self._policy == Delete.ALL or evidence.made.get(name, b"") is DIRECTORY
        may_go = made and not self._beneath.spares(where)  # What is spared does not show.
        return _Directory(where, found, self._evidence(where, found), may_go)

    def _settle(self, directory: _Directory, name: bytes, verdict: _Verdict) -> None:
        if verdict is _Verdict.STAYS:
            directory.all_goes = False
        else:
            self._emit(directory.path, name, verdict)

    def _counted(self) -> bool:
        """Take one from the limit; False where nothing is left of it."""
        if self._left is None:
            return True
        if self._left:
            self._left -= 1
            return True
        self.withheld += 1
        return False

    # Evidence.

    def _evidence(self, path: bytes, names: Sequence[bytes] | Mapping[bytes, object]) -> _Evidence:
        if self._policy != Delete.OWN or not names:
            return _Evidence({}, {})
        files = self._state.trees.files_in(self._tree.id, path)
        return _Evidence(files, self._state.made.of(self._tree.id, path, names))

    def _untouched(self, path: bytes, name: bytes, found: os.stat_result, evidence: _Evidence) -> bool:
        """Whether a file or link was put here, and is what was put here."""
        if stat.S_ISLNK(found.st_mode):
            target = evidence.made.get(name)
            try:
                return target is not None and self._beneath.read_link(path, name) == target
            except OSError:
                return False  # Replaced since it was listed.
        row = evidence.files.get(name)
        if row is None or not was_put(row) or not stat.S_ISREG(found.st_mode):
            return False
        if row[1:5] == Stamp.of(found) or (row.size == found.st_size and self._has(path, name, row)):
            return True
        self.edited.append(join(path, name))
        return False

    def _has(self, path: bytes, name: bytes, row: FileRow) -> bool:
        """Whether the content of a file that somebody touched is still what was put here."""
        if not row.size:
            return True
        try:
            fd = self._beneath.open_file(path, name)
        except OSError:
            return False
        try:
            return hash_file(fd, row.size)[0].digest == row.digest
        except (OSError, Truncated):
            return False
        finally:
            os.close(fd)

    def _look(self, path: bytes) -> dict[bytes, os.stat_result]:
        """What is in a directory of DEST now. Raises OSError."""
        try:
            return self._beneath.scan(path)
        except FileNotFoundError:
            return {}


def _in_order(found: Mapping[bytes, os.stat_result]) -> list[bytes]:
    """The order in which rsync deletes, which shows where it stops: its list backwards, that has files before
    directories (rsync's flist.c, f_name_cmp).
    """
    return sorted(found, key=lambda name: (stat.S_ISDIR(found[name].st_mode), name), reverse=True)
