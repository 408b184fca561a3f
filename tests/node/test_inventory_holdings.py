"""What is held here, as `list` shows it: by the index, a look at each directory, and the node's word."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import shutil
from pathlib import Path
from typing import Any, cast

import pytest
from tests.e2e.harness import make_tree, total_size
from tests.node.client_support import url
from tests.node.fetch_world import Nobody
from tests.node.simulator import Publisher
from tests.node.wire_support import Served

from p2psync import Client, Holding, Warned
from p2psync.cli.app import run
from p2psync.cli.list_cmd import words
from p2psync.daemon.commands import archives_command
from p2psync.daemon.control import control_server
from p2psync.daemon.losses import Loss
from p2psync.daemon.mirrors import Mirrors
from p2psync.fetch.engine import Host
from p2psync.fetch.put import note_begun
from p2psync.format.reserved import PARTIAL
from p2psync.network.protocols import Network
from p2psync.publish import publish
from p2psync.state import NODE_LOCK, State
from p2psync.supply.share import Nothing


def idle_mirrors(state: State) -> Mirrors:
    """A node's mirrors, none of which is being updated."""
    host = Host(cast(Network, Nobody()), lambda _: Nothing())
    return Mirrors(state, host, bwlimit=None, warn=print, detail=print)


async def only(client: Client) -> Holding:
    (holding,) = (await client.holdings()).holdings
    return holding


async def test_a_published_directory(client: Client, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "mine")
    done = await client.publish(tree, rules=["- *.tmp"])
    holding = await only(client)
    assert (holding.role, holding.archive, holding.seq) == ("publisher", done.archive, 1)
    assert holding.directory == os.fsencode(tree)
    assert (holding.files, holding.bytes) == (done.files, total_size(tree))
    assert (holding.complete, holding.present, holding.filtered, holding.behind) == (True, True, True, False)
    assert holding.published == pytest.approx(done.head.signed_at, abs=1)
    assert holding.served is False


async def test_a_mirror_and_a_copy_of_one_archive(client: Client, node: Served, tmp_path: Path) -> None:
    await client.mirror(url(node), tmp_path / "a mirror")
    await client.fetch(url(node), tmp_path / "copy")
    mirror, copy = (await client.holdings()).holdings
    assert [mirror.role, copy.role] == ["mirror", "copy"]
    for holding in (mirror, copy):
        assert (holding.archive, holding.seq, holding.bytes) == (node.archive, 1, total_size(node.tree))
        assert words(holding) == ["complete"]


async def test_a_part_has_the_figures_of_the_part(client: Client, node: Served, tmp_path: Path) -> None:
    await client.mirror(url(node, "/dir0/"), tmp_path / "part")
    holding = await only(client)
    assert (holding.path, holding.seq, holding.complete) == (b"dir0", 1, True)
    assert holding.bytes == total_size(node.tree / "dir0")
    assert not holding.behind


