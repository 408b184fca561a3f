"""The client as programs use it: results, events, cancelling; against a server on loopback."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import stat
import threading
from pathlib import Path

import pytest
from tests.e2e.harness import assert_same_tree, make_tree
from tests.node.client_support import url
from tests.node.wire_support import Served

from p2psync import (
    ArchiveUrl,
    Client,
    ClientEvent,
    Control,
    Delete,
    Difference,
    FileDone,
    FileError,
    NetworkError,
    Phase,
    Progress,
    TransferOptions,
    UsageError,
    Warned,
)
from p2psync.fetch.options import FetchOptions
from p2psync.format.listing import Kind
from p2psync.format.url import archive_text


async def test_a_fetch_makes_the_directory_and_tells_of_it(
    client: Client, node: Served, tmp_path: Path
) -> None:
    events: list[ClientEvent] = []
    threads: set[int] = set()

    def hear(event: ClientEvent) -> None:
        events.append(event)
        threads.add(threading.get_ident())

    done = await client.fetch(url(node), tmp_path / "copy", files=True, on_event=hear)
    assert_same_tree(node.tree, tmp_path / "copy")
    assert (done.exit_code, done.seq, done.missing) == (0, 1, [])
    assert set(done.sources) == {node.address}
    assert threads == {threading.get_ident()}
    phases = [event.name for event in events if isinstance(event, Phase)]
    assert phases[0] == "looking up"
    assert "fetching" in phases
    placed = {event.path: event.size for event in events if isinstance(event, FileDone)}
    there = {
        os.fsencode(path.relative_to(node.tree)): path.lstat().st_size
        for path in node.tree.rglob("*")
        if stat.S_ISREG(path.lstat().st_mode)
    }
    assert placed == there
    assert isinstance(events[-1], Progress)
    (source,) = events[-1].sources
    assert source.name == node.address
    assert 0 < source.received <= done.sources[node.address], "content alone, and all that was read"


async def test_files_are_told_only_to_those_who_ask(client: Client, node: Served, tmp_path: Path) -> None:
    events: list[ClientEvent] = []
    await client.fetch(url(node), tmp_path / "copy", on_event=events.append)
    assert not any(isinstance(event, FileDone) for event in events)


async def test_again_nothing_changes_and_a_newer_snapshot_is_taken(
    client: Client, node: Served, tmp_path: Path
) -> None:
    await client.fetch(url(node), tmp_path / "copy")
    assert (await client.fetch(url(node), tmp_path / "copy")).changed == 0
    (node.tree / "new").write_bytes(b"new")
    async with Client(node.state.path) as publisher:
        published = await publisher.publish(node.tree)
    assert (published.changed, published.head.seq) == (True, 2)
    done = await client.fetch(url(node), tmp_path / "copy", delete=Delete.ALL)
    assert (done.seq, done.changed) == (2, 1)
    assert_same_tree(node.tree, tmp_path / "copy")


async def test_a_part_of_an_archive(client: Client, node: Served, tmp_path: Path) -> None:
    source = ArchiveUrl(node.archive, b"dir0", peers=(node.address,))
    await client.fetch(source, tmp_path / "part")
    assert_same_tree(node.tree / "dir0", tmp_path / "part" / "dir0")


async def test_a_mirror_is_recorded_for_the_nodes_of_this_state(
    client: Client, node: Served, tmp_path: Path
) -> None:
    await client.mirror(url(node), tmp_path / "mirror", interval=77)
    tree = client.state.trees.get(os.fsencode(tmp_path / "mirror"))
    assert tree is not None
    assert (tree.role, tree.options["interval"]) == ("mirror", 77)


async def test_a_fetch_cancelled_while_paused_leaves_whole_files_and_the_next_one_goes_on(
    client: Client, node: Served, tmp_path: Path
) -> None:
    control = Control(200_000)
    paused = asyncio.Event()

    def hear(event: ClientEvent) -> None:
        if isinstance(event, FileDone):
            control.pause()
            paused.set()

    fetching = asyncio.ensure_future(
        client.fetch(url(node), tmp_path / "copy", control=control, files=True, on_event=hear)
    )
    await paused.wait()
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    for path in (tmp_path / "copy").rglob("*"):
        inside = path.relative_to(tmp_path / "copy")
        if path.is_file() and not path.is_symlink() and inside.parts[0] != ".p2psync.partial":
            assert path.read_bytes() == (node.tree / inside).read_bytes()
    await client.fetch(url(node), tmp_path / "copy")
    assert_same_tree(node.tree, tmp_path / "copy")


async def test_a_limit_is_lifted_for_a_fetch_that_is_under_way(
    client: Client, node: Served, tmp_path: Path
) -> None:
    control = Control(5_000)  # Minutes, for this tree.
    limits: list[float | None] = []

    def hear(event: ClientEvent) -> None:
        if isinstance(event, Progress) and event.sources:
            limits.append(control.limiter.rate)
            control.limit(None)

    done = await client.fetch(url(node), tmp_path / "copy", control=control, on_event=hear)
    assert limits[0] == 5_000
    assert done.received > 60 * 5_000
    assert_same_tree(node.tree, tmp_path / "copy")


async def test_what_the_program_raises_ends_the_fetch(client: Client, node: Served, tmp_path: Path) -> None:
    def refuse(event: ClientEvent) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await client.fetch(url(node), tmp_path / "copy", on_event=refuse)
    await client.fetch(url(node), tmp_path / "copy")
    assert_same_tree(node.tree, tmp_path / "copy")


async def test_two_fetches_at_once_share_a_client(client: Client, node: Served, tmp_path: Path) -> None:
    await asyncio.gather(*(client.fetch(url(node), tmp_path / name) for name in ("one", "two")))
    assert_same_tree(node.tree, tmp_path / "one")
    assert_same_tree(node.tree, tmp_path / "two")


async def test_a_publish_that_is_cancelled_leaves_the_last_snapshot_and_no_lock(
    client: Client, tmp_path: Path
) -> None:
    tree = make_tree(tmp_path / "mine")
    first = await client.publish(tree, rules=["- *.tmp"])
    assert (first.changed, first.exit_code) == (True, 0)
    (tree / "more").write_bytes(b"x" * 100_000)

    def cancel(event: ClientEvent) -> None:
        publishing.cancel()

    publishing = asyncio.ensure_future(client.publish(tree, on_event=cancel))
    with pytest.raises(asyncio.CancelledError):
        await publishing
    second = await client.publish(tree)
    assert second.archive == first.archive
    assert second.files == first.files + 1
    assert client.url_of(second.archive) == f"p2psync://{archive_text(second.archive)}"


async def test_publishing_warns_of_what_it_leaves_out(client: Client, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "mine")
    os.mkfifo(tree / "pipe")
    events: list[ClientEvent] = []
    await client.publish(tree, on_event=events.append)
    assert ["pipe" in event.text for event in events if isinstance(event, Warned)] == [True]


async def test_listing_names_everything_or_one_directory(client: Client, node: Served) -> None:
    whole = await client.list(url(node), recursive=True)
    names = {os.fsencode(path.relative_to(node.tree)) for path in node.tree.rglob("*")}
    assert whole.entries[0].path == b"."
    assert {entry.path for entry in whole.entries[1:]} == names
    assert whole.head.seq == 1
    top = await client.list(url(node))
    assert {entry.path for entry in top.entries[1:]} == {name for name in names if b"/" not in name}
    link = next(entry for entry in top.entries if entry.path == b"dangling")
    assert (link.kind, link.target) == (Kind.SYMLINK, b"/nowhere/at all")
    one = await client.list(ArchiveUrl(node.archive, b"empty", peers=(node.address,)))
    assert [(entry.path, entry.size) for entry in one.entries] == [(b"empty", 0)]


async def test_holders_of_an_archive_that_nobody_announced(client: Client, node: Served) -> None:
    found = await client.holders(url(node))
    assert found.head is not None
    assert found.head.seq == 1
    assert found.holders == []


async def test_verify_names_each_difference(client: Client, node: Served, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    await client.fetch(url(node), copy)
    equal = await client.verify(copy)
    assert (equal.archive, equal.seq, equal.differences) == (node.archive, 1, [])
    (copy / "extra").touch()
    (copy / "empty").unlink()
    heard: list[bytes] = []
    found = await client.verify(copy, quick=True, on_difference=lambda finding: heard.append(finding.path))
    kinds = {finding.path: finding.difference for finding in found.differences}
    assert kinds[b"extra"] == Difference.EXTRA
    assert kinds[b"empty"] == Difference.MISSING
    assert heard == [finding.path for finding in found.differences]


async def test_verify_against_an_archive_that_is_not_known(client: Client, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="fetch or list it first"):
        await client.verify(tmp_path, archive="a" * 51 + "q")
    with pytest.raises(UsageError, match="not known to hold an archive"):
        await client.verify(tmp_path)


async def test_errors_are_those_of_the_command_line(client: Client, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a p2psync:// URL"):
        await client.fetch("https://example.org/", tmp_path / "copy")
    with pytest.raises(NetworkError, match="no head of"):
        await client.fetch(f"p2psync://{'a' * 51}q", tmp_path / "copy", sources=["127.0.0.1:1"])


async def test_a_client_that_is_not_open_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="async with Client"):
        await Client(tmp_path / "state").publish(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(FileError):
        async with Client(tmp_path / "file"):
            pass


def test_the_keywords_are_those_of_a_fetch() -> None:
    fields = {field.name for field in dataclasses.fields(FetchOptions)}
    names = TransferOptions.__required_keys__ | TransferOptions.__optional_keys__
    become_others = {"rules", "delete_excluded", "files_from"}
    assert fields - names == {"url", "dest", "mirror", "mirror_interval", "filters", "names"}
    assert names - fields == become_others


async def test_a_way_out_that_is_none_is_said_when_the_client_is_opened(tmp_path: Path) -> None:
    for leaving in ({"proxy": "ftp://x"}, {"ca_file": str(tmp_path)}):
        with pytest.raises(UsageError):
            async with Client(tmp_path / "state", **leaving):  # type: ignore[arg-type]  # strings
                pass
