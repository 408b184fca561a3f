"""Who stops in order is listed nowhere, who returns is listed again, and who was killed is found silent."""

from __future__ import annotations

import signal
import urllib.request

from tests.e2e.harness import Network, Node
from tests.e2e.trees import MIB, plain_tree
from tests.help.waiting import until

from p2psync.format.url import ArchiveUrl
from p2psync.sources.wire import decode_holders, holders_path
from p2psync_dht import HolderRecord


def listed(url: str, node: Node) -> set[str]:
    """The addresses that a node lists as there, besides its own."""
    path = holders_path(ArchiveUrl.parse(url).archive)
    with urllib.request.urlopen(f"http://{node.address}{path}", timeout=30) as answer:
        records = [HolderRecord.decode(raw) for raw in decode_holders(answer.read())]
    there = {str(record.endpoints[0]) for record in records if not record.withdrawn}
    return there - {node.address}


def test_a_mirror_that_is_stopped_is_no_holder_and_no_failure_and_may_return(net: Network) -> None:
    url = net.publish(plain_tree(net.path / "tree", small=20, large=()), state="origin")
    origin = net.node("origin")
    stopped, killed = (
        net.mirror(url, net.path / name, state=name, bootstrap=origin) for name in ("stopped", "killed")
    )
    for mirror in (stopped, killed):
        mirror.wait_event("done")
    until(lambda: listed(url, origin) == {stopped.address, killed.address}, "both are listed")
    assert stopped.stop() == 0
    killed.kill()
    assert listed(url, origin) == {killed.address}
    events = net.run("mirrors", url, "--bootstrap", origin.address, state="reader").events
    found = {event["endpoints"][0]: event["state"] for event in events if event["event"] == "holder"}
    assert found == {origin.address: "answers", killed.address: "silent"}
    assert (events[-1]["holders"], events[-1]["withdrawn"]) == (2, 1)
    back = net.node("stopped", bootstrap=origin)
    until(lambda: back.address in listed(url, origin), "it is listed again")


def test_a_fetch_that_shared_is_listed_no_more_once_it_is_stopped(net: Network) -> None:
    url = net.publish(plain_tree(net.path / "tree", small=0, large=(4 * MIB,)), state="origin")
    origin = net.node("origin")
    words = [url, net.path / "copy", "--bwlimit", "200K", "--source", origin.address]
    fetch = net.spawn("fetch", *words, state="client")
    until(lambda: listed(url, origin) != set(), "the fetch is listed")
    fetch.signal(signal.SIGINT)
    assert fetch.wait() == 20
    assert listed(url, origin) == set()
