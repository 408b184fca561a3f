"""What is the same is known by its stamps: neither listings nor rows of files are read again, and nothing
that changed hides behind a stamp.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from tests.node.fetch_world import World, changed

from p2psync.fetch.options import Delete
from p2psync.supply.manifest import Manifest


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The listings that are read."""
    made: list[object] = []
    original = Manifest.listing

    def listing(self: Manifest, ref: Any) -> Any:
        made.append(ref)
        return original(self, ref)

    monkeypatch.setattr(Manifest, "listing", listing)
    return made


def test_after_a_fetch_no_listing_is_read_again(world: World, read: list[object]) -> None:
    world.fetch()
    read.clear()
    summary = world.fetch()
    assert (summary.changed, summary.reused) == (0, summary.bytes)
    assert len(read) <= 1  # The root's, to see whether DEST was somebody's before.


def test_after_an_update_only_what_changed_is_read(world: World, read: list[object]) -> None:
    world.fetch()
    world.publisher.publish(changed(notes={b"a": b"one more"}))
    world.fetch(delete=Delete.OWN)
    assert world.differs() == []
    read.clear()
    assert world.fetch().changed == 0
    assert len(read) <= 1


@pytest.mark.parametrize("kind", ["content", "touched", "mode", "gone", "more", "link", "directory"])
def test_nothing_that_changed_hides_behind_a_stamp(world: World, kind: str) -> None:
    world.fetch()
    file = world.dest / "notes" / "a"
    if kind == "content":  # Size and time as they were: the change time tells.
        at = file.stat()
        file.write_bytes(b"ONE")
        os.utime(file, ns=(at.st_atime_ns, at.st_mtime_ns))
    elif kind == "touched":
        os.utime(file, ns=(0, 0))
    elif kind == "mode":
        file.chmod(0o600)
    elif kind == "gone":
        file.unlink()
    elif kind == "more":
        (world.dest / "notes" / "mine").write_text("mine")
    elif kind == "link":
        (world.dest / "link").unlink()
        (world.dest / "link").symlink_to("elsewhere")
    else:
        (world.dest / "notes").chmod(0o700)
    summary = world.fetch()
    assert world.differs() == []
    assert summary.exit_code == 0
    assert (world.dest / "notes").stat().st_mode & 0o777 == 0o755
    if kind == "more":
        assert summary.kept == [b"notes/mine"]
        # It is told at every run: a directory with names of others has no stamp.
        assert world.fetch().kept == [b"notes/mine"]


def test_without_checking_dest_nothing_is_looked_at(world: World) -> None:
    world.fetch()
    (world.dest / "big").unlink()
    summary = world.fetch(check_dest=False)
    assert (summary.exit_code, summary.changed, summary.files) == (0, 0, 103)
    assert not (world.dest / "big").exists()
    world.publisher.publish(changed(notes={b"a": b"new"}))
    assert world.fetch(check_dest=False).exit_code == 0
    assert world.differs() == []
