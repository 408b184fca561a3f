"""What an archive has several times is asked for once: equal files, and equal chunks of one file."""

from __future__ import annotations

import random

import pytest
from tests.node.fetch_world import World, world
from tests.node.simulator import Tree, content

from p2psync.errors import TransferTimeout
from p2psync.supply import copies, placing
from p2psync.tree.orders import WriteObject

__all__ = ["world"]
ZEROS = 8 << 20
ROOM = 300_000
"""Bytes that metadata and a few odd chunks may take."""


def image() -> bytes:
    """A disk image: nearly all of it zeros."""
    made = bytearray(ZEROS)
    chance = random.Random(1)
    for _ in range(3):
        made[chance.randrange(ZEROS)] = 33
    return bytes(made)


REPEATED: dict[str, Tree] = {
    "a disk image": {b"image": image()},
    "one block again and again": {b"f": content("block", 65_536) * 128},
    "small files": {b"d%d" % n: {b"%d" % m: content("same", 9_000) for m in range(100)} for n in range(5)},
    "larger files": {b"d%d" % n: {b"%d" % m: content("same", 90_000) for m in range(20)} for n in range(5)},
}


COMMON = content("common", 1_500_000)


def versions(number: int) -> Tree:
    """Files that differ at both ends, and each has a middle of its own too."""
    return {
        b"%03d" % n: content(f"begin {n}", 20_000) + COMMON + content(f"end {n}", 20_000)
        for n in range(number)
    }


def received(world: World) -> int:
    return sum(source.received for source in world.sources.values())


@pytest.fixture(params=[1, 2], ids=["one source", "two sources"])
def sources(world: World, request: pytest.FixtureRequest) -> int:
    if request.param == 1:
        del world.sources["b"]
    return int(request.param)


@pytest.mark.parametrize("tree", REPEATED.values(), ids=REPEATED.keys())
def test_it_travels_once(world: World, sources: int, tree: Tree) -> None:
    world.publisher.publish(tree)
    done = world.fetch()
    assert world.differs() == []
    assert received(world) < ROOM
    assert done.reused > done.bytes - ROOM
    assert sum(world.watcher.by_source.values()) + done.reused == done.bytes
    assert world.watcher.bytes == done.bytes, "each byte is done once"


def test_wrong_bytes_are_not_copied(world: World) -> None:
    world.publisher.publish({b"image": image()})
    world.sources["a"].lies = lambda digest, offset: True
    world.fetch()
    assert world.differs() == []


def test_an_interrupted_copy_goes_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytes(ZEROS) + content("rest", 2_000_000)
    world.publisher.publish({b"image": data})
    for source in world.sources.values():
        source.rate, source.silent_from = 200_000.0, 1.5
    with pytest.raises(TransferTimeout):
        world.fetch(timeout=5.0)
    for source in world.sources.values():
        source.silent_from = float("inf")
    done = world.fetch()
    assert world.differs() == []
    assert received(world) < 2_000_000 + ROOM
    assert done.reused > ZEROS - ROOM


def test_what_is_here_is_read_once_too(world: World) -> None:
    world.publisher.publish({b"image": image()})
    world.fetch()
    world.publisher.publish({b"image": image() + bytes(1 << 20) + b"!"})
    done = world.fetch()
    assert world.differs() == []
    assert received(world) < ROOM
    assert done.reused > done.bytes - ROOM


def test_copies_are_written_in_orders_that_keep_the_writer_for_a_moment(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "COPIES_BYTES", 1 << 20)
    written: list[int] = []
    send = placing.Placing._send

    def counting(self: placing.Placing, order: placing._Sent, awaited: placing._Awaited) -> None:
        if isinstance(order, WriteObject):
            written.append(sum(length for _, _, length in order.parts))
        send(self, order, awaited)

    monkeypatch.setattr(placing.Placing, "_send", counting)
    world.publisher.publish({b"image": bytes(ZEROS)})
    world.fetch()
    assert world.differs() == []
    assert sum(written) == ZEROS
    assert max(written) <= 1 << 20


# Files that have chunks in common.


def test_what_files_have_in_common_travels_once(world: World, sources: int) -> None:
    world.publisher.publish(
        {b"d%d" % n: versions(10) for n in range(1)} | {b"other": content("other", 700_000)}
    )
    done = world.fetch()
    assert world.differs() == []
    own = done.bytes - 9 * len(COMMON)
    assert received(world) < own + 10 * 4 * 65_536 + ROOM, (
        "at both ends of what is common a chunk is cut otherwise"
    )
    assert sum(world.watcher.by_source.values()) + done.reused == done.bytes == world.watcher.bytes


def test_one_file_may_be_made_of_two_others(world: World) -> None:
    one, two = content("one", 800_000), content("two", 900_000)
    world.publisher.publish({b"a": one, b"b": two, b"c": one + two, b"d": {b"e": two + one}})
    done = world.fetch()
    assert world.differs() == []
    assert received(world) < len(one) + len(two) + 6 * 65_536 + ROOM
    assert done.changed == 4


def test_a_lender_that_nobody_has_is_not_waited_for(world: World) -> None:
    world.publisher.publish(versions(3))
    entries = {path: entry for path, entry, _ in world.publisher.read(world.publisher.head)}
    for source in world.sources.values():
        source.lacks = entries[b"/000"].digest.__eq__
    done = world.fetch()
    assert done.missing == [b"000"]
    assert world.differs() in ([b"/000"], [b"", b"/000"], [b"/000", b""])


def test_a_lender_that_cannot_be_put_in_place_lends_nothing(world: World) -> None:
    world.publisher.publish(versions(3))
    (world.dest / "000" / "mine").mkdir(parents=True)
    done = world.fetch()
    assert len(done.failed) == 1
    assert done.changed == 2
    assert (world.dest / "002").read_bytes() == versions(3)[b"002"]


def test_a_fetch_that_waits_for_a_lender_can_be_stopped_and_goes_on(world: World) -> None:
    world.publisher.publish(versions(4))
    for source in world.sources.values():
        source.rate, source.silent_from = 500_000.0, 1.0
    with pytest.raises(TransferTimeout):
        world.fetch(timeout=5.0)
    for source in world.sources.values():
        source.silent_from = float("inf")
    world.fetch()
    assert world.differs() == []
