"""Each way to an archive, open and closed: what is said of it, and that no server can hold it up."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from email.utils import formatdate
from pathlib import Path

import pytest
from aiohttp import web
from tests.e2e.harness import Network, make_tree
from tests.help.rsyncd import rsync_daemon
from tests.node.seeds_servers import web_server

from p2psync.content.library import StateLibrary
from p2psync.content.server import ContentServer
from p2psync.doctor import ways
from p2psync.doctor.check import Check
from p2psync.negotiate.origin import parse_origin
from p2psync.negotiate.pins import FOLDER
from p2psync.network.proxy import Proxy
from p2psync.network.server import Server
from p2psync.state import State
from p2psync_dht import DhtNode, Identity

NOW = 1_800_000_000
CLOSED = "127.0.0.1:1"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways, "SECONDS", 1.0)


def failed(check: Check, words: str) -> bool:
    """Whether it failed, says why, and says what helps."""
    return check.ok is False and words in check.detail and bool(check.remedy)


@contextlib.asynccontextmanager
async def speaking(words: bytes) -> AsyncIterator[str]:
    """A server that says something once it has been asked, or at once, and then nothing; its HOST:PORT."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            writer.write(words)
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()[:2]
        yield f"{host}:{port}"


async def test_a_name_has_addresses_or_not() -> None:
    assert (await ways.dns("localhost")).ok
    assert failed(await ways.dns("nobody.invalid"), "no address")
    assert failed(await ways.dns("a" * 300 + ".invalid"), "no address")


async def test_udp_reaches_a_node_or_nobody() -> None:
    servers = [
        await DhtNode.start(Identity.generate(), "127.0.0.1", 0, server=server) for server in (True, False)
    ]
    node, asking = servers
    async with node, asking:
        host, port = node.address
        assert (await ways.udp(asking, f"{host}:{port}")).ok
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute:
            mute.bind(("127.0.0.1", 0))
            silent = f"127.0.0.1:{mute.getsockname()[1]}"
            assert failed(await ways.udp(asking, silent), "no ")
        assert failed(await ways.udp(asking, "nobody.invalid:1"), "no address")


async def test_tcp_reaches_a_node_that_has_the_archive_or_another_or_somebody_else(tmp_path: Path) -> None:
    with State.open(tmp_path / "state") as state:
        library = StateLibrary(state)
        server = await ContentServer.start(library, "127.0.0.1", 0, node_key=state.identity().public_key)
        address = f"{server.address[0]}:{server.address[1]}"
        assert (await ways.tcp(address, None)).detail == "a node answers"
        other = await ways.tcp(address, bytes(32))
        assert other.ok
        assert "does not list" in other.detail
        await server.close()
        library.close()
    assert failed(await ways.tcp(CLOSED, None), "")
    async with speaking(b"") as silent, speaking(b"SSH-2.0-x\r\n") as foreign:
        assert failed(await ways.tcp(silent, None), "")
        assert failed(await ways.tcp(foreign, None), "")


async def test_a_gateway_asks_the_dht_for_others_or_not_and_tells_the_time() -> None:
    for status, ok in ((200, True), (204, True), (404, None), (503, None)):

        async def answer(_: web.Request, status: int = status) -> web.StreamResponse:
            return web.Response(status=status, headers={"Date": formatdate(NOW, usegmt=True)})

        async with web_server(answer) as url:
            check = await ways.gateway(Server.node(f"{url}/"))
        assert (check.ok, check.told) == (ok, NOW)
    assert failed(await ways.gateway(Server.node(CLOSED)), "Connection refused")
    async with speaking(b"") as silent, speaking(b"SSH-2.0-x\r\n\r\n") as foreign:
        assert failed(await ways.gateway(Server.node(silent)), "no answer")
        assert failed(await ways.gateway(Server.node(foreign)), "")


@pytest.mark.parametrize(("apart", "ok"), [(0, True), (-599, True), (601, False), (-86400, False)])
async def test_a_web_server_tells_the_time(apart: int, ok: bool) -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=404, headers={"Date": formatdate(NOW + apart, usegmt=True)})

    async with web_server(answer) as url:
        check = await ways.web(f"{url}/")
    assert check.ok
    assert check.told == NOW + apart
    clock = ways.clock(check.told, NOW, check.target, 600)
    assert clock.ok == ok
    assert ok or f"{abs(apart)} seconds {'behind' if apart > 0 else 'ahead'}" in clock.detail
    assert ways.clock(None, NOW, "", 600).ok is None


