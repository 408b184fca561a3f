"""Saving is interrupted: what was saved before stays, and nothing piles up beside it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from p2psync_dht.contact import Contact
from p2psync_dht.files import LEFT_AFTER, replace
from p2psync_dht.persistence import load_contacts, save_contacts

OLD = [Contact(bytes([number]) * 20, f"192.0.2.{number}", 80) for number in range(1, 9)]
NEW = OLD[:3]


def save_and_be_killed(path: Path, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    """Let a process save and be killed in the middle of it."""
    pid = os.fork()
    if not pid:
        monkeypatch.setattr(os, at, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        try:
            save_contacts(path, NEW)
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.parametrize("at", ["fsync", "replace"])
def test_a_save_that_is_killed_leaves_what_was_saved_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    path = tmp_path / "contacts.msgpack"
    save_contacts(path, OLD)
    save_and_be_killed(path, monkeypatch, at)
    assert load_contacts(path) == OLD


def test_what_killed_saves_left_goes_with_a_later_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "contacts.msgpack"
    for _ in range(3):
        save_and_be_killed(path, monkeypatch, "replace")
    left = set(tmp_path.iterdir())
    assert len(left) == 3
    others = {tmp_path / ".contacts.msgpack.swp", tmp_path / ".contacts.msgpack.1.notes"}
    for each in others:
        each.touch()
    now = time.time()
    for each in left | others:
        os.utime(each, (now, now - LEFT_AFTER - 60))
    fresh = tmp_path / ".contacts.msgpack.1.0123abcd"
    fresh.touch()  # Of a process that is at it.
    replace(path, b"new")
    assert set(tmp_path.iterdir()) == {path, fresh, *others}
