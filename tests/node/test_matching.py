"""Updates of files of which an older version is here: over a real connection, from sources good and bad."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiohttp import web
from tests.e2e.harness import assert_same_tree
from tests.node.client_support import url
from tests.node.wire_support import Served, served

from p2psync import Client, Compress, Delete, FetchSummary
from p2psync.chunking import BlockCutter
from p2psync.content import api
from p2psync.content.counters import Counters
from p2psync.content.interface import Library
from p2psync.content.packed import packed_blocks, packed_rows
from p2psync.publish import publish
from p2psync.sources import wire
from p2psync.sources.packing import pack
from p2psync.supply import by_blocks, matching

RANDOM = random.Random(11)
WORDS = [RANDOM.randbytes(5).hex() for _ in range(2000)]


def text(seed: int, words: int) -> bytes:
    chance = random.Random(seed)
    return " ".join(chance.choices(WORDS, k=words)).encode()


def edit(data: bytes, seed: int) -> bytes:
    """A line is added in two places, and one byte changed."""
    chance = random.Random(seed)
    for _ in range(2):
        at = chance.randrange(len(data))
        data = data[:at] + b"a line that is new %d\n" % chance.randrange(10**6) + data[at:]
    at = chance.randrange(len(data))
    return data[:at] + b"X" + data[at + 1 :]


SMALL = {f"small{number}": text(number, 2000) for number in range(40)}
LARGE = random.Random(5).randbytes(3_000_000)
OLD = {**SMALL, "large": LARGE}
NEW = {name: edit(data, number) for number, (name, data) in enumerate(OLD.items())}
SIZE = sum(map(len, NEW.values()))


def write(tree: Path, files: dict[str, bytes]) -> None:
    tree.mkdir(exist_ok=True)
    for name, data in files.items():
        (tree / name).write_bytes(data)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Served]:
    write(tmp_path / "tree", OLD)
    async with served(tmp_path, tmp_path / "tree") as made:
        yield made


@pytest.fixture
async def client(tmp_path: Path, node: Served) -> AsyncIterator[Client]:
    """It has the old snapshot, and the node has the new one."""
    async with Client(tmp_path / "state") as made:
        await made.fetch(url(node), tmp_path / "copy", share=False)
        write(node.tree, NEW)
        publish(node.state, node.tree)
        yield made


async def update(
    client: Client, node: Served, tmp_path: Path, compress: Compress = Compress.MAX
) -> FetchSummary:
    done = await client.fetch(url(node), tmp_path / "copy", share=False, compress=compress)
    assert_same_tree(node.tree, tmp_path / "copy")
    assert done.exit_code == 0
    return done


async def test_an_update_costs_what_is_new(client: Client, node: Served, tmp_path: Path) -> None:
    done = await update(client, node, tmp_path)
    assert done.changed == len(NEW)
    assert done.received < SIZE / 20
    assert done.reused > 0.9 * SIZE
    assert set(done.sources) == {node.address}


async def test_a_directory_with_another_version_in_its_name_costs_what_is_new(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    write(tmp_path / "tree/thing-1.0", OLD)
    write(tmp_path / "tree/other", {"small1": text(77, 2000)})
    async with served(tmp_path, tmp_path / "tree") as node, Client(tmp_path / "state") as client:
        await client.fetch(url(node), tmp_path / "copy", share=False)
        (node.tree / "thing-1.0").rename(node.tree / "thing-1.1")
        write(node.tree / "thing-1.1", NEW)
        publish(node.state, node.tree)
        done = await client.fetch(
            url(node), tmp_path / "copy", share=False, compress=Compress.MAX, delete=Delete.OWN
        )
        assert_same_tree(node.tree, tmp_path / "copy")
    assert done.received < SIZE / 20


@pytest.mark.parametrize("names", [300, 3000])
@pytest.mark.parametrize("compress", [Compress.MAX, Compress.OFF])
async def test_one_changed_name_of_a_directory_costs_little_of_its_listing(
    tmp_path: Path, names: int, compress: Compress
) -> None:
    write(
        tmp_path / "tree", {f"a name of some length {number:05}": b"%d" % number for number in range(names)}
    )
    async with served(tmp_path, tmp_path / "tree") as node, Client(tmp_path / "state") as client:
        await client.fetch(url(node), tmp_path / "copy", share=False)
        write(node.tree, {f"a name of some length {number:05}": b"new" for number in (7, names // 2)})
        publish(node.state, node.tree)
        done = await update(client, node, tmp_path, compress)
    assert (done.received < 8_000) == (compress is Compress.MAX)


async def test_whoever_wants_it_uncompressed_has_it_so(client: Client, node: Served, tmp_path: Path) -> None:
    assert (await update(client, node, tmp_path, Compress.OFF)).received > sum(map(len, SMALL.values()))


async def test_where_the_link_is_faster_than_the_work_it_is_left_off(
    client: Client, node: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matching, "GROUP_BYTES", 1 << 16)
    asked = 0

    def slow(library: Library, raw: bytes) -> tuple[bytes, float]:
        nonlocal asked
        asked += 1
        return packed_blocks(library, raw)[0], 50.0

    monkeypatch.setattr(api, "packed_blocks", slow)
    monkeypatch.setattr(by_blocks, "JUDGED", 1)
    await update(client, node, tmp_path, Compress.AUTO)
    assert asked == 1, "for the listing, and then it is judged"


async def test_a_file_that_has_nothing_of_the_old_one_is_given_up_at_once(
    client: Client, node: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matching, "GROUP_BYTES", 1 << 18)
    write(node.tree, {**OLD, "large": random.Random(6).randbytes(3_000_000)})
    publish(node.state, node.tree)
    asked = 0

    def counting(library: Library, raw: bytes) -> tuple[bytes, float]:
        nonlocal asked
        asked += 1
        return packed_blocks(library, raw)

    monkeypatch.setattr(api, "packed_blocks", counting)
    await update(client, node, tmp_path)
    assert asked == 2, "for the listing of the directory, and for the beginning of the file"


Answer = tuple[bytes, float]
BOMB = pack(bytes(64 << 20))


def liar(_: Library, raw: bytes) -> Answer:
    """All blocks are said to be one that the old version has."""
    (known, length), *_rest = BlockCutter().cut(memoryview(SMALL["small0"]))
    rows = [
        [(known, length)] * (size // length) + [(known, size % length or length)]
        for _, _, size in rows_of(raw)
    ]
    fitting = [
        row if sum(part for _, part in row) == size else None
        for row, (_, _, size) in zip(rows, rows_of(raw), strict=True)
    ]
    return pack(wire.encode_blocks_answer(fitting)), 0.0


def rows_of(raw: bytes) -> list[wire.Row]:
    return wire.decode_batch(raw)


def bomb(_: Library, raw: bytes) -> Answer:
    return BOMB, 0.0


def rubbish(_: Library, raw: bytes) -> Answer:
    return os.urandom(1000), 0.0


def nothing(_: Library, raw: bytes) -> Answer:
    return pack(wire.encode_blocks_answer([None] * len(rows_of(raw)))), 0.0


def unheard_of(_: Library, raw: bytes) -> Answer:
    raise web.HTTPNotFound


def failing(_: Library, raw: bytes) -> Answer:
    raise web.HTTPServiceUnavailable


@pytest.mark.parametrize("blocks", [liar, bomb, rubbish, nothing, unheard_of, failing])
async def test_a_source_that_says_something_else_of_blocks_costs_nothing_but_bytes(
    client: Client,
    node: Served,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    blocks: Callable[[Library, bytes], Answer],
) -> None:
    monkeypatch.setattr(api, "packed_blocks", blocks)
    done = await update(client, node, tmp_path)
    assert done.received > SIZE / 20, "more than with its help"


@pytest.mark.parametrize("rows", [bomb, rubbish, unheard_of])
async def test_a_source_that_compresses_wrongly_is_asked_for_what_is_plain(
    node: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: Callable[[Library, bytes], Answer]
) -> None:
    def packed(library: Library, _: Counters, raw: bytes) -> Answer:
        return rows(library, raw)

    monkeypatch.setattr(api, "packed_rows", packed)
    async with Client(tmp_path / "state of a new one") as client:
        await update(client, node, tmp_path)


@pytest.mark.parametrize("rows", [bomb, rubbish, unheard_of, failing])
async def test_a_source_that_sends_something_else_for_rows_costs_nothing_but_bytes(
    client: Client,
    node: Served,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rows: Callable[[Library, bytes], Answer],
) -> None:
    def packed(library: Library, _: Counters, raw: bytes) -> Answer:
        return rows(library, raw)

    monkeypatch.setattr(api, "packed_rows", packed)
    await update(client, node, tmp_path)


async def test_wrong_bytes_are_noticed_and_had_elsewhere(
    client: Client, node: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    def wrong(library: Library, counters: Counters, raw: bytes) -> Answer:
        nonlocal asked
        rows = rows_of(raw)
        if max(size for _, _, size in rows) > 5_000:  # Whole files, which it sends rightly.
            return packed_rows(library, counters, raw)
        asked += 1
        return pack(b"".join(wire.ROW_LENGTH.pack(size) + bytes(size) for _, _, size in rows)), 0.0

    monkeypatch.setattr(api, "packed_rows", wrong)
    monkeypatch.setattr(matching, "GROUP_BYTES", 1 << 16)
    await update(client, node, tmp_path)
    assert asked == 2, (
        "one wrong chunk, here the listing, may be chance; who sends several is not asked again"
    )


async def test_a_source_that_is_silent_about_blocks_is_not_waited_for_long(
    client: Client, node: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_blocks, "PATIENCE", 0.05)
    monkeypatch.setattr(by_blocks, "RATE_MIN", 1 << 40)
    held = threading.Event()

    def silent(library: Library, raw: bytes) -> Answer:
        held.wait(20)
        return rubbish(library, raw)

    monkeypatch.setattr(api, "packed_blocks", silent)
    try:
        await update(client, node, tmp_path)
    finally:
        held.set()
