"""Who names the archive of a place: heads in a web tree, .well-known, DNS, an rsync server's words; and
servers that misbehave.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from tests.help.rsyncd import rsync_daemon
from tests.node.seeds_servers import Zone, dns_server, txt, web_server

from p2psync.errors import OriginChanged
from p2psync.format.head import sign_head
from p2psync.format.ids import Ref
from p2psync.format.url import archive_text
from p2psync.negotiate import rsync
from p2psync.negotiate.find import Search, find
from p2psync.negotiate.origin import parse_origin
from p2psync.negotiate.pins import Pins
from p2psync_dht import Identity

NOW = 1_800_000_000
KEYS = [Identity.from_seed(bytes([number]) * 32) for number in range(3)]
URLS = [f"p2psync://{archive_text(key.public_key)}" for key in KEYS]


def head(number: int) -> bytes:
    archive = KEYS[number].public_key
    return sign_head(
        KEYS[number],
        archive,
        epoch=0,
        seq=1,
        snapshot=Ref(10, bytes(32)),
        signed_at=NOW,
        fresh_until=NOW + 1000,
    ).raw


async def look(text: str, state: Path, dns: str = "127.0.0.1:1") -> Search:
    return await find(parse_origin(text), state, now=NOW, dns=dns)


def files(contents: dict[str, bytes]) -> contextlib.AbstractAsyncContextManager[str]:
    """A web server with these files."""

    async def answer(request: web.Request) -> web.StreamResponse:
        raw = contents.get(request.path)
        return web.Response(status=404) if raw is None else web.Response(body=raw)

    return web_server(answer)


# The web.


async def test_the_head_in_a_web_tree_names_the_archive_and_the_tree_is_a_web_mirror(tmp_path: Path) -> None:
    async with files({"/pub/a b/p2psync/head": head(0)}) as server:
        for path, part in (("/pub/a%20b", ""), ("/pub/a%20b/c", "/c"), ("/pub/a%20b/c/d/", "/c/d/")):
            found = (await look(server + path, tmp_path)).found
            assert found is not None
            assert str(found.url) == f"{URLS[0]}{part}?web={server}/pub/a%2520b"
        assert (await look(f"{server}/pub", tmp_path)).found is None


async def test_the_head_nearest_to_the_path_counts_and_hidden_ones_do_too(tmp_path: Path) -> None:
    async with files({"/p2psync/head": head(0), "/sub/.p2psync/head": head(1)}) as server:
        found = (await look(f"{server}/sub/x", tmp_path / "one")).found
        assert found is not None
        assert found.url.archive == KEYS[1].public_key
        other = (await look(f"{server}/x", tmp_path / "two")).found
        assert other is not None
        assert other.url.archive == KEYS[0].public_key


async def test_a_damaged_head_is_passed_over_for_what_the_host_says(tmp_path: Path) -> None:
    raw = bytearray(head(0))
    raw[-1] ^= 1
    mapping = f"/pub {URLS[1]}/part?peer=192.0.2.1:1\n".encode()
    async with files({"/pub/p2psync/head": bytes(raw), "/.well-known/p2psync": mapping}) as server:
        search = await look(f"{server}/pub/x/", tmp_path)
        assert search.found is not None
        assert str(search.found.url) == f"{URLS[1]}/part/x/?peer=192.0.2.1:1"
        assert "did not sign" in "; ".join(search.asked)


async def test_a_server_that_answers_everything_with_a_page_or_without_an_end_names_nothing(
    tmp_path: Path,
) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b"<html>" * 1000)
        return response

    async def page(_: web.Request) -> web.StreamResponse:
        return web.Response(text="<html>log in</html>")

    for answer in (endless, page):
        async with web_server(answer) as server:
            search = await look(f"{server}/pub", tmp_path)
        assert search.found is None


# DNS.


async def test_a_txt_record_names_the_archive_of_a_host(tmp_path: Path) -> None:
    zone = Zone(
        {
            ("_p2psync.h.example", "TXT"): [
                txt([f"/pub/x {URLS[1]}"]),
                txt(["v=other", URLS[0][:20]]),
                txt([URLS[0][:30], URLS[0][30:]]),
            ]
        }
    )
    async with dns_server(zone) as server:
        found = (await look("h.example", tmp_path, server)).found
        assert found is not None
        assert str(found.url) == URLS[0]
        assert "DNS TXT" in found.how


async def test_an_archive_by_dns_is_held_to_as_well(tmp_path: Path) -> None:
    zone = Zone({("_p2psync.h.example", "TXT"): [txt([URLS[0]])]})
    async with dns_server(zone) as server:
        await look("h.example", tmp_path, server)
        zone.records["_p2psync.h.example", "TXT"] = [txt([URLS[1]])]
        with pytest.raises(OriginChanged):
            await look("h.example", tmp_path, server)
        zone.raw = b"\xff" * 40
        search = await look("h.example", tmp_path, server)
        assert search.found is not None
        assert search.found.url.archive == KEYS[0].public_key
        assert "any more" in search.warnings[0]


# rsync servers.


@pytest.mark.parametrize(
    ("comment", "motd", "modules", "named"),
    [
        (f"the archive {URLS[0]}?peer=192.0.2.1:1 by P2P", None, ["pub", "other"], 0),
        (f"\x1b[31m{URLS[0]}\x1b[0m", None, ["pub"], None),
        (f"{URLS[0]} {URLS[1]}", None, ["pub"], None),
        ("", f"Welcome\n {URLS[0]}.\n", ["pub"], 0),
        ("", f"Welcome\n {URLS[0]}.\n", ["pub", "other"], None),
        ("", f"/pub is {URLS[1]}\n/pub {URLS[0]}\n/other {URLS[2]}", ["pub", "other"], 0),
        (URLS[0], f"/pub {URLS[1]}", ["pub"], 0),
        ("none", "p2psync://", ["pub"], None),
    ],
)
async def test_the_comment_of_a_module_or_the_message_of_the_day_names_the_archive(
    tmp_path: Path, comment: str, motd: str | None, modules: list[str], named: int | None
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    with rsync_daemon(
        tmp_path / "rsyncd", dict.fromkeys(modules, tree), comment=comment, motd=motd
    ) as rsyncd:
        search = await look(rsyncd.url("pub/x"), tmp_path / "state")
    if named is None:
        assert search.found is None
    else:
        assert search.found is not None
        assert search.found.url.archive == KEYS[named].public_key
        assert search.found.url.path == b"x"
    assert bool(search.warnings) == (motd is not None and motd.startswith("Welcome") and len(modules) > 1)


async def test_a_head_in_the_module_is_asked_for_in_one_connection_however_deep(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "a/b/.p2psync").mkdir(parents=True)
    (tree / "p2psync").mkdir()
    (tree / "p2psync/head").write_bytes(head(0))
    (tree / "a/b/.p2psync/head").write_bytes(head(1))
    with rsync_daemon(tmp_path / "rsyncd", {"pub": tree}) as rsyncd:
        found = (await look(rsyncd.url("pub/a/b/c/d/"), tmp_path / "state")).found
        assert found is not None
        assert (found.url.archive, found.url.path, found.url.inside) == (KEYS[1].public_key, b"c/d", True)
        assert rsyncd.connections == 1
        pattern = await look(rsyncd.url("pub/a/*"), tmp_path / "other")
        assert pattern.found is None


async def test_nothing_is_remembered_of_a_server_that_did_not_answer(tmp_path: Path) -> None:
    with rsync_daemon(tmp_path / "rsyncd", {"pub": tmp_path}) as rsyncd:
        pass
    for url in (rsyncd.url("pub"),):
        search = await look(url, tmp_path / "state")
        assert search.found is None
        assert not search.answered
        assert not Pins(tmp_path / "state").rests(parse_origin(url), NOW)


@contextlib.asynccontextmanager
async def speaking(first: bytes, then: bytes) -> AsyncIterator[str]:
    """A server that says something to whoever connects, and then something else without an end, or nothing;
    its HOST:PORT.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            writer.write(first)
            while then:
                writer.write(then)
                await writer.drain()
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()[:2]
        yield f"{host}:{port}"


