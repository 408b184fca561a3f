"""Two address families: a node serves both at once, and those who have one of them alone fetch from it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.harness import Command, Network, assert_same_tree, make_tree
from tests.e2e.namespaces import PORT, Host, Internet, internet
from tests.help.waiting import until

from p2psync_dht.sockets import has_ipv6

FOUR, SIX = "192.0.2.10", "2001:db8::10"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Internet]:
    with internet(tmp_path) as made:
        yield made


def serving(host: Network, tree: Path, *args: object) -> tuple[Command, str]:
    """A node, and what it publishes."""
    url = host.publish(tree, state="node").partition("?")[0]
    return host.spawn("node", "--role", "server", *args, state="node"), url


def announced(host: Host, url: str, bootstrap: str) -> set[str]:
    """The addresses in the holder records that the DHT has."""
    found = host.run("mirrors", url, "--bootstrap", bootstrap, state="somebody").events
    return {place for event in found if event["event"] == "holder" for place in event["endpoints"]}


def test_a_node_listens_in_both_families_and_each_is_enough(world: Internet, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree", files=8)
    origin = world.host(FOUR, ipv6=SIX)
    node, url = serving(origin, tree)
    assert node.wait_event("ready")["addresses"] == [f"{FOUR}:{PORT}", f"[{SIX}]:{PORT}"]
    hosts = {
        f"{FOUR}:{PORT}": world.host("198.51.100.10"),
        f"[{SIX}]:{PORT}": world.host("", ipv6="2001:db8:1::10"),
    }
    until(lambda: announced(origin, url, f"{FOUR}:{PORT}") == set(hosts), "both addresses are announced")
    for place, host in hosts.items():
        for way in ("--source", "--bootstrap"):
            copy = tmp_path / f"{host.namespace}{way}"
            host.run("fetch", url, copy, way, place, state=f"client{way}")
            assert_same_tree(tree, copy)


def test_where_ipv6_is_off_everywhere_is_ipv4(world: Internet, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree", files=8)
    origin, client = world.host(FOUR), world.host("198.51.100.10")
    for host in (origin, client):
        host.switch_ipv6_off()
    node, url = serving(origin, tree)
    assert node.wait_event("ready")["addresses"] == [f"{FOUR}:{PORT}"]
    client.run("fetch", url, tmp_path / "copy", "--source", f"{FOUR}:{PORT}", state="c")
    assert_same_tree(tree, tmp_path / "copy")
    assert "IPv6" not in origin.dht()["tables"]


def test_all_of_ipv4_is_ipv4_alone(world: Internet, tmp_path: Path) -> None:
    origin: Host = world.host(FOUR, ipv6=SIX)
    node, url = serving(origin, make_tree(tmp_path / "tree", files=2), "--listen", f"0.0.0.0:{PORT}")
    assert node.wait_event("ready")["addresses"] == [f"{FOUR}:{PORT}"]
    fetch = ("fetch", url, tmp_path / "copy", "--source", f"[{SIX}]:{PORT}", "--contimeout", "5")
    origin.run(*fetch, state="c", expect=10)


def test_a_node_on_this_machine_serves_both_loopback_addresses(net: Network, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree", files=8)
    node, url = serving(net, tree, "--listen", "[::]:0")
    ready = node.wait_event("ready")
    port = ready["listen"].rpartition(":")[2]
    six = [f"[::1]:{port}"] if has_ipv6() else []
    for place in (f"127.0.0.1:{port}", *six, ready["listen"]):
        copy = tmp_path / f"from {place}"
        net.run("fetch", url, copy, "--source", place, state=f"to {place}")
        assert_same_tree(tree, copy)
