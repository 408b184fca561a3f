"""Requests that a browser makes for somebody's page: what a page may not do with a node that its reader can
reach.

A page may send anything to any address, and not read the answer: what changes something, or costs much, is
refused to it. And it may have a name that leads to the reader's own machine (DNS rebinding); then it may
read as well. A node that is asked by a program of its own machine therefore answers by no names but its
own. Other machines may call it as they like: what it serves is for whoever reaches it.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

LOOPBACK: Final = ("127.", "::1")
"""How the addresses of programs on this machine begin."""


class Refusal(NamedTuple):
    """The HTTP status, and a sentence."""

    status: int
    text: str


HOSTS: Final = Path("/etc/hosts")
"""Where the system keeps how machines are called, this one too (hosts(5))."""
HOSTS_MAX: Final = 64 << 10
"""Bytes of it that are read: lists of advertisers, which some people keep there, are of no interest."""
FOREIGN_PAGE: Final = Refusal(403, "pages of the web may not send anything here\n")
FOREIGN_NAME: Final = Refusal(
    421,
    "this is not the name of this node: ask by its address, or name it to the node with --advertise\n",
)


class Visitors:
    """Knows the names of this node."""

    def __init__(self, names: Iterable[str] = (), hosts: Path = HOSTS) -> None:
        """``names``: those by which it is reached through a proxy on this machine."""
        self._names = {name.lower() for name in (*names, socket.gethostname(), *_own_names(hosts))}

    def refusal(self, client: str, method: str, headers: Mapping[str, str]) -> Refusal | None:
        """Why a request of an IP address is refused, or None. ``headers`` are looked up in lower case."""
        if method not in {"GET", "HEAD"} and headers.get("origin") is not None:
            return FOREIGN_PAGE
        host = headers.get("host")
        if client.startswith(LOOPBACK) and host is not None and not self._is_own(host):
            return FOREIGN_NAME
        return None

    def _is_own(self, host: str) -> bool:
        """Whether a Host header (RFC 9110, section 7.2) names this machine. An address does, and a name
        without a dot, which nobody can have in the DNS.
        """
        if host.startswith("["):
            return _is_address(host[1:].partition("]")[0])
        name = host.partition(":")[0].lower().removesuffix(".")
        return (
            "." not in name
            or _is_address(name)
            or name in self._names
            or name.removesuffix(".local") in self._names
            or name.endswith(".localhost")
            or name == "localhost.localdomain"
        )


def _own_names(hosts: Path) -> list[str]:
    """What this machine is called in its own list of hosts."""
    with contextlib.suppress(OSError), hosts.open("rb") as file:
        lines = file.read(HOSTS_MAX).decode("utf-8", "replace").splitlines()
        words = [line.partition("#")[0].split() for line in lines]
        return [name for each in words if each and each[0].startswith(LOOPBACK) for name in each[1:]]
    return []


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
