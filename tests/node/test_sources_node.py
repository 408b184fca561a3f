"""A node as a source: everything it serves, read back through real sockets; and nodes that lie about it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from blake3 import blake3
from tests.node.wire_support import Served, says, scripted, served

from p2psync.chunking import cut_object
from p2psync.content.partial import Place
from p2psync.errors import FormatError, NetworkError
from p2psync.format.head import decode_head, sign_head
from p2psync.format.ids import Ref
from p2psync.format.listing import decode_listing
from p2psync.format.recipe import Recipe
from p2psync.format.snapshot import Snapshot
from p2psync.sources import wire
from p2psync.sources.node import PeerSource
from p2psync.sources.node_content import RANGE_MIN
from p2psync.sources.source import NotHere, Span
from p2psync.tree.stamp import Stamp

RANDOM = random.Random(7)
BIG = RANDOM.randbytes(3_000_000)
MISSING = b"\xee" * 32


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Served]:
    tree = tmp_path / "tree"
    (tree / "small").mkdir(parents=True)
    (tree / "big").write_bytes(BIG)
    for index in range(300):
        (tree / "small" / str(index)).write_bytes(RANDOM.randbytes(1 + index * 7))
    async with served(tmp_path, tree) as made:
        yield made


async def test_the_chain_from_head_to_files(node: Served, peer: PeerSource) -> None:
    raw = await peer.head(node.archive)
    assert raw is not None
    snapshot = Snapshot.decode((await peer.metas([decode_head(raw).snapshot]))[0] or b"")
    root = (await peer.metas([snapshot.root.ref]))[0] or b""
    assert cut_object(root)[0] == snapshot.root.ref
    big, small = decode_listing(root)
    recipe = Recipe.decode(await peer.recipe(big.ref), big.ref)
    buffer = bytearray(big.size)
    spans = [
        Span(big.digest, offset, length)
        for offset, (_, length) in zip(recipe.offsets[:-1], recipe, strict=True)
    ]
    RANDOM.shuffle(spans)
    ordered = bytearray(big.size)
    assert all(await peer.read(spans, memoryview(buffer)))
    position = 0
    for span in spans:
        ordered[span.offset : span.offset + span.length] = buffer[position : position + span.length]
        position += span.length
    assert ordered == BIG
    listing = decode_listing((await peer.metas([small.ref]))[0] or b"")
    assert len(listing) == 300


async def test_large_and_small_and_missing_in_one_read(node: Served, peer: PeerSource) -> None:
    small = [node.entry(b"small/%d" % index) for index in (5, 200)]
    big = node.entry(b"big")
    spans = [
        Span(small[0].digest, 0, small[0].size),
        Span(big.digest, 100, RANGE_MIN),
        Span(big.digest, 100 + RANGE_MIN, 1000),
        Span(MISSING, 0, 50),
        Span(small[1].digest, 3, 10),
        Span(MISSING, 0, RANGE_MIN),
        Span(big.digest, len(BIG) - 5, 6),
    ]
    buffer = memoryview(bytearray(sum(span.length for span in spans)))
    assert await peer.read(spans, buffer) == [True, True, True, False, True, False, False]
    at = small[0].size
    assert bytes(buffer[:at]) == (node.tree / "small/5").read_bytes()
    assert bytes(buffer[at : at + RANGE_MIN + 1000]) == BIG[100 : 1100 + RANGE_MIN]
    at += RANGE_MIN + 1000 + 50
    assert bytes(buffer[at : at + 10]) == (node.tree / "small/200").read_bytes()[3:13]


async def test_more_than_one_batch_holds(node: Served, peer: PeerSource) -> None:
    entry = node.entry(b"small/0")
    spans = [Span(entry.digest, 0, 1)] * (wire.BATCH_ROWS_MAX + 10)
    assert all(await peer.read(spans, memoryview(bytearray(len(spans)))))


async def test_what_is_not_there(node: Served, peer: PeerSource) -> None:
    assert await peer.head(b"\x01" * 32) is None
    assert await peer.holders(b"\x01" * 32) == []
    with pytest.raises(NotHere):
        await peer.recipe(Ref(100_000, MISSING))
    assert await peer.metas([Ref(5, MISSING), Ref(0, b"")]) == [None, b""]
    digests = [MISSING, node.entry(b"big").digest] * 1100
    assert await peer.have(digests) == [False, True] * 1100


async def test_recipes_in_batches(node: Served, peer: PeerSource) -> None:
    big = node.entry(b"big").ref
    raw = await peer.recipe(big)
    assert await peer.recipes([]) == []
    assert await peer.recipes([Ref(100_000, MISSING), big] * 300) == [None, raw] * 300


async def test_recipes_of_a_node_that_answers_for_one_at_a_time() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            request = await reader.readuntil(b"\r\n\r\n")
            if request.startswith(b"POST"):
                await reader.readexactly(int(request.split(b"Content-Length: ")[1].split(b"\r")[0]))
                writer.write(b"HTTP/1.1 405 x\r\nContent-Length: 0\r\n\r\n")
            else:
                name = request.split(b" ")[1][-64:]
                writer.write(b"HTTP/1.1 200 x\r\nContent-Length: 64\r\n\r\n" + name)

    async with scripted(talk) as server:
        peer = PeerSource(server.address)
        refs = [Ref(100_000, bytes([index]) * 32) for index in range(40)]
        assert await peer.recipes(refs) == [ref.digest.hex().encode() for ref in refs]
        await peer.close()


async def test_a_recipe_that_is_too_long_for_a_batch_is_asked_for_by_itself() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            request = await reader.readuntil(b"\r\n\r\n")
            if request.startswith(b"GET"):
                writer.write(b"HTTP/1.1 200 x\r\nContent-Length: 4\r\n\r\nlong")
                continue
            length = int(request.split(b"Content-Length: ")[1].split(b"\r")[0])
            asked = wire.decode_recipes(await reader.readexactly(length))
            rows = wire.encode_recipes_answer([b"short"] if len(asked) % 2 else [])
            writer.write(b"HTTP/1.1 200 x\r\nContent-Length: %d\r\n\r\n%b" % (len(rows), rows))

    async with scripted(talk) as server:
        peer = PeerSource(server.address)
        refs = [Ref(100_000, bytes([index]) * 32) for index in range(4)]
        assert await peer.recipes(refs) == [b"long", b"short", b"long", b"short"]
        await peer.close()


async def test_info(node: Served, peer: PeerSource) -> None:
    info = await peer.info()
    assert info.key == node.identity.public_key
    assert info.archives == (node.archive,)


async def test_a_newer_head_is_taken_and_an_older_one_is_not(node: Served, peer: PeerSource) -> None:
    old = await peer.head(node.archive)
    assert old is not None
    known = decode_head(old)
    root = node.state.keys.root(node.archive)
    assert root is not None
    newer = sign_head(
        root,
        node.archive,
        epoch=known.epoch,
        seq=known.seq + 1,
        snapshot=known.snapshot,
        signed_at=known.signed_at,
        fresh_until=known.fresh_until + 60,
    )
    assert await peer.put_head(node.archive, newer.raw)
    assert await peer.head(node.archive) == newer.raw
    assert not await peer.put_head(node.archive, newer.raw)
    assert not await peer.put_head(node.archive, old)
    with pytest.raises(NetworkError, match="400"):
        await peer.put_head(node.archive, newer.raw[:-1] + bytes([newer.raw[-1] ^ 1]))
    with pytest.raises(NetworkError):
        await peer.put_head(b"\x01" * 32, newer.raw)


async def test_chunks_of_a_file_that_is_still_being_fetched(
    node: Served, peer: PeerSource, tmp_path: Path
) -> None:
    data = RANDOM.randbytes(700_000)
    ref, recipe = cut_object(data)
    part = tmp_path / "part"
    bitmap = bytearray((len(recipe) + 7) // 8)
    offsets = recipe.offsets
    with part.open("wb") as file:
        file.truncate(len(data))
        for index in (0, 1, len(recipe) - 1):
            file.seek(offsets[index])
            file.write(data[offsets[index] : offsets[index + 1]])
            bitmap[index >> 3] |= 0x80 >> (index & 7)
    registry = node.library.partial
    registry.register(ref.digest, Place(bytes(tmp_path), b"", b"part"), recipe, bitmap, part.stat().st_ino)
    assert await peer.have([ref.digest]) == [bytes(bitmap)]
    assert await peer.recipe(ref) == recipe.encode()
    two = offsets[2]
    spans = [
        Span(ref.digest, 0, two),
        Span(ref.digest, two - 1, 2),
        Span(ref.digest, offsets[-2], offsets[-1] - offsets[-2]),
    ]
    buffer = memoryview(bytearray(sum(span.length for span in spans)))
    assert await peer.read(spans, buffer) == [True, False, True]
    assert bytes(buffer[:two]) == data[:two]
    whole = memoryview(bytearray(len(data)))
    assert await peer.read([Span(ref.digest, 0, len(data))], whole) == [False]
    part.write_bytes(data)
    done = tmp_path / "done"
    part.rename(done)
    registry.complete(ref.digest, Place(bytes(tmp_path), b"", b"done"), Stamp.of(done.stat()))
    assert await peer.have([ref.digest]) == [True]
    assert await peer.read([Span(ref.digest, 0, len(data))], whole) == [True]
    assert bytes(whole) == data
    registry.drop(ref.digest)
    assert await peer.have([ref.digest]) == [False]


async def test_the_metadata_of_a_read_is_counted(node: Served, peer: PeerSource) -> None:
    before = peer.received
    await peer.read([Span(node.entry(b"big").digest, 0, 1_000_000)], memoryview(bytearray(1_000_000)))
    assert 1_000_000 < peer.received - before < 1_001_000
    assert (await node.counted(1_000_000)).bytes_by("object") >= 1_000_000


async def test_many_readers_at_once_get_their_own_bytes(node: Served, peer: PeerSource) -> None:
    big = node.entry(b"big").digest

    async def read(offset: int) -> None:
        length = RANGE_MIN + offset % 1000
        buffer = memoryview(bytearray(length))
        assert await peer.read([Span(big, offset, length)], buffer) == [True]
        assert bytes(buffer) == BIG[offset : offset + length]

    async with asyncio.TaskGroup() as group:
        for _ in range(40):
            group.create_task(read(RANDOM.randrange(len(BIG) - 2 * RANGE_MIN)))


LIES = {
    "another range": (
        b"HTTP/1.1 206 x\r\nContent-Range: bytes 1-300000/400000\r\nContent-Length: 300000\r\n\r\n"
    ),
    "no range": b"HTTP/1.1 206 x\r\nContent-Length: 300000\r\n\r\n",
    "a range that contradicts itself": (
        b"HTTP/1.1 206 x\r\nContent-Range: bytes 0-299999/400000\r\nContent-Length: 5\r\n\r\nhello"
    ),
    "the whole of something else": b"HTTP/1.1 200 x\r\nContent-Length: 5\r\n\r\nhello",
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_node_that_sends_other_ranges_is_named(lie: str) -> None:
    async with scripted(says(LIES[lie])) as server:
        peer = PeerSource(server.address, idle_timeout=5)
        try:
            with pytest.raises(FormatError, match=server.address):
                await peer.read([Span(MISSING, 0, 300_000)], memoryview(bytearray(300_000)))
        finally:
            await peer.close()


async def test_a_node_that_sends_nonsense_bodies_is_named() -> None:
    async with scripted(says(b"HTTP/1.1 200 x\r\nContent-Length: 2\r\n\r\n\xc1\xc1")) as server:
        peer = PeerSource(server.address)
        try:
            for call in (peer.info(), peer.holders(b"\1" * 32), peer.have([MISSING])):
                with pytest.raises(FormatError, match=server.address):
                    await call
        finally:
            await peer.close()


async def test_a_failing_node_is_a_network_error_and_not_a_missing_object() -> None:
    async with scripted(says(b"HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n")) as server:
        peer = PeerSource(server.address)
        try:
            with pytest.raises(NetworkError, match="500"):
                await peer.read([Span(MISSING, 0, 10)], memoryview(bytearray(10)))
            with pytest.raises(NetworkError, match="500"):
                await peer.read(
                    [Span(MISSING, 0, RANGE_MIN), Span(MISSING, RANGE_MIN + 1, 10)],
                    memoryview(bytearray(RANGE_MIN + 10)),
                )
        finally:
            await peer.close()


async def test_the_digests_of_what_is_served_are_right(node: Served, peer: PeerSource) -> None:
    entries = [node.entry(b"small/%d" % index) for index in range(300)]
    spans = [Span(entry.digest, 0, entry.size) for entry in entries]
    buffer = memoryview(bytearray(sum(span.length for span in spans)))
    assert all(await peer.read(spans, buffer))
    position = 0
    for entry in entries:
        assert blake3(buffer[position : position + entry.size]).digest() == entry.digest
        position += entry.size
