"""The commands of the network as scripts see them: events, exit codes, signals."""

from __future__ import annotations

import base64
import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from tests.e2e.harness import PROGRAM, Network, Node, assert_same_tree, make_tree, total_size
from tests.help.waiting import until

DONE = {
    *("event", "archive", "seq", "files", "bytes", "received", "reused", "deleted", "sources", "seconds"),
}


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
    assert [event["event"] for event in node.events] == ["ready"]


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
    names = {
        base64.b64decode(event["path_b64"]) if "path_b64" in event else event["path"].encode()
        for event in files
    }
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
        "sources",
    ]
    assert told
    assert all(list(event) == order for event in told)
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


def test_people_read_a_summary_and_nothing_with_quiet(
    net: Network, url: str, origin: Node, tmp_path: Path
) -> None:
    def fetch(name: str, *options: str) -> str:
        argv = [*PROGRAM, "fetch", url, str(tmp_path / name), "--source", origin.address, *options]
        argv += ["--state", str(tmp_path / f"state-{name}")]
        done = subprocess.run(argv, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        return done.stdout

    summary, sources = fetch("told").splitlines()
    assert summary.startswith("snapshot 1: ")
    assert sources == f"from {origin.address} 100 %"
    assert fetch("silent", "--quiet") == ""
