"""Told to use a proxy, everything goes by it, and nothing past it: control, bulk, small files; with what a
proxy says when it refuses.
"""

from __future__ import annotations

import ast
import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.e2e.harness import assert_same_tree
from tests.help.certificates import certificate_of
from tests.help.proxies import TestProxy, proxy_server
from tests.node.bulk_support import digest, node_bulk, web_bulk
from tests.node.wire_support import Served, served

import p2psync
from p2psync import ArchiveUrl, Client
from p2psync.errors import ConnectTimeout, NetworkError
from p2psync.network.dht import open_dht, start_dht
from p2psync.network.egress import egress_of, leaving_by
from p2psync.network.names import Dns
from p2psync.network.told import SOMEWHERE, teller_at
from p2psync.network.web_file import web_file
from p2psync.publish import publish
from p2psync.sources.node import PeerSource
from p2psync.sources.source import Span
from p2psync.state import State

CONTENT = bytes(range(256)) * 1200
NAME = "faraway"
"""A name that the proxy alone knows."""
CLOSED = "127.0.0.1:1"
REFUSED = b"HTTP/1.1 403 Not \x1b[31mhere\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Served]:
    (tmp_path / "t").mkdir()
    (tmp_path / "t/file").write_bytes(CONTENT)
    async with served(tmp_path, tmp_path / "t") as made:
        yield made


