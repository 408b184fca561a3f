"""``node --rsync-listen``: unmodified rsync clients against a node."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.harness import Network, Node, assert_same_tree, make_tree, need
from tests.help.waiting import until

from p2psync.daemon.rsync_door import CLIENT_MAX

LISTEN = ("--rsync-listen", "127.0.0.1:0")
REFUSED, GONE = 5, 23
"""Exit codes of rsync: the daemon knows no such module, or has too many clients; something is not there."""


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Network]:
    with Network(tmp_path) as made:
        yield made


def address(node: Node) -> str:
    found: str = node.wait_event("ready")["rsync"]
    return found


def rsync(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([need("rsync"), *words], capture_output=True, text=True, check=False, timeout=120)


def modules(node: Node) -> dict[str, str]:
    """What the node shows: names of modules, and their comments."""
    listed = rsync(f"rsync://{address(node)}/")
    assert listed.returncode == 0, listed.stderr
    rows = (line.partition("\t") for line in listed.stdout.splitlines())
    return {name.strip(): comment for name, _, comment in rows}


def test_an_unmodified_rsync_copies_an_archive_and_reads_its_address(net: Network, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "my archive", files=30)
    (tree / "outside").symlink_to("/etc/passwd")
    url = net.publish(tree, state="origin").partition("?")[0]
    node = net.node("origin", *LISTEN)
    until(
        lambda: modules(node) == {"my-archive": f"{url}?peer={node.address}"}, "the list of modules changed"
    )
    src = f"rsync://{address(node)}/my-archive/"
    assert rsync("-a", src, tmp_path / "copy").returncode == 0
    assert_same_tree(tree, tmp_path / "copy")
    # Who has p2psync names the same place, and gets it by P2P.
    done = net.run("fetch", src, tmp_path / "other", state="reader")
    assert list(done.done["sources"]) == [node.address]
    assert_same_tree(tree, tmp_path / "other")
    assert rsync("-a", f"{tree}/", src).returncode != 0


def test_links_lead_to_nothing_that_the_archive_does_not_have(net: Network, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("secret")
    tree = tmp_path / "tree"
    (tree / ".p2psync").mkdir(parents=True)
    (tree / ".p2psync/key").write_text("secret")
    (tree / "file").touch()
    for name, target in (("absolute", secret), ("upwards", "../secret"), ("file-link", secret / "key")):
        (tree / name).symlink_to(target)
    net.publish(tree, state="origin")
    node = net.node("origin", *LISTEN)
    src = f"rsync://{address(node)}/tree"
    for path in ("absolute/", "absolute/key", "upwards/", "../secret/", ".p2psync/", ".p2psync/key"):
        copy = tmp_path / "copy"
        rsync("-aL", f"{src}/{path}", copy)
        assert not any(found.is_file() for found in copy.rglob("*")), path
    rsync("-aL", f"{src}/", tmp_path / "all")
    assert [found.name for found in (tmp_path / "all").rglob("*") if found.is_file()] == ["file"]


def test_only_whole_directories_are_shown_and_only_what_is_public(net: Network, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree", files=5, odd_names=False)
    url = net.publish(tree, state="origin")
    origin = net.node("origin", *LISTEN)
    net.run("mirror", "--once", url, tmp_path / "mirror", "--source", origin.address, state="mirror")
    copy = tmp_path / "private"
    net.run("mirror", "--once", url, copy, "--source", origin.address, "--no-share", state="mirror")
    net.run("fetch", url, tmp_path / "fetched", "--source", origin.address, state="mirror")
    node = net.node("mirror", *LISTEN)
    assert set(modules(node)) == {"mirror"}
    unfinished = tree / ".p2psync.partial"
    unfinished.mkdir()
    until(lambda: modules(origin) == {}, "the list of modules changed")
    assert rsync("-a", f"rsync://{address(origin)}/tree/", tmp_path / "copy").returncode == REFUSED
    unfinished.rmdir()
    until(lambda: set(modules(origin)) == {"tree"}, "the list of modules changed")
    net.run("forget", tmp_path / "mirror", state="mirror")
    until(lambda: modules(node) == {}, "the list of modules changed")


def test_what_is_published_while_it_runs_is_shown(net: Network, tmp_path: Path) -> None:
    node = net.node("origin", *LISTEN)
    assert modules(node) == {}
    trees = [
        make_tree(tmp_path / name / "pub", files=3, odd_names=False, seed=len(name)) for name in ("a", "bb")
    ]
    urls = [net.publish(tree, state="origin") for tree in trees]
    until(lambda: len(modules(node)) == 2, "the list of modules changed")
    second = urls[1].partition("?")[0].removeprefix("p2psync://")
    assert set(modules(node)) == {"pub", f"pub-{second[:8]}"}


def test_clients_that_never_end_leave_room_for_others_and_end_with_the_node(
    net: Network, tmp_path: Path
) -> None:
    tree = make_tree(tmp_path / "tree", files=3, odd_names=False)
    net.publish(tree, state="origin")
    node = net.node("origin", *LISTEN)
    host, _, port = address(node).rpartition(":")
    idle = [socket.create_connection((host, int(port))) for _ in range(CLIENT_MAX)]
    for each in idle:
        assert each.recv(8) == b"@RSYNCD:"
    refused = rsync(f"rsync://{address(node)}/")
    assert refused.returncode == REFUSED or not refused.stdout
    assert net.run(
        "fetch", f"p2psync://{node_archive(net)}", tmp_path / "copy", "--source", node.address, state="reader"
    )
    idle.pop().close()
    until(lambda: rsync(f"rsync://{address(node)}/").returncode == 0, "the list of modules changed")
    assert node.stop() == 0
    for each in idle:
        each.settimeout(60)
        while each.recv(1024):
            pass
        each.close()


def node_archive(net: Network) -> str:
    listed = net.run("list", state="origin").events[0]
    return str(listed["archive"]).removeprefix("p2psync://")


def test_a_node_without_rsync_or_with_nothing_to_show_says_so(net: Network, tmp_path: Path) -> None:
    nothing = tmp_path / "bin"
    nothing.mkdir()
    words = ("--listen", "127.0.0.1:0", *LISTEN)
    done = net.run("node", *words, state="origin", expect=1, PATH=os.fspath(nothing))
    assert "needs the program rsync" in done.stderr
    done = net.run("node", *words, "--role", "bootstrap", state="origin", expect=1)
    assert "leave out --rsync-listen" in done.stderr
