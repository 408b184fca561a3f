"""Which head a client believes: the newest of several, replayed older ones, ones past their freshness."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from tests.e2e.harness import Network, assert_same_tree
from tests.e2e.servers import HOST, Background
from tests.e2e.trees import change_some, plain_tree

from p2psync.publish import publish
from p2psync.state import State
from p2psync_dht import DhtNode, Identity

DAY = 86_400


def head_of(address: str, url: str) -> bytes:
    """The signed head that a node serves."""
    with urllib.request.urlopen(f"http://{address}/p2psync/v1/archive/{urlsplit(url).netloc}/head") as answer:
        raw: bytes = answer.read()
        return raw


@asynccontextmanager
async def dht_nodes(heads: list[bytes | None]) -> AsyncIterator[list[str]]:
    """A DHT of one node for each head; each holds its own from before the nodes came to know each other."""
    nodes: list[DhtNode] = []
    try:
        for head in heads:
            node = await DhtNode.start(Identity.generate(), HOST, 0)
            nodes.append(node)
            if head is not None:
                assert await node.put_head(head) == 1
        for node in nodes[1:]:
            await node.join([nodes[0].address])
        for node in nodes:
            await node.join([other.address for other in nodes if other is not node])
        yield [f"{HOST}:{node.address[1]}" for node in nodes]
    finally:
        for node in nodes:
            await node.close()


def two_snapshots(net: Network) -> tuple[str, Path, bytes, bytes]:
    """An archive published twice, mirrored at the first and the second; the URL, the tree, both heads.

    The mirrors of the first (state "m1") and the second (state "m2") are not running.
    """
    tree = plain_tree(net.path / "tree", small=30)
    url = net.publish(tree, state="origin")
    origin = net.node("origin")
    heads = []
    for number in (1, 2):
        net.run(
            "mirror", url, net.path / f"m{number}", "--once", "--source", origin.address, state=f"m{number}"
        )
        heads.append(head_of(origin.address, url))
        change_some(tree, every=5, seed=number)
        if number == 1:
            net.run("publish", tree, state="origin")
    origin.kill()
    return url, net.path / "m2", heads[0], heads[1]


def test_an_older_head_that_is_replayed_is_refused_by_who_has_seen_a_newer_one(
    net: Network, servers: Background
) -> None:
    url, newest, first, second = two_snapshots(net)
    copy = net.path / "copy"
    mirror = net.node("m2")
    net.run("fetch", url, copy, "--source", mirror.address, state="client")
    mirror.kill()
    assert first != second
    # All that is left are nodes that hold the old head, and a mirror that is at the old snapshot.
    boot = servers.enter(dht_nodes([first, first, first]))[0]
    old = net.node("m1")
    done = net.run("fetch", url, copy, "--bootstrap", boot, "--source", old.address, state="client")
    assert done.done["seq"] == 2
    assert "older head(s) were offered and refused" in done.stderr
    assert_same_tree(newest, copy)
    # Who comes for the first time cannot know better.
    fresh = net.run(
        "fetch", url, net.path / "fresh", "--source", old.address, "--bootstrap", boot, state="new"
    )
    assert fresh.done["seq"] == 1
    assert_same_tree(net.path / "m1", net.path / "fresh")


def test_a_newcomer_finds_the_newest_head_among_the_closest_nodes(net: Network, servers: Background) -> None:
    url, newest, first, second = two_snapshots(net)
    boot = servers.enter(dht_nodes([first, None, first, second, first, None, first]))[0]
    mirror = net.node("m2", "--bootstrap", boot)
    found = net.run(
        "fetch", url, net.path / "copy", "--bootstrap", boot, "--source", mirror.address, state="new"
    )
    assert found.done["seq"] == 2
    assert_same_tree(newest, net.path / "copy")


def test_the_dht_alone_tells_a_newcomer_the_newest_head(net: Network, servers: Background) -> None:
    url, _, first, second = two_snapshots(net)
    boot = servers.enter(dht_nodes([first, None, first, second, first, None, first]))[0]
    found = net.run("mirrors", url, "--bootstrap", boot, state="new")
    assert found.events[-1]["seq"] == 2


def test_a_head_past_its_freshness_is_used_with_a_warning_unless_that_is_forbidden(net: Network) -> None:
    tree = plain_tree(net.path / "tree", small=5)
    with State.open(net.state("origin")) as state:
        published = publish(state, tree, now=time.time() - 30 * DAY)
    from p2psync.format.url import archive_text

    url = f"p2psync://{archive_text(published.archive)}"
    origin = net.node("origin")
    where = ["--source", origin.address]
    forbidden = net.run("fetch", url, net.path / "copy", *where, "--require-fresh", state="client", expect=5)
    assert "30 days old" in forbidden.events[-1]["message"]
    assert not (net.path / "copy").exists()
    done = net.run("fetch", url, net.path / "copy", *where, state="client")
    assert "30 days old" in done.stderr
    assert "vouched for it until 23 days ago" in done.stderr
    assert_same_tree(tree, net.path / "copy")
    # Publishing again, though nothing changed, vouches for it anew.
    assert net.run("publish", tree, state="origin").events[-1]["seq"] == 2
    again = net.run("fetch", url, net.path / "copy", *where, "--require-fresh", state="client")
    assert (again.done["seq"], again.stderr) == (2, "")
