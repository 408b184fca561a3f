"""A node that serves within TLS: the same bytes and limits, its key proved as ever, and certificates that
change.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.e2e.harness import Network, assert_same_tree, make_tree
from tests.help.certificates import certificate_of
from tests.node.bulk_support import Asker, digest
from tests.node.wire_support import Served, served

from p2psync.content import tls_door
from p2psync.content.tls_door import Certificate
from p2psync.errors import NetworkError, UsageError
from p2psync.network.egress import egress_of, leaving_by
from p2psync.sources.http.bulk import BulkThread
from p2psync.sources.opening import SourceSettings, open_source
from p2psync.sources.source import Span

BIG = os.urandom(1 << 20)
SMALL = [os.urandom(1 + index * 50) for index in range(60)]


@dataclass
class World:
    node: Served
    file: Path
    certificate: Certificate
    url: str

    def trusted(self) -> SourceSettings:
        return SourceSettings(memoryview(bytearray(4 << 20)))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    (tmp_path / "t").mkdir()
    (tmp_path / "t/big").write_bytes(BIG)
    for index, data in enumerate(SMALL):
        (tmp_path / f"t/{index}").write_bytes(data)
    file = certificate_of("localhost", tmp_path / "both.pem")
    certificate = Certificate.load(str(file), str(file))
    async with served(tmp_path, tmp_path / "t", per_address=8) as node:
        _, port = await node.server.open_tls("127.0.0.1", 0, certificate.context)
        with leaving_by(egress_of({}, ca_file=str(file))):
            yield World(node, file, certificate, f"https://localhost:{port}/")


async def test_a_node_behind_a_url_is_a_node_with_all_that_it_can(world: World) -> None:
    memory = bytearray(4 << 20)
    source = open_source(world.url, SourceSettings(memoryview(memory)))
    try:
        assert source.tracker is None, "until it has said what it is"
        assert await source.heads.head(world.node.archive) is not None
        assert source.tracker is not None
        assert (await source.tracker.info()).key == world.node.identity.public_key
        assert await source.tracker.holders(world.node.archive) == []
        assert source.metadata is not None
        content = source.content
        assert isinstance(content, BulkThread) and not content.by_path
        asker = Asker(content, memory)
        spans = [
            Span(world.node.entry(b"%d" % index).digest, 0, len(data)) for index, data in enumerate(SMALL)
        ]
        answer = await asker.get(*spans, digests=[digest(data) for data in SMALL])
        assert asker.bytes_of(answer, spans) == SMALL
        whole = Span(world.node.entry(b"big").ref.digest, 0, len(BIG))
        assert asker.bytes_of(await asker.get(whole), [whole]) == [BIG]
        assert source.received > len(BIG)
    finally:
        await source.close()


async def test_a_name_that_the_certificate_does_not_have_is_refused(world: World) -> None:
    source = open_source(world.url.replace("localhost", "127.0.0.1"), world.trusted())
    try:
        with pytest.raises(NetworkError, match="TLS failed"):
            await source.heads.head(world.node.archive)
    finally:
        await source.close()


async def test_connections_count_before_their_handshake(world: World) -> None:
    """Who connects and says nothing takes his own places, and no more."""
    port = int(world.url.rstrip("/").rpartition(":")[2])
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(12)]
    try:
        await until_async(lambda: world.node.server.connections_refused == 4)
        assert world.node.server.connections == 8
    finally:
        for each in silent:
            each.close()
    await until_async(lambda: world.node.server.connections == 0)


async def test_who_makes_no_handshake_is_cut_off(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls_door, "HANDSHAKE_TIMEOUT", 0.2)
    port = int(world.url.rstrip("/").rpartition(":")[2])
    for words in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01"):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(words)
        with contextlib.suppress(ConnectionError):
            await reader.read()  # To the end of the connection, perhaps with an alert of TLS before.
        writer.close()
    await until_async(lambda: world.node.server.connections == 0)


async def until_async(happened: object) -> None:
    assert callable(happened)
    async with asyncio.timeout(60):
        while not happened():  # noqa: ASYNC110 - counting sets no event
            await asyncio.sleep(0.005)


def shown(url: str) -> bytes:
    """The certificate that a server shows."""
    host, _, port = url.removeprefix("https://").rstrip("/").partition(":")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((host, int(port))) as plain, context.wrap_socket(plain) as made:
        raw = made.getpeercert(binary_form=True)
    assert raw is not None
    return raw


async def test_a_certificate_that_is_replaced_is_used_for_new_connections(
    world: World, tmp_path: Path
) -> None:
    before = await asyncio.to_thread(shown, world.url)
    assert not world.certificate.refresh()
    other = certificate_of("localhost", tmp_path / "other.pem")
    other.replace(world.file)
    assert world.certificate.refresh()
    after = await asyncio.to_thread(shown, world.url)
    assert after != before
    world.file.write_text("half of a file")
    with pytest.raises(UsageError, match=r"cannot be used: .*; give PEM files"):
        world.certificate.refresh()
    assert not world.certificate.refresh(), "it is said once"
    assert await asyncio.to_thread(shown, world.url) == after


def test_files_that_are_no_certificate_and_key_are_refused(tmp_path: Path) -> None:
    one, other = (certificate_of("localhost", tmp_path / name) for name in ("one", "other"))
    for chain, key in (
        (one.with_suffix(".crt"), other.with_suffix(".key")),
        (one.with_suffix(".crt"), one.with_suffix(".crt")),
        (tmp_path / "absent", one.with_suffix(".key")),
    ):
        with pytest.raises(UsageError, match="cannot be used"):
            Certificate.load(str(chain), str(key))


def test_a_node_serves_within_tls_and_reads_its_certificate_again(tmp_path: Path) -> None:
    with Network(tmp_path) as net:
        tree = make_tree(tmp_path / "tree", files=10)
        url = net.publish(tree, state="origin").partition("?")[0]
        file = certificate_of("localhost", tmp_path / "both.pem")
        node = net.node("origin", "--tls-cert", file, "--tls-listen", "127.0.0.1:0")
        port = str(node.events[0]["tls"]).rpartition(":")[2]
        source = f"https://localhost:{port}/"
        words = ["--source", source, "--ca-file", file, "--no-udp"]
        done = net.run("fetch", url, tmp_path / "copy", *words, state="reader")
        assert_same_tree(tree, tmp_path / "copy")
        assert source in done.done["sources"]
        refused = net.run(
            "fetch", url, tmp_path / "other", "--source", source, "--no-udp", state="r2", expect=10
        )
        assert "TLS failed: self-signed certificate" in refused.stderr
        by_environment = net.run(
            "fetch", url, tmp_path / "third", "--source", source, state="r3", SSL_CERT_FILE=str(file)
        )
        assert by_environment.done["files"] == done.done["files"]
        assert net.run("node", "--tls-key", file, state="n", expect=1).stderr.count("--tls-cert") == 1
