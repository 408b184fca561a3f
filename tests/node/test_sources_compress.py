"""When answers are asked for compressed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from tests.e2e.harness import assert_same_tree
from tests.node.client_support import url
from tests.node.test_matching import text
from tests.node.wire_support import served

from p2psync import Client, Compress
from p2psync.sources.compress import SKIP_MAX, SLOW, Packing

MIB = 1 << 20


def test_nothing_is_known_before_the_first_answer() -> None:
    assert not Packing(Compress.AUTO).wanted()
    assert Packing(Compress.MAX).wanted()


@pytest.mark.parametrize(("seconds", "wanted"), [(MIB / SLOW * 2, True), (MIB / SLOW / 2, False)])
def test_a_slow_link_is_one(seconds: float, wanted: bool) -> None:
    packing = Packing(Compress.AUTO)
    packing.came(MIB, MIB, seconds, packed=False)
    assert packing.wanted() is wanted


def test_the_rate_is_that_of_the_wire() -> None:
    packing = Packing(Compress.AUTO)
    packing.came(MIB, MIB, 1.0, packed=False)
    packing.came(1000 * MIB, MIB, 1.0, packed=True)
    assert packing.wanted(), "what is gained does not make the link a fast one"


def test_of_what_cannot_be_compressed_less_and_less_is_tried() -> None:
    packing = Packing(Compress.MAX)
    tried = 0
    for _ in range(1000):
        packed = packing.wanted()
        tried += packed
        packing.came(MIB, MIB, 1.0, packed=packed)
    assert 5 < tried < 12 + 1000 // SKIP_MAX
    while not packing.wanted():
        pass
    packing.came(MIB, MIB // 3, 1.0, packed=True)
    assert packing.wanted()


def test_whoever_refuses_is_not_asked_again() -> None:
    packing = Packing(Compress.MAX)
    packing.refused()
    assert not packing.wanted()


async def test_new_files_come_compressed(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    for number in range(100):
        (tmp_path / f"tree/{number}").write_bytes(text(number, 1500))
    (tmp_path / "tree/large").write_bytes(text(1, 200_000))
    size = sum(path.stat().st_size for path in (tmp_path / "tree").iterdir())
    received = {}
    async with served(tmp_path, tmp_path / "tree") as node:
        for compress in Compress:
            async with Client(tmp_path / compress) as client:
                copy = tmp_path / f"copy {compress}"
                done = await client.fetch(url(node), copy, share=False, compress=compress)
                assert_same_tree(node.tree, copy)
                received[compress] = done.received
    assert received[Compress.OFF] > size
    assert received[Compress.MAX] < 0.6 * size


async def test_a_file_that_cannot_be_compressed_costs_hardly_more(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/random").write_bytes(random.Random(1).randbytes(6 * MIB))
    async with served(tmp_path, tmp_path / "tree") as node, Client(tmp_path / "state") as client:
        done = await client.fetch(url(node), tmp_path / "copy", share=False, compress=Compress.MAX)
        assert_same_tree(node.tree, tmp_path / "copy")
    assert done.received < 1.01 * 6 * MIB
