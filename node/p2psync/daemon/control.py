"""The control socket: how commands ask the node that runs on their state directory what it is doing.

A Unix socket in the state directory, mode 0600: whoever may read the keys may ask. One JSON object a line in
both directions: ``{"command": "status"}`` is answered by ``{"ok": true, "result": {...}}``, or by
``{"ok": false, "error": "..."}``. Commands only read; nothing here changes the node. The lock of the state
directory keeps a second node away, so a socket that is already there is one that a crash left behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from p2psync import __version__
from p2psync.errors import FileError, FormatError, NetworkError, TransferTimeout
from p2psync_dht import DhtNode
from p2psync_dht.status import describe

SOCKET_NAME: Final = "control.sock"
"""In the state directory."""
MAX_REQUEST: Final = 4096
"""Bytes of a request line: commands have short names and hardly any arguments."""
MAX_RESPONSE: Final = 1 << 20
"""Bytes of a response line that a client reads: a status has some 10 KB."""
MAX_CONNECTIONS: Final = 8
"""Commands that ask at the same time; further ones are told to come back."""
IDLE: Final = 10.0
"""Seconds that a connection may say nothing, or not take its answer."""
TIMEOUT: Final = 10.0
"""Seconds that a client waits: the node may be busy hashing a large tree."""
PATH_MAX: Final = 100
"""Bytes of a path that surely fit a socket address (sockaddr_un, unix(7), has 108)."""

Command = Callable[[], Mapping[str, Any]]


def status_command(dht: DhtNode, listen: str) -> Command:
    """What ``status`` answers: the process, and its DHT node as `p2psync_dht.status.describe` has it."""
    began = time.monotonic()

    def status() -> dict[str, Any]:
        return {
            "version": __version__,
            "pid": os.getpid(),
            "uptime": round(time.monotonic() - began, 1),
            "listen": listen,
            "dht": describe(dht),
        }

    return status


@contextlib.asynccontextmanager
async def control_server(state: Path, commands: Mapping[str, Command]) -> AsyncIterator[None]:
    """Answer commands at the control socket of a state directory for the length of the block.

    Raises FileError: the socket cannot be made.
    """
    served = _Server(commands)
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
        with _short_path(state, temporary) as path:
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


@contextlib.contextmanager
def _short_path(folder: Path, name: str) -> Iterator[str]:
    """A path that fits a socket address, however deep the folder lies (``/proc/self/fd`` is in proc(5))."""
    path = os.fspath(folder / name)
    if len(os.fsencode(path)) <= PATH_MAX:
        yield path
        return
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{name}"
    finally:
        os.close(fd)


class _Server:
    """Answers the connections of one control socket."""

    def __init__(self, commands: Mapping[str, Command]) -> None:
        self._commands = commands
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
                await _write(writer, _failure("too many commands ask at once; try again"))
                return
            while True:
                async with asyncio.timeout(IDLE):
                    line = await reader.readuntil(b"\n")
                await _write(writer, self._answer(line))
        except asyncio.LimitOverrunError:
            with contextlib.suppress(OSError, TimeoutError):
                await _write(writer, _failure(f"a request has at most {MAX_REQUEST} bytes"))
        except (asyncio.IncompleteReadError, OSError, TimeoutError):
            return  # The asker has gone, or has fallen silent.
        finally:
            writer.close()

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            return _failure("a request is one line with one JSON object")
        name = request.get("command") if isinstance(request, dict) else None
        command = self._commands.get(name) if isinstance(name, str) else None
        if command is None:
            known = ", ".join(sorted(self._commands))
            return _failure(f"this node does not know that command; it knows: {known}")
        return {"ok": True, "result": command()}


def _failure(sentence: str) -> dict[str, Any]:
    return {"ok": False, "error": sentence}


async def _write(writer: asyncio.StreamWriter, answer: dict[str, Any]) -> None:
    writer.write(json.dumps(answer, separators=(",", ":")).encode() + b"\n")
    async with asyncio.timeout(IDLE):
        await writer.drain()


def ask(state: Path, command: str) -> dict[str, Any]:
    """Ask the node that runs on a state directory; its result. Blocks, at most `TIMEOUT` seconds in silence.

    Raises:
        NetworkError: no node runs there, or it refuses. TransferTimeout: it does not answer. FormatError: its
        answer is none. FileError: the socket may not be used.
    """
    request = json.dumps({"command": command}).encode() + b"\n"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
            asking.settimeout(TIMEOUT)
            with _short_path(state, SOCKET_NAME) as path:
                asking.connect(path)
            with contextlib.suppress(BrokenPipeError):  # It may have refused us already, and said so.
                asking.sendall(request)
            answer = _read_line(asking)
    except TimeoutError:
        raise TransferTimeout(
            f"the node that runs on {state} did not answer within {TIMEOUT:.0f} seconds; try again"
        ) from None
    except ConnectionResetError:
        raise NetworkError(f"the node that runs on {state} ended without an answer") from None
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
        raise NetworkError(
            f"no node runs on the state directory {state}; start one with 'p2psync node --state {state}', or "
            "name the state directory of one that runs with --state"
        ) from None
    except OSError as error:
        raise FileError(f"{state / SOCKET_NAME} cannot be used: {error.strerror or error}") from None
    return _result(answer, state)


def _read_line(asking: socket.socket) -> bytes:
    made = bytearray()
    while not made.endswith(b"\n"):
        piece = asking.recv(1 << 16)
        if not piece:
            raise ConnectionResetError("the node closed the connection")
        made += piece
        if len(made) > MAX_RESPONSE:
            raise FormatError(f"the node answered with more than {MAX_RESPONSE} bytes")
    return bytes(made)


def _result(answer: bytes, state: Path) -> dict[str, Any]:
    try:
        response = json.loads(answer)
    except ValueError:
        response = None
    if not isinstance(response, dict):
        raise FormatError(f"the node that runs on {state} gave an answer that is no JSON object")
    if response.get("ok") is True and isinstance(response.get("result"), dict):
        result: dict[str, Any] = response["result"]
        return result
    raise NetworkError(
        f"the node that runs on {state} refused: {response.get('error', 'it does not say why')}"
    )
