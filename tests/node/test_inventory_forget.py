"""Forgetting: the index goes; files, keys and the memory of heads stay; whoever is at work is respected."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import threading
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.harness import assert_same_tree, make_tree
from tests.node.client_support import url
from tests.node.wire_support import Served

from p2psync import Client, ClientEvent, Forgotten, P2psyncError, UsageError, Warned
from p2psync.cli.app import run
from p2psync.content.library import StateLibrary
from p2psync.daemon.commands import release_order
from p2psync.daemon.control import control_server
from p2psync.errors import BusyError, SelectionError, TransferTimeout
from p2psync.format.reserved import PARTIAL
from p2psync.format.url import archive_text
from p2psync.inventory import forget as module
from p2psync.state import NODE_LOCK
from p2psync.trust import judge


class Heard:
    """What was warned about."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def __call__(self, event: ClientEvent) -> None:
        if isinstance(event, Warned):
            self.warnings.append(event.text)


async def test_a_mirror_is_forgotten_and_its_files_stay(client: Client, node: Served, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    await client.mirror(url(node), mirror)
    done = await client.forget(mirror)
    assert done == Forgotten(node.archive, [(os.fsencode(mirror), "mirror")], "")
    assert_same_tree(node.tree, mirror)
    assert client.state.trees.all() == []
    assert client.state.trees.knows_nothing()
    assert client.state.meta.snapshots(node.archive) == []


async def test_what_was_forgotten_is_served_no_more(client: Client, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "mine")
    (tree / "file").write_bytes(os.urandom(5000))
    done = await client.publish(tree)
    library = StateLibrary(client.state)
    found = library.browse(done.archive, [b"file"])
    assert found is not None
    await client.forget(tree)
    assert library.archives() == []
    assert library.head(done.archive) is None
    assert library.browse(done.archive, [b"file"]) is None
    assert library.open(found.entry.digest) is None
    library.close()


async def test_an_archive_is_forgotten_wherever_it_is(client: Client, node: Served, tmp_path: Path) -> None:
    await client.mirror(url(node), tmp_path / "mirror")
    await client.fetch(url(node), tmp_path / "copy")
    await client.publish(make_tree(tmp_path / "mine"))
    done = await client.forget(archive=url(node))
    assert [role for _, role in done.directories] == ["mirror", "copy"]
    assert [tree.path for tree in client.state.trees.all()] == [os.fsencode(tmp_path / "mine")]


async def test_a_directory_of_single_files_is_forgotten(client: Client, node: Served, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    await client.fetch(url(node, "/empty"), tmp_path / "files")
    assert (await client.forget(tmp_path / "files")).archive is None


async def test_a_directory_that_is_gone_can_be_forgotten(client: Client, tmp_path: Path) -> None:
    await client.publish(make_tree(tmp_path / "mine"))
    shutil.rmtree(tmp_path / "mine")
    await client.forget(tmp_path / "mine")
    assert client.state.trees.all() == []


async def test_an_older_head_is_refused_after_it_as_before(
    client: Client, node: Served, tmp_path: Path
) -> None:
    """A replay: who has forgotten the mirror does not take an older snapshot for the newest."""
    first = node.state.heads.newest(node.archive)
    assert first is not None
    (node.tree / "new").write_bytes(b"new")
    async with Client(node.state.path) as publisher:
        await publisher.publish(node.tree)
    await client.mirror(url(node), tmp_path / "mirror")
    await client.forget(tmp_path / "mirror")
    remembered = client.state.heads.newest(node.archive)
    assert remembered is not None
    judged = judge(node.archive, [first.raw], remembered, first.signed_at)
    assert (judged.head, judged.refused_older) == (remembered, 1)
    assert not client.state.heads.put(first, "replayed")


# Keys.


async def test_a_published_directory_goes_on_with_the_same_address(client: Client, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "mine")
    first = await client.publish(tree)
    assert (await client.forget(tree)).keys == "kept"
    (tree / "new").write_bytes(b"new")
    again = await client.publish(tree)
    assert (again.archive, again.head.seq) == (first.archive, 2)


async def test_keys_go_only_when_they_are_told_to_and_with_a_warning(client: Client, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "mine")
    first = await client.publish(tree)
    heard = Heard()
    assert (await client.forget(tree, keys=True, on_event=heard)).keys == "removed"
    assert "never" not in heard.warnings[-1]
    assert "nobody can publish this archive again" in heard.warnings[-1]
    assert os.listdir(client.state.keys.folder) == []
    assert (await client.publish(tree)).archive != first.archive


async def test_keys_that_are_here_alone_can_be_removed(client: Client) -> None:
    archive = client.state.keys.create_root()
    with pytest.raises(SelectionError, match="only the keys"):
        await client.forget(archive=archive)
    assert (await client.forget(archive=archive, keys=True)).directories == []
    assert client.state.keys.archives() == []


async def test_keys_that_another_directory_needs_stay(client: Client, tmp_path: Path) -> None:
    one, other = make_tree(tmp_path / "one"), make_tree(tmp_path / "other")
    archive = (await client.publish(one)).archive
    await client.publish(other, archive=archive)
    with pytest.raises(UsageError, match="other is published with the same keys"):
        await client.forget(one, keys=True)
    assert len(client.state.trees.all()) == 2
    assert (await client.forget(archive=archive, keys=True)).keys == "removed"


async def test_rules_that_are_forgotten_are_told(client: Client, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "mine")
    await client.publish(tree, rules=["- *.secret"])
    heard = Heard()
    await client.forget(tree, on_event=heard)
    assert "filter rules" in heard.warnings[-1]


async def test_what_was_not_whole_is_named(client: Client, node: Served, tmp_path: Path) -> None:
    await client.fetch(url(node), tmp_path / "copy")
    (tmp_path / "copy" / os.fsdecode(PARTIAL)).mkdir()
    heard = Heard()
    await client.forget(tmp_path / "copy", on_event=heard)
    assert os.fsdecode(PARTIAL) in heard.warnings[-1]
    assert (tmp_path / "copy" / os.fsdecode(PARTIAL)).is_dir()


# What cannot be forgotten.


async def test_a_link_that_leads_elsewhere_now_is_ambiguous(client: Client, tmp_path: Path) -> None:
    one, other = make_tree(tmp_path / "one"), make_tree(tmp_path / "other")
    link = tmp_path / "link"
    link.symlink_to(one)
    archive = (await client.publish(link)).archive
    await client.publish(other)
    link.unlink()
    link.symlink_to(other)
    with pytest.raises(UsageError, match=r"one of .*/one, .*/other"):
        await client.forget(link)
    link.unlink()
    assert (await client.forget(link)).archive == archive


async def refusal(client: Client, *given: Any, **named: Any) -> P2psyncError:
    before = client.state.trees.all()
    with pytest.raises(P2psyncError) as caught:
        await client.forget(*given, **named)
    assert client.state.trees.all() == before
    return caught.value


async def test_what_is_not_known_is_no_ones_to_forget(client: Client, node: Served, tmp_path: Path) -> None:
    for name in ("a", "b"):
        await client.publish(make_tree(tmp_path / "several" / name))
    above = await refusal(client, tmp_path / "several")
    assert (above.exit_code, str(above).count("/several/")) == (1, 2)
    below = await refusal(client, tmp_path / "several" / "a" / "dir0")
    assert below.exit_code == 3
    assert "lies in" in str(below)
    nowhere = await refusal(client, tmp_path / "nowhere")
    assert nowhere.exit_code == 3
    stranger = await refusal(client, archive=b"x" * 32)
    assert stranger.exit_code == 3
    assert "known here" in str(stranger)
    await client.list(url(node))
    seen = await refusal(client, archive=node.archive)
    assert seen.exit_code == 3
    assert "published, mirrored or fetched here" in str(seen)


async def test_one_of_the_two_is_named(client: Client, tmp_path: Path) -> None:
    assert isinstance(await refusal(client), UsageError)
    assert isinstance(await refusal(client, tmp_path, archive=b"x" * 32), UsageError)


async def test_what_was_forgotten_meanwhile_is_not_forgotten_for_whoever_has_its_place_now(
    client: Client, tmp_path: Path
) -> None:
    """Two forget it at once, and a third makes it a mirror again between them."""
    await client.publish(make_tree(tmp_path / "mine"))
    path = os.fsencode(tmp_path / "mine")

    async def release(_: Mapping[str, Any]) -> dict[str, Any]:
        (tree,) = client.state.trees.all()
        client.state.trees.remove(tree)
        client.state.trees.ensure(path, "mirror", b"a" * 32)
        return {"stopped": False, "is_main": False}

    with pytest.raises(SelectionError, match="forgotten meanwhile"):
        await with_node(client, release, tmp_path / "mine")
    assert [tree.role for tree in client.state.trees.all()] == ["mirror"]


async def test_who_is_at_work_there_is_waited_for_by_a_person(
    client: Client, node: Served, tmp_path: Path
) -> None:
    """All of an archive's directories go, or none."""
    await client.mirror(url(node), tmp_path / "mirror")
    await client.fetch(url(node), tmp_path / "copy")
    with client.state.lock_place(os.fsencode(tmp_path / "copy")):
        assert isinstance(await refusal(client, archive=node.archive), BusyError)
    with client.state.lock(f"publish-{archive_text(node.archive)}"):
        assert isinstance(await refusal(client, archive=node.archive), BusyError)


# The node.


async def with_node(
    client: Client, release: Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]], directory: Path
) -> tuple[Forgotten, list[str]]:
    """Forget beside a node that does this when it is told to let go."""
    heard = Heard()
    with client.state.lock(NODE_LOCK):
        async with control_server(client.state.path, {}, {"release": release}):
            return await client.forget(directory, on_event=heard), heard.warnings


