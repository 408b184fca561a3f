"""Mirrors that nominate themselves: the node that publishes checks them, lists those who pass, and says why
the others are not listed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest
from tests.e2e.harness import Network, assert_same_tree
from tests.e2e.impatient import impatient
from tests.e2e.servers import Background, liar
from tests.e2e.trees import MIB, plain_tree
from tests.help.waiting import until
from tests.node.file_server import file_server

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


@pytest.fixture
def patient(net: Network) -> Network:
    net.program = impatient(*IMPATIENT)
    net.forks = False
    return net


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


def test_a_mirror_nominates_itself_is_listed_dies_is_gone_and_comes_back(patient: Network) -> None:
    net = patient
    tree = plain_tree(net.path / "tree", small=40, large=(2 * MIB,))
    url = net.publish(tree, state="origin")
    origin = net.node("origin")
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
    patient: Network, servers: Background
) -> None:
    net = patient
    tree = plain_tree(net.path / "tree", small=40, large=(2 * MIB,))
    url = net.publish(tree, state="origin")
    origin = net.node("origin")
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


def test_a_mirror_that_claims_more_than_it_has_is_dropped_with_the_reason(patient: Network) -> None:
    net = patient
    tree = plain_tree(net.path / "tree", small=40, large=(2 * MIB,))
    url = net.publish(tree, state="origin")
    origin = net.node("origin")
    mirror = net.mirror(told(url, origin.address), net.path / "mirror", state="mirror")
    mirror.wait_event("done")
    wait_for(net, url, mirror.address, "it is listed", lambda check: check["listed"])
    for path in (net.path / "mirror").glob("*/*"):
        path.unlink()
    until(
        lambda: f"mirror {mirror.address} is dropped: it lacks " in origin.stderr,
        "the origin says that it is dropped, and why",
    )


def test_a_mirror_of_a_part_is_listed_with_that_part(patient: Network) -> None:
    net = patient
    tree = plain_tree(net.path / "tree", small=40, large=(2 * MIB,))
    url = net.publish(tree, state="origin")
    origin = net.node("origin")
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
    patient: Network,
) -> None:
    """Each mirror has the signed list from whoever it told of itself, and hands it on."""
    net = patient
    tree = plain_tree(net.path / "tree", small=40, large=(2 * MIB,))
    url = net.publish(tree, state="origin")
    config = net.path / "p2psync.toml"
    config.write_text('[mirrors]\nnetwork = ["127.0.0.0/8=127.0.0.1"]\nmax-lag = 3600\n')
    origin = net.node("origin", "--config", config)
    mirrors = [net.mirror(told(url, origin.address), net.path / name, state=name) for name in ("one", "two")]
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
    patient: Network,
) -> None:
    """It runs nothing of p2psync's, and readers hear of it by the signed list alone."""
    net = patient
    tree = plain_tree(net.path / "tree", small=40, large=(8 * MIB,))
    url = net.publish(tree, state="origin")
    shutil.copytree(tree, net.path / "web", symlinks=True)
    with file_server(net.path / "web") as server:
        origin = net.node("origin", "--mirrors-web", server.url)

        def recommended() -> bool:
            found = holders(net, url, origin.address, "onlooker").get(server.url, {})
            return found.get("role") == "web" and "recommended" in found

        until(recommended, "the web mirror is in the list")
        done = net.run(
            "fetch", url, net.path / "copy", "--source", origin.address, "--bwlimit", "6m", state="reader"
        ).done
        assert server.url in done["sources"]
        assert_same_tree(tree, net.path / "copy")
