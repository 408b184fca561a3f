"""The same options, the same tree and the same DEST for rsync and for a fetch: what each makes of it.

A tree is a `Tree` of the simulator. rsync runs between two folders, the fetch takes place in memory but for
DEST. They are compared by the trees that they leave, by what was deleted and by exit codes.
"""

from __future__ import annotations

import io
import os
import shutil
import stat
import subprocess
from itertools import count
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.node.fetch_world import World
from tests.node.simulator import MTIME, Link, Tree

from p2psync.events import Teller
from p2psync.rsync.command_line import read as read_words
from p2psync.rsync.wishes import wishes
from p2psync.rules.names import read_names
from p2psync.ui.as_rsync import AsRsync

OLD: Final = MTIME - 10**9 * 3600
"""Time of what stands in DEST before, unless it is told to be the archive's."""


NOW_NS: Final = MTIME + 10**9 * 7200
"""Whatever is younger was changed by the run."""


COMPLAINTS: Final = (
    b"cannot delete non-empty directory: ",
    b"IO error encountered -- skipping file deletion",
)
"""What rsync says among its changes."""
WISHES: Final = wishes(read_words(["-i", "-8"]))
_NUMBERS: Final = count(1)


class Outcome(NamedTuple):
    """What a run left: of each path its kind, content, mode and time."""

    tree: dict[bytes, tuple[Any, ...]]
    deleted: int
    code: int
    lines: list[bytes]
    """What --itemize-changes says, in no order."""


def make(root: bytes, tree: Tree, mtime_ns: int = MTIME) -> None:
    """Make a tree on the disk, as the simulator's publisher describes it."""
    os.makedirs(root, exist_ok=True)
    for name, value in tree.items():
        path = os.path.join(root, name)
        if isinstance(value, bytes):
            Path(os.fsdecode(path)).write_bytes(value)
            os.chmod(path, 0o644)
        elif isinstance(value, Link):
            os.symlink(value.target, path)
        else:
            make(path, value, mtime_ns)
            continue
        os.utime(path, ns=(mtime_ns, mtime_ns), follow_symlinks=False)
    os.chmod(root, 0o755)  # noqa: S103 - as the simulator has it
    os.utime(root, ns=(mtime_ns, mtime_ns))


def read(root: bytes) -> dict[bytes, tuple[Any, ...]]:
    """What is there, by path. The root itself is b""."""
    found: dict[bytes, tuple[Any, ...]] = {}
    pending = [b""]
    while pending:
        path = pending.pop()
        place = os.path.join(root, path) if path else root
        status = os.lstat(place)
        if stat.S_ISDIR(status.st_mode):
            pending += [os.path.join(path, name) for name in os.listdir(place)]
            inside: bytes | None = None
        elif stat.S_ISLNK(status.st_mode):
            inside = os.readlink(place)
        else:
            inside = Path(os.fsdecode(place)).read_bytes()
        # The time of a directory that only lost a name is that of the moment.
        mtime_ns = status.st_mtime_ns if status.st_mtime_ns < NOW_NS else None
        found[path] = (stat.S_IFMT(status.st_mode), inside, stat.S_IMODE(status.st_mode), mtime_ns)
    return found


class Bench:
    """One archive after another, fetched and copied with the same options."""

    def __init__(self, world: World) -> None:
        self._world = world

    def compare(
        self,
        tree: Tree,
        before: Tree,
        words: list[bytes],
        *,
        below: bytes = b"",
        before_ns: int = OLD,
        names: list[bytes] | None = None,
        **options: Any,
    ) -> tuple[Outcome, Outcome]:
        """What rsync with ``words``, and a fetch with ``options``, make of a DEST in which ``before`` stands.
        ``below``: the part of the tree that is asked for, as SRC names it. ``names``: a list of what takes
        part, for --files-from.
        """
        folder = os.fsencode(self._world.folder) + b"/%d" % next(_NUMBERS)
        source, theirs, ours = folder + b"/source", folder + b"/theirs", folder + b"/ours"
        try:
            make(source, tree)
            for dest in (theirs, ours):
                make(dest, before, before_ns)
            was = read(theirs)
            done = subprocess.run(
                [
                    b"rsync",
                    b"-lpti",
                    b"-8",
                    *self._listed(folder, names),
                    *words,
                    b"--",
                    source + b"/" + below,
                    theirs + b"/",
                ],
                capture_output=True,
                check=False,
            )
            expected = self._outcome(theirs, was, done.returncode, done.stdout)
            self._world.publisher.publish(tree)
            if names is not None:
                text = Path(os.fsdecode(folder + b"/names")).read_bytes()
                options["names"] = tuple(read_names(text, nul=True))
            lines = self._planned(ours, below, options)
            summary = self._world.fetch(ours, below, **options)
            return self._outcome(ours, was, summary.exit_code, lines), expected
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @staticmethod
    def _listed(folder: bytes, names: list[bytes] | None) -> list[bytes]:
        """Words for a list of names; without one, everything below is asked for."""
        if names is None:
            return [b"-r"]
        Path(os.fsdecode(folder + b"/names")).write_bytes(b"".join(name + b"\0" for name in names))
        return [b"--from0", b"--files-from=" + folder + b"/names"]

    def _planned(self, dest: bytes, below: bytes, options: dict[str, Any]) -> bytes:
        """What a fetch says that it would do, and does not."""
        out = io.BytesIO()
        name = below if below and not below.endswith(b"/") else b""
        told = AsRsync(WISHES, out, None, lambda _: None, prefix=name + b"/" if name else b"")
        before = read(dest)
        self._world.fetch(dest, below, dry_run=True, tell=Teller(told.hear, changes=True), **options)
        assert read(dest) == before
        return out.getvalue()

    @staticmethod
    def _outcome(dest: bytes, was: dict[bytes, tuple[Any, ...]], code: int, lines: bytes) -> Outcome:
        tree = read(dest)
        told = sorted(line for line in lines.splitlines() if not line.startswith(COMPLAINTS))
        return Outcome(tree, len(was.keys() - tree.keys()), code, told)
