"""Ending an archive as programs and people do it: what is named, what readers and mirrors hear, and keep."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.harness import assert_same_tree, make_tree
from tests.node.client_support import url
from tests.node.wire_support import Served

from p2psync import Client, ClientEvent, TrustError, UsageError, Warned
from p2psync.cli.app import run
from p2psync.errors import SelectionError
from p2psync.format.head import ArchiveHead
from p2psync.format.url import archive_text


async def signed_end(node: Served, folder: Path) -> ArchiveHead:
    """Its publisher ends the archive, elsewhere."""
    head = node.state.heads.newest(node.archive)
    assert head is not None
    async with Client(folder / "vault") as vault:
        vault.state.keys.import_root(node.state.keys.export_root(node.archive))
        vault.state.heads.put(head)
        return (await vault.unpublish(archive=node.archive)).head


async def end(node: Served, folder: Path) -> int:
    """The same, and the node hears of it. Since when."""
    head = await signed_end(node, folder)
    assert node.library.put_head(node.archive, head.raw)
    assert head.ended is not None
    return head.ended


async def test_readers_get_the_last_snapshot_and_are_told(
    client: Client, node: Served, tmp_path: Path
) -> None:
    ended = await end(node, tmp_path)
    events: list[ClientEvent] = []
    done = await client.fetch(url(node), tmp_path / "copy", on_event=events.append)
    assert_same_tree(node.tree, tmp_path / "copy")
    assert (done.exit_code, done.ended) == (0, ended)
    (said,) = (event.text for event in events if isinstance(event, Warned))
    assert "was ended by its publisher on " in said
    listing = await client.list(url(node))
    assert listing.head.ended == ended
    found = await client.holders(url(node))
    assert found.head is not None and found.head.ended == ended


async def test_a_mirror_keeps_everything_and_takes_up_what_is_published_again(
    client: Client, node: Served, tmp_path: Path
) -> None:
    mirror = tmp_path / "mirror"
    await client.mirror(url(node), mirror)
    await end(node, tmp_path)
    done = await client.mirror(url(node), mirror)
    assert (done.deleted, done.changed, done.seq) == (0, 0, 2)
    assert_same_tree(node.tree, mirror)
    (tree,) = client.state.trees.all()
    assert (tree.role, tree.seq) == ("mirror", 2)
    (node.tree / "new").write_bytes(b"new")
    async with Client(node.state.path) as publisher:
        again = await publisher.publish(node.tree)
    assert (again.head.seq, again.head.ended) == (3, None)
    assert (await client.mirror(url(node), mirror)).ended is None
    assert_same_tree(node.tree, mirror)


async def test_a_fetch_that_wants_a_fresh_snapshot_is_refused(
    client: Client, node: Served, tmp_path: Path
) -> None:
    await end(node, tmp_path)
    with pytest.raises(TrustError, match="ended"):
        await client.fetch(url(node), tmp_path / "copy", require_fresh=True)


async def test_whoever_knew_the_end_is_not_taken_back_by_an_older_head(
    client: Client, node: Served, tmp_path: Path
) -> None:
    """A mirror that has not heard of it, or pretends so."""
    client.state.heads.put(await signed_end(node, tmp_path))
    events: list[ClientEvent] = []
    listing = await client.list(url(node), on_event=events.append)
    assert listing.head.ended is not None
    assert any("refused" in event.text for event in events if isinstance(event, Warned))


async def test_only_what_is_published_here_is_ended_here(
    client: Client, node: Served, tmp_path: Path
) -> None:
    await client.mirror(url(node), tmp_path / "mirror")
    with pytest.raises(SelectionError, match="not published from here"):
        await client.unpublish(tmp_path / "mirror")
    with pytest.raises(UsageError, match="no key here"):
        await client.unpublish(archive=node.archive)
    with pytest.raises(SelectionError, match="not published, mirrored"):
        await client.unpublish(tmp_path / "nothing")
    with pytest.raises(UsageError, match="either"):
        await client.unpublish()
    (tree,) = client.state.trees.all()
    assert tree.role == "mirror"


async def test_a_directory_that_was_published_may_become_a_mirror_of_what_it_was(
    client: Client, node: Served, tmp_path: Path
) -> None:
    """Its publisher goes on serving the last snapshot, as anybody may."""
    await end(node, tmp_path)
    async with Client(node.state.path) as publisher:
        await publisher.unpublish(node.tree)
        done = await publisher.mirror(f"p2psync://{archive_text(node.archive)}", node.tree)
        assert (done.exit_code, done.changed) == (0, 0)
        (tree,) = publisher.state.trees.all()
        assert tree.role == "mirror"
        assert (await publisher.holdings()).holdings[0].role == "mirror"


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = ["--state", str(tmp_path / "state")]
    tree = make_tree(tmp_path / "mine")

    def events(*argv: str, expect: int = 0) -> list[dict[str, Any]]:
        assert run([*argv, *state, "--json"]) == expect
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    archive = events("publish", str(tree))[-1]["archive"]
    warning, was, done = events("unpublish", str(tree))
    assert "nobody else is known here to hold all of" in warning["message"]
    assert was == {"event": "unpublished", "directory": str(tree), "archive": archive}
    assert (done["event"], done["archive"], done["seq"], done["changed"]) == ("ended", archive, 2, True)
    assert events("unpublish", archive) == [done | {"changed": False}]
    assert events("ls", archive)[-1]["ended"] == done["ended"]
    assert events("mirrors", archive)[-1]["ended"] == done["ended"]
    assert events("list")[0]["ended"] == done["ended"]
    warning, again = events("publish", str(tree))
    assert "is published again" in warning["message"]
    assert (again["archive"], again["seq"]) == (archive, 3)
    assert events("list")[0]["ended"] is None

    assert run(["unpublish", str(tree), *state]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[:2] == [
        f"{tree} is no longer published; its files stay",
        f"{archive} is ended; its last snapshot is 4",
    ]
    assert "nobody knows yet" in out
    assert err.startswith("p2psync: warning: nobody else is known here to hold")
    assert run(["unpublish", os.fspath(tree), *state]) == 0
    assert f"{archive} had been ended on 2" in capsys.readouterr().out
