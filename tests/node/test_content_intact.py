"""Files whose bytes are what was published, though they were copied, given away, touched or put back; and
files whose bytes are not: by their ids, in batches and by their paths.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest
from tests.help.descriptors import open_below
from tests.node.publishing import write
from tests.node.wire_support import Served, served

from p2psync.content import server
from p2psync.sources import wire

SMALL = os.urandom(30_000)
LARGE = os.urandom(3 << 20)
ROW = 1 << 20
"""Bytes that are asked for at once of a file in a batch."""
FILES = {"small": SMALL, "deep/large": LARGE, "empty": b""}


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Served]:
    tree = tmp_path / "disk" / "tree"
    for name, data in FILES.items():
        write(tree / name, data)
    async with served(tmp_path, tree) as made:
        yield made


async def get(node: Served, path: str, range_: str = "") -> tuple[int, bytes]:
    headers = {"Range": f"bytes={range_}"} if range_ else {}
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{node.address}{path}", headers=headers) as answer,
    ):
        return answer.status, await answer.read()


async def by_path(node: Served, name: str, range_: str = "") -> tuple[int, bytes]:
    return await get(node, f"/{node.url.rpartition('/')[2]}/{name}", range_)


async def by_id(node: Served, name: str, range_: str = "") -> tuple[int, bytes]:
    return await get(node, wire.object_path(node.entry(name.encode()).digest), range_)


async def in_batch(node: Served, name: str, first: int = 0, length: int | None = None) -> bytes | None:
    entry = node.entry(name.encode())
    wanted = min(entry.size - first, ROW) if length is None else length
    body = wire.encode_batch([(entry.digest, first, wanted)])
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"http://{node.address}{wire.BATCH_PATH}", data=body) as answer,
    ):
        came = await answer.read()
    size = int.from_bytes(came[: wire.ROW_LENGTH.size], "big")
    return None if size == wire.NOT_HERE else came[wire.ROW_LENGTH.size :]


async def all_is_served(node: Served) -> None:
    for name, data in FILES.items():
        assert await by_path(node, name) == (200, data), name
        if data:
            assert await by_id(node, name) == (200, data), name
            assert await in_batch(node, name) == data[:ROW], name
    assert await by_id(node, "deep/large", "1000000-1999999") == (206, LARGE[1_000_000:2_000_000])
    assert await in_batch(node, "deep/large", 999_999, 100_001) == LARGE[999_999:1_100_000]


def copied(tree: Path, *command: str) -> None:
    """The tree is what the command made of it, at the same path."""
    old = tree.with_name("old")
    tree.rename(old)
    subprocess.run([*command, f"{old}/", f"{tree}/"], check=True)
    shutil.rmtree(old)


def files(tree: Path) -> list[Path]:
    return [tree / name for name in FILES]


def hard_links(tree: Path) -> None:
    for path in files(tree):
        os.link(path, path.with_name(path.name + ".link"))


def touched(tree: Path) -> None:
    for path in files(tree):
        os.utime(path)


def other_modes(tree: Path) -> None:
    for path in files(tree):
        path.chmod(0o600)


def through_a_rename(tree: Path) -> None:
    for path in files(tree):
        path.rename(path.with_name("there"))
        path.with_name("there").rename(path)


@pytest.mark.parametrize(
    "happens",
    [
        pytest.param(lambda tree: copied(tree, "rsync", "-a"), id="copied to another disk or from a backup"),
        pytest.param(lambda tree: copied(tree, "cp", "-rlpT"), id="hard-linked copy"),
        pytest.param(lambda tree: copied(tree, "cp", "-rT"), id="copied without times"),
        pytest.param(hard_links, id="hard links added"),
        pytest.param(other_modes, id="other modes"),
        pytest.param(through_a_rename, id="renamed and renamed back"),
        pytest.param(touched, id="touched"),
    ],
)
async def test_what_has_the_same_bytes_is_served(node: Served, happens: Callable[[Path], None]) -> None:
    happens(node.tree)
    await all_is_served(node)


async def test_a_log_that_has_grown_is_served_as_far_as_it_was_published(node: Served) -> None:
    for name in ("small", "deep/large"):
        with open(node.tree / name, "ab") as file:
            file.write(b"one more line\n")
    await all_is_served(node)
    assert await by_path(node, "small", "29999-") == (206, SMALL[-1:]), "no byte of what came after"


@pytest.mark.parametrize("name", ["small", "deep/large"])
@pytest.mark.parametrize("change", ["other bytes", "cut short", "removed", "replaced by a link"])
async def test_what_has_other_bytes_is_not_served_as_what_it_was(
    node: Served, name: str, change: str, tmp_path: Path
) -> None:
    entry = node.entry(name.encode())
    path = node.tree / name
    if change == "other bytes":
        write(path, bytes(entry.size))
    elif change == "cut short":
        os.truncate(path, 100)
    else:
        path.rename(tmp_path / "elsewhere")
        if change == "replaced by a link":
            path.symlink_to(tmp_path / "elsewhere")
    assert (await by_path(node, name))[0] == 404
    assert (await by_id(node, name))[0] == 404
    assert await in_batch(node, name) is None


async def test_of_a_file_that_was_written_over_in_part_the_rest_is_served(node: Served) -> None:
    path = node.tree / "deep/large"
    with open(path, "r+b") as file:
        file.seek(2 << 20)
        file.write(bytes(10))
    assert await by_id(node, "deep/large", "0-999999") == (206, LARGE[:1_000_000])
    assert await in_batch(node, "deep/large", 100, 5000) == LARGE[100:5100]
    assert (await by_id(node, "deep/large", f"{2 << 20}-"))[0] == 404
    assert await in_batch(node, "deep/large", (2 << 20) - 5, 10) is None
    with pytest.raises(aiohttp.ClientPayloadError):  # what was begun is cut off, and never taken for whole
        await by_id(node, "deep/large")


@pytest.mark.parametrize("next_stretch", [False, True])
async def test_what_is_written_over_while_it_is_sent_is_cut_off(node: Served, next_stretch: bool) -> None:
    path = node.tree / "deep/large"
    os.utime(path)
    content = node.library.open(node.entry(b"deep/large").digest)
    assert content is not None
    sent = content.allowed(0, 1 << 20)
    assert sent
    with open(path, "ab") as file:
        file.write(b"grown")
    assert content.unchanged(), "what was appended is behind it"
    with open(path, "r+b") as file:
        file.write(bytes(10))
    if next_stretch:
        assert content.allowed(sent, 1 << 20) == 0
    assert not content.unchanged()
    content.close()


async def test_a_copy_that_is_right_serves_where_the_first_one_is_not(tmp_path: Path) -> None:
    tree = tmp_path / "t"
    for name in ("a", "b", "c"):
        write(tree / name / "file", LARGE)
    async with served(tmp_path, tree) as node:
        for index, right in enumerate(("a", "b", "c")):
            for name in ("a", "b", "c"):
                write(tree / name / "file", LARGE if name == right else bytes([index]) * len(LARGE), 10**18)
            assert await by_id(node, "a/file") == (200, LARGE)
            assert await in_batch(node, "a/file", 70_000, 1000) == LARGE[70_000:71_000]


async def test_a_node_at_rest_keeps_nothing_open_below_the_archive(node: Served) -> None:
    await all_is_served(node)
    assert open_below(node.tree), "directories stay open while requests come"
    for _ in range(2):
        node.library.rest()
    assert open_below(node.tree) == []
    await all_is_served(node)


async def test_a_server_looks_by_itself_whether_it_rests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "REST", 0.001)
    tree = tmp_path / "tree"
    write(tree / "small", SMALL)
    async with served(tmp_path, tree) as node:
        assert await by_id(node, "small") == (200, SMALL)
        async with asyncio.timeout(20):
            while open_below(tree):  # noqa: ASYNC110 - nothing tells when a descriptor is closed
                await asyncio.sleep(0.001)