async def test_a_message_of_the_day_without_an_end_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rsync, "ALL_SECONDS", 2.0)
    greeting = b"@RSYNCD: 31.0 sha512 sha256 sha1 md5 md4\n"
    async with speaking(
        greeting + f"/pub {URLS[0]}\n".encode(), b"and so on, and so forth\n" * 100
    ) as address:
        search = await look(f"rsync://{address}/pub", tmp_path)
    assert not search.answered
    assert search.found is not None
    assert search.found.url.archive == KEYS[0].public_key


async def test_a_server_that_says_nothing_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rsync, "ALL_SECONDS", 1.0)
    async with speaking(b"", b"") as address:
        search = await look(f"rsync://{address}/pub", tmp_path)
    assert search.found is None
    assert "did not come to an end" in search.asked[0]


async def test_a_child_that_writes_without_an_end_is_stopped_with_its_children() -> None:
    for words in ("yes", "yes >&2", "yes >&2 & yes", "yes & exec sleep 1000"):
        ran = await rsync.run(["/bin/sh", "-c", words], 60.0)
        assert len(ran.out) <= 1 << 16
        assert ran.code < 0


async def test_a_file_that_grows_without_an_end_is_cut_off(tmp_path: Path) -> None:
    made = tmp_path / "made"
    ran = await rsync.run([*rsync.LIMITED, "/bin/sh", "-c", f"exec yes > {made}"], 60.0)
    assert ran.code
    assert made.stat().st_size <= 1 << 17