async def test_a_node_lets_go_before_anything_is_forgotten(client: Client, tmp_path: Path) -> None:
    name = tmp_path / "caf\udce9"
    await client.publish(make_tree(name))
    asked: list[Mapping[str, Any]] = []

    async def release(content: Mapping[str, Any]) -> dict[str, Any]:
        assert client.state.trees.all() != []
        asked.append(content)
        return {"stopped": True, "is_main": False}

    done, warnings = await with_node(client, release, name)
    assert len(done.directories) == 1
    assert warnings == []
    assert set(asked[0]) == {"directory", "directory_b64"}


async def test_a_node_that_makes_it_a_mirror_at_each_start_is_told_of(client: Client, tmp_path: Path) -> None:
    await client.publish(make_tree(tmp_path / "mine"))

    async def release(_: Mapping[str, Any]) -> dict[str, Any]:
        return {"stopped": False, "is_main": True}

    _, (warning,) = await with_node(client, release, tmp_path / "mine")
    assert "makes it a mirror again" in warning


async def test_a_node_that_is_starting_is_waited_for(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would find the mirror, and update it when it is forgotten."""
    await client.publish(make_tree(tmp_path / "mine"))
    waits, told, listens = asyncio.Event(), asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def sleep(_: float) -> None:
        loop.call_soon_threadsafe(waits.set)
        assert listens.wait(60)

    async def release(_: Mapping[str, Any]) -> dict[str, Any]:
        told.set()
        return {"stopped": False, "is_main": False}

    monkeypatch.setattr("p2psync.inventory.forget.time.sleep", sleep)
    with client.state.lock(NODE_LOCK):
        forgetting = asyncio.create_task(client.forget(tmp_path / "mine"))
        await waits.wait()
        async with control_server(client.state.path, {}, {"release": release}):
            listens.set()
            await forgetting
    assert told.is_set()


async def test_a_bootstrap_node_has_nothing_to_let_go_of(client: Client, tmp_path: Path) -> None:
    await client.publish(make_tree(tmp_path / "mine"))
    _, warnings = await with_node(client, release_order(None), tmp_path / "mine")
    assert warnings == []


async def test_a_node_that_cannot_be_told_holds_nothing_up_but_its_lock(
    client: Client, tmp_path: Path
) -> None:
    await client.publish(make_tree(tmp_path / "mine"))
    heard = Heard()
    with client.state.lock(NODE_LOCK):
        async with control_server(client.state.path, {}):
            await client.forget(tmp_path / "mine", on_event=heard)
    assert "could not be told" in heard.warnings[0]


async def test_a_node_that_does_not_let_go_in_time_ends_it(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.publish(make_tree(tmp_path / "mine"))
    monkeypatch.setattr(module, "PATIENCE", 0.1)

    async def release(_: Mapping[str, Any]) -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    with pytest.raises(TransferTimeout):
        await with_node(client, release, tmp_path / "mine")
    assert len(client.state.trees.all()) == 1


# The command.


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = ["--state", str(tmp_path / "state")]
    tree = make_tree(tmp_path / "mine")
    assert run(["publish", str(tree), *state, "--json"]) == 0
    archive = json.loads(capsys.readouterr().out.splitlines()[-1])["archive"]
    assert run(["forget", str(tree / "nothing"), *state]) == 3
    assert run(["forget", f"{archive}x", *state]) == 1
    capsys.readouterr()
    assert run(["forget", archive.removeprefix("p2psync://"), *state, "--json"]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"event": "forgotten", "directory": str(tree), "archive": archive, "role": "publisher"},
        {"event": "forgot", "archive": archive, "directories": 1, "keys": "kept"},
    ]
    assert run(["publish", str(tree), *state, "--quiet"]) == 0
    assert capsys.readouterr().out.strip() == archive
    assert run(["forget", str(tree), "--key", *state]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"forgot {tree}, published as {archive}; its files stay\n")
    assert err.startswith("p2psync: warning: the keys of")


def test_the_consent_to_lose_a_key_is_given_on_the_command_line_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = ["--state", str(tmp_path / "state")]
    tree = make_tree(tmp_path / "mine")
    assert run(["publish", str(tree), *state]) == 0
    monkeypatch.setenv("P2PSYNC_FORGET_KEY", "1")
    run(["forget", str(tree), *state])
    monkeypatch.delenv("P2PSYNC_FORGET_KEY")
    assert list((tmp_path / "state" / "keys").glob("*.root.pem"))
