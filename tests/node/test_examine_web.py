"""One check of a web server that has the tree: who passes, who is behind, and who has nothing of it."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from tests.node.file_server import Reply, file_server
from tests.node.publishing import OLD, write

from p2psync.checks import Result, Verdict
from p2psync.daemon import examine_web as examining
from p2psync.daemon.examine_web import examine_web, web_key
from p2psync.daemon.samples import Samples, draw
from p2psync.format.head import ArchiveHead
from p2psync.publish import publish
from p2psync.state import State

RANDOM = random.Random(11)


@pytest.fixture
def published(state: State, tree: Path) -> tuple[ArchiveHead, Samples]:
    for number in range(30):
        write(tree / f"d{number % 3}" / f"odd name?#%{number}", RANDOM.randbytes(3000))
    write(tree / "large", RANDOM.randbytes(900_000))
    return newest(state, tree)


def newest(state: State, tree: Path) -> tuple[ArchiveHead, Samples]:
    head = state.heads.newest(publish(state, tree).archive)
    assert head is not None
    samples = draw(state, head.snapshot, random.Random(1))
    assert samples is not None
    return head, samples


async def check(url: str, published: tuple[ArchiveHead, Samples]) -> Result:
    return await examine_web(url, *published, random.Random(2))


async def test_a_server_of_the_tree_passes(tree: Path, published: tuple[ArchiveHead, Samples]) -> None:
    with file_server(tree) as server:
        result = await check(server.url, published)
    assert (result.verdict, result.complete, result.behind, result.seq) == (Verdict.RIGHT, True, False, 1)
    assert result.asked == result.came == 8 and result.rate > 0


async def test_one_that_ignores_range_passes_too(tree: Path, published: tuple[ArchiveHead, Samples]) -> None:
    def whole(reply: Reply) -> None:
        if reply.status == 206:
            reply.status, reply.body = 200, reply.whole
            reply.headers.pop("Content-Range", None)
            reply.headers["Content-Length"] = str(len(reply.whole))

    with file_server(tree, whole) as server:
        result = await check(server.url, published)
    assert (result.verdict, result.complete) == (Verdict.RIGHT, True)


async def test_one_that_lacks_what_is_new_is_behind(
    tmp_path: Path, state: State, tree: Path, published: tuple[ArchiveHead, Samples]
) -> None:
    shutil.copytree(tree, tmp_path / "old")
    for number in range(0, 30, 2):
        write(tree / f"d{number % 3}" / f"odd name?#%{number}", RANDOM.randbytes(3000), OLD + 1)
    with file_server(tmp_path / "old") as server:
        result = await check(server.url, newest(state, tree))
    assert (result.verdict, result.complete, result.behind) == (Verdict.RIGHT, False, True)
    assert 0 < result.came < result.asked


async def test_one_that_has_other_files_or_none_or_is_a_portal_has_nothing_of_it(
    tmp_path: Path, tree: Path, published: tuple[ArchiveHead, Samples]
) -> None:
    def portal(reply: Reply) -> None:
        reply.status, reply.body = 200, b"<html>log in</html>"
        reply.headers = {"Content-Type": "text/html", "Content-Length": str(len(reply.body))}

    (tmp_path / "empty").mkdir()
    for root, twist in ((tmp_path / "empty", None), (tree, portal)):
        with file_server(root, twist) as server:
            result = await check(server.url, published)
        assert result.verdict == Verdict.FAILED
        assert "has nothing of the newest snapshot" in result.reason


async def test_one_that_is_gone_or_takes_for_ever_has_failed(
    tree: Path, published: tuple[ArchiveHead, Samples], monkeypatch: pytest.MonkeyPatch
) -> None:
    with file_server(tree) as server:
        gone = server.url
    assert (await check(gone, published)).verdict == Verdict.FAILED
    monkeypatch.setattr(examining, "TIMEOUT", 0.0)
    with file_server(tree) as server:
        result = await check(server.url, published)
    assert result.verdict == Verdict.FAILED and "took more than" in result.reason


def test_servers_are_told_apart_by_their_urls() -> None:
    keys = {web_key(url) for url in ("https://a.example/", "https://a.example/b/", "http://a.example/")}
    assert len(keys) == 3 and {len(key) for key in keys} == {32}
