"""The control socket: HTTP, private, bounded, and gone when the node is; GET only reads."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import shlex
import socket
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from p2psync.daemon import control
from p2psync.daemon.commands import release_order
from p2psync.daemon.control import MAX_CONNECTIONS, MAX_REQUEST, control_server
from p2psync.errors import FileError, FormatError, NetworkError, TransferTimeout, UsageError
from p2psync.state import ask as asking
from p2psync.state.ask import MAX_RESPONSE, SOCKET_NAME, ask

ANSWER = {"a number": 7, "a name": "ünï", "rows": [1, 2, 3]}
COMMANDS: dict[str, control.Command] = {"status": lambda: ANSWER}


async def ask_soon(state: Path, command: str = "status") -> dict[str, Any]:
    return await asyncio.to_thread(ask, state, command)


GET = b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def raw_answer(state: Path, request: bytes) -> tuple[int, dict[str, Any]]:
    """Status and content of the answer to bytes as they are."""

    def call() -> tuple[int, bytes]:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(60)
            asking.connect(str(state / SOCKET_NAME))
            asking.sendall(request)
            response = http.client.HTTPResponse(asking)
            response.begin()
            return response.status, response.read()

    status, body = await asyncio.to_thread(call)
    return status, json.loads(body)


async def read_answer(reader: asyncio.StreamReader) -> dict[str, Any]:
    """The content of the next answer on a connection that stays."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(re.search(rb"Content-Length: ([0-9]+)", head)[1])  # type: ignore[index]
    content: dict[str, Any] = json.loads(await reader.readexactly(length))
    return content


async def test_a_command_is_answered(tmp_path: Path) -> None:
    async with control_server(tmp_path, COMMANDS):
        assert await ask_soon(tmp_path) == ANSWER
        assert await ask_soon(tmp_path) == ANSWER


async def test_only_its_owner_may_use_it(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        async with control_server(tmp_path, COMMANDS):
            mode = (tmp_path / SOCKET_NAME).lstat().st_mode
            assert stat.S_ISSOCK(mode)
            assert stat.S_IMODE(mode) == 0o600
    finally:
        os.umask(old)


async def test_it_is_gone_with_the_node(tmp_path: Path) -> None:
    async with control_server(tmp_path, COMMANDS):
        assert os.listdir(tmp_path) == [SOCKET_NAME]
    assert os.listdir(tmp_path) == []
    with pytest.raises(NetworkError, match="no node runs"):
        ask(tmp_path, "status")


async def test_one_that_a_crash_left_behind_is_replaced(tmp_path: Path) -> None:
    for name in (SOCKET_NAME, f"{SOCKET_NAME}.new"):
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(tmp_path / name))
    with pytest.raises(NetworkError, match="no node runs"):
        ask(tmp_path, "status")
    async with control_server(tmp_path, COMMANDS):
        assert await ask_soon(tmp_path) == ANSWER
    assert os.listdir(tmp_path) == []


async def test_a_state_directory_may_lie_deep(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["directory"] * 20)
    deep.mkdir(parents=True)
    assert len(os.fsencode(deep)) > 200
    async with control_server(deep, COMMANDS):
        assert await ask_soon(deep) == ANSWER
    assert os.listdir(deep) == []


async def test_a_failure_inside_removes_it(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        async with control_server(tmp_path, COMMANDS):
            raise ZeroDivisionError
    assert os.listdir(tmp_path) == []


async def test_one_that_another_node_has_made_meanwhile_is_left_alone(tmp_path: Path) -> None:
    async with control_server(tmp_path, COMMANDS):
        (tmp_path / SOCKET_NAME).rename(tmp_path / "gone")
        other = socket.socket(socket.AF_UNIX)
        other.bind(str(tmp_path / SOCKET_NAME))
    assert (tmp_path / SOCKET_NAME).exists()
    other.close()


async def test_where_it_cannot_be_made_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="control socket"):
        async with control_server(tmp_path / "missing", COMMANDS):
            pass


