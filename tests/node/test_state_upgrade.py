"""A state directory of an older version is brought to this one, whole or not at all."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

from p2psync.format.listing import Totals
from p2psync.format.snapshot import Snapshot
from p2psync.state import State

SCHEMA_1 = Path(__file__).parent / "fixtures" / "index-schema-1.sql"
ARCHIVE = bytes.fromhex("5083d5124fd6953692ad7dcd9969438252c466decc141db9d15531b9c7c627c4")
HELLO = bytes.fromhex("8e4c7c1b99dbfd50e7a95185fead5ee1448fa904a2fdd778eaf5f2dbfd629a99")
LARGE = bytes.fromhex("4b9b86b41a062aaaa93f20b136bde575fc2edbd5b99ee314fe4e7f039542c96f")


def old_state(path: Path) -> Path:
    path.mkdir()
    made = sqlite3.connect(path / "index.sqlite")
    made.executescript(SCHEMA_1.read_text())
    made.close()
    return path


def check(path: Path) -> None:
    """Everything that the old index had is in this one."""
    with State.open(path) as state:
        published, mirror = state.trees.all()
        assert (published.path, published.role, published.archive) == (
            b"/tmp/fixture-archive",
            "publish",
            ARCHIVE,
        )
        assert published.snapshot is not None
        raw = state.meta.get(published.snapshot.digest)
        assert raw is not None
        root = Snapshot.decode(raw).root
        directories = dict(state.trees.directories(published.id))
        assert directories.keys() == {b"", b"hollow", b"sub", b"sub/deep"}
        assert directories[b""].listing == root.ref
        assert directories[b"sub"].totals == Totals(4, 1, 0, 96109)
        assert {row.stamp for row in directories.values()} == {b""}  # of another kind: looked at once more
        assert state.trees.dir_by_inode(published.id, 2405488) == b"sub/deep"
        assert state.trees.files_in(published.id, b"").keys() == {b"empty", b"readme"}
        assert state.trees.files_in(published.id, b"sub").keys() == {b"copy", b"\xff\n'"}
        large = state.trees.files_in(published.id, b"sub/deep")[b"large"]
        assert large[1:] == (
            96000,
            1700000000123456789,
            1795572946241842200,
            2405489,
            LARGE,
            1795572946282129199,
        )
        assert state.meta.get_recipe(LARGE) is not None
        assert {(place.dir, place.name) for place in state.trees.find(HELLO)} == {
            (b"", b"readme"),
            (b"sub", b"copy"),
        }
        assert [place.name for place in state.trees.find(b"", public=True)] == [b"empty", b"none"]
        assert state.trees.files_in(mirror.id, b"pool/a")[b"f"].ino == (1 << 64) - 1
        assert {place.dir for place in state.trees.find(b"d" * 32)} == {b"", b"pool/a"}
        assert dict(state.trees.directories(mirror.id)) == {}
        head = state.heads.newest(ARCHIVE)
        assert head is not None and head.snapshot == published.snapshot


def test_one_row_per_file_becomes_one_per_directory(tmp_path: Path) -> None:
    state = old_state(tmp_path / "s")
    check(state)
    check(state)


def test_killed_while_it_is_upgraded_the_old_index_is_still_there(tmp_path: Path) -> None:
    state = old_state(tmp_path / "s")
    script = """
import os, signal, sys
from pathlib import Path
from p2psync.state import State, schema

real, left = schema.pack, 2

def pack(rows):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(rows)

schema.pack = pack
State.open(Path(sys.argv[1]))
"""
    done = subprocess.run([sys.executable, "-c", script, str(state)], check=False)
    assert done.returncode == -9
    left = sqlite3.connect(state / "index.sqlite")
    assert left.execute("PRAGMA user_version").fetchone() == (1,)
    assert left.execute("SELECT count(*) FROM files").fetchone() == (9,)
    left.close()
    check(state)
