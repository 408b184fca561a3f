"""Files of a DEST that is not ours are made in TMPDIR: nothing of them stays, whatever ends a run."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from p2psync.tree.aside import PREFIX, Aside


@pytest.fixture
def above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_it_goes_with_all_that_is_in_it(above: Path) -> None:
    aside = Aside()
    (made,) = above.iterdir()
    assert made.stat().st_mode & 0o777 == 0o700
    (made / "object").write_bytes(b"x")
    aside.close()
    assert list(above.iterdir()) == []


def test_what_a_killed_run_left_goes_and_what_another_run_uses_stays(above: Path) -> None:
    left = above / f"{PREFIX}left"
    (left / "deep").mkdir(parents=True)
    (left / "deep" / "object").write_bytes(b"x" * 100)
    (above / "p2psync-demo-1").mkdir()
    (above / f"{PREFIX}file").write_bytes(b"a file")
    (above / f"{PREFIX}link").symlink_to(above / "p2psync-demo-1")
    one = Aside()
    used = {path for path in above.iterdir() if path.is_dir() and not path.is_symlink()}
    assert left not in used
    two = Aside()
    assert used < set(above.iterdir())
    one.close()
    two.close()
    assert {path.name for path in above.iterdir()} == {"p2psync-demo-1", f"{PREFIX}file", f"{PREFIX}link"}


def test_it_is_unlocked_when_its_process_ends(above: Path) -> None:
    if os.fork() == 0:
        Aside()
        os._exit(0)  # As if killed: nothing is closed in order.
    os.wait()
    assert len(list(above.iterdir())) == 1
    Aside().close()
    assert list(above.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a directory away needs root")
def test_what_belongs_to_somebody_else_is_left_alone(above: Path) -> None:
    theirs = above / f"{PREFIX}theirs"
    theirs.mkdir()
    os.chown(theirs, 65534, 65534)
    Aside().close()
    assert list(above.iterdir()) == [theirs]
