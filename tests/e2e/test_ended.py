"""An archive that its publisher ends: the word spreads, the origin falls silent, and the mirror carries it
on.
"""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.e2e.harness import Command, Network, Node, assert_same_tree, make_tree
from tests.help.waiting import until


def browses(node: Node, url: str) -> bool:
    """Whether a node shows the archive to browsers."""
    try:
        with urllib.request.urlopen(f"http://{node.address}/{url.removeprefix('p2psync://')}/", timeout=60):
            return True
    except urllib.error.HTTPError:
        return False


def warned(command: Command) -> str:
    return "; ".join(event["message"] for event in command.events if event["event"] == "warning")


def holding(net: Network, state: str) -> dict[str, Any]:
    return net.run("list", state=state).wait_event("holding")


def test_the_end_reaches_mirrors_and_readers_and_takes_nothing_from_them(net: Network) -> None:
    tree, folder = make_tree(net.path / "tree"), net.path / "mirror"
    url = net.publish(tree, state="origin")
    origin = net.node("origin")
    mirror = net.mirror(url, folder, bootstrap=origin, state="mirror")
    mirror.wait_event("done")

    ended = net.run("unpublish", tree, state="origin").wait_event("ended")
    until(lambda: holding(net, "mirror")["ended"] == ended["ended"], "the mirror has heard of the end")
    assert not browses(origin, url)
    assert browses(mirror, url)

    def roles() -> set[str]:
        shown = net.run("mirrors", url, "--source", mirror.address, state="reader")
        assert shown.wait_event("mirrors")["ended"] == ended["ended"]
        return {event["role"] for event in shown.events if event["event"] == "holder"}

    until(lambda: roles() == {"mirror"}, "the origin is no holder any more")
    assert origin.stop() == 0
    copy: Path = net.path / "copy"
    fetch = net.run("fetch", url, copy, "--source", mirror.address, state="reader")
    assert "was ended by its publisher" in warned(fetch)
    assert fetch.done["ended"] == ended["ended"]
    assert_same_tree(tree, copy)
    assert_same_tree(tree, folder)

    # The publisher changes its mind.
    (tree / "new").write_bytes(b"new")
    again = net.run("publish", tree, "--bootstrap", mirror.address, state="origin")
    assert "is published again" in warned(again)
    origin = net.node("origin", bootstrap=mirror)
    until((folder / "new").is_file, "the mirror has what was published again")
    assert browses(origin, url)
    assert holding(net, "mirror")["ended"] is None
