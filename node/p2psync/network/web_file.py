"""One small file from a web server, within bounds of size and time. Whether to believe it is not decided
here.
"""

from __future__ import annotations

import asyncio
import http.client
import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, NamedTuple
from urllib.parse import urljoin, urlsplit

from p2psync.errors import NetworkError
from p2psync.network.dial import Handle, dial
from p2psync.network.egress import Egress, egress
from p2psync.network.server import Server
from p2psync.network.tunnel import LOGIN_NEEDED, login_error, wanted_logins
from p2psync.state.off_loop import to_its_end

REDIRECTS_MAX: Final = 3
URL_MAX: Final = 2048
"""Characters of a URL that somebody else names: far beyond what a small file's address needs."""
_THREADS: Final = ThreadPoolExecutor(16, "web file")
"""Of their own: a server that is silent holds up nobody else's work."""


class Answer(NamedTuple):
    """What a web server says. Names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


async def web_file(url: str, most: int, *, seconds: float) -> bytes:
    """What is at ``url``, of at most ``most`` bytes; one more says that there are more. ``seconds``:
    for all of it. Redirects are followed to https:// only. Raises NetworkError.
    """
    try:
        async with asyncio.timeout(seconds):
            for _ in range(REDIRECTS_MAX + 1):
                answer = await _asked("GET", *_place(url), most, seconds)
                if answer.status in (301, 302, 303, 307, 308):
                    url = _redirected(url, answer.headers.get("location", ""))
                    continue
                if answer.status != http.HTTPStatus.OK:
                    raise NetworkError(f"{url} answers {answer.status}")
                return answer.body
    except TimeoutError:
        raise NetworkError(f"{url} did not answer in {seconds:.0f} seconds") from None
    raise NetworkError(f"{url} redirects without an end")


async def web_get(server: Server, target: str, most: int, *, seconds: float) -> Answer:
    """What a server answers to a GET, with at most ``most`` bytes and one more. Raises NetworkError;
    TimeoutError.
    """
    async with asyncio.timeout(seconds):
        return await _asked("GET", server, target, most, seconds)


async def web_head(url: str, *, seconds: float) -> Answer:
    """What a web server says of ``url``, without what is there. Raises NetworkError; TimeoutError."""
    async with asyncio.timeout(seconds):
        return await _asked("HEAD", *_place(url), 0, seconds)


def _redirected(url: str, location: str) -> str:
    """Where an answer leads. Raises NetworkError."""
    try:
        target = urljoin(url, location)
        parts = urlsplit(target)
        parts.port  # noqa: B018 - checks it
    except ValueError:
        raise NetworkError(f"{url} redirects to {location[:200]!r}, which is not an https:// URL") from None
    if not target.startswith("https://"):
        raise NetworkError(f"{url} redirects to {target[:200]!r}, which is not https://")
    plain = target.isascii() and target.isprintable() and " " not in target and len(target) <= URL_MAX
    if not plain or not parts.hostname or "@" in parts.netloc:
        raise NetworkError(f"{url} redirects to {target[:200]!r}, which is not an https:// URL")
    return target


def _place(url: str) -> tuple[Server, str]:
    """The server of a URL, and what to ask it for. Raises NetworkError."""
    try:
        parts = urlsplit(url)
        tls = parts.scheme == "https"
        host = (parts.hostname or "").encode("idna").decode("ascii")
        server = Server(host, parts.port or (443 if tls else 80), tls, url)
    except ValueError as error:
        raise NetworkError(f"{url} cannot be had: {error}") from None
    return server, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


async def _asked(method: str, server: Server, target: str, most: int, seconds: float) -> Answer:
    handle = Handle()
    ask = partial(_ask, method, server, target, most, seconds, handle, egress())
    return await to_its_end(asyncio.get_running_loop().run_in_executor(_THREADS, ask), stop=handle.interrupt)


def _ask(
    method: str, server: Server, target: str, most: int, seconds: float, handle: Handle, way: Egress
) -> Answer:
    """One question, in a thread. ``seconds`` without a byte end it. Raises NetworkError."""
    dialled = dial(server, handle, timeout=seconds, way=way)
    connection = _Connection(dialled.sock, seconds)
    try:
        forward = dialled.forward
        connection.putrequest(
            method,
            target if forward is None else f"http://{server.authority}{target}",
            skip_host=True,
            skip_accept_encoding=True,
        )
        connection.putheader("Host", server.authority)
        connection.putheader("Accept-Encoding", "identity")
        if forward is not None and forward.authorization:
            connection.putheader("Proxy-Authorization", forward.authorization)
        connection.endheaders()
        response = connection.getresponse()
        if forward is not None and response.status == LOGIN_NEEDED:
            wants = wanted_logins(", ".join(response.headers.get_all("Proxy-Authenticate", [])))
            raise NetworkError(f"{server.name}: {login_error(forward, wants)}")
        body = response.read(most + 1) if method != "HEAD" else b""
        if response.length and method != "HEAD" and len(body) <= most:
            raise ConnectionResetError("the answer is shorter than it said")
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, body)
    except (http.client.HTTPException, OSError, ValueError) as error:
        raise NetworkError(f"{server.name} cannot be had: {error or type(error).__name__}") from None
    finally:
        connection.close()
        handle.close()


class _Connection(http.client.HTTPConnection):
    """HTTP on a connection that is there already."""

    def __init__(self, connected: socket.socket, seconds: float) -> None:
        super().__init__("", timeout=seconds)
        connected.settimeout(seconds)
        self.sock = connected
        self.auto_open = 0
