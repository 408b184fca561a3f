"""p2psync key: an archive's key is made, moved between machines, and delegated."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from p2psync.cli.app import run
from p2psync.cli.armor import armor, unarmor
from p2psync.errors import UsageError
from p2psync.state import State

Key = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def key(capsysbinary: pytest.CaptureFixture[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Key:
    """``key("new", state="a")`` runs ``p2psync key new --json`` and returns its events."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def call(*argv: str, state: str = "here", expect: int = 0) -> list[dict[str, Any]]:
        assert run(["key", *argv, "--json", "--state", str(tmp_path / state)]) == expect
        return [json.loads(line) for line in capsysbinary.readouterr().out.splitlines()]

    return call


def test_a_new_key_is_a_new_archive(key: Key) -> None:
    (event,) = key("new")
    assert event["event"] == "key"
    assert (event["root"], event["signing"], event["delegation"]) == (True, None, None)
    assert key("list") == [event]
    assert key("show", event["archive"]) == [event]
    assert len(key("new")) == 1
    assert len(key("list")) == 2


def test_the_root_key_goes_offline_and_comes_back(key: Key, tmp_path: Path) -> None:
    archive = key("new")[0]["archive"]
    pem = tmp_path / "root.pem"
    (delegated,) = key("delegate", archive, "--days", "30", "--role", "heads")
    assert delegated["delegation"]["roles"] == ["heads"]
    assert delegated["delegation"]["key"] == delegated["signing"]
    (exported,) = key("export", archive, str(pem), "--remove")
    assert exported["root"] is False
    assert stat.S_IMODE(pem.stat().st_mode) == 0o600
    assert key("delegate", archive, expect=1)[0]["event"] == "error"
    (back,) = key("import", str(pem), state="elsewhere")
    assert (back["archive"], back["root"]) == (archive, True)


def test_a_signing_key_is_delegated_from_another_machine(key: Key, tmp_path: Path) -> None:
    archive = key("new", state="vault")[0]["archive"]
    (made,) = key("new", "--signing", archive, state="server")
    assert made["delegation"] is None
    (delegation,) = key("delegate", archive, "--to", made["signing"], state="vault")
    assert delegation["event"] == "delegation"
    file = tmp_path / "delegation"
    file.write_text("Here it is:\n" + delegation["text"])
    (taken,) = key("import", str(file), state="server")
    assert taken["delegation"]["key"] == made["signing"]
    assert taken["root"] is False
    with State.open(tmp_path / "server") as state:
        (info,) = state.keys.list()
        signing = state.keys.signing(info.archive)
        assert signing is not None and signing[1] is not None


def test_a_new_epoch_is_one_above_the_old(key: Key) -> None:
    archive = key("new")[0]["archive"]
    first = key("delegate", archive)[0]["delegation"]
    again = key("delegate", archive)[0]["delegation"]
    assert (again["epoch"], again["key"]) == (first["epoch"], first["key"])
    after = key("delegate", archive, "--new-epoch")[0]["delegation"]
    assert after["epoch"] == first["epoch"] + 1
    assert after["key"] != first["key"]  # which may be a thief's as well


def test_a_stolen_key_is_replaced_on_a_machine_without_the_root_key(key: Key, tmp_path: Path) -> None:
    archive = key("new", state="vault")[0]["archive"]
    stolen = key("new", "--signing", archive, state="server")[0]["signing"]
    assert key("new", "--signing", archive, state="server")[0]["signing"] == stolen
    fresh = key("new", "--signing", archive, "--replace", state="server")[0]["signing"]
    assert fresh != stolen
    words = ["--to", fresh, "--epoch", "4", "--new-epoch"]
    assert key("delegate", archive, *words, state="vault")[0]["epoch"] == 5
    key("new", "--replace", expect=1)


def test_a_key_is_not_written_over_a_file(key: Key, tmp_path: Path) -> None:
    archive = key("new")[0]["archive"]
    (tmp_path / "precious").write_text("precious")
    (error,) = key("export", archive, str(tmp_path / "precious"), expect=11)
    assert "exists already" in error["message"]
    assert (tmp_path / "precious").read_text() == "precious"


def test_remove_wants_a_file_first(key: Key) -> None:
    archive = key("new")[0]["archive"]
    key("export", archive, "--remove", expect=1)
    assert key("show", archive)[0]["root"] is True


@pytest.mark.parametrize("text", [b"", b"nonsense", b"x" * 100_000])
def test_what_is_no_key_is_not_taken(key: Key, tmp_path: Path, text: bytes) -> None:
    (tmp_path / "file").write_bytes(text)
    assert key("import", str(tmp_path / "file"), expect=1)[0]["code"] == 1
    assert key("list") == []


def test_a_cut_delegation_says_so() -> None:
    text = armor(b"x" * 150)
    assert unarmor(text) == b"x" * 150
    with pytest.raises(UsageError, match="copy the whole text"):
        unarmor(text[:-20])
    with pytest.raises(UsageError, match="copy the whole text"):
        unarmor(text.replace(b"e", b"*"))


def test_keys_of_others_are_not_here(key: Key) -> None:
    stranger = "a" * 51 + "q"
    assert "no key of" in key("show", stranger, expect=1)[0]["message"]