async def test_single_files_are_of_no_archive(client: Client, node: Served, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    await client.fetch(url(node, "/empty"), tmp_path / "files")
    holding = await only(client)
    assert (holding.archive, holding.files) == (None, None)
    assert words(holding) == ["single files"]


async def test_an_update_that_has_not_ended_is_unfinished(
    client: Client, node: Served, tmp_path: Path
) -> None:
    """Killed at whatever moment: once something newer was begun, what is there is neither the one nor the
    other.
    """
    await client.mirror(url(node), tmp_path / "m")
    newer = Publisher("newer").publish({b"f": b"x"})
    tree = client.state.trees.get(os.fsencode(tmp_path / "m"))
    assert tree is not None
    note_begun(tree, newer, b"", special_bits=False)
    client.state.trees.update(tree)
    holding = await only(client)
    assert not holding.complete
    assert "unfinished" in words(holding)


async def test_a_folder_of_unfinished_files_says_so(client: Client, node: Served, tmp_path: Path) -> None:
    await client.fetch(url(node), tmp_path / "copy")
    (tmp_path / "copy" / os.fsdecode(PARTIAL)).mkdir()
    assert words(await only(client)) == ["unfinished"]


async def test_a_mirror_that_has_fetched_nothing_yet(client: Client, tmp_path: Path) -> None:
    client.state.trees.ensure(os.fsencode(tmp_path / "m"), "mirror", b"a" * 32)
    holding = await only(client)
    assert (holding.seq, holding.published, holding.files, holding.newest) == (0, None, None, None)
    assert not holding.complete


async def test_a_directory_that_is_gone(client: Client, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "mine")
    await client.publish(tree)
    shutil.rmtree(tree)
    assert words(await only(client)) == ["directory is gone"]


async def test_a_newer_snapshot_that_is_known_is_told(client: Client, node: Served, tmp_path: Path) -> None:
    await client.fetch(url(node), tmp_path / "copy")
    (node.tree / "new").write_bytes(b"new")
    async with Client(node.state.path) as publisher:
        await publisher.publish(node.tree)
    await client.list(url(node))
    assert words(await only(client)) == ["complete", "newest is 2"]


async def test_who_is_at_work_in_a_directory_is_told(client: Client, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "mine")
    await client.publish(tree)
    with client.state.lock_place(os.fsencode(tree)):
        assert words(await only(client)) == ["complete", "at work now"]


async def test_paths_that_the_publisher_could_not_read_are_counted(client: Client, tmp_path: Path) -> None:
    holding = (await only_published(client, tmp_path))._replace(unread=2)
    assert words(holding) == ["complete", "2 paths unread by publisher"]


async def only_published(client: Client, tmp_path: Path) -> Holding:
    await client.publish(make_tree(tmp_path / "mine"))
    return await only(client)


# The node.


async def test_a_node_is_asked_what_it_serves(client: Client, node: Served, tmp_path: Path) -> None:
    await client.publish(make_tree(tmp_path / "mine"))
    await client.fetch(url(node), tmp_path / "copy")
    state = client.state
    mirrors = idle_mirrors(state)
    commands = {"archives": archives_command(state, mirrors, "192.0.2.1:8730")}
    with state.lock(NODE_LOCK):
        async with control_server(state.path, commands):
            found = await client.holdings()
    assert found.node == "192.0.2.1:8730"
    assert {holding.role: holding.served for holding in found.holdings} == {"publisher": True, "copy": False}


async def test_what_a_node_found_lost_is_shown(client: Client, tmp_path: Path) -> None:
    await client.publish(make_tree(tmp_path / "caf\udce9"))
    state = client.state
    losses = {state.trees.all()[0].id: Loss(files=3)}
    mirrors = idle_mirrors(state)
    commands = {"archives": archives_command(state, mirrors, "192.0.2.1:8730", lambda: losses)}
    with state.lock(NODE_LOCK):
        async with control_server(state.path, commands):
            holding = await only(client)
    assert (holding.served, holding.lost) == (True, 3)
    assert words(holding) == ["complete", "3 files lost"]


async def test_a_bootstrap_node_serves_nothing(client: Client, tmp_path: Path) -> None:
    await client.publish(make_tree(tmp_path / "mine"))
    commands = {"archives": archives_command(client.state, None, "192.0.2.1:8730")}
    with client.state.lock(NODE_LOCK):
        async with control_server(client.state.path, commands):
            assert (await only(client)).served is False


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"archives": 1, "listen": ""},
        {"archives": [{"archive": "nonsense"}], "listen": ""},
        {"archives": [{"directory": 7}], "listen": ""},
    ],
)
async def test_a_node_that_answers_otherwise_costs_a_column_and_no_more(
    client: Client, tmp_path: Path, answer: dict[str, Any]
) -> None:
    await client.publish(make_tree(tmp_path / "mine"))
    events: list[object] = []
    with client.state.lock(NODE_LOCK):
        async with control_server(client.state.path, {"archives": lambda: answer}):
            found = await client.holdings(on_event=events.append)
    assert (found.node, found.holdings[0].served) == (None, None)
    assert any(isinstance(event, Warned) for event in events)


async def test_the_socket_tells_of_directories_and_updates(client: Client, tmp_path: Path) -> None:
    state = client.state
    name = os.fsencode(tmp_path) + b"/caf\xe9"
    tree = state.trees.ensure(name, "mirror", b"a" * 32)
    mirrors = idle_mirrors(state)
    mirrors.note_updated(tree)
    answer = archives_command(state, mirrors, "x:1")()
    assert inspect.isawaitable(answer)
    told = await answer
    (row,) = told["archives"]
    assert json.loads(json.dumps(row)) == row
    assert row["directory_b64"]
    assert (row["role"], row["failures"], row["updated"]) == ("mirror", 0, mirrors.updated[tree.id])


