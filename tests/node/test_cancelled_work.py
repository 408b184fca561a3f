"""Who is cancelled while a thread works for him: what the thread uses stays open until it has ended, and what
it has opened by then is closed.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request
from tests.help.held import Held, cancel_while_held, turns
from tests.node.simulator import Publisher
from tests.node.swarm_sim import Arena

from p2psync import Client
from p2psync.content import listening
from p2psync.content.debts import Debts
from p2psync.content.library import StateLibrary
from p2psync.content.nominate import Nominations
from p2psync.content.send import send_content
from p2psync.content.threads import Threads
from p2psync.errors import FileError
from p2psync.state import State
from p2psync.supply.local import LocalChunks
from p2psync.tree import worker_process
from p2psync.tree.opener import FileContent
from p2psync.tree.process import start_process
from p2psync.tree.worker_process import ProcessWriter

TWICE = pytest.mark.parametrize("times", [1, 2])


@pytest.fixture
async def threads() -> AsyncIterator[Threads]:
    made = Threads(Debts())
    yield made
    await made.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "file"
    made.write_bytes(b"content")
    return made


@TWICE
async def test_dest_is_closed_when_nobody_reads_it_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    publisher = Publisher()
    publisher.publish({b"a": b"new"})
    arena = Arena(tmp_path, publisher)
    arena.know_metadata()
    (arena.dest / "a").write_bytes(b"old")
    held = Held()
    monkeypatch.setattr(LocalChunks, "scan", held.work)
    await cancel_while_held(asyncio.create_task(arena.fetch()), held, times)
    arena.close()


async def test_a_state_that_nobody_waits_for_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = State.open(tmp_path)
    held = Held(made)
    monkeypatch.setattr(State, "open", held.work)
    await cancel_while_held(asyncio.create_task(Client(tmp_path).__aenter__()), held)
    with pytest.raises(FileError, match="closed"):
        made.trees.all()


async def test_sockets_that_nobody_waits_for_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    made = socket.create_server(("127.0.0.1", 0))
    held = Held([made])
    monkeypatch.setattr(listening, "open_sockets", held.work)
    task = asyncio.create_task(listening.listening(asyncio.Protocol, "127.0.0.1", 0))
    await cancel_while_held(task, held)
    assert made.fileno() == -1


async def test_a_process_that_nobody_waits_for_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held()
    started: list[tuple[subprocess.Popen[bytes], socket.socket]] = []

    def start(*arguments: Any, **keywords: Any) -> Any:
        started.append(start_process(*arguments, **keywords))
        held.work()
        return started[0]

    monkeypatch.setattr(worker_process, "start_process", start)
    task = asyncio.create_task(ProcessWriter.start(bytes(tmp_path), frozenset(), None))
    await cancel_while_held(task, held)
    [(process, ours)] = started
    assert process.returncode is not None
    assert ours.fileno() == -1


# The content server.


async def test_what_was_opened_for_a_request_that_was_given_up_is_closed(
    threads: Threads, file: Path
) -> None:
    content = FileContent(os.open(file, os.O_RDONLY), 7, None)
    held = Held(content)
    await cancel_while_held(asyncio.create_task(threads.do(held.work)), held)
    assert content.fd == -1


@TWICE
async def test_a_file_that_a_thread_reads_is_closed_after_that(
    threads: Threads, file: Path, times: int
) -> None:
    """Its descriptor would be another file's by then, and that one found to be damaged."""
    held = Held()

    class Slow(FileContent):
        reads = True

        def covers(self, offset: int, length: int) -> bool:
            held.work()
            return os.pread(self.fd, 7, 0) == b"content"

    content = Slow(os.open(file, os.O_RDONLY), 7, None)
    request = make_mocked_request("GET", "/")
    sending = send_content(threads, request, content, "tag", {}, lambda _: None)
    await cancel_while_held(asyncio.create_task(sending), held, times)
    assert content.fd == -1


@TWICE
async def test_the_library_is_not_closed_while_a_nomination_is_examined(
    threads: Threads, state: State, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    library = StateLibrary(state)
    held = Held([])
    monkeypatch.setattr(library, "archives", held.work)
    nominations = Nominations(library, threads, own_key=b"k" * 32)
    considering = asyncio.create_task(nominations.consider(b"a" * 32, b"record", "127.0.0.1"))
    await held.begun.wait()
    closing = asyncio.create_task(threads.close())
    await turns()
    assert not closing.done()
    await cancel_while_held(considering, held, times)
    await closing
    library.close()
