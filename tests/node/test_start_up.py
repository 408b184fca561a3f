"""What commands load: start-up is most of what a small command takes, and grows a module at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2psync.content.library import StateLibrary
from p2psync.content.server import ContentServer
from p2psync.format.url import archive_text, host_port
from p2psync.publish import publish
from p2psync.state import State

HEAVY = {
    "aiohttp": "serves, 120 ms",
    "asyncio": "25 ms",
    "cryptography": "20 ms",
    "cryptography.hazmat.primitives.serialization": "all formats of keys that there are, 10 ms",
    "dataclasses": "1 ms, and another for each that is made",
    "dns": "asks for seeds, 60 ms",
    "email": "15 ms",
    "encodings.idna": "5 ms for each name that is no bytes",
    "json": "3 ms",
    "kademlia": "the DHT, 40 ms",
    "multiprocessing": "10 ms",
    "p2psync_dht.node": "the DHT",
    "prometheus_client": "measures, 60 ms",
    "p2psync.publish": "10 ms",
    "pyfastcdc": "cuts content",
    "rich": "displays, 80 ms",
    "sqlite3": "the state directory",
    "tomllib": "reads a configuration",
    "zstandard": "compresses, 5 ms",
}
"""Modules that take long to load, each with what for or how long."""

DRIVER = """
import sys
from p2psync.cli.app import run
code = run(sys.argv[1:])
sys.stdout.flush()
loaded = [name for name in %r if name in sys.modules]
import json
print("\\n" + json.dumps([code, loaded]))
"""


QUICK = """
from p2psync.network import beside
from p2psync.supply import sharing
beside.HINTS_PAUSE = sharing.SHARE_AFTER = 1e6
"""
"""On a busy machine the smallest fetch may last, and would begin to share."""


def loads(*words: str, home: Path, prelude: str = "") -> set[str]:
    """Which of the heavy modules a command has loaded when it is over; it must end well."""
    environment = {**os.environ, "HOME": str(home), "XDG_CONFIG_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", prelude + DRIVER % sorted(HEAVY), *words],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    code, loaded = json.loads(done.stdout.splitlines()[-1])
    assert code == 0, done.stderr
    return set(loaded)


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["-h"]])
def test_help_loads_nothing_heavy(tmp_path: Path, words: list[str]) -> None:
    assert loads(*words, home=tmp_path) == set()


@pytest.mark.parametrize("command", ["fetch", "publish", "node", "mirror", "ls", "dht"])
def test_help_of_a_command_loads_nothing_heavy(tmp_path: Path, command: str) -> None:
    assert loads(command, "--help", home=tmp_path) == set()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[str]:
    """The URL of a small archive, at a node that serves it without a DHT."""
    import asyncio
    import threading

    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_bytes(b"x" * 1000)
    ready = threading.Event()
    ended = asyncio.Event()
    url = ""
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        nonlocal url
        with State.open(tmp_path / "origin") as state:
            published = publish(state, bytes(tmp_path / "tree"))
            key = state.identity().public_key
            library = StateLibrary(state)
            server = await ContentServer.start(library, "127.0.0.1", 0, node_key=key)
            url = f"p2psync://{archive_text(published.archive)}?peer={host_port(*server.address)}"
            ready.set()
            await ended.wait()
            await server.close()
            library.close()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    ready.wait(60)
    yield url
    loop.call_soon_threadsafe(ended.set)
    thread.join()
    loop.close()


NEEDED = {"asyncio", "cryptography", "dataclasses", "sqlite3"}


def test_a_small_fetch_and_a_look_at_what_is_known_load_neither_server_nor_dht(
    tmp_path: Path, node: str
) -> None:
    state = ["--state", str(tmp_path / "state")]
    assert loads("fetch", *state, node, str(tmp_path / "copy"), home=tmp_path, prelude=QUICK) == NEEDED
    assert (tmp_path / "copy" / "file").read_bytes() == b"x" * 1000
    assert loads("ls", *state, node, home=tmp_path, prelude=QUICK) <= NEEDED


MADE = """
import atexit, dataclasses, json
made, make = [], dataclasses._process_class
def noted(cls, *options):
    made.append(cls.__name__)
    return make(cls, *options)
dataclasses._process_class = noted
atexit.register(lambda: print(json.dumps(made)))
from p2psync.cli import main
main()
"""
"""Ends with a line that names the dataclasses that a command has made."""


def test_a_small_fetch_makes_few_dataclasses(tmp_path: Path, node: str) -> None:
    """Each takes a millisecond, ten times what a named tuple takes: forty were a quarter of a small fetch."""
    words = ["fetch", "--state", str(tmp_path / "state"), node, str(tmp_path / "copy")]
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", QUICK + MADE, *words], capture_output=True, check=True, env=environment
    )
    made = set(json.loads(done.stdout.splitlines()[-1]))
    assert made <= {"DirWork", "FetchOptions", "FetchSummary", "Filter", "Plan", "Recipe", "Tree"}
