"""Nodes and clients behind NATs and firewalls: real ones, between namespaces of the kernel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.harness import assert_same_tree, make_tree
from tests.e2e.impatient import impatient
from tests.e2e.namespaces import NO_UDP, PORT, Internet, forwarded, internet
from tests.help.waiting import until

from p2psync.network.dht import ASKS_ONLY, SERVES

PUBLIC = ("192.0.2.10", "198.51.100.10", "203.0.113.10")
"""Of three networks: no more than two of one may be in a bucket."""
NEWCOMERS = ("192.0.2.20", "198.51.100.20")
HOME = "203.0.113.77"
"""The public address of the NAT."""
UNREACHED = f"no other node could reach this one at {HOME}:{PORT}"


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Internet]:
    with internet(tmp_path) as made:
        yield made


class World:
    """An origin and two mirrors of its archive, all public; and somebody's home behind a NAT."""

    def __init__(self, internet: Internet, folder: Path) -> None:
        self.folder = folder
        self.tree = make_tree(folder / "tree", files=20)
        self.copy = folder / "copy"
        self.hosts = [internet.host(address) for address in PUBLIC]
        self.origin, *mirrors = self.hosts
        self.nodes = [self.origin.start("--role", "server")]
        self.nodes += [host.start(bootstrap=self.origin) for host in mirrors]
        self.url = self.origin.publish(self.tree, state="node").partition("?")[0]
        for host in mirrors:
            copy = folder / f"mirror-{host.public}"
            host.run("mirror", self.url, copy, "--once", "--source", self.origin.peer, state="node")
        until(lambda: self.announced() == set(PUBLIC), "the public nodes are announced")
        self.home = internet.host(HOME, behind_nat=True)

    def announced(self) -> set[str]:
        """The addresses in the holder records that the DHT has."""
        words = [self.url, "--bootstrap", self.origin.peer]
        found = self.origin.run("mirrors", *words, state="somebody").events
        places = [place for event in found if event["event"] == "holder" for place in event["endpoints"]]
        return {str(place).rpartition(":")[0] for place in places}

    def contacts(self) -> list[int]:
        """How many contacts each of the public nodes has."""
        return [host.dht()["tables"]["IPv4"]["contacts"] for host in self.hosts]


@pytest.fixture
def world(net: Internet, tmp_path: Path) -> World:
    return World(net, tmp_path)


def test_behind_a_nat_a_mirror_only_asks_and_announces_nothing(world: World) -> None:
    node = world.home.stand(world.url, world.copy, bootstrap=world.origin)
    node.wait_event("done")
    assert_same_tree(world.tree, world.copy)
    until(lambda: UNREACHED in node.stderr, "the node says that nobody reaches it")
    assert world.home.dht()["mode"] == "client"
    assert world.contacts() == [2, 2, 2]
    assert world.announced() == set(PUBLIC)
    assert node.stderr.count(UNREACHED) == node.stderr.count(ASKS_ONLY) == 1
    world.home.run(
        "fetch", world.url, world.folder / "fetched", "--bootstrap", world.origin.peer, state="client"
    )
    assert_same_tree(world.tree, world.folder / "fetched")


def test_with_its_port_forwarded_a_mirror_serves_all_the_world(world: World) -> None:
    world.home.filter(forwarded("tcp", "udp"))
    node = world.home.stand(world.url, world.copy, bootstrap=world.origin)
    node.wait_event("done")
    assert world.home.dht()["mode"] == "server"
    until(lambda: world.announced() == {*PUBLIC, HOME}, "the public address of the NAT is announced")
    assert world.contacts() == [3, 3, 3]
    assert UNREACHED not in node.stderr
    for other in world.nodes:
        other.kill()
    words = [world.url, world.folder / "fetched", "--bootstrap", world.home.peer]
    fetched = world.hosts[1].run("fetch", *words, state="client")
    assert set(fetched.done["sources"]) == {world.home.peer}
    assert_same_tree(world.tree, world.folder / "fetched")


def test_with_only_udp_forwarded_a_mirror_serves_the_dht_and_announces_nothing(world: World) -> None:
    world.home.filter(forwarded("udp"))
    node = world.home.stand(world.url, world.copy, bootstrap=world.origin)
    until(lambda: UNREACHED in node.stderr, "the node says that nobody reaches its content server")
    assert world.home.dht()["mode"] == "server"
    assert world.announced() == set(PUBLIC)


@pytest.mark.parametrize("where", ["on the way", "on the host"])
def test_without_udp_a_source_by_tcp_is_enough(world: World, where: str) -> None:
    """A firewall on the way drops in silence; one on the host makes sending an error (EPERM)."""
    world.home.filter(NO_UDP, on_router=where == "on the way")
    words = ["--source", world.origin.peer, "--bootstrap", world.origin.peer]
    world.home.run("fetch", world.url, world.copy, *words, state="client")
    assert_same_tree(world.tree, world.copy)


def test_a_node_serves_from_when_its_port_is_forwarded(net: Internet, world: World) -> None:
    world.home.program = impatient("p2psync.daemon.upkeep.TEST=1.0")  # seconds, and not half an hour
    node = world.home.start(bootstrap=world.origin)
    until(lambda: ASKS_ONLY in node.stderr, "the node has found out that nobody reaches it")
    assert world.home.dht()["mode"] == "client"
    assert node.stderr.count(ASKS_ONLY) == 1
    world.home.filter(forwarded("tcp", "udp"))
    # Those whom it has written to since it started are no strangers any more.
    for address in NEWCOMERS:
        net.host(address).start(bootstrap=world.hosts[1])
    until(lambda: world.home.dht()["mode"] == "server", "the node has become a server")
    assert node.stderr.count(SERVES) == 1