async def test_a_web_server_that_is_silent_or_tells_nonsense_is_no_clock() -> None:
    async with speaking(b"") as silent:
        assert failed(await ways.web(f"http://{silent}/"), "no answer in 1 seconds")
    for date in (b"yesterday", b"Fri, 99 Dec 99999999999 00:00:00 GMT", b"x" * 4000):
        async with speaking(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nDate: " + date + b"\r\n\r\n") as odd:
            check = await ways.web(f"http://{odd}/")
        assert check.ok
        assert check.told is None
    assert failed(await ways.web(f"http://{CLOSED}/"), "")


async def test_an_rsync_daemon_greets_or_is_another_one_or_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with rsync_daemon(tmp_path / "rsyncd", {"pub": tmp_path}) as rsyncd:
        origin = parse_origin(rsyncd.url("pub"))
        assert (await ways.rsync_daemon(origin)).ok
        monkeypatch.setenv("PATH", str(tmp_path))
        assert failed(await ways.rsync_daemon(origin), "not installed")
    async with (
        speaking(b"SSH-2.0-x\r\n") as foreign,
        speaking(b"") as silent,
        speaking(b"x" * 10_000) as long,
    ):
        for address, words in (
            (foreign, "no rsync daemon"),
            (silent, "no answer"),
            (long, "silent"),
            (CLOSED, "connect"),
        ):
            assert failed(await ways.rsync_daemon(parse_origin(f"rsync://{address}/pub")), words)


@pytest.mark.parametrize(
    ("answer", "ok", "words"),
    [
        (b"HTTP/1.1 200 Connection established\r\n\r\n", True, "connects to h:443"),
        (b"HTTP/1.0 200 OK\r\n\r\n", True, "connects"),
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", False, "name and password"),
        (
            b"HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM\r\nProxy-Authenticate: Negotiate\r\n\r\n",
            False,
            "ntlm",
        ),
        (b"HTTP/1.1 403 Not \x1b[2Jyou\r\n\r\n", False, "does not connect to h:443: it answers '403 Not"),
        (b"\x05\x00\r\n\r\n", False, "not HTTP/1.1"),
        (b"x" * 100_000, False, "cannot be used"),
        (b"", False, "no answer in 1 seconds"),
    ],
)
async def test_a_proxy_lets_through_or_says_why_not(answer: bytes, ok: bool, words: str) -> None:
    async with speaking(answer) as address:
        for value in (address, f"http://{address}/", f"http://me:p%40ss@{address}"):
            check = await ways.proxy(Proxy.parse(value), Server("h", 443, True, "h:443"))
            assert check.ok == ok
            assert words.replace("name and password", "password") in check.detail
            assert check.detail.isprintable()
            assert ok or check.remedy


def test_the_command_says_what_works_and_what_does_not_and_keeps_nothing(tmp_path: Path) -> None:
    with Network(tmp_path) as net:
        tree = make_tree(tmp_path / "tree", files=3)
        url = net.publish(tree, state="origin").partition("?")[0]
        node = net.node("origin")
        (tmp_path / "pub").mkdir()
        with rsync_daemon(
            tmp_path / "rsyncd", {"pub": tmp_path / "pub"}, comment=f"{url}?peer={node.address}"
        ) as rsyncd:
            done = net.run("doctor", rsyncd.url("pub"), state="reader")
            by_proxy = net.run("doctor", rsyncd.url("pub"), state="reader", https_proxy=CLOSED, expect=10)
        checks = {
            (each["way"], each["target"]): each["ok"] for each in done.events if each["event"] == "check"
        }
        assert checks["rsync", rsyncd.address]
        assert checks["tcp", node.address] and checks["udp", node.address] and checks["dht", ""]
        assert checks["archive", url]
        assert done.events[-1]["ok"]
        proxied = {each["way"]: each["ok"] for each in by_proxy.events if each["event"] == "check"}
        assert proxied["proxy"] is False and proxied["rsync"] is False and proxied["udp"] is None
        assert "cannot be used: Connection refused" in by_proxy.stderr + str(by_proxy.events)
        assert not (net.state("reader") / FOLDER).exists()
        node.stop()
        lost = net.run("doctor", url, "--source", node.address, state="reader", expect=10)
        assert "was not reached" in lost.stderr
        assert {"tcp", "dht"} <= set(lost.events[-2]["fails"])
