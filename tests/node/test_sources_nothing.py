"""What somebody is told who asked in vain: each address by its own failure, and what to do."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.harness import make_tree
from tests.help.places import own_host
from tests.node.wire_support import Served, served

from p2psync import ArchiveUrl, Client, NetworkError
from p2psync.network.way import NAMED_MAX, Way, named
from p2psync_dht import DhtNode, Identity

UNKNOWN = ArchiveUrl(bytes(range(32)))
DEAD = f"{own_host()}:9"
OTHER_DEAD = f"{own_host()}:10"
NO_NAME = "no..such.name:8730"
"""Not a name that could be looked up: no test should wait for a resolver."""


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Served]:
    """A mirror, without a DHT."""
    async with served(tmp_path, make_tree(tmp_path / "tree")) as made:
        yield made


def text_of(node: DhtNode) -> str:
    return f"{node.address[0]}:{node.address[1]}"


@pytest.fixture
async def member() -> AsyncIterator[str]:
    """A node of a DHT that knows of no archive."""
    made = await DhtNode.start(Identity.generate(), "127.0.0.1", 0, server=True)
    yield text_of(made)
    await made.close()


async def said(tmp_path: Path, url: ArchiveUrl, **asking: Any) -> str:
    async with Client(tmp_path / "state") as client:
        with pytest.raises(NetworkError, match="no head of p2psync://") as failed:
            await client.list(url, **asking)
    return str(failed.value)


async def test_somebody_who_knows_nobody_is_told_whom_to_name(tmp_path: Path) -> None:
    text = await said(tmp_path, UNKNOWN)
    assert "no node of the network is known here; give --bootstrap HOST:PORT" in text


async def test_a_dead_bootstrap_node_and_a_name_that_does_not_exist_are_named_apart(tmp_path: Path) -> None:
    text = await said(tmp_path, UNKNOWN, bootstrap=[DEAD, NO_NAME])
    assert f"{DEAD} does not answer (UDP)" in text
    assert f"{NO_NAME} cannot be resolved: " in text
    assert "firewalls" in text


async def test_a_dead_source_is_named_with_its_failure(tmp_path: Path) -> None:
    text = await said(tmp_path, UNKNOWN, sources=[DEAD, NO_NAME])
    assert f"{DEAD}: cannot connect: Connection refused" in text
    assert f"{NO_NAME}: cannot connect: " in text
    assert "of the network" not in text


async def test_dead_ways_of_both_kinds_are_all_named(tmp_path: Path) -> None:
    text = await said(tmp_path, UNKNOWN._replace(peers=(DEAD,)), sources=[NO_NAME], bootstrap=[OTHER_DEAD])
    assert f"{DEAD}: cannot connect" in text
    assert f"{NO_NAME}: cannot connect" in text
    assert f"{OTHER_DEAD} does not answer (UDP)" in text


async def test_an_archive_that_the_network_does_not_know_is_no_fault_of_the_network(
    tmp_path: Path, member: str
) -> None:
    text = await said(tmp_path, UNKNOWN, bootstrap=[member])
    assert "1 node of the network answered" in text
    assert "nobody there knows it" in text
    assert "check that the URL" in text


async def test_a_mirror_of_other_archives_is_told_from_one_that_is_dead(tmp_path: Path, node: Served) -> None:
    text = await said(tmp_path, UNKNOWN, sources=[node.address, DEAD], bootstrap=[OTHER_DEAD])
    assert f"{node.address} does not have this archive" in text
    assert f"{DEAD}: cannot connect" in text
    assert f"{OTHER_DEAD} does not answer (UDP)" in text
    assert "check that the URL" in text


async def test_a_web_mirror_alone_is_not_enough_dead_or_alive(tmp_path: Path, node: Served) -> None:
    for web, words in (
        (f"http://{DEAD}/", "cannot connect"),
        (
            f"http://{node.address}/tree/",
            "is taken for a plain web server, and has no static files of this archive",
        ),
    ):
        text = await said(tmp_path, ArchiveUrl(node.archive), sources=[web])
        assert web in text
        assert words in text
        assert "no node of the network is known here; give --bootstrap" in text


async def test_nodes_that_were_met_before_and_are_gone_are_counted(tmp_path: Path) -> None:
    gone = await DhtNode.start(Identity.generate(), own_host(), 0, server=True)
    assert "1 node of the network answered" in await said(tmp_path, UNKNOWN, bootstrap=[text_of(gone)])
    await gone.close()
    assert "none of the 1 node that were met before answers" in await said(tmp_path, UNKNOWN)


async def test_who_holds_an_archive_is_not_answered_with_nobody_if_nobody_could_be_asked(
    tmp_path: Path, member: str
) -> None:
    async with Client(tmp_path / "state") as client:
        with pytest.raises(NetworkError, match="does not answer"):
            await client.holders(UNKNOWN, bootstrap=[DEAD])
        assert (await client.holders(UNKNOWN, bootstrap=[member])).holders == []


def test_every_way_has_its_words_and_a_long_list_ends() -> None:
    for contacts, silent, wrong, remembered in itertools.product((0, 2), (0, 9), (0, 9), (0, 3)):
        way = Way(contacts, ("a dead one",) * silent, ("a wrong one",) * wrong, remembered)
        text = str(way)
        assert text
        assert ("dead" in text or "wrong" in text) == bool(wrong or (silent and not contacts))
        assert ("met before" in text) == bool(remembered and not contacts)
        assert text.count("one") <= NAMED_MAX + 1
    assert named("abc") == ["a", "b", "c"]
