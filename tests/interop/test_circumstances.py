"""When one of an archive's paths meets trouble, p2psync leaves what rsync leaves, or less undone, and says
so.

The circumstances are those of ``make circumstances`` that any file system has; each is set up for both
programs.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.circumstances.cases import CIRCUMSTANCES, Circumstance
from tests.circumstances.stage import Outcome, P2psync, Program, Rsync, clean
from tests.e2e.harness import need

CHOSEN = [
    pytest.param(each, plain, id=f"{each.name}-{'user' if plain else 'root'}")
    for each in CIRCUMSTANCES
    for plain in each.plain
    if "ext4" in each.places and "tmpfs" in each.places and each.quick
]


@pytest.fixture(scope="module")
def programs() -> Iterator[tuple[Program, Program]]:
    need("rsync")
    if os.geteuid():
        pytest.skip("only root can set up what is somebody else's")
    # Not below pytest's folder, which no plain user may enter.
    folder = Path(tempfile.mkdtemp(prefix="circumstances-"))
    folder.chmod(0o755)
    try:
        with Rsync(folder).running() as rsync, P2psync(folder).running() as p2psync:
            yield p2psync, rsync
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def outcome(circumstance: Circumstance, program: Program, plain: bool) -> Outcome:
    folder = Path(tempfile.mkdtemp(dir=program.folder))
    folder.chmod(0o755)
    (folder / "place").mkdir()
    try:
        return circumstance.outcome(program, folder, folder / "place", plain=plain)
    finally:
        clean(folder)


@pytest.mark.parametrize(("circumstance", "plain"), CHOSEN)
def test_one_paths_trouble_is_that_paths(
    programs: tuple[Program, Program], circumstance: Circumstance, plain: bool
) -> None:
    ours, theirs = (outcome(circumstance, program, plain) for program in programs)
    assert ours.undone <= theirs.undone | circumstance.left
    if ours.undone or ours.code:
        assert ours.code == 23
        assert theirs.code == 23 or circumstance.left
        assert ours.said
        assert all(line.startswith("p2psync: warning: '") for line in ours.said)
