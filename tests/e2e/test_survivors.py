"""An archive outlives its origin: mirrors carry it, with or without the DHT."""

from __future__ import annotations

import time
from pathlib import Path

from tests.e2e.harness import Network, Node, assert_same_tree, total_size
from tests.e2e.trees import MIB, odd_tree, plain_tree
from tests.help.waiting import until

from p2psync.format.url import archive_text
from p2psync.publish import publish
from p2psync.state import State

DAY = 86400


def holders(net: Network, url: str, state: str, *options: object) -> set[str]:
    """Addresses of the holders that a client finds."""
    found = net.run("mirrors", url, *options, state=state)
    return {end for event in found.events if event["event"] == "holder" for end in event["endpoints"]}


def two_mirrors(net: Network, url: str, boot: Node, *options: str) -> tuple[Node, Node]:
    made = [
        net.mirror(url, net.path / f"mirror{i}", *options, state=f"mirror{i}", bootstrap=boot) for i in (1, 2)
    ]
    for mirror in made:
        mirror.wait_event("done")
    return made[0], made[1]


def test_an_archive_is_fetched_from_its_mirrors_when_origin_and_bootstrap_node_are_dead(net: Network) -> None:
    tree = odd_tree(net.path / "tree", large=(24 * MIB, 12 * MIB, 7 * MIB, 5 * MIB, 300_000, 65_537, 65_536))
    boot = net.node("boot")
    url = net.publish(tree, state="origin")
    origin = net.node("origin", bootstrap=boot)
    first, second = two_mirrors(net, url, boot, "--special-bits")
    until(
        lambda: {first.address, second.address} <= holders(net, url, "client", "--bootstrap", boot.address),
        "both mirrors are in the DHT",
    )
    origin.kill()
    boot.kill()
    done = net.run("fetch", url, net.path / "copy", "--special-bits", state="client").done
    assert_same_tree(tree, net.path / "copy")
    sources = done["sources"]
    assert set(sources) == {first.address, second.address}
    assert min(sources.values()) >= 0.3 * sum(sources.values()), sources
    # Equal content is sent once: twice the largest file is in the tree under other names.
    assert done["received"] < 1.05 * (total_size(tree) - 2 * 24 * MIB)
    assert (done["files"], done["bytes"], done["deleted"]) == (count(tree), total_size(tree), 0)


def count(tree: Path) -> int:
    return sum(path.is_file() and not path.is_symlink() for path in tree.rglob("*"))


def test_without_any_dht_one_known_mirror_leads_to_the_others(net: Network) -> None:
    tree = plain_tree(net.path / "tree", small=100, large=(9 * MIB, 6 * MIB))
    url = net.publish(tree, state="origin")
    origin = net.node("origin")
    first, second = two_mirrors(net, url, origin)
    until(
        lambda: second.address in holders(net, url, "onlooker", "--source", first.address),
        "the mirrors know of each other",
    )
    origin.kill()
    for name, how in {
        "flag": [url, "--source", first.address],
        "hint": [f"{url}?peer={first.address}"],
    }.items():
        copy = net.path / f"copy by {name}"
        done = net.run("fetch", how[0], copy, *how[1:], "--bwlimit", "10m", state=f"client-{name}").done
        assert_same_tree(tree, copy)
        assert set(done["sources"]) == {first.address, second.address}
        assert all(done["sources"].values())


def test_past_the_freshness_of_its_head_an_archive_without_origin_and_dht_is_fetched_and_gets_new_mirrors(
    net: Network,
) -> None:
    """A dead publisher vouches for nothing any more: the age is told, and nobody is turned away."""
    tree = plain_tree(net.path / "tree", small=20, large=(6 * MIB,))
    with State.open(net.state("origin")) as state:
        published = publish(state, tree, now=time.time() - 30 * DAY)
    url = f"p2psync://{archive_text(published.archive)}"
    origin = net.node("origin")
    old = net.mirror(url, net.path / "old", "--source", origin.address, state="old")
    old.wait_event("done")
    origin.kill()
    new = net.mirror(url, net.path / "new", "--source", old.address, state="new")
    assert new.wait_event("done")["seq"] == 1
    assert_same_tree(tree, net.path / "new")
    until(
        lambda: new.address in holders(net, url, "onlooker", "--source", old.address),
        "the old mirror tells of the new one",
    )
    done = net.run(
        "fetch", url, net.path / "copy", "--source", old.address, "--bwlimit", "6m", state="client"
    )
    assert_same_tree(tree, net.path / "copy")
    assert set(done.done["sources"]) == {old.address, new.address}
    for command in (done, new):
        assert "30 days old" in command.stderr
    told = net.run("mirrors", url, "--source", new.address, state="other onlooker")
    assert "30 days old" in told.stderr


def test_a_client_joins_again_with_the_contacts_that_it_has_cached(net: Network) -> None:
    tree = plain_tree(net.path / "tree", small=20)
    boot = net.node("boot")
    url = net.publish(tree, state="origin")
    origin = net.node("origin", bootstrap=boot)
    until(
        lambda: (
            net.run("ls", url, "--bootstrap", boot.address, state="client", expect=None).events[-1]["event"]
            != "error"
        ),
        "the client has seen the archive once",
    )
    boot.kill()
    done = net.run("fetch", url, net.path / "copy", state="client").done
    assert set(done["sources"]) == {origin.address}
    assert_same_tree(tree, net.path / "copy")


def test_with_nobody_left_the_fetch_says_so_and_what_to_give(net: Network) -> None:
    url = net.publish(plain_tree(net.path / "tree", small=3), state="origin")
    failed = net.run("fetch", url, net.path / "copy", state="client", expect=10)
    assert "--bootstrap" in failed.events[-1]["message"]
    assert not (net.path / "copy").exists()
