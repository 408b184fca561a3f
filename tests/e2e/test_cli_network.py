"""The commands of the network as scripts see them: events, exit codes, signals."""

from __future__ import annotations

import base64
import contextlib
import os
import pty
import re
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.harness import PROGRAM, Network, Node, assert_same_tree, make_tree, total_size
from tests.help.waiting import until

DONE = {
    *("event", "archive", "seq", "files", "bytes", "received", "reused", "deleted", "sources", "seconds"),
    *("changed", "touched", "missing", "failed", "unread", "sent", "speedup", "ended"),
}


def path_of(event: dict[str, Any]) -> bytes:
    return base64.b64decode(event["path_b64"]) if "path_b64" in event else event["path"].encode()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "tree")


@pytest.fixture
def url(net: Network, tree: Path) -> str:
    return net.publish(tree, state="origin")


@pytest.fixture
def origin(net: Network, url: str) -> Node:
    return net.node("origin")


def test_a_node_says_where_it_is_and_is_stopped_without_error(net: Network) -> None:
    node = net.node("alone")
    assert re.fullmatch(r"127\.0\.0\.1:[1-9][0-9]*", node.address)
    assert re.fullmatch(r"[0-9a-f]{40}", node.node_id)
    assert node.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_both_signals_stop_a_node(net: Network, number: signal.Signals) -> None:
    node = net.node("alone")
    node.signal(number)
    assert node.wait() == 0
    assert [event["event"] for event in node.events if event["event"] != "resting"] == ["ready"]


def test_a_port_that_is_taken_is_a_network_error(net: Network) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        failed = net.run("node", "--listen", listen, state="alone", expect=10)
    assert failed.events[-1]["event"] == "error"
    assert "--listen" in failed.events[-1]["message"]


