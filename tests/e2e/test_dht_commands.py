"""p2psync dht against real nodes: what operators do when they wonder what the network does."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
from pathlib import Path

import pytest
from tests.e2e.harness import PROGRAM, Network, Node, make_tree


@pytest.fixture
def nodes(net: Network) -> list[Node]:
    """A bootstrap node and three that joined by it."""
    first = net.node("boot")
    return [first, *(net.node(f"node{number}", bootstrap=first) for number in range(3))]


def test_ping_tells_nodes_from_nobody(net: Network, nodes: list[Node]) -> None:
    pinged = net.run("dht", "ping", nodes[2].address, "--count", "2", state="reader").events[-1]
    assert (pinged["node"], pinged["verified"], pinged["answered"]) == (nodes[2].node_id, True, 2)
    assert pinged["software"].startswith("p2psync/")
    nodes[2].kill()
    silent = net.run("dht", "ping", nodes[2].address, "--count", "1", state="reader", expect=10)
    assert silent.events[-2]["answered"] == 0


def test_a_node_can_be_pinged_from_its_own_state_directory(net: Network, nodes: list[Node]) -> None:
    pinged = net.run("dht", "ping", nodes[1].address, "--count", "1", state="node0").events[-1]
    assert (pinged["node"], pinged["verified"]) == (nodes[1].node_id, True)


def test_lookup_sees_what_was_published_and_who_has_it(
    net: Network, nodes: list[Node], tmp_path: Path
) -> None:
    url = net.publish(make_tree(tmp_path / "tree", files=5), state="node0")
    words = (url, "--bootstrap", nodes[0].address)
    while not (found := net.run("dht", "lookup", *words, state="reader").events[-1])["copies"]:
        assert nodes[1].process.poll() is None  # the node announces within seconds
    assert (found["epoch"], found["seq"], found["archive"]) == (0, 1, url)
    while not (events := net.run("dht", "lookup", *words, "--holders", state="reader").events)[-1]["holders"]:
        assert nodes[1].process.poll() is None
    (holder,) = [event for event in events if event["event"] == "holder"]
    assert (holder["role"], holder["complete"], holder["seq"]) == ("origin", True, 1)
    assert holder["endpoints"] == [nodes[1].address]


def test_status_asks_the_node_that_runs_on_the_state_directory(net: Network, nodes: list[Node]) -> None:
    status = net.run("dht", "status", state="boot").events[-1]
    assert (status["listen"], status["dht"]["node"]) == (nodes[0].address, nodes[0].node_id)
    assert status["dht"]["mode"] == "server"
    assert status["dht"]["tables"]["IPv4"]["contacts"] == 3
    assert status["dht"]["traffic"]["datagrams_in"] > 0
    assert status["pid"] == nodes[0].process.pid


def test_the_control_socket_is_private_and_outlives_no_node(net: Network) -> None:
    path = net.state("alone") / "control.sock"
    node = net.node("alone")
    assert stat.S_IMODE(os.lstat(path).st_mode) == 0o600
    node.kill()
    assert path.exists()  # nobody could remove it
    failed = net.run("dht", "status", state="alone", expect=10)
    assert "no node runs on the state directory" in failed.events[-1]["message"]
    node = net.node("alone")
    assert net.run("dht", "status", state="alone").events[-1]["pid"] == node.process.pid
    node.signal(signal.SIGTERM)
    assert node.wait() == 0
    assert not path.exists()


def test_crawl_counts_the_network_from_any_state_directory(net: Network, nodes: list[Node]) -> None:
    ids = {node.node_id for node in nodes}
    for state, options in (("reader", ("--bootstrap", nodes[1].address)), ("boot", ())):
        crawl = net.run("dht", "crawl", "--rate", "1000", *options, state=state)
        *found, last = crawl.events
        assert {event["node"] for event in found} == ids
        assert (last["nodes"], last["complete"], last["reachable"]) == (4, True, 1.0)
        assert last["estimate"] == 4
        assert list(last["software"].values()) == [4]


def test_people_see_tables(net: Network, nodes: list[Node], tmp_path: Path) -> None:
    def shown(*words: str, state: str) -> str:
        argv = [*PROGRAM, "dht", *words, "--state", str(net.state(state))]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout

    path = shown("lookup", nodes[1].node_id, "--bootstrap", nodes[0].address, state="reader")
    assert re.search(rf"^ +1 +\d+  {nodes[1].node_id[:8]}  {nodes[1].address}", path, re.MULTILINE)
    assert "no node gave a head under this key" in path
    status = shown("status", state="boot")
    assert nodes[0].node_id in status
    assert "IPv4: 3 contacts" in status
    crawl = shown("crawl", "--rate", "1000", state="reader")
    assert re.search(r"^nodes found +4$", crawl, re.MULTILINE)