@pytest.fixture
def name(node: Served) -> str:
    return f"{NAME}:{node.address.rpartition(':')[2]}"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate of localhost, in one file."""
    return certificate_of("localhost", tmp_path_factory.mktemp("tls") / "both.pem")


def contexts(certificate: Path) -> ssl.SSLContext:
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    made.load_cert_chain(certificate)
    return made


async def taken_from(node: Served, name: str) -> None:
    """Take from the node what a fetch takes: by the control connections, and by the bulk thread."""
    source = PeerSource(name, connect_timeout=10)
    try:
        assert (await source.info()).key == node.identity.public_key
        answers = await asyncio.gather(*(source.have([bytes(32)]) for _ in range(20)))
        assert len(answers) == 20
    finally:
        await source.close()
    ref = node.entry(b"file").ref
    async with node_bulk(name) as asker:
        span = Span(ref.digest, 0, 1000)
        for answer in await asyncio.gather(
            *(asker.get(span, digests=[digest(CONTENT[:1000])]) for _ in range(9))
        ):
            assert asker.bytes_of(answer, [span]) == [CONTENT[:1000]]
        whole = Span(ref.digest, 0, len(CONTENT))
        assert asker.bytes_of(await asker.get(whole), [whole]) == [CONTENT]


@pytest.mark.parametrize("login", ["", "me:p@ss"])
@pytest.mark.parametrize("scheme", ["http", "socks5", "https"])
async def test_a_node_is_reached_by_a_proxy_that_looks_up_its_name(
    node: Served, name: str, scheme: str, login: str, certificate: Path
) -> None:
    tls = contexts(certificate) if scheme == "https" else None
    async with proxy_server(TestProxy({name: node.address}, login=login), tls) as proxy:
        url = proxy.url(scheme, login.replace("@", "%40"))
        with leaving_by(egress_of({}, proxy=url, ca_file=str(certificate))):
            await taken_from(node, name)
    assert set(proxy.asked) == {f"{'SOCKS5' if scheme == 'socks5' else 'CONNECT'} {name}"}


@pytest.mark.parametrize("login", ["", "me:p@ss"])
async def test_a_proxy_that_makes_no_tunnels_hands_requests_on(node: Served, name: str, login: str) -> None:
    """As most are set up for all ports but 443."""
    async with proxy_server(TestProxy({name: node.address}, connect=REFUSED, login=login)) as proxy:
        with leaving_by(egress_of({}, proxy=proxy.url(login=login.replace("@", "%40")))):
            await taken_from(node, name)
    kinds = [asked.split()[0] for asked in proxy.asked]
    assert kinds.count("CONNECT") <= 2, "it is not asked for a tunnel again and again"
    assert {"GET", "POST"} <= set(kinds)
    assert all(
        asked.split()[1].startswith(f"http://{name}/") for asked in proxy.asked if "CONNECT" not in asked
    )


@pytest.mark.parametrize("connect", [b"", REFUSED], ids=["tunnels", "hands on"])
async def test_a_proxy_that_cuts_long_answers_is_asked_for_shorter_ones(
    node: Served, name: str, tmp_path: Path, connect: bytes
) -> None:
    big = os.urandom(24 << 20)
    (node.tree / "big").write_bytes(big)
    publish(node.state, node.tree)
    async with (
        proxy_server(TestProxy({name: node.address}, connect, longest=200_000)) as proxy,
        Client(tmp_path / "reader", proxy=proxy.url()) as client,
    ):
        url = ArchiveUrl(node.archive)
        done = await client.fetch(url, tmp_path / "copy", sources=[name], share=False)
    assert done.complete
    assert 1 <= proxy.cuts <= 5, "4 MiB at most, 2 MiB, 1 MiB, 512 KiB, 256 KiB"
    assert (tmp_path / "copy/big").read_bytes() == big


@pytest.mark.parametrize("status", [403, 405, 501])
async def test_where_post_does_not_pass_batches_go_by_get(
    node: Served, name: str, tmp_path: Path, status: int
) -> None:
    for index in range(120):
        (node.tree / str(index)).write_bytes(os.urandom(1 + 300 * index))
    (node.tree / "middle").write_bytes(os.urandom(150_000))
    publish(node.state, node.tree)
    async with (
        proxy_server(TestProxy({name: node.address}, REFUSED, get_only=status)) as proxy,
        Client(tmp_path / "reader", proxy=proxy.url()) as client,
    ):
        url = ArchiveUrl(node.archive)
        done = await client.fetch(url, tmp_path / "copy", sources=[name], share=False)
    assert done.complete and not done.banned
    assert_same_tree(node.tree, tmp_path / "copy")
    posts = [asked for asked in proxy.asked if asked.startswith("POST")]
    assert 1 <= len(posts) <= 12, "it is not tried again and again"


@pytest.mark.parametrize("scheme", ["http", "socks5", "https"])
async def test_a_web_server_with_tls_is_reached_by_a_tunnel(scheme: str, certificate: Path) -> None:
    """And TLS is with the server: its certificate is checked, as its name is given to the proxy."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.FileResponse(certificate.parent / "content")

    (certificate.parent / "content").write_bytes(CONTENT)
    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=contexts(certificate))
    await site.start()
    port = runner.addresses[0][1]
    tls = contexts(certificate) if scheme == "https" else None
    try:
        async with proxy_server(TestProxy({f"localhost:{port}": f"127.0.0.1:{port}"}), tls) as proxy:
            with leaving_by(egress_of({}, proxy=proxy.url(scheme), ca_file=str(certificate))):
                url = f"https://localhost:{port}/"
                assert await web_file(url, 10 * len(CONTENT), seconds=20) == CONTENT
                async with web_bulk(url) as asker:
                    span = Span(bytes(32), 0, len(CONTENT), b"file", len(CONTENT))
                    assert asker.bytes_of(await asker.get(span), [span]) == [CONTENT]
            with leaving_by(egress_of({}, proxy=proxy.url("http"))), pytest.raises(NetworkError):
                await web_file(url, 100, seconds=20)
            assert {asked.split()[1] for asked in proxy.asked} == {f"localhost:{port}"}
    finally:
        await runner.cleanup()


async def _info(name: str) -> None:
    source = PeerSource(name, connect_timeout=1)
    try:
        await source.info()
    finally:
        await source.close()


async def _bulk(name: str) -> None:
    async with node_bulk(name, connect_timeout=1) as asker:
        answer = await asker.get(Span(bytes(32), 0, 10))
        assert answer.error is not None
        raise answer.error