# The command.


def test_the_command_in_json_and_for_people(tmp_path: Path, capsysbinary: Any) -> None:
    state = ["--state", str(tmp_path / "state")]
    assert run(["list", *state]) == 0
    assert b"nothing" in capsysbinary.readouterr().out
    tree = tmp_path / "caf\udce9"
    tree.mkdir()
    (tree / "file").write_bytes(b"x" * 5000)
    assert run(["publish", str(tree), *state, "--json"]) == 0
    published = json.loads(capsysbinary.readouterr().out.splitlines()[-1])
    assert run(["list", *state, "--json"]) == 0
    holding, last = map(json.loads, capsysbinary.readouterr().out.splitlines())
    assert last == {"event": "holdings", "holdings": 1, "node": None}
    assert "directory_b64" in holding
    del holding["directory_b64"], holding["published"]
    assert holding == {
        "event": "holding",
        "directory": f"{tmp_path}/caf\ufffd",
        "archive": published["archive"],
        "path": "",
        "role": "publisher",
        "epoch": 0,
        "seq": 1,
        "files": 1,
        "bytes": 5000,
        "present": True,
        "complete": True,
        "newest": 1,
        "behind": False,
        "ended": None,
        "unread": 0,
        "filtered": False,
        "at_work": False,
        "served": False,
        "lost": None,
    }
    assert run(["list", *state]) == 0
    head, line, hint = capsysbinary.readouterr().out.decode().splitlines()
    assert head.split()[0] == "ROLE"
    assert line.split()[:2] == ["publisher", "1"]
    assert line.endswith(f"{tmp_path}/caf\\#351  {published['archive']}")
    assert "p2psync node" in hint


def test_a_thousand_archives_are_listed_at_once(tmp_path: Path) -> None:
    """By a look at each, and not by a look at all for each."""
    with State.open(tmp_path / "state") as state, state.transaction():
        for number in range(1000):
            state.trees.ensure(b"/srv/%d" % number, "mirror", number.to_bytes(32, "big"))
    done = asyncio.run(_listed(tmp_path / "state"))
    assert len(done) == 1000
    assert done == sorted(done)


async def _listed(path: Path) -> list[bytes]:
    async with Client(path) as client:
        return [holding.directory for holding in (await client.holdings()).holdings]


async def test_a_newer_snapshot_that_changes_nothing_here_is_held_whole(
    client: Client, node: Served, tmp_path: Path
) -> None:
    """There was nothing to begin, so the last that was begun is an older one."""
    await client.mirror(url(node), tmp_path / "m")
    os.utime(node.tree / "empty", ns=(1, 1))
    publish(node.state, node.tree)
    os.utime(tmp_path / "m" / "empty", ns=(1, 1))
    await client.mirror(url(node), tmp_path / "m")
    holding = await only(client)
    assert (holding.complete, holding.seq) == (True, 2)


# What was ended.


async def test_an_ended_archive_is_shown_as_such_to_its_publisher_and_its_mirrors(
    client: Client, node: Served, tmp_path: Path
) -> None:
    await client.mirror(url(node), tmp_path / "mirror")
    async with Client(node.state.path) as publisher:
        done = await publisher.unpublish(node.tree)
        own = await only(publisher)
    assert (own.role, own.served, own.ended, own.complete) == ("publisher", False, done.head.ended, True)
    assert words(own)[1].startswith("ended on 2")
    client.state.heads.put(done.head, "handed on")
    mirror = await only(client)
    assert (mirror.role, mirror.ended, mirror.behind) == ("mirror", done.head.ended, False)


async def test_what_was_ended_can_be_forgotten(client: Client, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "mine")
    await client.publish(tree)
    head = (await client.unpublish(tree)).head
    assert (await client.forget(tree)).directories == [(os.fsencode(tree), "publisher")]
    assert client.state.heads.told_as_ended(head.signed_at) == [head]
