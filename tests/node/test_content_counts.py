"""What the content server counts as sent: each byte once, by its way and by the archive that it came from."""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from itertools import cycle
from pathlib import Path

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.node.wire_support import Served, served

from p2psync.chunking import cut_object
from p2psync.content import send
from p2psync.content.counters import Counters, Way
from p2psync.content.interface import Taken
from p2psync.content.partial import Place
from p2psync.content.rows import RowsAnswer
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
    place = Place(bytes(dest), b".p2psync.partial", b"part")
    node.library.partial.register(ref.digest, place, recipe, full, part.stat().st_ino)
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


class Sips(socket.socket):
    """Takes as many bytes at once as it is told."""

    sizes: Iterator[int]

    def send(self, data: memoryview, flags: int = 0, /) -> int:  # type: ignore[override]
        return super().send(data[: next(self.sizes)], flags)


class Prepared:
    """Rows that are there already: each with the archive that it is of, b"" for one that is not here."""

    def __init__(self, rows: Sequence[tuple[bytes, bytes | None]]) -> None:
        self._rows = rows

    def fill(self, first: int, last: int | None, room: memoryview) -> Taken:
        parts = [wire.ROW_LENGTH.pack(len(raw) or wire.NOT_HERE) + raw for raw, _ in self._rows[first:last]]
        body = b"".join(parts)
        room[: len(body)] = body
        return Taken([len(part) for part in parts], [archive for _, archive in self._rows[first:last]])

    def park(self) -> None:
        pass


@given(
    st.lists(st.tuples(st.binary(max_size=12), st.sampled_from([None, b"a" * 32, b"b" * 32])), max_size=8),
    st.lists(st.integers(1, 25), min_size=1),
    st.booleans(),
)
def test_each_byte_of_rows_counts_once_however_they_are_taken(
    rows: list[tuple[bytes, bytes | None]], sizes: list[int], parked: bool
) -> None:
    rows = [(raw, archive if raw else None) for raw, archive in rows]
    owners: list[bytes | None] = []
    for raw, archive in rows:
        owners += [None] * wire.ROW_LENGTH.size + [archive] * len(raw)
    counters = Counters()
    answer = RowsAnswer(Prepared(rows), counters)
    room = memoryview(bytearray(1024))
    ours, theirs = socket.socketpair()
    with Sips(fileno=ours.detach()) as sock, theirs:
        sock.sizes = cycle(sizes)
        came = b""
        while not answer.done:
            came += theirs.recv(answer.send(sock, room))
            if parked:
                answer.park()
            _, _, body = came.partition(b"\r\n\r\n")
            assert counters.sent == Counter(("batch", owner) for owner in owners[: len(body)])
    assert (counters.batches, counters.rows) == (1, len(rows))
    assert counters.missed == sum(not raw for raw, _ in rows)
    assert len(body) == len(owners)
