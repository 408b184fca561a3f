"""A mirror that is forgotten while its node runs: it stops at once, and does not come back by itself."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from pathlib import Path

from tests.e2e.harness import Network, Node, assert_same_tree
from tests.help.waiting import until

from p2psync.format.reserved import PARTIAL
from p2psync.state import State

MIB = 1 << 20


def status(node: Node, archive: str) -> int:
    """What a node says to whoever wants to browse an archive."""
    try:
        with urllib.request.urlopen(f"http://{node.address}/{archive}/", timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def held(path: Path) -> list[bytes]:
    with State.open(path) as state:
        return [tree.path for tree in state.trees.all()]


def test_a_mirror_is_forgotten_in_the_middle_of_its_first_update(net: Network) -> None:
    tree, folder = net.path / "tree", net.path / "mirror"
    tree.mkdir()
    for number in range(4):
        (tree / f"large{number}").write_bytes(os.urandom(2 * MIB))
    url = net.publish(tree, state="origin")
    origin = net.node("origin")
    mirror = net.mirror(url, folder, "--source", origin.address, "--bwlimit", "500", state="mirror")
    partial = folder / os.fsdecode(PARTIAL)
    until(partial.is_dir, "the mirror is being fetched")

    forgot = net.run("forget", folder, state="mirror").wait_event("forgot")
    assert forgot["directories"] == 1
    assert held(net.state("mirror")) == []
    archive = url.removeprefix("p2psync://")
    assert status(mirror, archive) == 404
    assert mirror.process.poll() is None, "the node goes on for others"

    # As a node, it does not take it up again; as a mirror it goes on from what was there.
    assert mirror.stop() == 0
    node = net.node("mirror")
    assert status(node, archive) == 404
    assert held(net.state("mirror")) == []
    done = net.run("mirror", url, folder, "--once", "--source", origin.address, state="mirror").done
    assert_same_tree(tree, folder)
    assert done["received"] < 8 * MIB
    until(lambda: status(node, archive) == 200, "the node serves it again")