async def test_curl_reads_it(tmp_path: Path) -> None:
    curl = ["curl", "-sS", "--fail-with-body", "--unix-socket", str(tmp_path / SOCKET_NAME)]

    async def answered(*arguments: str) -> tuple[int, dict[str, Any]]:
        made = await asyncio.create_subprocess_exec(*curl, *arguments, stdout=asyncio.subprocess.PIPE)
        out, _ = await made.communicate()
        return made.returncode or 0, json.loads(out)

    async with control_server(tmp_path, COMMANDS):
        assert await answered("http://localhost/status") == (0, ANSWER)
        code, refusal = await answered("-d", "x", "http://localhost/status")
        assert (code, list(refusal)) == (22, ["error"])
        code, refusal = await answered("http://localhost/nothing")
        assert (code, refusal) == (22, {"error": "this node does not know that command; it knows: status"})


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"\xff\xfe\r\n\r\n", 400),
        (b'{"command": "status"}\n\r\n\r\n', 400),
        (b"GET /status HTTP/0.9\r\n\r\n", 400),
        (b"GET status HTTP/1.1\r\n\r\n", 400),
        (b"GET http://localhost/status HTTP/1.1\r\n\r\n", 400),
        (b"GET /status HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 400),
        (b"GET /status HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"GET /status HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"POST /status HTTP/1.1\r\n\r\n", 405),
        (b"DELETE /status HTTP/1.1\r\n\r\n", 405),
        (b"GET / HTTP/1.1\r\n\r\n", 404),
        (b"GET /../status HTTP/1.1\r\n\r\n", 404),
        (b"GET /delete-everything HTTP/1.1\r\n\r\n", 404),
        (b"x" * (3 * MAX_REQUEST), 431),
    ],
)
async def test_what_is_no_command_is_refused_and_changes_nothing(
    tmp_path: Path, request_: bytes, status: int
) -> None:
    async with control_server(tmp_path, COMMANDS):
        told, answer = await raw_answer(tmp_path, request_)
        assert told == status
        assert list(answer) == ["error"]
        assert await ask_soon(tmp_path) == ANSWER


# Orders.


async def given_back(content: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"given": content}


async def refusing(_: Mapping[str, Any]) -> Mapping[str, Any]:
    raise UsageError("that cannot be meant")


ORDERS: dict[str, control.Order] = {"do": given_back, "refuse": refusing}


async def test_an_order_is_carried_out_with_what_was_sent(tmp_path: Path) -> None:
    content = {"directory": "/srv/" + "\x01" * 4000}
    async with control_server(tmp_path, COMMANDS, ORDERS):
        assert await asyncio.to_thread(ask, tmp_path, "do", content) == {"given": content}
        with pytest.raises(NetworkError, match="that cannot be meant"):
            await asyncio.to_thread(ask, tmp_path, "refuse", {})
        assert await ask_soon(tmp_path) == ANSWER


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /do HTTP/1.1\r\n\r\n", 405),
        (b"PUT /do HTTP/1.1\r\n\r\n", 405),
        (b"POST /do HTTP/1.1\r\n\r\n", 413),
        (b"POST /do HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", 413),
        (b"POST /do HTTP/1.1\r\nContent-Length: 2\r\n\r\n[]", 400),
        (b"POST /do HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 400),
        (b"POST /do HTTP/1.1\r\nContent-Length: 20000\r\n\r\n" + b"[" * 20000, 400),
        (b"POST /do HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 400),
        (b"POST /status HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", 400),
        (b"POST /nothing HTTP/1.1\r\n\r\n", 405),
    ],
)
async def test_what_is_no_order_is_refused(tmp_path: Path, request_: bytes, status: int) -> None:
    async with control_server(tmp_path, COMMANDS, ORDERS):
        told, answer = await raw_answer(tmp_path, request_)
        assert (told, list(answer)) == (status, ["error"])


async def test_an_order_that_is_never_sent_whole_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "IDLE", 0.05)
    async with control_server(tmp_path, COMMANDS, ORDERS):
        reader, writer = await asyncio.open_unix_connection(tmp_path / SOCKET_NAME)
        writer.write(b"POST /do HTTP/1.1\r\nContent-Length: 100\r\n\r\n{")
        assert await reader.read() == b""
        writer.close()


@pytest.mark.parametrize(
    "content",
    [{}, {"directory": "relative"}, {"directory": 7}, {"directory_b64": "%%%"}, {"directory_b64": 7}],
)
async def test_a_directory_is_let_go_of_by_its_absolute_path(content: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="absolute path"):
        await release_order(None)(content)


async def test_after_a_refusal_nothing_more_is_read_from_the_connection(tmp_path: Path) -> None:
    """What follows may be meant as a body."""
    async with control_server(tmp_path, COMMANDS):
        reader, writer = await asyncio.open_unix_connection(tmp_path / SOCKET_NAME)
        writer.write(b"POST /status HTTP/1.1\r\nContent-Length: 60\r\n\r\n" + GET)
        assert list(await read_answer(reader)) == ["error"]
        assert await reader.read() == b""
        writer.close()


