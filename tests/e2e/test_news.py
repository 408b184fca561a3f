"""Mirrors hear of a new snapshot when it is published, not at their next look an hour later; and those that
take it at the same time take it from each other.
"""

from __future__ import annotations

import re
import urllib.request
from pathlib import Path

from tests.e2e.harness import Network, Node, assert_same_tree
from tests.e2e.trees import MIB, fill, plain_tree
from tests.help.waiting import until

MIRRORS = 5
COPIES = 2.5
"""Of all that is new, what an origin sends at most, however many mirrors there are."""


def is_there(copy: Path, tree: Path) -> bool:
    """Whether the newest file has come."""
    new = copy / "new"
    return new.exists() and new.read_bytes() == (tree / "new").read_bytes()


def sent(origin: Node) -> float:
    """Bytes of content that a node has sent, as its metrics have it."""
    address = origin.events[0]["metrics"]
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    return sum(map(float, re.findall(r"^p2psync_content_bytes_total\{.*\} (.*)$", text, re.MULTILINE)))


def test_a_mirror_that_nobody_knows_of_takes_a_new_snapshot_when_it_is_published(net: Network) -> None:
    """As one whose firewall lets nobody in: nobody can tell it anything, so it is that which asks."""
    tree = plain_tree(net.path / "tree", small=5)
    url = net.publish(tree, state="origin")
    origin = net.node("origin")
    copy = net.path / "copy"
    net.mirror(f"{url}?peer={origin.address}", copy, "--no-share", state="m").wait_event("done")
    for number in range(3):
        fill(tree / "new", 1000, number)
        net.publish(tree, state="origin")
        until(lambda: is_there(copy, tree), "the mirror has the new snapshot")
    until(lambda: not any(copy.glob(".p2psync*")), "the mirror is done")
    assert_same_tree(tree, copy)


def test_a_mirror_hears_of_it_by_another_one_when_the_origin_reaches_neither(net: Network) -> None:
    tree = plain_tree(net.path / "tree", small=5)
    url = net.publish(tree, state="origin")
    origin = net.node("origin")
    first = net.mirror(f"{url}?peer={origin.address}", net.path / "first", state="first")
    first.wait_event("done")
    second = net.path / "second"
    net.mirror(f"{url}?peer={first.address}", second, "--no-share", state="second").wait_event("done")
    fill(tree / "new", 1000, "new")
    net.publish(tree, state="origin")
    until(lambda: is_there(second, tree), "the second mirror has the new snapshot")


def test_mirrors_that_take_a_snapshot_at_the_same_time_take_it_from_each_other(net: Network) -> None:
    tree = plain_tree(net.path / "tree", small=5)
    url = net.publish(tree, state="origin")
    origin = net.node("origin", "--metrics", "127.0.0.1:0")
    copies = [net.path / f"copy{number}" for number in range(MIRRORS)]
    options = ["--source", origin.address, "--bwlimit", "3m"]
    for number, copy in enumerate(copies):
        net.mirror(url, copy, *options, state=f"m{number}").wait_event("done")
    before = sent(origin)
    plain_tree(tree, small=400, large=(MIB,) * 12, seed="new")
    fill(tree / "new", 1000, "new")
    size = sum(path.stat().st_size for path in tree.rglob("*") if path.is_file())
    net.publish(tree, state="origin")
    for copy in copies:
        until(lambda: is_there(copy, tree), "all mirrors have it")  # noqa: B023 - called before the next one
        until(lambda: not any(copy.glob(".p2psync*")), "all mirrors are done")  # noqa: B023
    assert sent(origin) - before <= COPIES * size
    for copy in copies:
        assert_same_tree(tree, copy)
