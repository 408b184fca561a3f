"""Clients that fetch the same at the same time give each other what they have."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.harness import Command, Network, assert_same_tree, total_size
from tests.e2e.servers import Background, Proxy, proxy
from tests.e2e.trees import MIB, plain_tree


def slow_origin(net: Network, servers: Background, tree: Path, rate: float) -> tuple[str, Proxy]:
    """A published tree behind a slow proxy that counts: nobody knows the origin by another address."""
    url = net.publish(tree, state="origin")
    way = servers.enter(proxy(rate=rate))
    way.target = net.node("origin", "--advertise", way.address).address
    return url, way


def fetch_at_once(net: Network, url: str, way: Proxy, *options: object) -> list[Command]:
    running = [
        net.spawn("fetch", url, net.path / name, "--source", way.address, *options, state=name)
        for name in ("client1", "client2")
    ]
    for command in running:
        assert command.wait() == 0, command.stderr
    return running


def others(command: Command, way: Proxy) -> int:
    """Bytes that a client received from somebody else than the origin."""
    return sum(count for name, count in command.done["sources"].items() if name != way.address)


def test_two_clients_of_a_slow_origin_share_while_they_fetch(net: Network, servers: Background) -> None:
    tree = plain_tree(net.path / "tree", large=(12 * MIB,))
    url, way = slow_origin(net, servers, tree, 1.5 * MIB)
    clients = fetch_at_once(net, url, way)
    for command in clients:
        assert others(command, way) > MIB, [c.done["sources"] for c in clients]
    assert way.sent < 1.7 * total_size(tree)
    for name in ("client1", "client2"):
        assert_same_tree(tree, net.path / name)


def test_with_no_share_each_takes_all_from_the_origin(net: Network, servers: Background) -> None:
    tree = plain_tree(net.path / "tree", large=(4 * MIB,))
    url, way = slow_origin(net, servers, tree, 3 * MIB)
    clients = fetch_at_once(net, url, way, "--no-share")
    assert [others(command, way) for command in clients] == [0, 0]
    assert way.sent >= 2 * total_size(tree)
    for name in ("client1", "client2"):
        assert_same_tree(tree, net.path / name)
