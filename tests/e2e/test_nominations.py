"""Mirrors that nominate themselves: the node that publishes checks them, lists those who pass, and says why
the others are not listed."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

from tests.e2e.harness import Network, Node, assert_same_tree
from tests.e2e.impatient import impatient
from tests.e2e.servers import Background, liar
from tests.e2e.trees import MIB, plain_tree
from tests.help.waiting import until
from tests.node.file_server import file_server

from p2psync.format.url import ArchiveUrl
from p2psync.publish import publish
from p2psync.state import State

IMPATIENT = (
    "p2psync.checks.RETRY_FIRST=0.05",
    "p2psync.daemon.mirror_checks.CHECK_EVERY=0.2",
    "p2psync.daemon.mirror_checks.PAUSE=0.1",
    "p2psync.daemon.mirror_checks.SOON=0.1",
    "p2psync.daemon.examine.AGAIN=0.1",
    "p2psync.daemon.recommend.LOOK=0.1",
    "p2psync.daemon.recommend.PAUSE=0.1",
    "p2psync.daemon.company.MEET=1.0",
)
"""Checks each fifth of a second, and not each hour."""


@contextlib.contextmanager
def impatiently(net: Network) -> Iterator[None]:
    """Nodes that are started within the block do not wait."""
    before = net.program, net.forks
    net.program, net.forks = impatient(*IMPATIENT), False
    yield
    net.program, net.forks = before


def origin_of(net: Network, *options: object) -> Node:
    """The node that publishes, and checks."""
    with impatiently(net):
        return net.node("origin", *options)


def checks(net: Network, url: str) -> dict[str, dict[str, Any]]:
    """What the publishing machine's checks have found, by address; of those that were checked."""
    shown = net.run("mirrors", url, state="origin")
    found = [event for event in shown.events if event["event"] == "holder" and "check" in event]
    return {event["endpoints"][0]: event["check"] for event in found}


def told(url: str, address: str) -> str:
    return f"{url}?peer={address}"


