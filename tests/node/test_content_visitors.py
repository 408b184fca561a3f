"""Pages of strangers, in the browser of somebody who can reach a node."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from tests.node.publishing import write
from tests.node.wire_support import Served, served

from p2psync.content.visitors import FOREIGN_NAME, FOREIGN_PAGE, Visitors
from p2psync.format.url import archive_text
from p2psync.sources import wire

HOME = "127.0.0.1"
HOSTS = "127.0.1.1 own.example own # this\n# 127.0.0.1 no.example\n192.0.2.1 far.example\n"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Served]:
    write(tmp_path / "tree/file", b"content")
    async with served(tmp_path, tmp_path / "tree") as made:
        yield made


async def ask(node: Served, method: str, path: str, **headers: str) -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"http://{node.address}{path}", headers=headers, data=b"\x90") as answer,
    ):
        return answer.status


async def test_a_page_whose_name_was_bound_to_this_machine_reads_nothing(node: Served) -> None:
    archive = archive_text(node.archive)
    digest = node.entry(b"file").digest
    for path in (
        "/",
        f"/{archive}/file",
        wire.INFO_PATH,
        wire.object_path(digest),
        wire.head_path(node.archive),
    ):
        assert await ask(node, "GET", path, Host="evil.example:8730") == 421
        assert await ask(node, "GET", path, Host=node.address) == 200
    assert await ask(node, "POST", wire.BATCH_PATH, Host="evil.example") == 421


@pytest.mark.parametrize("path", [wire.BATCH_PATH, wire.RECIPES_PATH, wire.HAVE_PATH, "holders", "head"])
async def test_a_page_cannot_nominate_holders_or_have_a_node_work(node: Served, path: str) -> None:
    """A browser sends such a request without asking, and keeps the answer to itself."""
    method = "PUT" if path == "head" else "POST"
    there = getattr(wire, f"{path}_path")(node.archive) if path in {"holders", "head"} else path
    for origin in ("https://evil.example", "null", f"http://{node.address}"):
        assert await ask(node, method, there, Origin=origin) == 403
    assert await ask(node, method, there) != 403


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.0.0.1:8730", "[::1]:8730", "[::1]", "192.0.2.1", "localhost:1", "LOCALHOST", "x"),
        *("a.localhost", "mirror.example.org", "Mirror.Example.org:80", "mirror.example.org.", "own.example"),
    ],
)
def test_names_of_this_machine(host: str, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text(
        "127.0.1.1 own.example own # this\n# 127.0.0.1 no.example\n192.0.2.1 far.example\n"
    )
    visitors = Visitors(["mirror.example.org"], tmp_path / "hosts")
    assert visitors.refusal(HOME, "GET", {"host": host}) is None


@pytest.mark.parametrize(
    "host",
    [
        *(
            "evil.example",
            "evil.example:8730",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "[evil.example]",
        ),
        *("mirror.example.org.evil.example", "no.example", "far.example", "1.2.3"),
    ],
)
def test_other_names(host: str, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text(
        "127.0.1.1 own.example own # this\n# 127.0.0.1 no.example\n192.0.2.1 far.example\n"
    )
    visitors = Visitors(["mirror.example.org"], tmp_path / "hosts")
    assert visitors.refusal(HOME, "GET", {"host": host}) is FOREIGN_NAME
    assert visitors.refusal("::1", "HEAD", {"host": host}) is FOREIGN_NAME
    assert visitors.refusal("192.0.2.9", "GET", {"host": host}) is None, "other machines call it as they like"


def test_what_no_browser_sends_is_no_page(tmp_path: Path) -> None:
    visitors = Visitors(hosts=tmp_path / "there is none")
    assert visitors.refusal(HOME, "POST", {}) is None
    assert visitors.refusal("192.0.2.9", "POST", {"origin": "https://evil.example"}) is FOREIGN_PAGE
