"""Several commands at once in one directory: each completes, or says who is at work there."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from tests.e2e.harness import Command, Network, assert_same_tree
from tests.e2e.impatient import impatient
from tests.e2e.trees import MIB, fill
from tests.help.waiting import until

from p2psync.errors import BusyError

SLOW = "256"
"""KiB in a second: the fetch lasts until it is killed."""


@pytest.fixture
def where(net: Network) -> list[object]:
    fill(net.path / "tree" / "large", 2 * MIB, 1)
    for number in range(4):
        fill(net.path / "tree" / f"small{number}", 3000, number)
    url = net.publish(net.path / "tree", state="origin")
    origin = net.node("origin")
    return [url, net.path / "copy", "--source", origin.address]


def begun(net: Network, where: list[object], state: str) -> Command:
    """A fetch that has begun to write, and does not get further."""
    command = net.spawn("fetch", *where, "--bwlimit", SLOW, state=state)
    folder = net.path / "copy" / ".p2psync.partial"
    until(lambda: any(folder.glob("????????*")), "the large file is begun")
    command.process.send_signal(signal.SIGSTOP)
    return command


@pytest.mark.parametrize("state", ["first", "second"], ids=["one state", "two states"])
def test_a_second_fetch_says_which_process_is_at_work_where(
    net: Network, where: list[object], state: str
) -> None:
    net.forks = False  # What the system calls a process that was forked is what it was forked from.
    first = begun(net, where, "first")
    second = net.run("fetch", *where, state=state, expect=BusyError.exit_code)
    assert (
        f"at work on {str(net.path / 'copy')!r}: process {first.process.pid} (p2psync fetch" in second.stderr
    )
    first.kill()
    net.run("fetch", *where, state=state)  # What a killed process held is free.
    assert_same_tree(net.path / "tree", net.path / "copy")


def test_what_is_fetched_into_is_not_published_meanwhile(net: Network, where: list[object]) -> None:
    first = begun(net, where, "first")
    second = net.run("publish", net.path / "copy", state="first", expect=BusyError.exit_code)
    assert f"process {first.process.pid} (" in second.stderr


@pytest.mark.parametrize("states", [1, 4])
def test_single_files_come_into_one_directory_at_once(net: Network, where: list[object], states: int) -> None:
    net.program = impatient("p2psync.tree.maker.LOCK_SECONDS=60")  # However busy the machine is.
    url, copy, *source = where
    assert isinstance(copy, Path)
    copy.mkdir()
    commands = [
        net.spawn("fetch", f"{url}/small{number}", copy, *source, state=f"client{number % states}")
        for number in range(4)
    ]
    assert [command.wait() for command in commands] == [0] * 4, [command.stderr for command in commands]
    assert sorted(path.name for path in copy.iterdir()) == [f"small{number}" for number in range(4)]