def wait_for(
    net: Network, url: str, mirror: str, what: str, wanted: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    """The check of a mirror, once it is as it is waited for."""
    seen: dict[str, Any] = {}

    def arrived() -> bool:
        seen.update(checks(net, url).get(mirror, {}))
        return bool(seen) and wanted(seen)

    until(arrived, what)
    return seen


def test_a_mirror_nominates_itself_is_listed_dies_is_gone_and_comes_back(net: Network) -> None:
    tree = plain_tree(net.path / "tree", small=40, large=(2 * MIB,))
    url = net.publish(tree, state="origin")
    origin = origin_of(net)
    mirror = net.mirror(told(url, origin.address), net.path / "mirror", state="mirror")
    mirror.wait_event("done")
    check = wait_for(net, url, mirror.address, "it is listed", lambda check: check["listed"])
    assert check["complete"] and check["verified"] and check["rate"] > 0 and not check["reason"]
    mirror.kill()
    check = wait_for(net, url, mirror.address, "it is off the list", lambda check: not check["listed"])
    assert check["failures"] >= 4 and not check["dropped"] and check["reason"]
    back = net.mirror(told(url, origin.address), net.path / "mirror", state="mirror", listen=mirror.address)
    check = wait_for(net, url, back.address, "it is listed again", lambda check: check["listed"])
    assert not check["failures"]


def test_a_mirror_that_serves_corrupted_chunks_is_dropped_with_the_reason(
    net: Network, servers: Background
) -> None:
    tree = plain_tree(net.path / "tree", small=40, large=(2 * MIB,))
    url = net.publish(tree, state="origin")
    origin = origin_of(net)
    mirror = net.mirror(told(url, origin.address), net.path / "mirror", state="mirror")
    mirror.wait_event("done")
    mirror.stop()
    lying = servers.enter(liar(mirror.address))
    net.mirror(
        told(url, origin.address),
        net.path / "mirror",
        "--advertise",
        lying.address,
        state="mirror",
        listen=mirror.address,
    )
    check = wait_for(net, url, lying.address, "it is dropped", lambda check: check["dropped"])
    assert not check["listed"]
    assert check["reason"].startswith("sent wrong bytes for a chunk of '")
    assert f"mirror {lying.address} is dropped: it sent wrong bytes for a chunk of '" in origin.stderr
    known = net.run("mirrors", url, "--source", origin.address, state="onlooker").events
    assert lying.address not in [end for each in known for end in each.get("endpoints", [])]


def test_a_mirror_that_claims_more_than_it_has_is_dropped_with_the_reason(net: Network) -> None:
    tree = plain_tree(net.path / "tree", small=40, large=(2 * MIB,))
    url = net.publish(tree, state="origin")
    origin = origin_of(net)
    mirror = net.mirror(told(url, origin.address), net.path / "mirror", state="mirror")
    mirror.wait_event("done")
    wait_for(net, url, mirror.address, "it is listed", lambda check: check["listed"])
    for path in (net.path / "mirror").glob("*/*"):
        path.unlink()
    until(
        lambda: f"mirror {mirror.address} is dropped: it lacks " in origin.stderr,
        "the origin says that it is dropped, and why",
    )


def test_a_mirror_of_a_part_is_listed_with_that_part(net: Network) -> None:
    tree = plain_tree(net.path / "tree", small=40, large=(2 * MIB,))
    url = net.publish(tree, state="origin")
    origin = origin_of(net)
    part = net.mirror(f"{url}/large/?peer={origin.address}", net.path / "part", state="part")
    part.wait_event("done")
    check = wait_for(net, url, part.address, "it is listed", lambda check: check["listed"])
    assert not check["complete"]
    assert check["parts"] == [{"name": "large"}]


def holders(net: Network, url: str, source: str, state: str) -> dict[str, dict[str, Any]]:
    """What a machine shows of the holders that somebody knows, by address."""
    shown = net.run("mirrors", url, "--source", source, state=state)
    return {event["endpoints"][0]: event for event in shown.events if event["event"] == "holder"}


def test_who_knows_one_mirror_learns_whom_the_archive_recommends_when_origin_and_dht_are_gone(
    net: Network,
) -> None:
    """Each mirror has the signed list from whoever it told of itself, and hands it on."""
    tree = plain_tree(net.path / "tree", small=40, large=(2 * MIB,))
    url = net.publish(tree, state="origin")
    config = net.path / "p2psync.toml"
    config.write_text('[mirrors]\nnetwork = ["127.0.0.0/8=127.0.0.1"]\nmax-lag = 3600\n')
    origin = origin_of(net, "--config", config)
    with impatiently(net):
        mirrors = [
            net.mirror(told(url, origin.address), net.path / name, state=name) for name in ("one", "two")
        ]
    for mirror in mirrors:
        mirror.wait_event("done")

    def recommended() -> set[str]:
        found = holders(net, url, mirrors[0].address, "onlooker")
        listed = {address: each.get("recommended") for address, each in found.items()}
        return {address for address, said in listed.items() if said and said["parts"] is None}

    until(lambda: recommended() == {mirror.address for mirror in mirrors}, "the first hands the list on")
    origin.kill()
    found = holders(net, url, mirrors[0].address, "stranger")
    for mirror in mirrors:
        said = found[mirror.address]["recommended"]
        assert said["verified"] and said["networks"] == ["127.0.0.0/8"]
    done = net.run("fetch", url, net.path / "copy", "--source", mirrors[0].address, state="reader").done
    assert set(done["sources"]) <= {mirror.address for mirror in mirrors}
    assert_same_tree(tree, net.path / "copy")


def test_a_web_mirror_that_the_publisher_names_is_checked_recommended_and_taken_from(
    net: Network,
) -> None:
    """It runs nothing of p2psync's, and readers hear of it by the signed list alone."""
    tree = plain_tree(net.path / "tree", small=40, large=(8 * MIB,))
    url = net.publish(tree, state="origin")
    shutil.copytree(tree, net.path / "web", symlinks=True)
    with file_server(net.path / "web") as server:
        origin = origin_of(net, "--mirrors-web", server.url)

        def recommended() -> bool:
            found = holders(net, url, origin.address, "onlooker").get(server.url, {})
            return found.get("role") == "web" and "recommended" in found

        until(recommended, "the web mirror is in the list")
        done = net.run(
            "fetch", url, net.path / "copy", "--source", origin.address, "--bwlimit", "6m", state="reader"
        ).done
        assert server.url in done["sources"]
        assert_same_tree(tree, net.path / "copy")


def test_past_its_freshness_an_archive_whose_origin_is_gone_is_fetched_and_gets_new_mirrors(
    net: Network,
) -> None:
    """Its age is told, and who knows one mirror learns of the newer one."""
    tree = plain_tree(net.path / "tree", small=20, large=(1 * MIB,))
    net.state("origin").parent.mkdir(parents=True)
    with State.open(net.state("origin")) as state:
        done = publish(state, tree, freshness=1, now=time.time() - 3 * 86_400)
    url = str(ArchiveUrl(done.archive))
    origin = net.node("origin")
    first = net.mirror(told(url, origin.address), net.path / "first", state="first")
    first.wait_event("done")
    origin.kill()
    second = net.mirror(told(url, first.address), net.path / "second", state="second")
    assert second.wait_event("done")["seq"] == 1
    until(
        lambda: second.address in holders(net, url, first.address, "onlooker"),
        "who knows the first mirror learns of the second",
    )
    fetched = net.run("fetch", url, net.path / "copy", "--source", first.address, state="reader")
    assert_same_tree(tree, net.path / "copy")
    for command in (second, fetched):
        assert "is 3 days old; its publisher vouched for it until" in command.stderr
