"""Nobody but its owner reads anything in a state directory, whatever the umask is, and whatever was there."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2psync.network.seeds.book import SeedBook
from p2psync.network.seeds.query import seed_query
from p2psync.network.seeds.seedlist import sign
from p2psync.state import State
from p2psync_dht import Identity

NOW = 1_800_000_000


def modes(path: Path) -> dict[str, int]:
    """Of a state directory and all in it."""
    return {
        os.path.relpath(each, path): stat.S_IMODE(each.lstat().st_mode) for each in (path, *path.rglob("*"))
    }


def expected(path: Path) -> dict[str, int]:
    """What they should be."""
    return {
        os.path.relpath(each, path): 0o700 if each.is_dir() else 0o600 for each in (path, *path.rglob("*"))
    }


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o177], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def use(path: Path) -> None:
    """Write what lies in a state directory, and look at it while SQLite has its files beside the index."""
    with State.open(path) as state:
        state.identity()
        state.keys.create_root()
        state.tell_address("192.0.2.1:8730")
        state.tidy()
        state.trees.ensure(b"/srv/archive", "publish", b"a" * 32)
        with state.lock_place(b"/srv/archive"):
            pass
        assert {"index.sqlite", "index.sqlite-wal", "index.sqlite-shm"} <= {*os.listdir(path)}
        assert modes(path) == expected(path)


def test_a_state_directory_is_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    use(tmp_path / "state")
    use(tmp_path / "state")


def test_what_an_older_version_left_readable_is_private_once_it_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "state"
    use(path)
    with State.open(path):  # with the files that SQLite has beside the index
        for each in (path, *path.rglob("*")):
            each.chmod(0o755 if each.is_dir() else 0o644)
        for folder in ("keys", "locks"):
            for each in (path / folder).iterdir():
                each.chmod(0o600)  # as every version made them
        with State.open(path):
            assert modes(path) == expected(path)


def test_a_directory_that_is_more_than_a_state_directory_stays_as_it_is(tmp_path: Path) -> None:
    """Whoever names a home directory, or /tmp, shuts nobody out of it."""
    (tmp_path / "letter.txt").write_text("")
    (tmp_path / "letter.txt").chmod(0o644)
    tmp_path.chmod(0o1777)
    for _ in range(2):
        with State.open(tmp_path) as state:
            state.identity()
            found = modes(tmp_path)
            assert (found.pop("."), found.pop("letter.txt")) == (0o1777, 0o644)
            assert found == {name: expected(tmp_path)[name] for name in found}


@pytest.mark.parametrize("how", ["symbolic", "hard"])
def test_a_link_in_place_of_the_index_is_not_followed(how: str, tmp_path: Path) -> None:
    """Root may look at the state directory of a user who is not honest."""
    path, other = tmp_path / "state", tmp_path / "passwd"
    State.open(path).close()
    other.write_bytes(b"")
    other.chmod(0o644)
    (path / "tidied").unlink(missing_ok=True)
    (path / "tidied").symlink_to(other) if how == "symbolic" else (path / "tidied").hardlink_to(other)
    State.open(path).close()
    assert stat.S_IMODE(other.stat().st_mode) == 0o644


def test_lists_of_seeds_alone_make_a_private_state_directory(tmp_path: Path, umask: int) -> None:
    raw = sign(Identity.from_seed(b"o" * 32), ["192.0.2.1:8730"], issued=NOW, expires=NOW + 9)
    SeedBook(tmp_path / "state" / "seeds").take(seed_query("https://seeds.example/list"), raw, NOW)
    assert modes(tmp_path / "state") == expected(tmp_path / "state")
