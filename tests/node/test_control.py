"""The control socket: private, bounded, read-only, and gone when the node is."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from p2psync.daemon import control
from p2psync.daemon.control import MAX_CONNECTIONS, MAX_REQUEST, SOCKET_NAME, ask, control_server
from p2psync.errors import FileError, FormatError, NetworkError, TransferTimeout

ANSWER = {"a number": 7, "a name": "ünï", "rows": [1, 2, 3]}
COMMANDS: dict[str, control.Command] = {"status": lambda: ANSWER}


async def ask_soon(state: Path, command: str = "status") -> dict[str, Any]:
    return await asyncio.to_thread(ask, state, command)


async def raw_answer(state: Path, request: bytes) -> dict[str, Any]:
    """The answer to bytes as they are."""

    def call() -> bytes:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(60)
            asking.connect(str(state / SOCKET_NAME))
            asking.sendall(request)
            with asking.makefile("rb") as lines:
                return lines.readline()

    answer: dict[str, Any] = json.loads(await asyncio.to_thread(call))
    return answer


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


@pytest.mark.parametrize(
    "request_",
    [
        b"nonsense\n",
        b"\xff\xfe\n",
        b"[]\n",
        b"null\n",
        b'{"command": "delete everything"}\n',
        b'{"command": ["status"]}\n',
        b'{"no": "command"}\n',
        b"[" * 2000 + b"\n",
    ],
)
async def test_what_is_no_command_is_refused_and_changes_nothing(tmp_path: Path, request_: bytes) -> None:
    async with control_server(tmp_path, COMMANDS):
        answer = await raw_answer(tmp_path, request_)
        assert answer["ok"] is False
        assert answer["error"]
        assert await ask_soon(tmp_path) == ANSWER


async def test_a_request_is_bounded(tmp_path: Path) -> None:
    async with control_server(tmp_path, COMMANDS):
        answer = await raw_answer(tmp_path, b"x" * (3 * MAX_REQUEST))
        assert answer == {"ok": False, "error": f"a request has at most {MAX_REQUEST} bytes"}


async def test_one_connection_may_ask_often(tmp_path: Path) -> None:
    async with control_server(tmp_path, COMMANDS):
        reader, writer = await asyncio.open_unix_connection(tmp_path / SOCKET_NAME)
        for _ in range(3):
            writer.write(b'{"command": "status"}\n')
            assert json.loads(await reader.readline()) == {"ok": True, "result": ANSWER}
        writer.close()


async def test_connections_are_bounded_and_end_with_the_node(tmp_path: Path) -> None:
    async with control_server(tmp_path, COMMANDS):
        held = [await asyncio.open_unix_connection(tmp_path / SOCKET_NAME) for _ in range(MAX_CONNECTIONS)]
        for reader, writer in held:
            writer.write(b'{"command": "status"}\n')
            await reader.readline()
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
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(NetworkError, match="no node runs on the state directory") as caught:
            ask(path, "status")
        assert "p2psync node" in str(caught.value)


async def answered_with(path: Path, answer: bytes) -> BaseException:
    """What `ask` raises if the node answers with some bytes and closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(answer)
        writer.close()

    async with await asyncio.start_unix_server(serve, path / SOCKET_NAME):
        try:
            await ask_soon(path)
        except Exception as error:
            return error
    raise AssertionError("the answer was accepted")


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"", NetworkError),
        (b'{"ok": true', NetworkError),
        (b"nonsense\n", FormatError),
        (b"[]\n", FormatError),
        (b'{"ok": true}\n', NetworkError),
        (b'{"ok": false, "error": "busy"}\n', NetworkError),
        (b"x" * (2 << 20), FormatError),
    ],
)
async def test_a_strange_answer_is_an_error_of_ours(
    tmp_path: Path, answer: bytes, kind: type[Exception]
) -> None:
    assert type(await answered_with(tmp_path, answer)) is kind


async def test_a_node_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "TIMEOUT", 0.1)
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
