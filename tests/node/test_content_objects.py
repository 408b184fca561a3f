"""Manifest objects as they are served: read, copied and decoded once, however many ask for them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from p2psync.chunking import cut_object
from p2psync.content import objects
from p2psync.content.objects import Objects
from p2psync.format.listing import Entry, Kind, encode_listing
from p2psync.state import State

MANY = 8


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with State.open(tmp_path / "state") as made:
        yield made


@pytest.fixture
def store(state: State) -> Iterator[Objects]:
    made = Objects(state.meta, state.path)
    yield made
    made.close()


def put(state: State, data: bytes) -> bytes:
    ref, _ = cut_object(data)
    state.meta.put_many([(ref, data)])
    return ref.digest


def read_row(store: Objects, digest: bytes, offset: int, length: int) -> bytes | bool | None:
    into = bytearray(length)
    came = store.read_into(digest, offset, memoryview(into))
    return bytes(into) if came else came


def read(store: Objects, digest: bytes, offset: int, length: int) -> bytes | None:
    content = store.open(digest)
    if content is None:
        return None
    into = bytearray(length)
    try:
        return bytes(into) if content.read_into(offset, memoryview(into)) else None
    finally:
        content.close()


def counted(monkeypatch: pytest.MonkeyPatch, state: State, name: str) -> list[bytes]:
    """The digests that a method of the store of objects is called with."""
    calls: list[bytes] = []
    method: Callable[[bytes], object] = getattr(state.meta, name)

    def count(digest: bytes) -> object:
        calls.append(digest)
        return method(digest)

    monkeypatch.setattr(state.meta, name, count)
    return calls


def at_once(work: Callable[[], object]) -> list[object]:
    """What comes of it in many threads that begin together."""
    start = threading.Barrier(MANY)

    def run() -> object:
        start.wait()
        return work()

    with ThreadPoolExecutor(MANY) as threads:
        return [future.result() for future in [threads.submit(run) for _ in range(MANY)]]


@pytest.mark.parametrize(
    "size", [1, objects.IN_MEMORY_MAX, objects.IN_MEMORY_MAX + 1, 3 << 20, objects.IN_PLACE_MAX + 1]
)
def test_any_part_of_an_object(state: State, store: Objects, size: int) -> None:
    data = os.urandom(size)
    digest = put(state, data)
    for offset, length in [(0, size), (size - 1, 1), (size // 2, size - size // 2), (0, 1)]:
        assert read_row(store, digest, offset, length) == data[offset : offset + length]
        assert read(store, digest, offset, length) == data[offset : offset + length]
        assert read_row(store, digest, offset, length) == data[offset : offset + length]
    assert read(store, digest, size, 1) is None
    assert read_row(store, digest, size, 1) is False
    assert read(store, bytes(32), 0, 1) is None
    assert read_row(store, bytes(32), 0, 1) is None


def test_a_row_of_a_middling_object_is_read_without_a_copy(state: State, store: Objects) -> None:
    data = os.urandom(objects.IN_PLACE_MAX)
    digest = put(state, data)
    before = len(os.listdir("/proc/self/fd"))
    assert read_row(store, digest, len(data) - 9, 9) == data[-9:]
    assert read_row(store, digest, len(data) - 9, 10) is False
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(("size", "reading"), [(1000, "get"), (3 << 20, "pieces")])
def test_an_object_is_read_once_for_all_who_ask(
    state: State, store: Objects, monkeypatch: pytest.MonkeyPatch, size: int, reading: str
) -> None:
    data = os.urandom(size)
    digest = put(state, data)
    calls = counted(monkeypatch, state, reading)
    assert at_once(lambda: read(store, digest, size - 5, 5)) == [data[-5:]] * MANY
    assert calls == [digest]


def test_a_listing_is_read_through_once_for_all_who_ask_and_had_by_pieces(
    state: State, store: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [Entry(b"%05d" % index, Kind.SYMLINK, 0o777, 0, target=b"x") for index in range(2000)]
    digest = put(state, encode_listing(entries))
    calls = counted(monkeypatch, state, "pieces")
    assert at_once(lambda: store.find(digest, b"01999")) == [entries[-1]] * MANY
    assert calls == [digest]
    pieces = store.catalogue(digest).pieces
    assert pieces > 1
    assert [entry for number in range(pieces) for entry in store.piece(digest, number)] == entries
    assert [store.find(digest, entry.name) for entry in entries] == entries
    assert [store.find(digest, name) for name in (b"", b"0", b"00000x", b"99999")] == [None] * 4
    with pytest.raises(LookupError):
        store.find(bytes(32), b"x")


@pytest.mark.parametrize(("number", "bound"), [(2, 1 << 30), (9, 3 * objects.IN_MEMORY_MAX)])
def test_copies_are_bounded_leave_nothing_on_disk_and_outlive_their_place_in_the_cache(
    state: State, store: Objects, monkeypatch: pytest.MonkeyPatch, number: int, bound: int
) -> None:
    monkeypatch.setattr(objects, "COPIES_CACHED", number)
    data = os.urandom(objects.IN_MEMORY_MAX + 1)
    before = len(os.listdir("/proc/self/fd")), sorted(os.listdir(state.path))
    monkeypatch.setattr(objects, "COPIED_MAX", bound)
    first = store.open(put(state, data))
    assert first is not None
    for index in range(4):
        assert read(store, put(state, data[:-1] + bytes([index])), 0, 1) == data[:1]
    into = bytearray(5)
    assert first.read_into(0, memoryview(into))
    assert into == data[:5]
    first.close()
    assert (len(os.listdir("/proc/self/fd")), sorted(os.listdir(state.path))) == (before[0] + 2, before[1])


def test_small_objects_in_memory_are_bounded(
    state: State, store: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "BYTES_CACHED", 2500)
    digests = [put(state, os.urandom(1000)) for _ in range(3)]
    calls = counted(monkeypatch, state, "get")
    for digest in (*digests, digests[2], digests[1], digests[0]):
        assert read(store, digest, 0, 1) is not None
    assert calls == [*digests, digests[0]]
