"""Names that a file system takes for one, as far as that can be seen on one that does not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from tests.node.fetch_world import World, world

from p2psync.plan.folding import folded
from p2psync.tree.beneath import Beneath

__all__ = ["world"]

TWINS = {b"notes": {b"README": b"one" * 1000, b"readme": b"the other" * 1000, b"other": b"other"}}


class Folding:
    """Of one directory, a file system that ignores upper and lower case: the first name stays."""

    def __init__(self, patched: pytest.MonkeyPatch) -> None:
        self._real: dict[str, Any] = {name: getattr(os, name) for name in ("stat", "rename", "scandir")}
        patched.setattr(os, "stat", self.stat)
        patched.setattr(os, "rename", self.rename)

    def _name(self, name: Any, at: int | None) -> Any:
        if at is None or not isinstance(name, bytes):
            return name
        return next((os.fsencode(n) for n in os.listdir(at) if os.fsencode(n).lower() == name.lower()), name)

    def stat(self, name: Any, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> os.stat_result:
        real = self._real["stat"]
        found: os.stat_result = real(self._name(name, dir_fd), dir_fd=dir_fd, follow_symlinks=follow_symlinks)
        return found

    def rename(
        self, name: Any, to: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None
    ) -> None:
        to = self._name(to, dst_dir_fd)
        self._real["rename"](name, to, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)


def test_two_names_that_are_one_here_are_told_and_one_stays(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.publisher.publish(TWINS)
    Folding(monkeypatch)
    for _ in range(2):
        done = world.fetch()
        assert done.exit_code == 23
        assert len(done.failed) == 1
        assert "to this file system it is the same name as" in done.failed[0]
    assert len(os.listdir(world.dest / "notes")) == 2
    assert world.fetch().changed == 0  # They do not take turns.


def test_a_name_that_changed_its_case_is_not_removed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    Folding(monkeypatch)
    world.publisher.publish({b"notes": {b"README": b"one"}})
    world.fetch()
    world.publisher.publish({b"notes": {b"readme": b"another one"}})
    done = world.fetch(delete="all")
    assert done.exit_code == 0
    assert (world.dest / "notes" / os.listdir(world.dest / "notes")[0]).read_bytes() == b"another one"


def test_on_other_file_systems_they_are_two(world: World) -> None:
    world.publisher.publish(TWINS)
    assert world.fetch().exit_code == 0
    assert world.differs() == []


def test_only_a_name_that_leads_somewhere_is_another_one(tmp_path: Path) -> None:
    (tmp_path / "README").touch()
    beneath = Beneath(bytes(tmp_path))
    assert folded(beneath, b"", [b"readme", b"other"], [b"README"]) == {}
    beneath.close()
