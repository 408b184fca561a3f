"""DEST is looked at by a process before it is known what is wanted, and what it finds is what a look would
find.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.help.waiting import until
from tests.node.fetch_world import TREE, World
from tests.node.loading import assert_light
from tests.node.simulator import Tree

from p2psync.errors import BusyError
from p2psync.fetch import ahead as module
from p2psync.fetch.ahead import LookAhead, look_ahead
from p2psync.format.url import ArchiveUrl
from p2psync.tree import checker_main
from p2psync.tree.process import start_process

MANY: Tree = {b"d%03d" % n: {b"f": b"%d" % n, b"inner": {b"g": b"x"}} for n in range(300)}
LAST = b"d299/inner"


@pytest.fixture
def large(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A tree of 600 directories, fetched, which counts as large."""
    monkeypatch.setattr(module, "AHEAD_FILES", 1)
    world.publisher.publish({**TREE, **MANY})
    world.fetch()
    return world


@contextlib.contextmanager
def looking(world: World, *, wanted: bool = True) -> Iterator[LookAhead]:
    url = ArchiveUrl(world.publisher.archive, b"")
    with look_ahead(world.state, bytes(world.dest), url, wanted=wanted) as ahead:
        yield ahead


def directories(world: World) -> list[bytes]:
    (tree,) = world.state.trees.all()
    return [path for path, _ in world.state.trees.directories(tree.id)]


def test_all_directories_are_looked_at(large: World) -> None:
    with looking(large) as ahead:
        until(lambda: ahead.known(LAST) is not None, "all is looked at")
        paths = directories(large)
        assert len(paths) > 600
        assert all(ahead.known(path) for path in paths)


def test_what_is_not_as_it_was_is_told(large: World) -> None:
    (large.dest / "d000" / "f").write_bytes(b"other")
    (large.dest / "d150" / "inner" / "g").touch()
    (large.dest / "d150" / "more").touch()
    shutil.rmtree(large.dest / "d299")
    with looking(large) as ahead:
        until(lambda: ahead.known(LAST) is not None, "all is looked at")
        different = {path for path in directories(large) if not ahead.known(path)}
    assert different == {b"", b"d000", b"d150", b"d150/inner", b"d299", b"d299/inner"}


def test_a_fetch_believes_what_was_found_and_looks_into_the_rest(large: World) -> None:
    (large.dest / "d123" / "f").write_bytes(b"x")
    (large.dest / "d299" / "inner" / "g").unlink()
    with looking(large) as ahead:
        until(lambda: ahead.known(b"d123") is not None, "the directory is looked at")
        # Looked at before that: it is not looked at again, and found by the next fetch.
        (large.dest / "d000" / "f").write_bytes(b"behind its back")
        assert large.fetch(ahead=ahead).changed == 2
        assert large.differs() == [b"/d000/f"]
    assert large.fetch().changed == 1
    assert large.differs() == []


def test_a_fetch_goes_on_alone_when_the_process_ends(large: World) -> None:
    with looking(large) as ahead:
        ahead.close()
        (large.dest / "d299" / "f").write_bytes(b"x")
        assert large.fetch(ahead=ahead).changed == 1
    assert large.differs() == []


def test_what_was_looked_at_long_ago_does_not_count(large: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AHEAD_SECONDS", -1.0)
    with looking(large) as ahead:
        assert all(ahead.known(path) is None for path in directories(large))


def test_it_ends_where_nearly_everything_is_different(large: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DIFFERENT_MAX", 3)
    monkeypatch.setattr(module, "UNANSWERED_MAX", 1)
    monkeypatch.setattr(module, "DIRECTORIES_AT_ONCE", 2)
    for number in range(300):
        (large.dest / f"d{number:03}" / "more").touch()
    with looking(large) as ahead:
        until(lambda: not ahead.is_at_work, "the process ends")
        assert ahead.known(b"d000") is False
        assert ahead.known(LAST) is None


def test_a_dest_that_is_gone(large: World) -> None:
    shutil.rmtree(large.dest)
    with looking(large) as ahead:
        until(lambda: not ahead.is_at_work, "the process ends")
        assert ahead.known(b"") is None


@pytest.mark.parametrize("why", ["small", "unwanted", "unknown"])
def test_nothing_is_looked_at_where_that_does_not_help(
    large: World, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    if why == "small":
        monkeypatch.setattr(module, "AHEAD_FILES", 100_000)
    if why == "unknown":
        large.fresh_state()
    with looking(large, wanted=why != "unwanted") as ahead:
        assert not ahead.is_at_work
        assert ahead.known(b"") is None
        assert large.fetch(ahead=ahead).changed == 0


def test_nobody_else_works_in_dest_meanwhile(large: World) -> None:
    with looking(large):
        with pytest.raises(BusyError), looking(large):
            pass
        with pytest.raises(BusyError):
            large.fetch()
    assert large.fetch().exit_code == 0


def test_the_state_directory_in_dest_is_left_out(large: World, tmp_path: Path) -> None:
    inside = large.dest / "state"
    large.state.close()
    large.state = type(large.state).open(inside)
    large.fetch()
    assert large.fetch().kept == []
    with looking(large) as ahead:
        until(lambda: ahead.known(LAST) is not None, "all is looked at")
        assert ahead.known(b"")


def test_the_process_loads_no_more_than_it_needs() -> None:
    assert_light(checker_main, "p2psync.plan")


def test_signals_that_end_a_group_of_processes_are_not_for_it() -> None:
    process, sock = start_process(checker_main.__name__, blocked=module.BLOCKED)
    for number in module.BLOCKED:
        process.send_signal(number)
    with sock:
        sock.sendall(checker_main.where(b"/", ()) + checker_main.look_at([(b"", b"nothing here", b"x" * 32)]))
        assert sock.recv(1) == b"\0"
    assert process.wait(60) == 0


def test_a_process_without_anybody_to_ask_ends() -> None:
    process, sock = start_process(checker_main.__name__)
    sock.close()
    assert process.wait(60) == 0