async def _small_file(name: str) -> None:
    await web_file(f"http://{name}/", 100, seconds=2)


WAYS = pytest.mark.parametrize("ask", [_info, _bulk, _small_file])
Ask = Callable[[str], Awaitable[None]]


@WAYS
@pytest.mark.parametrize("scheme", ["http", "https", "socks5"])
async def test_where_the_proxy_is_down_nothing_goes_past_it(node: Served, ask: Ask, scheme: str) -> None:
    with (
        leaving_by(egress_of({}, proxy=f"{scheme}://{CLOSED}")),
        pytest.raises(NetworkError, match=rf"the proxy \w+://{CLOSED} cannot be used: Connection refused"),
    ):
        await ask(node.address)
    assert node.server.connections == 0


@WAYS
@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_a_proxy_that_is_silent_is_given_up(node: Served, ask: Ask, scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        way = egress_of({}, proxy=f"{scheme}://127.0.0.1:{silent.getsockname()[1]}")
        with (
            leaving_by(way),
            pytest.raises(NetworkError, match=r"no connection by the proxy|did not answer") as error,
        ):
            await ask(node.address)
    assert isinstance(error.value, ConnectTimeout) or ask is _small_file
    assert node.server.connections == 0


@WAYS
@pytest.mark.parametrize(
    ("answer", "login", "words"),
    [
        (b"HTTP/1.1 407 Login\r\n\r\n", "", "wants a name and a password; write them into its URL"),
        (
            b"HTTP/1.1 407 Login\r\nproxy-authenticate: basic realm=x\r\n\r\n",
            "me:no@",
            "does not take the name",
        ),
        (
            b"HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM\r\n\r\n",
            "me:no@",
            "login by ntlm, which is not spoken",
        ),
        (b"HTTP/1.1 502 Bad\x1b[2J gate\r\n\r\n", "", r"does not connect to .*: it answers '502 Bad\\\\#033"),
        (
            b"HTTP/1.1 502 " + b"x" * 5000 + b"\r\n\r\n",
            "",
            r"it answers '502 x{115}'$|it answers '502 x{120}'$",
        ),
        (b"SSH-2.0-x\r\n\r\n", "", "is not HTTP/1.1; check that it is an HTTP proxy"),
        (b"HTTP/1.1 200 OK\r\n\r\nmore", "", "sent something that was not asked for"),
        (b"x" * 100_000, "", "cannot be used: answered with a head of more than"),
    ],
)
async def test_a_proxy_that_refuses_is_quoted(
    node: Served, ask: Ask, answer: bytes, login: str, words: str
) -> None:
    async with proxy_server(TestProxy(connect=answer)) as proxy:
        way = egress_of({}, proxy=f"http://{login}{proxy.address}")
        with leaving_by(way), pytest.raises(NetworkError, match=words) as error:
            await ask(node.address)
    assert "me:no" not in str(error.value)
    assert str(error.value).isprintable()
    assert node.server.connections == 0


@WAYS
async def test_what_a_socks_proxy_refuses_is_said(node: Served, ask: Ask) -> None:
    async with proxy_server(TestProxy(connect=b"no")) as proxy:
        with (
            leaving_by(egress_of({}, proxy=proxy.url("socks5"))),
            pytest.raises(NetworkError, match=r"does not connect to .*: Connection not allowed by ruleset"),
        ):
            await ask(node.address)
    async with proxy_server(TestProxy(login="me:secret")) as proxy:
        way = egress_of({}, proxy=proxy.url("socks5", "me:other"))
        with leaving_by(way), pytest.raises(NetworkError, match="authentication failure"):
            await ask(node.address)
    assert node.server.connections == 0


@WAYS
@pytest.mark.parametrize(
    "answer", [b"\x05", b"\x05\xff", b"\x04\x00", b"\x05\x02", b"\x05\x00" * 200, b"HTTP/1.1 400\r\n\r\n"]
)
async def test_nonsense_of_a_socks_proxy_is_an_error(node: Served, ask: Ask, answer: bytes) -> None:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        way = egress_of({}, proxy=f"socks5://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        with leaving_by(way), pytest.raises(NetworkError, match="the proxy"):
            await ask(node.address)


async def test_hosts_that_need_no_proxy_are_dialled_directly(node: Served) -> None:
    with leaving_by(egress_of({}, proxy=f"http://{CLOSED}", no_proxy="127.0.0.0/8")):
        await taken_from(node, node.address)


async def test_no_name_is_looked_up_where_a_proxy_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    real = socket.getaddrinfo

    def look_up(host: Any, *args: Any, **options: Any) -> Any:
        if host not in ("127.0.0.1", b"127.0.0.1"):
            asked.append(host)
        return real(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with leaving_by(egress_of({}, proxy=f"http://{CLOSED}")):
        for ask in (_info, _bulk, _small_file):
            with pytest.raises(NetworkError):
                await ask("secret.test:80")
        assert await teller_at("secret.test:80") == SOMEWHERE
        with pytest.raises(NetworkError, match=r"since the proxy .* is used"):
            await Dns(None, 1.0).txt("_p2psync.secret.test", 1)
    assert asked == []


async def test_udp_is_not_used_unless_it_is_asked_for(tmp_path: Path) -> None:
    by_proxy = egress_of({}, proxy=f"http://{CLOSED}")
    with State.open(tmp_path / "state") as state:
        with leaving_by(by_proxy), pytest.raises(NetworkError, match="carries none"):
            async with open_dht(state, host="127.0.0.1"):
                pass
        with leaving_by(egress_of({}, proxy=f"http://{CLOSED}", udp=True)):
            async with open_dht(state, host="127.0.0.1"):
                pass


async def test_a_node_that_may_not_use_udp_meets_nobody_and_forgets_nobody(tmp_path: Path) -> None:
    with State.open(tmp_path / "state") as state:
        state.contacts_path.write_bytes(b"those that it met before")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("127.0.0.1", 0))
            other.setblocking(False)
            at = f"127.0.0.1:{other.getsockname()[1]}"
            with leaving_by(egress_of({}, proxy=f"http://{CLOSED}")):
                async with start_dht(state, bootstrap=[at], peers=[at], server=True) as entry:
                    await entry.entered()
                    assert entry.node.address[0] == "127.0.0.1"
                    assert not entry.node.is_server
            with pytest.raises(BlockingIOError):
                other.recv(1)
        assert state.contacts_path.read_bytes() == b"those that it met before"


DIALS = {
    "open_connection",
    "create_connection",
    "create_datagram_endpoint",
    "getaddrinfo",
    "ClientSession",
    "urlopen",
}
"""What reaches others, or asks a resolver."""
KNOWN = {
    "network/connect.py": {"getaddrinfo"},
    "network/dial.py": {"getaddrinfo"},
    "network/resolve.py": {"getaddrinfo"},
    # On what is connected already.
    "sources/http/pool.py": {"create_connection"},
    # Names for UDP, which is not used by proxies.
    "network/dht.py": {"getaddrinfo"},
    "cli/dht/ping.py": {"getaddrinfo"},
    # The name that this machine was told to listen at.
    "daemon/place.py": {"getaddrinfo"},
    # Names where no proxy is used, and what is connected already.
    "doctor/ways.py": {"getaddrinfo", "open_connection"},
}


def test_nothing_else_in_the_program_dials() -> None:
    """A connection that is made elsewhere would go past the proxy."""
    root = Path(p2psync.__file__).parent
    found: dict[str, set[str]] = {}
    for file in root.rglob("*.py"):
        names = {
            node.attr for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Attribute)
        }
        if names & DIALS:
            found[str(file.relative_to(root))] = names & DIALS
    assert found == KNOWN
