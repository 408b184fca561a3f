"""A directory that became a file or a link in the archive: it stays until that is there, and serves."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest
from tests.e2e.harness import Network, Node, assert_same_tree
from tests.e2e.impatient import SOON, impatient
from tests.e2e.trees import KIB, MIB, fill
from tests.help.waiting import until

PARTIAL = ".p2psync.partial"


def copied(net: Network) -> tuple[Path, list[object], Node]:
    """A tree with a directory ``x``, what a client says to fetch it, and the origin; the client has it."""
    tree = net.path / "tree"
    fill(tree / "x" / "big", 6 * MIB, "big")
    fill(tree / "x" / "deep" / "small", 5000, "small")
    fill(tree / "other", 70_000, "other")
    url = net.publish(tree, state="origin")
    origin = net.node("origin")
    where: list[object] = [url, net.path / "copy", "--source", origin.address]
    net.run("fetch", *where, state="client")
    shutil.copytree(tree, net.path / "before")
    return tree, where, origin


@pytest.mark.parametrize("command", ["mirror --once", "fetch --delete"])
def test_killed_while_the_file_comes_it_leaves_the_directory(net: Network, command: str) -> None:
    tree, where, _ = copied(net)
    copy = net.path / "copy"
    shutil.rmtree(tree / "x")
    fill(tree / "x", 6 * MIB, "quite another")
    net.run("publish", tree, state="origin")
    words = command.split()

    def come() -> int:
        """Bytes of the new file that are in the folder of unfinished files."""
        unfinished = list((copy / PARTIAL).glob("?" * 64))
        return sum(each.stat().st_blocks * 512 for each in unfinished)

    for part in (1, 2):
        fetching = net.spawn(*words, *where, "--bwlimit", "2m", state="client")
        until(lambda: come() > part * MIB, "a part of the file has come")  # noqa: B023 - called at once
        assert fetching.process.poll() is None, "it was over before it could be killed"
        fetching.signal(signal.SIGKILL)
        assert fetching.wait() == -signal.SIGKILL
        assert_same_tree(net.path / "before" / "x", copy / "x")
    done = net.run(*words, *where, "--bwlimit", "0", state="client").done
    assert done["deleted"] == 4
    assert done["received"] < 5 * MIB
    assert_same_tree(tree, copy)


def test_equal_content_is_not_fetched_again(net: Network) -> None:
    tree, where, _ = copied(net)
    (tree / "x" / "big").rename(tree / "kept")
    shutil.rmtree(tree / "x")
    (tree / "kept").rename(tree / "x")
    net.run("publish", tree, state="origin")
    done = net.run("mirror", "--once", *where, state="client").done
    assert done["received"] < 16 * KIB
    assert done["deleted"] == 4
    assert_same_tree(tree, net.path / "copy")


def test_a_link_takes_its_place_and_its_content_goes_on_elsewhere(net: Network) -> None:
    tree, where, _ = copied(net)
    (tree / "x").rename(tree / "y")
    (tree / "x").symlink_to("y")
    net.run("publish", tree, state="origin")
    done = net.run("mirror", "--once", *where, state="client").done
    assert done["received"] < 16 * KIB
    assert done["deleted"] == 4
    assert_same_tree(tree, net.path / "copy")


def test_while_no_source_has_the_file_the_directory_stays(net: Network) -> None:
    net.program = impatient(*SOON)
    tree, where, origin = copied(net)
    copy = net.path / "copy"
    shutil.rmtree(tree / "x")
    fill(tree / "x", 6 * MIB, "quite another")
    net.run("publish", tree, state="origin")
    origin.kill()
    (tree / "x").rename(net.path / "aside")
    where[-1] = net.node("origin").address
    net.run("fetch", *where, "--delete", state="client", expect=23)
    assert (copy / "x" / "big").read_bytes() == (net.path / "before" / "x" / "big").read_bytes()
    assert (copy / "x" / "deep" / "small").stat().st_size == 5000
    (net.path / "aside").rename(tree / "x")
    net.run("publish", tree, state="origin")
    net.run("fetch", *where, "--delete", state="client")
    assert_same_tree(tree, copy)
