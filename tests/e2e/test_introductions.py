"""Mirrors that have only their origin in common: they know each other before they say that they are done, and
need neither it nor a bootstrap node from then on."""

from __future__ import annotations

import socket
import urllib.request
from pathlib import Path

import pytest
from tests.e2e.harness import Network, Node, assert_same_tree
from tests.e2e.servers import Background, proxy
from tests.e2e.trees import MIB, plain_tree
from tests.help.places import own_host
from tests.help.waiting import until

from p2psync.format.url import ArchiveUrl
from p2psync.sources.wire import decode_holders, holders_path
from p2psync_dht import HolderRecord


def listed(url: str, address: str) -> set[str]:
    """Addresses of the holders that a node tells of, asked directly: no DHT, and nobody's memory."""
    path = holders_path(ArchiveUrl.parse(url).archive)
    with urllib.request.urlopen(f"http://{address}{path}", timeout=30) as answer:
        records = [HolderRecord.decode(raw) for raw in decode_holders(answer.read())]
    return {str(endpoint) for record in records for endpoint in record.endpoints}


def given(how: str, url: str, address: str) -> list[str]:
    """The words by which a command is given a node by hand."""
    return [f"{url}?peer={address}"] if how == "peer" else [url, "--source", address]


def mirrors_of_the_dead(net: Network, tree: Path, how: str, *, together: bool) -> tuple[str, Node, Node]:
    """The URL of a published tree and two mirrors of it that were given the origin alone; it was killed at
    the moment when both were done.
    """
    url = net.publish(tree, state="origin")
    origin = net.node("origin")
    made = []
    for name in ("first", "second"):
        source, *options = given(how, url, origin.address)
        made.append(net.mirror(source, net.path / name, *options, state=name))
        if not together:
            made[-1].wait_event("done")
    for mirror in made:
        mirror.wait_event("done")
    origin.kill()
    return url, made[0], made[1]


@pytest.mark.parametrize("how", ["peer", "source"])
@pytest.mark.parametrize("together", [True, False], ids=["together", "one after the other"])
def test_one_of_two_mirrors_leads_to_the_other_when_their_only_acquaintance_is_dead(
    net: Network, how: str, together: bool
) -> None:
    tree = plain_tree(net.path / "tree", small=60, large=(5 * MIB, 3 * MIB))
    url, first, second = mirrors_of_the_dead(net, tree, how, together=together)
    until(lambda: second.address in listed(url, first.address), "the first lists the second")
    until(lambda: first.address in listed(url, second.address), "the second lists the first")
    source, *options = given(how, url, second.address)
    done = net.run("fetch", source, net.path / "copy", *options, "--bwlimit", "6m", state="client").done
    assert set(done["sources"]) == {first.address, second.address}
    assert_same_tree(tree, net.path / "copy")


def contacts(net: Network, state: str) -> int:
    """How many nodes of the DHT a running node knows."""
    tables = net.run("dht", "status", state=state).events[-1]["dht"]["tables"]
    return sum(table["contacts"] for table in tables.values())


def test_a_mirror_that_starts_again_finds_the_dht_by_the_peer_that_it_was_given(net: Network) -> None:
    url = net.publish(plain_tree(net.path / "tree", small=5), state="origin")
    origin = net.node("origin")
    mirror = net.mirror(f"{url}?peer={origin.address}", net.path / "m", state="m")
    mirror.wait_event("done")
    mirror.kill()
    (net.state("m") / "contacts.msgpack").unlink(missing_ok=True)
    net.node("m")
    until(lambda: contacts(net, "m") > 0, "it knows a node of the DHT")


def test_a_given_peer_without_a_dht_does_for_all_else(net: Network, servers: Background) -> None:
    """HTTP comes through, UDP falls silent, as behind a firewall or at a proxy."""
    tree = plain_tree(net.path / "tree", small=20, large=(2 * MIB,))
    url = net.publish(tree, state="origin")
    origin = net.node("origin")
    way = servers.enter(proxy(origin.address, at=own_host()))  # whose UDP port is as free as the TCP port
    host, _, port = way.address.rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute:
        mute.bind((host, int(port)))
        mute.settimeout(30)
        done = net.run("fetch", f"{url}?peer={way.address}", net.path / "copy", state="client").done
        assert_same_tree(tree, net.path / "copy")
        assert way.address in done["sources"]
        # Who listens everywhere learns its address from the DHT, or else from its way to whom it was given.
        mirror = net.mirror(url, net.path / "m", "--source", way.address, state="m", listen="0.0.0.0:0")
        mirror.wait_event("done")
        assert mute.recv(2000)  # It was tried as a node of the DHT, and left no answer.
    port = mirror.address.rpartition(":")[2]
    until(lambda: f"127.0.0.1:{port}" in listed(url, origin.address), "the origin knows the mirror")