def test_a_program_hears_of_each_file_and_of_progress(
    net: Network, tree: Path, url: str, origin: Node, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    options = [
        "--source",
        origin.address,
        "--json-files",
        "--bwlimit",
        "250",
    ]  # 250 KiB a second: for seconds.
    fetch = net.run("fetch", url, copy, *options, state="client")
    files = [event for event in fetch.events if event["event"] == "file"]
    assert all(list(event)[:2] == ["event", "path"] for event in files)
    names = set(map(path_of, files))
    there = [path for path in tree.rglob("*") if path.is_file() and not path.is_symlink()]
    assert names == {os.fsencode(path.relative_to(tree)) for path in there}
    assert sum(event["size"] for event in files) == total_size(tree)
    told = [event for event in fetch.events if event["event"] == "progress"]
    order = [
        "event",
        "phase",
        "bytes",
        "total_bytes",
        "files",
        "total_files",
        "rate",
        "eta",
        "seconds",
        "reused",
        "stalled",
        "path",
        "sent",
        "sent_rate",
        "peers",
        "sources",
    ]
    assert told
    at_files = [event for event in told if "path" in event]
    assert all([key for key in event if key != "path_b64"] == order for event in at_files)
    assert {event["phase"] for event in at_files} == {"fetching"}
    assert set(map(path_of, at_files)) <= names
    assert told[-1]["seconds"] >= len(told), "one a second at most"
    assert list(told[-1]["sources"]) == [origin.address]
    assert list(told[-1]["sources"][origin.address]) == ["bytes", "rate", "state"]
    quiet = net.run("fetch", url, tmp_path / "other", *options[:2], state="client")
    assert not any(event["event"] == "file" for event in quiet.events), "only those who ask"


def test_fetch_ends_with_the_whole_account(
    net: Network, tree: Path, url: str, origin: Node, tmp_path: Path
) -> None:
    fetch = net.run("fetch", url, tmp_path / "copy", "--source", origin.address, state="client")
    done = fetch.done
    assert set(done) == DONE
    assert (done["archive"], done["seq"], done["bytes"]) == (url, 1, total_size(tree))
    assert list(done["sources"]) == [origin.address]
    assert done["received"] >= done["bytes"]
    assert done["speedup"] == round(done["bytes"] / done["received"], 2)
    assert (done["missing"], done["failed"], done["unread"], done["sent"]) == (0, 0, 0, 0)
    assert done["changed"] == done["files"]
    assert_same_tree(tree, tmp_path / "copy")


def test_ls_and_mirrors_need_no_copy(net: Network, tree: Path, url: str, origin: Node) -> None:
    listed = net.run("ls", "-r", url, "--source", origin.address, state="reader")
    assert listed.events[-1]["event"] == "listed"
    paths = [event["path"] for event in listed.events if event["event"] == "entry"]
    assert len(paths) == 1 + sum(1 for _ in tree.rglob("*"))
    mirrors = net.run("mirrors", url, "--source", origin.address, state="reader")
    holder, last = mirrors.events
    assert (holder["role"], holder["endpoints"]) == ("origin", [origin.address])
    assert (holder["complete"], holder["seq"]) == (True, 1)
    assert (last["holders"], last["seq"]) == (1, 1)


def test_a_mirror_serves_and_says_when_it_is_complete(
    net: Network, tree: Path, url: str, origin: Node, tmp_path: Path
) -> None:
    mirror = net.mirror(url, tmp_path / "mirror", "--source", origin.address, state="mirror")
    assert set(mirror.wait_event("done")) == DONE
    assert_same_tree(tree, tmp_path / "mirror")
    origin.kill()
    net.run("fetch", url, tmp_path / "copy", "--source", mirror.address, state="client")
    assert_same_tree(tree, tmp_path / "copy")
    assert mirror.stop() == 0


def test_mirror_once_ends_and_a_node_then_serves_it(
    net: Network, tree: Path, url: str, origin: Node, tmp_path: Path
) -> None:
    net.run("mirror", url, tmp_path / "mirror", "--once", "--source", origin.address, state="mirror")
    origin.kill()
    node = net.node("mirror")
    net.run("fetch", url, tmp_path / "copy", "--source", node.address, state="client")
    assert_same_tree(tree, tmp_path / "copy")


def test_an_interrupted_fetch_ends_with_20_and_goes_on(
    net: Network, tree: Path, url: str, origin: Node, tmp_path: Path
) -> None:
    words = (url, tmp_path / "copy", "--source", origin.address)
    slow = net.spawn("fetch", *words, "--bwlimit", "16", state="client")
    until((tmp_path / "copy").exists, "the fetch begins")
    slow.signal(signal.SIGTERM)
    assert slow.wait() == 20
    assert slow.events[-1] == {"event": "error", "code": 20, "message": slow.events[-1]["message"]}
    net.run("fetch", *words, state="client")
    assert_same_tree(tree, tmp_path / "copy")


def test_people_read_a_summary_and_cron_nothing(net: Network, url: str, origin: Node, tmp_path: Path) -> None:
    def words(name: str, *options: str) -> list[str]:
        fetch = ["fetch", url, str(tmp_path / name), "--source", origin.address, *options]
        return [*PROGRAM, *fetch, "--state", str(tmp_path / f"state-{name}")]

    def at_a_terminal(name: str, *options: str) -> list[str]:
        main, other = pty.openpty()
        process = subprocess.Popen(words(name, *options), stdout=other, stderr=other)
        os.close(other)
        said = b""
        with os.fdopen(main, "rb", buffering=0) as terminal, contextlib.suppress(OSError):
            while part := terminal.read(65536):  # Linux says EIO when the last writer is gone.
                said += part
        assert process.wait() == 0
        plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\r", "", said.decode())
        return [line for line in plain.splitlines() if line.startswith(("snapshot", "from"))]

    def in_cron(name: str, *options: str) -> tuple[str, str]:
        done = subprocess.run(words(name, *options), capture_output=True, text=True, check=True)
        return done.stdout, done.stderr

    summary, sources = at_a_terminal("told")
    assert summary.startswith("snapshot 1: ")
    assert sources == f"from {origin.address} 100 %"
    assert at_a_terminal("silent", "--quiet") == []
    assert in_cron("nightly") == ("", "")
    assert in_cron("asked", "-v")[0].startswith("snapshot 1: ")
