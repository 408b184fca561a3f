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
from p2psync.format.url import ArchiveUrl
from p2psync.state import State
from p2psync.state.keys import to_pem
from p2psync_dht import Delegation, Identity

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
        (known,) = state.keys.archives()
        signing = state.keys.signing(known)
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


def test_a_copy_that_is_there_already_is_as_good(key: Key, tmp_path: Path) -> None:
    archive, other = (key("new")[0]["archive"] for _ in "ab")
    pem = tmp_path / "root.pem"
    (tmp_path / "link").symlink_to(pem)
    first = key("export", archive, str(pem))
    before = pem.stat().st_ino
    assert key("export", archive, str(pem)) == key("export", archive, str(tmp_path / "link")) == first
    assert (pem.stat().st_ino, pem.stat().st_nlink) == (before, 1)
    (error,) = key("export", other, str(pem), expect=11)
    assert "holds something else" in error["message"]
    (error,) = key("export", archive, str(tmp_path), expect=11)
    assert "is no file" in error["message"]
    assert key("export", archive, str(pem), "--remove")[-1]["root"] is False
    assert key("import", str(pem))[0]["root"] is True


def test_a_key_that_cannot_be_removed_is_said_to_be_still_here(
    key: Key, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = key("new")[0]["archive"]

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refuse)
        (error,) = key("export", archive, str(tmp_path / "root.pem"), "--remove", expect=11)
    assert "cannot be removed" in error["message"] and "run again" in error["message"]
    assert key("export", archive, str(tmp_path / "root.pem"), "--remove")[-1]["root"] is False


def test_the_only_copy_is_not_taken_for_another_one(key: Key, tmp_path: Path) -> None:
    archive = key("new")[0]["archive"]
    (own,) = (tmp_path / "here" / "keys").glob("*.root.pem")
    (tmp_path / "link").symlink_to(own)
    for way in (own, tmp_path / "link"):
        (error,) = key("export", archive, str(way), "--remove", expect=1)
        assert "name another file" in error["message"]
    assert key("show", archive)[0]["root"] is True


def test_a_delegation_is_told_of_only_with_the_key_that_it_is_for(key: Key) -> None:
    archive = key("new")[0]["archive"]
    key("delegate", archive)
    for _ in range(2):
        (replaced,) = key("new", "--signing", archive, "--replace")
        assert replaced["delegation"] is None
        assert [replaced] == key("show", archive) == key("list")
    (error,) = key("export", archive, "--delegation", expect=1)
    assert "no delegation" in error["message"]
    (again,) = key("delegate", archive)
    assert again["delegation"]["key"] == again["signing"] == replaced["signing"]


def test_the_last_key_that_may_sign_goes_with_a_warning(key: Key, tmp_path: Path) -> None:
    archive = key("new")[0]["archive"]
    warning, shown = key("export", archive, str(tmp_path / "root.pem"), "--remove")
    assert "import the root key" in warning["message"]
    assert (shown["root"], shown["signing"]) == (False, None)
    other = key("new")[0]["archive"]
    key("delegate", other)
    assert len(key("export", other, str(tmp_path / "other.pem"), "--remove")) == 1


def test_a_signing_key_takes_the_place_of_another_only_if_that_is_said(key: Key, tmp_path: Path) -> None:
    archive = key("new")[0]["archive"]
    signing = key("delegate", archive)[0]["signing"]
    pems = [tmp_path / "one.pem", tmp_path / "two.pem"]
    for pem in pems:
        pem.write_bytes(to_pem(Identity.generate()))
        pem.chmod(0o600)
    (error,) = key("import", "--signing", archive, str(pems[0]), expect=1)
    assert signing in error["message"] and "--replace" in error["message"]
    assert key("show", archive)[0]["signing"] == signing
    (taken,) = key("import", "--signing", archive, "--replace", str(pems[0]))
    assert taken["signing"] != signing
    assert key("import", "--signing", archive, str(pems[0])) == [taken], "the same once more"
    (error,) = key("import", str(pems[0]), expect=1)
    assert "is the signing key of" in error["message"]
    key("import", "--replace", str(pems[0]), expect=1)
    root = tmp_path / "root.pem"
    key("export", archive, str(root))
    (error,) = key("import", "--signing", archive, "--replace", str(root), expect=1)
    assert "without --signing" in error["message"]
    (error,) = key("delegate", archive, "--to", key_of(archive), expect=1)
    assert "needs no delegation" in error["message"]


def key_of(archive: str) -> str:
    return ArchiveUrl.parse(archive).archive.hex()


def test_a_damaged_root_key_is_not_taken_for_the_one_that_is_imported(key: Key, tmp_path: Path) -> None:
    archive = key("new")[0]["archive"]
    key("export", archive, str(tmp_path / "root.pem"))
    (own,) = (tmp_path / "here" / "keys").glob("*.root.pem")
    own.write_bytes(b"damaged")
    assert str(own) in key("import", str(tmp_path / "root.pem"), expect=11)[0]["message"]
    own.unlink()
    assert key("import", str(tmp_path / "root.pem"))[0]["root"] is True


def test_a_private_key_that_others_can_read_is_warned_about(key: Key, tmp_path: Path) -> None:
    archive = key("new")[0]["archive"]
    pem = tmp_path / "root.pem"
    key("export", archive, str(pem))
    pem.chmod(0o644)
    for argv in (("import", str(pem)), ("export", archive, str(pem))):
        warning, _ = key(*argv)
        assert "others on this machine can read" in warning["message"]


def test_a_delegation_that_is_over_or_older_is_refused(key: Key, tmp_path: Path) -> None:
    archive = key("new", state="vault")[0]["archive"]
    (made,) = key("new", "--signing", archive, state="server")
    for name, options in (("old", []), ("new", ["--new-epoch", "--epoch", "3"])):
        (given,) = key("delegate", archive, "--to", made["signing"], *options, state="vault")
        (tmp_path / name).write_text(given["text"])
    key("import", str(tmp_path / "new"), state="server")
    assert key("import", str(tmp_path / "new"), state="server")[0]["delegation"]["epoch"] == 4
    (error,) = key("import", str(tmp_path / "old"), state="server", expect=1)
    assert "newer" in error["message"]
    with State.open(tmp_path / "vault") as state:
        root = state.keys.root(ArchiveUrl.parse(archive).archive)
        assert root is not None
    over = Delegation.sign(
        root, bytes.fromhex(made["signing"]), epoch=5, roles=1, not_before=1_000, not_after=2_000
    )
    (tmp_path / "over").write_bytes(armor(over.raw))
    (error,) = key("import", str(tmp_path / "over"), state="server", expect=1)
    assert "ended on 1970-01-01" in error["message"]


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
