"""A state directory that is damaged, full or closed: every command names the file and says what to do."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from tests.node.publishing import write

from p2psync.cli.app import COMMANDS, run
from p2psync.errors import FileError
from p2psync.publish import publish
from p2psync.state import State
from p2psync.state import database as database_module
from p2psync.state.connection import connect

WITHOUT_INDEX = {"dht", "seeds", "demo", "help", "rsync"}
"""Commands that work without the index of a state directory."""


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory that knows a published tree and a copy of it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for number in range(40):
        write(tmp_path / "tree" / f"d{number % 5}" / f"f{number}", os.urandom(1 + number * 3000))
    assert run(["publish", str(tmp_path / "tree"), "-q", "--state", str(tmp_path / "state")]) == 0
    assert (
        run(["fetch", url(tmp_path), str(tmp_path / "copy"), "-q", "--state", str(tmp_path / "state")]) == 0
    )
    return tmp_path / "state"


def url(tmp_path: Path) -> str:
    """Of the only archive."""
    with State.open(tmp_path / "state") as state:
        return f"p2psync://{next(iter(os.listdir(state.path / 'keys'))).partition('.')[0]}"


def arguments(name: str, tmp_path: Path, archive: str) -> list[str]:
    """A run of this command that needs the index."""
    tree, new = str(tmp_path / "tree"), str(tmp_path / "new")
    return {
        "publish": ["publish", tree],
        "fetch": ["fetch", archive, new],
        "mirror": ["mirror", "--once", archive, new],
        "node": ["node", "--listen", "127.0.0.1:0"],
        "ls": ["ls", "-r", archive],
        "mirrors": ["mirrors", archive],
        "verify": ["verify", tree],
        "list": ["list"],
        "forget": ["forget", tree],
        "unpublish": ["unpublish", tree],
        "key": ["key", "list"],
        "doctor": ["doctor", archive],
    }[name]


NAMES = [name for name in COMMANDS if name not in WITHOUT_INDEX]


def no_database(state: Path) -> None:
    (state / "index.sqlite").write_bytes(b"this is no database" * 1000)


def cut_off(state: Path) -> None:
    os.truncate(state / "index.sqlite", 10_000)


def another_programs(state: Path) -> None:
    (state / "index.sqlite").unlink()
    other = sqlite3.connect(state / "index.sqlite")
    other.execute("CREATE TABLE trees (a)")
    other.close()


def a_directory(state: Path) -> None:
    (state / "index.sqlite").unlink()
    (state / "index.sqlite").mkdir()


def lock_is_a_directory(state: Path) -> None:
    (state / "locks" / "open").unlink()
    (state / "locks" / "open").mkdir()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("harm", [no_database, cut_off, another_programs, a_directory, lock_is_a_directory])
def test_every_command_names_the_file_and_what_to_do(
    state: Path,
    tmp_path: Path,
    name: str,
    harm: Callable[[Path], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    argv = [*arguments(name, tmp_path, url(tmp_path)), "--state", str(state)]
    harm(state)
    capsys.readouterr()
    assert run(argv) == FileError.exit_code
    (said,) = (line for line in capsys.readouterr().err.splitlines() if "warning" not in line)
    assert str(state) in said and "defect" not in said
    assert ": " in said.partition(str(state))[2], "and then what to do"


@pytest.mark.parametrize("argv", [["publish", "{tree}"], ["fetch", "{url}", "{new}"], ["verify", "{tree}"]])
def test_no_damage_of_the_index_is_called_a_defect(
    state: Path, tmp_path: Path, argv: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> None:
    archive = url(tmp_path)
    good = (state / "index.sqlite").read_bytes()
    chance = random.Random(5)
    filled = [text.format(tree=tmp_path / "tree", url=archive, new=tmp_path / "new") for text in argv]
    for _ in range(12):
        harmed = bytearray(good)
        for _ in range(chance.choice([1, 30, 300])):
            at = chance.randrange(100, len(good) - 40)
            harmed[at : at + 40] = chance.choice([chance.randbytes(40), bytes(40)])
        for name in ("index.sqlite-wal", "index.sqlite-shm"):
            (state / name).unlink(missing_ok=True)
        (state / "index.sqlite").write_bytes(harmed)
        code = run([*filled, "--state", str(state)])
        said = capsys.readouterr().err
        assert "defect" not in said
        # 1: the row that says whose tree it is was what was harmed.
        assert code in (0, 1, 11, 23), said
        shutil.rmtree(tmp_path / "new", ignore_errors=True)


@pytest.mark.parametrize(("table", "column"), [("objects", "data"), ("recipes", "data"), ("heads", "raw")])
@pytest.mark.parametrize("name", ["publish", "fetch", "ls", "verify"])
def test_damage_within_what_the_index_keeps_is_blamed_on_the_index(
    state: Path, tmp_path: Path, name: str, table: str, column: str, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [*arguments(name, tmp_path, url(tmp_path)), "--state", str(state)]
    write(tmp_path / "tree" / "more", b"more")
    with sqlite3.connect(state / "index.sqlite") as index:
        index.execute(f"UPDATE {table} SET {column} = x'c1' || substr({column}, 2)")  # noqa: S608
    index.close()
    capsys.readouterr()
    code = run(argv)
    said = capsys.readouterr().err
    if code in (0, 23):
        # Without a recipe, content is cut anew or fetched; and verify asks what was published, not what is
        # new.
        assert table == "recipes" or (name, table) == ("verify", "heads"), said
    else:
        assert code == FileError.exit_code
        assert "index.sqlite is damaged" in said and ": move it" in said


@pytest.mark.parametrize("room", [0, 10, 30])
def test_a_full_disk_is_said_to_be_full(
    state: Path,
    tmp_path: Path,
    room: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pages = (state / "index.sqlite").stat().st_size // 4096 + room

    def small(path: Path, file: str, *, busy_seconds: float, pragmas: Sequence[str]) -> object:
        return connect(path, file, busy_seconds=busy_seconds, pragmas=(*pragmas, f"max_page_count = {pages}"))

    monkeypatch.setattr(database_module, "connect", small)
    for number in range(400):
        write(tmp_path / "tree" / f"n{number}" / ("name" * 40), b"%d" % number)
    assert run(["publish", str(tmp_path / "tree"), "--state", str(state)]) == FileError.exit_code
    assert "index.sqlite has no room (database or disk is full): free space" in capsys.readouterr().err
    monkeypatch.undo()
    with State.open(state) as opened:
        assert publish(opened, tmp_path / "tree").exit_code == 0


def test_another_process_that_never_ends_is_named(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(database_module, "BUSY_SECONDS", 0.01)
    writer = sqlite3.connect(state / "index.sqlite", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    write(tmp_path / "tree" / "more", b"more")
    assert run(["publish", str(tmp_path / "tree"), "--state", str(state)]) == FileError.exit_code
    assert "is being written by another process (database is locked): run again" in capsys.readouterr().err
    writer.close()


@pytest.mark.parametrize("name", ["publish", "fetch", "node"])
def test_a_key_that_is_damaged_is_named_and_how_to_get_one(
    state: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [*arguments(name, tmp_path, url(tmp_path)), "--state", str(state)]
    for key in [state / "node.key", *(state / "keys").iterdir()]:
        key.write_bytes(b"x")
    assert run(argv) == FileError.exit_code
    said = capsys.readouterr().err
    assert "key import" in said if name == "publish" else "remove it" in said


def test_a_state_directory_that_may_not_be_read_is_no_mistake_of_the_command_line(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    command = [sys.executable, "-m", "p2psync", "key", "list", "--state", str(closed)]
    less = "-dac_override,-dac_read_search"
    bounded = ["setpriv", f"--bounding-set={less}", f"--inh-caps={less}"] if os.geteuid() == 0 else []
    done = subprocess.run([*bounded, *command], capture_output=True, text=True, check=False)
    assert done.returncode == FileError.exit_code, done.stderr
    assert f"{closed}" in done.stderr and "writable to this user" in done.stderr
