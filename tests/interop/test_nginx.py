"""nginx as the web server of a mirror: the client of the data plane, and a web mirror as a source, plain
and with TLS."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.node.wire_support import program

from p2psync.errors import NetworkError
from p2psync.format.ids import Ref
from p2psync.sources.http.rate import RateLimiter
from p2psync.sources.source import NotOffered, Span
from p2psync.sources.web import WebSource

RANDOM = random.Random(11)
BIG = RANDOM.randbytes(5_000_000)
ODD = (b"a b", b"new\nline", b"\xff\xfe", b"100%", b"a?b#c", b"%41", b"+", b"-x", b"n" * 255)
D = b"\x11" * 32


@dataclass
class Nginx:
    root: Path
    plain: str
    tls: str
    context: ssl.SSLContext
    """Trusts the server's certificate."""


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """An nginx of this module's own: a port with HTTP, a port with TLS."""
    nginx_program, openssl = program("nginx", "nginx-light"), program("openssl", "openssl")
    at = tmp_path_factory.mktemp("nginx")
    at.chmod(0o755)  # nginx's worker may be another user
    for parent in at.parents[:2]:
        if parent.name.startswith("pytest-"):
            parent.chmod(0o755)
    root = at / "root"
    (root / "pub/dir").mkdir(parents=True)
    (root / "pub/big").write_bytes(BIG)
    for name in ODD:
        (root / "pub/dir" / os.fsdecode(name)).write_bytes(name * 3)
    for index in range(200):
        (root / f"pub/{index}").write_bytes(b"%d" % index * 50)
    request = [
        openssl,
        "req",
        "-x509",
        "-newkey",
        "ed25519",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    names = ["-addext", "subjectAltName=DNS:localhost"]
    out: list[str | Path] = ["-keyout", at / "key.pem", "-out", at / "cert.pem"]
    subprocess.run([*request, *names, *out], check=True, capture_output=True)
    listening = [socket.create_server(("127.0.0.1", 0), backlog=512) for _ in range(2)]
    plain, tls = (sock.getsockname()[1] for sock in listening)
    temporary = "".join(
        f"{kind}_temp_path {at}/{kind}; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (at / "nginx.conf").write_text(
        f"daemon off; {'user root; ' if os.geteuid() == 0 else ''}"
        f"worker_processes 1; pid {at}/pid; error_log {at}/error.log;\n"
        "events { worker_connections 64; }\n"
        f"http {{ access_log off; sendfile on; keepalive_requests 50; {temporary}\n"
        f"server {{ listen 127.0.0.1:{plain}; listen 127.0.0.1:{tls} ssl; server_name localhost;\n"
        f"root {root};\n"
        f"ssl_certificate {at}/cert.pem; ssl_certificate_key {at}/key.pem;\n"
        "location /moved { return 301 https://elsewhere.example/; }\n"
        "location /broken { return 503; }\n"
        "location /norange { alias " + str(root) + "/pub; max_ranges 0; }\n"
        "} }\n"
    )
    # nginx takes over sockets that already listen, as when its program is replaced while it runs (nginx.org,
    # "Controlling nginx"): so the ports are its own before it starts, and connections wait until it does.
    sockets = [sock.fileno() for sock in listening]
    process = subprocess.Popen(
        [nginx_program, "-p", at, "-c", at / "nginx.conf", "-e", at / "error.log"],
        env=os.environ | {"NGINX": "".join(f"{number};" for number in sockets)},
        pass_fds=sockets,
    )
    for sock in listening:
        sock.close()
    try:
        context = ssl.create_default_context(cafile=at / "cert.pem")
        yield Nginx(root, f"http://localhost:{plain}", f"https://localhost:{tls}", context)
    finally:
        process.terminate()
        process.wait(20)


def spans_of_big(count: int, length: int) -> list[Span]:
    offsets = [RANDOM.randrange(len(BIG) - length) for _ in range(count)]
    return [Span(D, offset, length, b"big", len(BIG)) for offset in offsets]


@pytest.mark.parametrize("kind", ["plain", "tls"])
async def test_ranges_and_whole_files(nginx: Nginx, kind: str) -> None:
    source = WebSource(f"{nginx.plain if kind == 'plain' else nginx.tls}/pub/", ssl_context=nginx.context)
    spans = [Span(D, 0, len(BIG), b"big", len(BIG)), *spans_of_big(10, 100_000), *spans_of_big(10, 10)]
    spans += [Span(D, 0, 150, b"%d" % index, 150) for index in range(100, 200)]
    buffer = memoryview(bytearray(sum(span.length for span in spans)))
    before = source.received
    assert all(await source.read(spans, buffer))
    position = 0
    for span in spans:
        whole = BIG if span.path == b"big" else (span.path or b"") * 50
        wanted = whole[span.offset : span.offset + span.length]
        assert bytes(buffer[position : position + span.length]) == wanted
        position += span.length
    assert source.received - before > buffer.nbytes
    await source.close()


@pytest.mark.parametrize("name", ODD)
async def test_odd_names(nginx: Nginx, name: bytes) -> None:
    source = WebSource(f"{nginx.plain}/pub")
    buffer = memoryview(bytearray(3 * len(name)))
    assert await source.read([Span(D, 0, len(buffer), b"dir/" + name, len(buffer))], buffer) == [True]
    assert bytes(buffer) == name * 3
    await source.close()


async def test_other_versions_and_missing_paths_are_not_here(nginx: Nginx) -> None:
    source = WebSource(f"{nginx.plain}/pub")
    spans = [
        Span(D, 0, 10, b"nothing", 10),
        Span(D, 0, 10, None, 10),
        Span(D, 0, 151, b"100", 151),  # longer than it is there
        Span(D, 0, 149, b"100", 149),  # shorter
        Span(D, 5, 10, b"100", 151),  # a part of another version
        Span(D, 200, 10, b"100", 210),  # beyond its end
        Span(D, 5, 10, b"100", 150),
        Span(D, 0, 10, b"dir", 10),
    ]
    buffer = memoryview(bytearray(sum(span.length for span in spans)))
    assert await source.read(spans, buffer) == [False] * 6 + [True, False]
    await source.close()


async def test_many_small_reads_at_once_over_connections_that_end(nginx: Nginx) -> None:
    """nginx ends a connection after 50 requests here: pipelined ones behind are sent again."""
    source = WebSource(f"{nginx.plain}/pub")

    async def read(index: int) -> None:
        wanted = b"%d" % index * 50
        buffer = memoryview(bytearray(len(wanted)))
        span = Span(D, 0, len(wanted), b"%d" % index, len(wanted))
        assert await source.read([span], buffer) == [True]
        assert bytes(buffer) == wanted

    async with asyncio.TaskGroup() as group:
        for index in range(200):
            group.create_task(read(index))
    await source.close()


async def test_what_a_web_server_does_not_offer(nginx: Nginx) -> None:
    source = WebSource(f"{nginx.plain}/pub")
    assert await source.head(D) is None
    assert await source.metas([Ref(5, D)]) == [None]
    assert await source.holders(D) == []
    for call in (source.meta(Ref(5, D)), source.recipe(D), source.have([D]), source.nominate(D, b"x")):
        with pytest.raises(NotOffered, match=nginx.plain):
            await call
    await source.close()


async def test_redirections_and_failures_say_what_to_do(nginx: Nginx) -> None:
    buffer = memoryview(bytearray(10))
    source = WebSource(f"{nginx.plain}/moved")
    with pytest.raises(NotOffered, match="elsewhere"):
        await source.read([Span(D, 0, 10, b"x", 10)], buffer)
    await source.close()
    source = WebSource(f"{nginx.plain}/broken")
    with pytest.raises(NetworkError, match="503"):
        await source.read([Span(D, 0, 10, b"x", 10)], buffer)
    await source.close()


async def test_a_server_without_ranges_serves_whole_files_only(nginx: Nginx) -> None:
    source = WebSource(f"{nginx.plain}/norange")
    whole = memoryview(bytearray(len(BIG)))
    assert await source.read([Span(D, 0, len(BIG), b"big", len(BIG))], whole) == [True]
    assert bytes(whole) == BIG
    with pytest.raises(NotOffered, match="parts of files"):
        await source.read([Span(D, 5, 10, b"big", len(BIG))], memoryview(bytearray(10)))
    await source.close()


async def test_a_certificate_that_is_not_trusted_is_refused(nginx: Nginx) -> None:
    source = WebSource(f"{nginx.tls}/pub")
    with pytest.raises(NetworkError, match="TLS failed"):
        await source.read([Span(D, 0, 10, b"100", 150)], memoryview(bytearray(10)))
    await source.close()


async def test_a_certificate_for_another_name_is_refused(nginx: Nginx) -> None:
    source = WebSource(f"{nginx.tls.replace('localhost', '127.0.0.1')}/pub", ssl_context=nginx.context)
    with pytest.raises(NetworkError, match="TLS failed"):
        await source.read([Span(D, 0, 10, b"100", 150)], memoryview(bytearray(10)))
    await source.close()


@pytest.mark.parametrize("kind", ["plain", "tls"])
async def test_a_limit_changes_nothing_but_the_time(nginx: Nginx, kind: str) -> None:
    source = WebSource(
        f"{nginx.plain if kind == 'plain' else nginx.tls}/pub",
        ssl_context=nginx.context,
        limiter=RateLimiter(4_000_000),
        idle_timeout=2,
    )
    buffer = memoryview(bytearray(2_000_000))
    assert await source.read([Span(D, 0, len(buffer), b"big", len(BIG))], buffer) == [True]
    assert bytes(buffer) == BIG[: len(buffer)]
    await source.close()
