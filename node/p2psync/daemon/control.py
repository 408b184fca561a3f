"""The control socket: where a node answers commands that run on its state directory.

HTTP/1.1 on a Unix socket in the state directory, mode 0600: whoever may read the keys may ask.

    curl --unix-socket STATE/control.sock http://localhost/status

``GET /NAME`` is answered by one JSON object, that of the command NAME, which only reads. ``POST /NAME``
with a JSON object as its body has the node carry out the order NAME. What is refused is answered by
``{"error": "..."}`` and a status that says so. The lock of the state directory keeps a second node away, so
a socket that is already there is one that a crash left behind. Who asks is ``p2psync.state.ask``.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, NamedTuple

from p2psync import __version__
from p2psync.content.request import END, NOT_PLAIN, Request, parse_request
from p2psync.daemon.company import Company
from p2psync.errors import FileError, P2psyncError, UsageError
from p2psync.state.ask import SOCKET_NAME, short_path
from p2psync_dht import DhtNode
from p2psync_dht.status import describe

MAX_REQUEST: Final = 4096
"""Bytes of a request: commands have short names, and a few headers are all that a client adds."""
MAX_CONNECTIONS: Final = 8
"""Commands that ask at the same time; further ones are told to come back."""
MAX_BODY: Final = 32 << 10
"""Bytes of an order: a path of 4,095 bytes, each of them as ``\\u00xx``, and the names of fields."""
IDLE: Final = 10.0
"""Seconds that a connection may say nothing, or not take its answer."""

Command = Callable[[], Mapping[str, Any] | Awaitable[Mapping[str, Any]]]
"""Its answer, or what will be: a command that reads the index does so in another thread."""
Order = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
"""Does what the object says that was sent; what it did. Raises P2psyncError where it cannot."""


def status_command(
    dht: DhtNode, listen: str, company: Callable[[], Company] | None = None
) -> Callable[[], Mapping[str, Any]]:
    """What ``status`` answers: the process, its DHT node as `p2psync_dht.status.describe` has it, and, of one
    that announces archives, the ``company`` of other holders.
    """
    began = time.monotonic()

    def status() -> dict[str, Any]:
        return {
            "version": __version__,
            "pid": os.getpid(),
            "uptime": round(time.monotonic() - began, 1),
            "listen": listen,
            "dht": describe(dht),
        } | ({} if company is None else {"holders": company()._asdict()})

    return status


@contextlib.asynccontextmanager
async def control_server(
    state: Path, commands: Mapping[str, Command], orders: Mapping[str, Order] | None = None
) -> AsyncIterator[None]:
    """Answer commands, and carry out orders, at the control socket of a state directory for the length of the
    block.

    Raises FileError: the socket cannot be made.
    """
    served = _Server(commands, orders or {})
    try:
        listening = _listen(state)
        mine = (state / SOCKET_NAME).lstat().st_ino
    except OSError as error:
        raise FileError(
            f"the control socket {state / SOCKET_NAME} cannot be made: {error.strerror or error}"
        ) from None
    try:
        server = await asyncio.start_unix_server(served.connected, sock=listening, limit=MAX_REQUEST)
        try:
            yield
        finally:
            server.close()
            await served.close()
    finally:
        listening.close()
        with contextlib.suppress(FileNotFoundError):
            # Who removed the state directory and made a new one may have another node on it by now.
            if (state / SOCKET_NAME).lstat().st_ino == mine:
                (state / SOCKET_NAME).unlink()


def _listen(state: Path) -> socket.socket:
    """The socket, bound. It takes its name when it has its mode, and then replaces a stale one at once."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    temporary = f"{SOCKET_NAME}.new"
    try:
        with contextlib.suppress(FileNotFoundError):
            (state / temporary).unlink()
        with short_path(state, temporary) as path:
            made.bind(path)
        (state / temporary).chmod(0o600)
        (state / temporary).rename(state / SOCKET_NAME)
        made.setblocking(False)
    except BaseException:
        made.close()
        with contextlib.suppress(OSError):
            (state / temporary).unlink()
        raise
    return made


