"""Hosts in network namespaces, joined by wires of a given speed. Needs root and Linux, ip and tc of iproute2.

Speed is a token bucket (tc-tbf(8)) on the sending end. No delay is added but that of its queue.
"""

from __future__ import annotations

import os
import secrets
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from bench.processes import Place, need

MBIT: Final = 1_000_000
BURST: Final = "64kb"
"""Of the token bucket: the largest packet that segmentation offload hands it."""
LATENCY: Final = "50ms"
"""What a packet may wait in a bucket's queue before it is dropped: a queue as that of a home router."""
PREFIX: Final = "p2pb"


def may() -> bool:
    """Whether namespaces can be made at all: otherwise rows about links are skipped."""
    return os.geteuid() == 0


class Host:
    """A network namespace."""

    def __init__(self, stack: ExitStack) -> None:
        """It is there until ``stack`` ends, with all its devices."""
        self.name = f"{PREFIX}-{os.getpid():x}-{secrets.token_hex(3)}"
        _do("ip", "netns", "add", self.name)
        stack.callback(_do, "ip", "netns", "delete", self.name)
        self.inside("link", "set", "lo", "up")

    def at(self, address: str) -> Place:
        """To run processes here that are reached at an address of it."""
        return Place(address, (need("ip"), "netns", "exec", self.name))

    def inside(self, *words: str) -> None:
        """``ip`` in this namespace."""
        _do("ip", "-n", self.name, *words)

    def limit(self, device: str, rate: int) -> None:
        """Let a device send at most ``rate`` bits a second."""
        bucket = ["tbf", "rate", f"{rate}bit", "burst", BURST, "latency", LATENCY]
        _do("tc", "-n", self.name, "qdisc", "replace", "dev", device, "root", *bucket)


def wire(one: Host, one_end: str, other: Host, other_end: str) -> None:
    """A cable between two hosts, with a name for each end."""
    one.inside("link", "add", one_end, "type", "veth", "peer", "name", other_end, "netns", other.name)
    one.inside("link", "set", one_end, "up")
    other.inside("link", "set", other_end, "up")


def sent(pid: int, device: str) -> int:
    """Bytes that a device of the namespace of a process has sent so far, headers included."""
    return _counts(pid, device)[8]


def received(pid: int, device: str) -> int:
    """Bytes that it has received."""
    return _counts(pid, device)[0]


def _counts(pid: int, device: str) -> list[int]:
    for line in Path(f"/proc/{pid}/net/dev").read_text().splitlines():
        name, _, counts = line.partition(":")
        if name.strip() == device:
            return list(map(int, counts.split()))
    raise LookupError(f"there is no device {device}")


def _do(*argv: str) -> None:
    subprocess.run([need(argv[0]), *argv[1:]], check=True)
