"""The units: what systemd says of them, and that a node talks to a service manager as sd_notify(3) wants
it."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.harness import Network, need

KIT = Path(__file__).parents[2] / "bootstrap"
UNITS = ("p2psync-bootstrap.service", "p2psync-mirror.service")
INSTALLED = "/opt/p2psync/venv/bin/p2psync"
EXPOSURE_MAX = 1.2
"""Of 10. What makes up the rest, and why it stays, is in docs/operators.md."""


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Network]:
    with Network(tmp_path) as network:
        yield network


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_finds_nothing_wrong(unit: str, tmp_path: Path) -> None:
    """As installed, but for the program's path, which has to exist."""
    program = Path(sys.executable).with_name("p2psync")
    made = tmp_path / unit
    made.write_text((KIT / unit).read_text().replace(INSTALLED, str(program)))
    done = subprocess.run(
        [need("systemd-analyze"), "verify", "--man=no", made], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("unit", UNITS)
def test_the_units_are_closed_to_what_a_node_does_not_need(unit: str) -> None:
    done = subprocess.run(
        [need("systemd-analyze"), "security", "--offline=true", "--no-pager", KIT / unit],
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found is not None
    assert float(found[1]) <= EXPOSURE_MAX, done.stdout


@pytest.mark.parametrize("unit", UNITS)
def test_the_command_line_of_a_unit_is_one_that_the_program_takes(unit: str) -> None:
    from p2psync.cli.app import program

    (line,) = re.findall(r"^ExecStart=(.*)$", (KIT / unit).read_text(), re.MULTILINE)
    path, name, *words = shlex.split(
        line.replace("${ARCHIVE}", f"p2psync://{'a' * 52}").replace("%S", "/var/lib")
    )
    assert path == INSTALLED
    command = program.get_command(None, name)  # type: ignore[arg-type]  # commands are found without a context
    assert command is not None
    command.make_context(name, [*words, "--config", os.devnull])


@pytest.mark.parametrize("unit", UNITS)
def test_the_state_directory_of_a_unit_is_not_left_to_the_order_of_several(unit: str) -> None:
    """systemd sorts them in $STATE_DIRECTORY: the program's first need not be the unit's first."""
    text = (KIT / unit).read_text()
    (directories,) = re.findall(r"^StateDirectory=(.*)$", text, re.MULTILINE)
    named = re.findall(r"^ExecStart=.* --state %S/(\S+)", text, re.MULTILINE)
    several = len(directories.split()) > 1
    assert len(named) == several
    assert set(named) <= set(directories.split())


class Manager:
    """A service manager's end of ``$NOTIFY_SOCKET``."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(60)
        self.path = path

    def until(self, wanted: str) -> list[str]:
        """The variables that came, up to one that begins with ``wanted``."""
        seen: list[str] = []
        while not seen or not seen[-1].startswith(wanted):
            seen += self._socket.recv(65536).decode().splitlines()
        return seen

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path / "notify")
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("role", ["bootstrap", "server"])
def test_a_node_tells_its_service_manager_how_it_is(net: Network, manager: Manager, role: str) -> None:
    env = {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "600000"}
    node = net.spawn("node", "--role", role, "--listen", "127.0.0.1:0", state="node", env=env)
    first = manager.until("STATUS=")
    assert first[0] == "READY=1"
    assert first[1].startswith("STATUS=0 contacts")
    assert node.wait_event("ready")
    for _ in range(3):
        manager.until("WATCHDOG=1")
    node.signal(signal.SIGTERM)
    assert "STATUS=stopping" in manager.until("STOPPING=1")
    assert node.wait() == 0


def test_a_hanging_node_sends_no_sign_of_life(net: Network, manager: Manager) -> None:
    env = {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "300000"}
    node = net.spawn("node", "--listen", "127.0.0.1:0", state="node", env=env)
    manager.until("WATCHDOG=1")
    node.signal(signal.SIGSTOP)
    manager._socket.settimeout(1)
    with pytest.raises(TimeoutError):
        while True:
            manager.until("WATCHDOG=1")
    node.signal(signal.SIGCONT)
    manager.until("WATCHDOG=1")


def test_a_service_manager_that_is_gone_does_no_harm(net: Network, tmp_path: Path) -> None:
    node = net.spawn(
        "node", "--listen", "127.0.0.1:0", state="node", env={"NOTIFY_SOCKET": str(tmp_path / "none")}
    )
    assert node.wait_event("ready")
    assert "systemd does not listen" in node.wait_event("warning")["message"]
    assert node.stop() == 0