class _Server:
    """Answers the connections of one control socket."""

    def __init__(self, commands: Mapping[str, Command], orders: Mapping[str, Order]) -> None:
        self._commands = commands
        self._orders = orders
        self._tasks: set[asyncio.Task[None]] = set()

    def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Called for each connection; its task is ended by `close` if not before."""
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End the connections."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if len(self._tasks) > MAX_CONNECTIONS:
                await _write(writer, _refusal(503, "too many commands ask at once; try again"))
                return
            while True:
                async with asyncio.timeout(IDLE):
                    head = await reader.readuntil(END)
                answer = await self._answer(head.removesuffix(END), reader)
                await _write(writer, answer)
                if not answer.keep_alive:
                    return
        except asyncio.LimitOverrunError:
            with contextlib.suppress(OSError, TimeoutError):
                await _write(writer, _refusal(431, f"a request has at most {MAX_REQUEST} bytes"))
        except (asyncio.IncompleteReadError, OSError, TimeoutError):
            return  # The asker has gone, or has fallen silent.
        finally:
            writer.close()

    async def _answer(self, head: bytes, reader: asyncio.StreamReader) -> _Answer:
        request = parse_request(head)
        name = request.target.removeprefix("/")
        order, command = self._orders.get(name), self._commands.get(name)
        if order is not None and request.method == "POST":
            return await self._carry_out(order, request, reader)
        if request is NOT_PLAIN or request.length:
            return _refusal(400, "a request is GET /NAME of HTTP/1.1, without a body")
        if order is not None:
            refused = _refusal(405, f"{name} changes something: send what it is about with POST")
            return refused._replace(allow="POST")
        if request.method != "GET":
            return _refusal(405, "commands only read: ask with GET")
        if command is None:
            known = ", ".join(sorted({*self._commands, *self._orders}))
            return _refusal(404, f"this node does not know that command; it knows: {known}")
        return await _told(command, request)

    async def _carry_out(self, order: Order, request: Request, reader: asyncio.StreamReader) -> _Answer:
        if request.length is None or request.length > MAX_BODY:
            return _refusal(413, f"an order is a JSON object of at most {MAX_BODY} bytes")
        async with asyncio.timeout(IDLE):
            body = await reader.readexactly(request.length)
        try:
            content = json.loads(body)
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            return _refusal(400, "an order is a JSON object")
        try:
            return _Answer(200, await order(content), request.keep_alive)
        except UsageError as error:
            return _refusal(400, str(error))
        except P2psyncError as error:
            return _refusal(500, str(error))


async def _told(command: Command, request: Request) -> _Answer:
    try:
        told = command()
        content = await told if inspect.isawaitable(told) else told
    except P2psyncError as error:
        return _refusal(500, str(error))
    return _Answer(200, content, request.keep_alive)


class _Answer(NamedTuple):
    """A response. After a refusal the connection ends: what follows may belong to a body."""

    status: int
    content: Mapping[str, Any]
    keep_alive: bool
    allow: str = "GET"
    """Where the method was wrong: the right one."""


def _refusal(status: int, sentence: str) -> _Answer:
    return _Answer(status, {"error": sentence}, False)


async def _write(writer: asyncio.StreamWriter, answer: _Answer) -> None:
    body = json.dumps(answer.content, separators=(",", ":")).encode() + b"\n"
    status = HTTPStatus(answer.status)
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *([f"Allow: {answer.allow}"] if status is HTTPStatus.METHOD_NOT_ALLOWED else []),
        *([] if answer.keep_alive else ["Connection: close"]),
    ]
    writer.write("\r\n".join(lines).encode() + END + body)
    async with asyncio.timeout(IDLE):
        await writer.drain()