async def test_one_connection_may_ask_often(tmp_path: Path) -> None:
    async with control_server(tmp_path, COMMANDS):
        reader, writer = await asyncio.open_unix_connection(tmp_path / SOCKET_NAME)
        writer.write(3 * GET)
        for _ in range(3):
            assert await read_answer(reader) == ANSWER
        writer.write(GET.replace(b"Host", b"Connection: close\r\nHost"))
        assert await read_answer(reader) == ANSWER
        assert await reader.read() == b""
        writer.close()


async def test_connections_are_bounded_and_end_with_the_node(tmp_path: Path) -> None:
    async with control_server(tmp_path, COMMANDS):
        held = [await asyncio.open_unix_connection(tmp_path / SOCKET_NAME) for _ in range(MAX_CONNECTIONS)]
        for reader, writer in held:
            writer.write(GET)
            await read_answer(reader)
        with pytest.raises(NetworkError, match="too many"):
            await ask_soon(tmp_path)
        held.pop()[1].close()
        while True:
            try:
                assert await ask_soon(tmp_path) == ANSWER
                break
            except NetworkError:  # the node has not noticed yet
                await asyncio.sleep(0.01)
    for reader, writer in held:
        assert await reader.read() == b""
        writer.close()


async def test_who_says_nothing_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "IDLE", 0.05)
    async with control_server(tmp_path, COMMANDS):
        reader, writer = await asyncio.open_unix_connection(tmp_path / SOCKET_NAME)
        assert await reader.read() == b""
        writer.close()


def test_no_node_is_explained(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing", tmp_path / "it's a name"):
        with pytest.raises(NetworkError, match="no node runs on the state directory") as caught:
            ask(path, "status")
        command = str(caught.value).partition("start one with: ")[2].partition("; or ")[0]
        assert shlex.split(command) == ["p2psync", "node", "--state", str(path)]


async def answered_with(path: Path, answer: bytes) -> BaseException:
    """What `ask` raises if the node answers with some bytes and closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with await asyncio.start_unix_server(serve, path / SOCKET_NAME):
        try:
            await ask_soon(path)
        except Exception as error:
            return error
    raise AssertionError("the answer was accepted")


OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: %d\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"", NetworkError),
        (OK % 100 + b'{"ok": true', NetworkError),
        (b"HTTP/1.1 200 OK\r\nContent-Len", FormatError),
        (b"nonsense\n", FormatError),
        (OK % 8 + b"nonsense", FormatError),
        (OK % 2 + b"[]", FormatError),
        (OK % 20000 + b"[" * 20000, FormatError),
        (BUSY % 2 + b"{}", NetworkError),
        (BUSY % 17 + b'{"error": "busy"}', NetworkError),
        (OK % (2 * MAX_RESPONSE) + b"x" * (2 * MAX_RESPONSE), FormatError),
    ],
)
async def test_a_strange_answer_is_an_error_of_ours(
    tmp_path: Path, answer: bytes, kind: type[Exception]
) -> None:
    assert type(await answered_with(tmp_path, answer)) is kind


async def test_a_node_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "TIMEOUT", 0.1)
    with socket.socket(socket.AF_UNIX) as hanging:
        hanging.bind(str(tmp_path / SOCKET_NAME))
        hanging.listen()
        with pytest.raises(TransferTimeout, match="did not answer"):
            await ask_soon(tmp_path)


async def test_a_status_command_describes_the_node(tmp_path: Path) -> None:
    from p2psync_dht.testing.loopback import loopback_network

    async with loopback_network(3) as nodes:
        status: Mapping[str, Any] = control.status_command(nodes[1], "127.0.0.1:1")()
        dht = status["dht"]
        assert json.loads(json.dumps(status)) == status
        assert (dht["node"], dht["mode"], status["listen"]) == (
            nodes[1].node_id.hex(),
            "server",
            "127.0.0.1:1",
        )
        assert dht["tables"]["IPv4"]["contacts"] == 2
        assert sum(bucket["contacts"] for bucket in dht["tables"]["IPv4"]["buckets"]) == 2
        assert dht["traffic"] == {
            name: number for name, number in nodes[1].counters.snapshot().items() if name in dht["traffic"]
        }
