"""curl against a node: an archive is an ordinary file tree to it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.node.wire_support import Served, program, run, served

CONTENT = os.urandom(3_000_000)
ODD = (b"a b", b"new\nline", b"\xff\xfe", b"100%", b"a?b#c", b"n" * 255)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Served]:
    tree = tmp_path / "tree"
    (tree / "dir").mkdir(parents=True)
    (tree / "big").write_bytes(CONTENT)
    os.utime(tree / "big", ns=(0, 1_600_000_000_123_456_789))
    (tree / "dir/link").symlink_to("../big")
    for name in ODD:
        (tree / "dir" / os.fsdecode(name)).write_bytes(name)
    async with served(tmp_path, tree) as made:
        yield made


async def curl(*arguments: str | Path) -> bytes:
    done = await run(program("curl", "curl"), "--silent", "--show-error", "--fail", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_a_file_by_its_path(node: Served) -> None:
    assert await curl(f"{node.url}/big") == CONTENT


async def test_a_range(node: Served) -> None:
    assert await curl("--range", "1000-1999", f"{node.url}/big") == CONTENT[1000:2000]
    assert await curl("--range", "-5", f"{node.url}/big") == CONTENT[-5:]


async def test_a_download_that_was_cut_is_resumed(node: Served, tmp_path: Path) -> None:
    part = tmp_path / "part"
    part.write_bytes(CONTENT[:1_234_567])
    await curl("--continue-at", "-", "--output", part, f"{node.url}/big")
    assert part.read_bytes() == CONTENT
    assert node.server.counters.bytes_sent == len(CONTENT) - 1_234_567


async def test_only_what_is_newer_is_sent(node: Served, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    await curl("--remote-time", "--output", copy, f"{node.url}/big")
    assert copy.stat().st_mtime == 1_600_000_000
    await curl("--time-cond", copy, "--output", tmp_path / "again", f"{node.url}/big")
    assert not (tmp_path / "again").exists() or not (tmp_path / "again").read_bytes()


async def test_an_entity_tag_saves_a_download(node: Served, tmp_path: Path) -> None:
    tag = tmp_path / "tag"
    await curl("--etag-save", tag, "--output", tmp_path / "x", f"{node.url}/big")
    await curl("--etag-compare", tag, "--output", tmp_path / "y", f"{node.url}/big")
    assert not (tmp_path / "y").exists() or not (tmp_path / "y").read_bytes()


async def test_head_requests(node: Served) -> None:
    head = await curl("--head", f"{node.url}/big")
    assert b"Content-Length: 3000000" in head
    assert b"Last-Modified: Sun, 13 Sep 2020 12:26:40 GMT" in head


@pytest.mark.parametrize("name", ODD)
async def test_odd_names(node: Served, name: bytes) -> None:
    encoded = "".join(f"%{byte:02x}" for byte in name)
    assert await curl("--path-as-is", f"{node.url}/dir/{encoded}") == name


async def test_links_are_followed_inside(node: Served) -> None:
    assert await curl("--location", f"{node.url}/dir/link") == CONTENT


async def test_a_listing(node: Served) -> None:
    page = await curl("--location", f"{node.url}/dir")
    assert b'href="./a%20b"' in page
    assert b'href="./%FF%FE"' in page


async def test_climbing_out_is_not_possible(node: Served) -> None:
    for path in ("../../../../etc/passwd", "dir/../../../state/node.key", "%2e%2e/%2e%2e/etc/passwd"):
        done = await run(program("curl", "curl"), "--silent", "--path-as-is", "--fail", f"{node.url}/{path}")
        assert done.returncode == 22
        assert done.stdout == b""


async def test_several_connections_at_once(node: Served, tmp_path: Path) -> None:
    targets: list[str | Path] = []
    for index in range(8):
        targets += ["--output", tmp_path / f"{index}", f"{node.url}/big"]
    await curl("--parallel", *targets)
    assert all((tmp_path / f"{index}").read_bytes() == CONTENT for index in range(8))
