"""What cron and timers need: runs that overlap, and a file that says how the last one went."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.e2e.harness import Network, assert_same_tree, make_tree, set_mtime

from p2psync.state import State


def status(path: Path) -> dict[str, object]:
    told = json.loads(path.read_text())
    assert isinstance(told, dict)
    return told


def test_a_run_that_comes_while_another_is_at_work_is_done_by_that_one(net: Network, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree", files=10)
    url = net.publish(tree, state="origin")
    node = net.node("origin")
    copy = tmp_path / "copy"
    words = ["--once", url, copy, "--source", node.address, "--queue"]
    net.run("mirror", *words, state="mirror")
    # Somebody is at work there, and has not seen what is new.
    with State.open(net.state("mirror")) as state, state.lock_place(os.fsencode(copy.resolve())):
        (tree / "new").write_text("new")
        set_mtime(tree / "new", 10**18)
        net.publish(tree, state="origin")
        second = net.run("mirror", *words, "--status-file", tmp_path / "status", state="mirror")
        assert second.events == []
        assert not (tmp_path / "status").exists()
        assert not (copy / "new").exists()
        assert net.run("mirror", *words[:-1], state="mirror", expect=75).stderr.count("\n") == 1
    # It was asked for, and so the next one that ends goes once more, and no further.
    third = net.run("mirror", *words, state="mirror")
    assert [event["event"] for event in third.events].count("done") == 1
    assert_same_tree(tree, copy)


def test_two_runs_at_once_lose_nothing(net: Network, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree", files=10)
    url = net.publish(tree, state="origin")
    node = net.node("origin")
    copy = tmp_path / "copy"
    words = [url, copy, "--source", node.address, "--queue"]
    for number in range(4):
        (tree / f"new{number}").write_text("new")
        set_mtime(tree / f"new{number}", 10**18)
        net.publish(tree, state="origin")
        running = [net.spawn("fetch", *words, state="reader") for _ in range(3)]
        assert [each.wait() for each in running] == [0, 0, 0]
        assert (copy / f"new{number}").exists()
    assert_same_tree(tree, copy)


def test_the_status_file_has_the_last_success_and_the_last_error(net: Network, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree", files=5)
    url = net.publish(tree, state="origin")
    node = net.node("origin")
    file = tmp_path / "status.json"
    words = [url, tmp_path / "copy", "--status-file", file]
    failed = net.run("fetch", *words, state="nowhere", expect=None)
    first = status(file)
    assert (first["ok"], first["code"], first["last_success"]) == (False, failed.wait(), None)
    assert first["last_error"] == {key: first[key] for key in ("time", "code", "message")}
    done = net.run("fetch", *words, "--source", node.address, state="reader").done
    second = status(file)
    assert (second["ok"], second["code"], second["message"]) == (True, 0, "")
    assert second["last_success"] == second["time"]
    assert second["last_error"] == first["last_error"]
    assert second["summary"] == {key: value for key, value in done.items() if key != "event"}
    assert second["dest"] == str(tmp_path / "copy")
    assert not list(tmp_path.glob(".status.json*"))
