"""The process that writes files is killed, or who gives it orders, or both: old files or new ones, nothing
left running, and nothing left lying about after the next run."""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.e2e.test_interrupted import enlarge, small_disk
from tests.e2e.writer_at_work import BIG, DIRS, FILES, MTIME, OLD, make_old, new, orders

from p2psync.tree.orders import MayReplace

FACTS = sum(not isinstance(order, MayReplace) for order in orders())
ENDS_WITHIN = 60.0
"""Seconds after which a process that should have ended counts as left running, on a machine that is busy."""


class Run:
    """The program at work."""

    def __init__(self, dest: Path) -> None:
        command = [sys.executable, "-m", "tests.e2e.writer_at_work", os.fspath(dest)]
        pipe = subprocess.PIPE
        self.program = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        self._writer = os.pidfd_open(int(self.line()))
        assert self.program.stdin is not None
        self.program.stdin.write("\n")
        self.program.stdin.flush()

    def line(self) -> str:
        """The next line that it prints; empty at its end."""
        assert self.program.stdout is not None
        return self.program.stdout.readline()

    def signal_writer(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):  # It may have ended a moment ago.
            signal.pidfd_send_signal(self._writer, number)

    def end(self) -> int:
        """The status of the program, when nothing of it is running any more."""
        status = self.program.wait(ENDS_WITHIN)
        assert select.select([self._writer], [], [], ENDS_WITHIN)[0], "the writer is left running"
        os.close(self._writer)
        for stream in (self.program.stdin, self.program.stdout):
            assert stream is not None
            stream.close()
        return status


def old_or_new(dest: Path) -> None:
    for directory in range(DIRS):
        for number in range(FILES):
            path = dest / f"d{directory}" / f"f{number}"
            before = OLD if directory % 2 == 0 and number % 2 == 0 else None
            found = path.read_bytes() if path.exists() else None
            assert found in (before, new(directory, number)), path
            if found not in (None, OLD):
                assert (path.stat().st_mtime_ns, path.stat().st_mode & 0o777) == (MTIME, 0o640)
        if directory % 2 == 0:
            assert os.readlink(dest / f"d{directory}" / "link") in ("old", "new")
    assert (dest / "big").read_bytes() in (OLD, BIG)
    way = dest / "way"
    if way.is_dir():
        assert (way / "inner" / "file").read_bytes() == OLD
    else:
        assert way.read_bytes() == BIG


def all_new(dest: Path) -> None:
    assert sorted(os.listdir(dest)) == sorted(["big", "way", *(f"d{n}" for n in range(DIRS))])
    for directory in range(DIRS):
        place = dest / f"d{directory}"
        assert sorted(os.listdir(place)) == sorted(["link", *(f"f{n}" for n in range(FILES))])
        assert all((place / f"f{n}").read_bytes() == new(directory, n) for n in range(FILES))
    assert (dest / "big").read_bytes() == (dest / "way").read_bytes() == BIG


@pytest.mark.parametrize("victims", ["writer", "giver", "both"])
@pytest.mark.parametrize("seed", range(10))
def test_killed_at_any_moment(tmp_path: Path, victims: str, seed: int) -> None:
    dest = tmp_path / "dest"
    make_old(dest)
    run = Run(dest)
    for _ in range(random.Random(f"{victims} {seed}").randrange(FACTS)):
        run.line()
    if victims != "giver":
        run.signal_writer(signal.SIGKILL)
    if victims != "writer":
        run.program.kill()
    status = run.end()
    if victims == "writer":
        assert status in (0, 3)  # 0: it had just ended.
    old_or_new(dest)
    assert Run(dest).end() == 0
    all_new(dest)


def test_a_run_that_begins_while_a_killed_ones_writer_is_at_its_last_order_waits_for_it(
    tmp_path: Path,
) -> None:
    dest = tmp_path / "dest"
    make_old(dest)
    first = Run(dest)
    first.line()
    first.signal_writer(signal.SIGSTOP)
    first.program.kill()
    second = Run(dest)
    first.signal_writer(signal.SIGCONT)
    first.end()
    assert second.end() == 0
    all_new(dest)


def test_on_a_full_disk_old_files_stay_and_with_more_space_the_next_run_completes(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, 700_000):
        dest = disk / "dest"
        make_old(dest)
        assert Run(dest).end() == 3
        old_or_new(dest)
        enlarge(disk, 8 << 20)
        assert Run(dest).end() == 0
        all_new(dest)


@pytest.mark.parametrize("seed", range(3))
def test_killed_while_it_writes_to_another_file_system_within_dest(tmp_path: Path, seed: int) -> None:
    dest = tmp_path / "dest"
    make_old(dest)
    mounted = dest / "d1"
    with small_disk(mounted, 8 << 20):
        run = Run(dest)
        for _ in range(seed * 3):
            run.line()
        run.signal_writer(signal.SIGKILL)
        run.end()
        old_or_new(dest)
        (mounted / ".p2psync-tmp-1").write_bytes(b"left by a run that was killed")
        assert Run(dest).end() == 0
        all_new(dest)
