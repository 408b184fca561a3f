"""What the content server counts as sent: each byte once, by its way and by the archive that it came from."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import aiohttp
import pytest
from tests.node.wire_support import Served, served

from p2psync.chunking import cut_object
from p2psync.content import send
from p2psync.content.counters import Way
from p2psync.publish import publish
from p2psync.sources import wire

LARGE = os.urandom(300_000)
SHARED = b"in both trees"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Served]:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "large").write_bytes(LARGE)
    (tree / "small").write_bytes(b"small")
    (tree / "shared").write_bytes(SHARED)
    async with served(tmp_path, tree) as made:
        yield made


async def get(node: Served, path: str, *, bytes_: str | None = None) -> bytes:
    headers = {} if bytes_ is None else {"Range": f"bytes={bytes_}"}
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{node.address}{path}", headers=headers) as answer,
    ):
        return await answer.read()


async def batch(node: Served, *rows: wire.Row) -> bytes:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"http://{node.address}{wire.BATCH_PATH}", data=wire.encode_batch(rows)) as answer,
    ):
        return await answer.read()


async def counted(node: Served, sent: Mapping[tuple[Way, bytes | None], int]) -> None:
    """Whether this was counted, and nothing else."""
    await node.counted(sum(sent.values()))
    assert node.server.counters.sent == sent


def object_path(digest: bytes) -> str:
    return f"{wire.PREFIX}/object/{digest.hex()}"


def other_archive(node: Served, tmp_path: Path, content: bytes) -> bytes:
    """Publish a second archive on the same state, with one file."""
    tree = tmp_path / "other"
    tree.mkdir()
    (tree / "file").write_bytes(content)
    return publish(node.state, bytes(tree)).archive


async def test_files_by_their_paths_and_objects_by_their_ids(node: Served, tmp_path: Path) -> None:
    other = other_archive(node, tmp_path, b"other")
    await get(node, node.url.removeprefix(f"http://{node.address}") + "/large", bytes_="0-99")
    await get(node, object_path(node.entry(b"large").digest))
    await get(node, object_path(node.entry(b"large").digest), bytes_="-7")
    await get(node, object_path(cut_object(b"other")[0].digest))
    sent: dict[tuple[Way, bytes | None], int] = {
        ("tree", node.archive): 100,
        ("object", node.archive): len(LARGE) + 7,
        ("object", other): 5,
    }
    await counted(node, sent)
    counters = node.server.counters
    assert counters.bytes_sent == 100 + len(LARGE) + 7 + 5
    assert counters.bytes_by("object") == len(LARGE) + 7 + 5


async def test_rows_of_a_batch_count_for_the_archives_they_come_from(node: Served, tmp_path: Path) -> None:
    other = other_archive(node, tmp_path, b"other")
    rows = [
        (node.entry(b"small").digest, 0, 5),
        (cut_object(b"other")[0].digest, 1, 3),
        (node.entry(b"large").digest, 1000, 50_000),
        (bytes(32), 0, 9),  # not here
    ]
    body = await batch(node, *rows)
    await counted(node, {("batch", node.archive): 50_005, ("batch", other): 3, ("batch", None): 16})
    counters = node.server.counters
    assert counters.bytes_by("batch") == len(body)


async def test_what_two_archives_have_counts_for_the_one_it_was_read_from(
    node: Served, tmp_path: Path
) -> None:
    other = other_archive(node, tmp_path, SHARED)
    digest = cut_object(SHARED)[0].digest
    (node.tree / "shared").unlink()
    assert await get(node, object_path(digest)) == SHARED
    assert (await batch(node, (digest, 0, 2)))[4:] == SHARED[:2]
    await counted(node, {("object", other): 13, ("batch", other): 2, ("batch", None): 4})


async def test_manifests_count_for_no_archive(node: Served) -> None:
    (newest, *_) = node.state.meta.snapshots(node.archive)
    body = await get(node, object_path(newest.ref.digest))
    await counted(node, {("object", None): len(body)})


async def test_what_a_mirror_has_in_part_counts_for_its_archive(node: Served, tmp_path: Path) -> None:
    archive = bytes(range(32))
    dest = tmp_path / "mirror"
    part = dest / ".p2psync.partial" / "part"
    part.parent.mkdir(parents=True)
    part.write_bytes(LARGE[::-1])
    node.state.trees.ensure(bytes(dest), "mirror", archive)
    ref, recipe = cut_object(LARGE[::-1])
    full = bytearray(b"\xff" * ((len(recipe) + 7) // 8))
    node.library.partial.register(ref.digest, bytes(part), recipe, full)
    await get(node, object_path(ref.digest), bytes_="0-9")
    await batch(node, (ref.digest, 0, 20))
    sent: dict[tuple[Way, bytes | None], int] = {
        ("object", archive): 10,
        ("batch", archive): 20,
        ("batch", None): 4,
    }
    await counted(node, sent)


async def test_a_response_that_is_cut_counts_as_far_as_it_went(
    node: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(send, "SLICE", 100_000)
    slices = 0

    def changes_after_the_second(_: object) -> bool:
        nonlocal slices
        slices += 1
        return slices <= 2

    monkeypatch.setattr("p2psync.tree.opener.FileContent.unchanged", changes_after_the_second)
    with pytest.raises(aiohttp.ClientPayloadError):
        await get(node, object_path(node.entry(b"large").digest))
    await counted(node, {("object", node.archive): 200_000})
