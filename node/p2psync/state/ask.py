"""Asking the node that runs on a state directory what it is doing, and telling it what to do, by its
control socket (``p2psync.daemon.control``).
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shlex
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from p2psync.errors import FileError, FormatError, NetworkError, P2psyncError, TransferTimeout

SOCKET_NAME: Final = "control.sock"
"""In the state directory."""
MAX_RESPONSE: Final = 1 << 24
"""Bytes of a response that are read: a status has some 10 KB, 10,000 archives have 2 MB."""
TIMEOUT: Final = 10.0
"""Seconds of silence: the node may be busy."""
LOOK_TIMEOUT: Final = 1.0
"""Seconds for a node to be told that something is new: it looks twice a second anyhow."""
PATH_MAX: Final = 100
"""Bytes of a path that surely fit a socket address (sockaddr_un, unix(7), has 108)."""


@contextlib.contextmanager
def short_path(folder: Path, name: str) -> Iterator[str]:
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


class _Connection(http.client.HTTPConnection):
    """HTTP on the control socket of a state directory."""

    def __init__(self, state: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._state = state

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        with short_path(self._state, SOCKET_NAME) as path:
            self.sock.connect(path)


def ask(
    state: Path, command: str, order: Mapping[str, Any] | None = None, *, timeout: float | None = None
) -> dict[str, Any]:
    """Ask the node that runs on a state directory, or have it do what `order` says; its result. Blocks, at
    most `timeout` seconds in silence, by default `TIMEOUT`.

    Raises:
        NetworkError: no node runs there, or it refuses. TransferTimeout: it does not answer. FormatError: its
        answer is none. FileError: the socket may not be used.
    """
    patience = TIMEOUT if timeout is None else timeout
    connection = _Connection(state, patience)
    try:
        with contextlib.suppress(BrokenPipeError):  # It may have refused us already, and said so.
            if order is None:
                connection.request("GET", f"/{command}")
            else:
                connection.request("POST", f"/{command}", json.dumps(order))
        response = connection.getresponse()
        body = response.read(MAX_RESPONSE + 1)
        if response.length and len(body) <= MAX_RESPONSE:
            raise ConnectionResetError("the answer is shorter than it said")
    except TimeoutError:
        raise TransferTimeout(
            f"the node that runs on {state} did not answer within {patience:.0f} seconds; try again"
        ) from None
    except ConnectionResetError:
        raise NetworkError(f"the node that runs on {state} ended without an answer") from None
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
        raise NetworkError(
            f"no node runs on the state directory {state}; start one with: p2psync node --state "
            f"{shlex.quote(str(state))}; or name the state directory of one that runs with --state"
        ) from None
    except http.client.HTTPException:
        raise FormatError(f"the node that runs on {state} gave an answer that is not HTTP/1.1") from None
    except OSError as error:
        raise FileError(f"{state / SOCKET_NAME} cannot be used: {error.strerror or error}") from None
    finally:
        connection.close()
    if len(body) > MAX_RESPONSE:
        raise FormatError(f"the node that runs on {state} answered with more than {MAX_RESPONSE} bytes")
    return _result(response.status, body, state)


def look(state: Path) -> None:
    """Have the node that runs on a state directory, if one does, look at once what is new there. Blocks, for
    `LOOK_TIMEOUT` at most.
    """
    with contextlib.suppress(P2psyncError):  # It looks by itself, only later.
        ask(state, "look", {}, timeout=LOOK_TIMEOUT)


def _result(status: int, body: bytes, state: Path) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise FormatError(f"the node that runs on {state} gave an answer that is no JSON object")
    if status != http.HTTPStatus.OK:
        raise NetworkError(
            f"the node that runs on {state} refused: {content.get('error', 'it does not say why')}"
        )
    return content
