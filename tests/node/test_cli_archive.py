"""publish, ls and verify on the command line, on one machine without a network."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.harness import make_tree, need, set_mtime, total_size

from p2psync.cli.app import run

Call = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def call(capsysbinary: pytest.CaptureFixture[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """``call("publish", tree)`` runs it with --json on the test's state directory and returns its events."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def run_it(*argv: object, expect: int = 0) -> list[dict[str, Any]]:
        code = run([*map(str, argv), "--json", "--state", str(tmp_path / "state")])
        out, err = capsysbinary.readouterr()
        assert code == expect, err.decode()
        return [json.loads(line) for line in out.splitlines()]

    return run_it


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "tree")


@pytest.fixture
def berlin() -> Iterator[None]:
    """A time zone with summer time, for programs and for this process."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "CET-1CEST,M3.5.0,M10.5.0/3"
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


def test_publish_says_what_it_did_and_again_reads_only_what_changed(call: Call, tree: Path) -> None:
    first = call("publish", tree)[-1]
    assert set(first) == {
        "event",
        "archive",
        "seq",
        "root",
        "files",
        "bytes",
        "read_bytes",
        "unread",
        "temporaries",
        "static",
        "seconds",
    }
    assert (first["event"], first["seq"], first["bytes"]) == ("published", 1, total_size(tree))
    assert first["read_bytes"] >= first["bytes"]
    assert re.fullmatch(r"p2psync://[a-z2-7]{52}", first["archive"])
    again = call("publish", tree)[-1]
    assert (again["seq"], again["root"], again["read_bytes"]) == (1, first["root"], 0)
    (tree / "new").write_bytes(b"x" * 1000)
    changed = call("publish", tree)[-1]
    assert (changed["seq"], changed["read_bytes"], changed["archive"]) == (2, 1000, first["archive"])


def test_publish_leaves_out_what_rules_say_and_remembers_them(call: Call, tree: Path) -> None:
    (tree / "a.tmp").touch()
    (tree / "keep.tmp").touch()
    archive = call("publish", tree, "--include=keep.tmp", "--exclude=*.tmp")[-1]["archive"]
    paths = {e["path"] for e in call("ls", archive) if e["event"] == "entry"}
    assert "keep.tmp" in paths
    assert "a.tmp" not in paths
    (tree / "b.tmp").touch()
    call("publish", tree)
    assert "b.tmp" not in {e["path"] for e in call("ls", archive) if e["event"] == "entry"}


def test_other_kinds_of_file_are_skipped_with_a_warning(call: Call, tree: Path) -> None:
    os.mkfifo(tree / "pipe")
    warning, *_ = call("publish", tree)
    assert warning["event"] == "warning"
    assert "pipe" in warning["message"]


def test_publish_into_an_archive_whose_key_is_elsewhere_is_an_error(call: Call, tree: Path) -> None:
    (error,) = call("publish", tree, "--archive", "a" * 51 + "q", expect=1)
    assert error["event"] == "error"
    assert "no key here" in error["message"]


def test_another_directory_is_published_under_an_archives_key(call: Call, tree: Path, tmp_path: Path) -> None:
    archive = call("publish", tree)[-1]["archive"]
    other = tmp_path / "other"
    other.mkdir()
    published = call("publish", other, "--archive", archive.partition("?")[0])[-1]
    assert (published["archive"].partition("?")[0], published["seq"]) == (archive.partition("?")[0], 2)


def test_a_person_gets_the_url_alone_with_quiet(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["publish", str(tree), "--quiet", "--state", str(tmp_path / "state")]) == 0
    out, err = capsys.readouterr()
    assert re.fullmatch(r"p2psync://[a-z2-7]{52}\n", out)
    assert err == ""


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize("recursive", [False, True])
def test_ls_lists_as_rsync_does(
    call: Call, tree: Path, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes], recursive: bool
) -> None:
    set_mtime(tree / "empty", 1_700_000_000 * 10**9)
    (tree / "setuid").touch()
    (tree / "setuid").chmod(0o4710)
    (tree / "sparse").touch()
    os.truncate(tree / "sparse", 123_456_789)
    archive = call("publish", tree)[-1]["archive"]
    options = ["-r"] if recursive else []
    capsysbinary.readouterr()
    assert run(["ls", archive, *options, "--state", str(tmp_path / "state")]) == 0
    ours = capsysbinary.readouterr().out
    argv = [need("rsync"), "--list-only", "--links", *(options or ["--dirs"]), f"{tree}/"]
    rsyncs = subprocess.run(
        argv, check=True, capture_output=True, env=os.environ | {"LC_ALL": "C.UTF-8"}
    ).stdout

    def lines(text: bytes) -> list[bytes]:
        """Sorted, since rsync lists files before directories; without the sizes of directories and
        symlinks.
        """
        return sorted(line[:10] + line[25:] if line[:1] in b"dl" else line for line in text.splitlines())

    assert lines(ours) == lines(rsyncs)


def test_ls_in_json_has_exact_names_and_times(call: Call, tree: Path) -> None:
    archive = call("publish", tree)[-1]["archive"]
    *entries, last = [event for event in call("ls", "--recursive", archive) if event["event"] != "warning"]
    assert last["event"] == "listed"
    assert (last["archive"], last["seq"], last["entries"]) == (archive, 1, len(entries))
    listed = {}
    for entry in entries:
        assert entry["event"] == "entry"
        exact = entry.get("path_b64")
        listed[base64.b64decode(exact) if exact else entry["path"].encode()] = entry
    root = os.fsencode(tree)
    found = {b"."} | {
        os.path.relpath(os.path.join(top, name), root)
        for top, directories, files in os.walk(root)
        for name in (*directories, *files)
    }
    assert set(listed) == found
    for path, entry in listed.items():
        status = os.lstat(os.path.join(root, path))
        assert entry["mtime_ns"] == status.st_mtime_ns
        if entry["type"] == "file":
            assert (entry["size"], int(entry["mode"], 8)) == (status.st_size, status.st_mode & 0o7777)
    assert listed[b"link"]["target"] == os.readlink(tree / "link")
    assert listed[b"."]["size"] == total_size(tree)


def test_ls_of_a_part(call: Call, tree: Path) -> None:
    archive = call("publish", tree)[-1]["archive"]
    paths = [e["path"] for e in call("ls", f"{archive}/dir0") if e["event"] == "entry"]
    assert paths == [".", "sub"]
    names = [(e["path"], e["type"]) for e in call("ls", f"{archive}/link") if e["event"] == "entry"]
    assert names == [("link", "symlink")]
    assert "no 'nothing/here'" in call("ls", f"{archive}/nothing/here", expect=23)[-1]["message"]


def test_an_archive_that_nobody_knows_is_a_network_error(call: Call) -> None:
    (error,) = call("ls", "p2psync://" + "a" * 51 + "q", expect=10)
    assert "--bootstrap" in error["message"]


def test_verify_names_every_difference(call: Call, tree: Path) -> None:
    call("publish", tree)
    verified = call("verify", tree)[-1]
    assert (verified["event"], verified["differences"], verified["bytes"]) == (
        "verified",
        0,
        total_size(tree),
    )
    (tree / "empty").write_text("not")
    (tree / "link").unlink()
    (tree / "extra").touch()
    *differences, last = call("verify", tree, expect=23)
    found = {(d["path"], d["what"]) for d in differences}
    assert {("empty", "content"), ("link", "missing"), ("extra", "extra")} <= found
    assert last["differences"] == len(differences)


def test_verify_finds_a_flipped_bit_that_size_and_time_do_not_show(call: Call, tree: Path) -> None:
    large = tree / "large"
    large.write_bytes(bytes(300_000))
    call("publish", tree)
    status = large.stat()
    with large.open("r+b") as stream:
        stream.seek(200_000)
        stream.write(b"\1")
    set_mtime(large, status.st_mtime_ns)
    assert call("verify", tree, "--quick")[-1]["differences"] == 0
    difference, _ = call("verify", tree, expect=23)
    assert (difference["path"], difference["what"]) == ("large", "content")


def test_verify_of_a_directory_that_is_no_archive_is_a_usage_error(call: Call, tmp_path: Path) -> None:
    (error,) = call("verify", tmp_path, expect=1)
    assert error["event"] == "error"


def test_mirrors_of_an_archive_that_nobody_holds(call: Call, tree: Path) -> None:
    archive = call("publish", tree)[-1]["archive"]
    assert call("mirrors", archive)[-1] == {
        "event": "mirrors",
        "archive": archive,
        "seq": 1,
        "holders": 0,
        "withdrawn": 0,
        "ended": None,
    }


def test_static_takes_no_word_behind_it_for_its_value(call: Call, tree: Path) -> None:
    """As in rsync, a value that may be left out stands behind the sign of equality."""
    assert call("publish", "--static", tree)[-1]["static"] == str(tree / "p2psync")
    assert call("publish", "--static=other", tree)[-1]["static"] == str(tree / "other")
    assert call("publish", tree)[-1]["static"] == str(tree / "other")
    assert call("publish", "--no-static", tree)[-1]["static"] is None
