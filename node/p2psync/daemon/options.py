"""How a node runs: what the command line says of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

from p2psync.daemon.policy import EVERYBODY, Policy
from p2psync.fetch.hooks import NONE, Hooks


class Role(StrEnum):
    """What a node does for the network."""

    AUTO = "auto"
    """Takes part as a server unless others show that they cannot reach it; then it only asks."""
    SERVER = "server"
    """Takes part in the DHT, serves, announces and mirrors, without asking whether it can be reached."""
    BOOTSTRAP = "bootstrap"
    """The DHT alone: a place to join by, which holds other nodes' records and no archive."""

    @property
    def tests_reachability(self) -> bool:
        """Whether the node has others call it back before it is listed, and from time to time."""
        return self is Role.AUTO


class Tls(NamedTuple):
    """Where a node serves within TLS, and by which files (PEM)."""

    certificate: str
    key: str
    listen: tuple[str, int]


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """How a node runs."""

    listen: tuple[str, int]
    bootstrap: tuple[str, ...] = ()
    """Addresses to join by, and sources of seeds (``seeds.query``)."""
    bwlimit: int | None = None
    """Bytes a second that updates of mirrors may receive."""
    advertise: tuple[str, int] | None = None
    """Where others reach this node, if it cannot see that itself (port forwarding)."""
    role: Role = Role.AUTO
    metrics: tuple[str, int] | None = None
    """Where to answer for metrics and health; None: nowhere."""
    policy: Policy = EVERYBODY
    """Which mirrors of what is published here are recommended."""
    hooks: Hooks = NONE
    """What is run before and after updates of mirrors."""
    rsync_listen: tuple[str, int] | None = None
    """Where to serve rsync clients; None: nowhere."""
    tls: Tls | None = None
    """Where to serve within TLS; None: nowhere."""


class Ready(Protocol):
    """Called once the node serves; in general it has joined by then. Addresses are ``HOST:PORT``; ``listen``
    has one or, where it listens everywhere, this machine's. ``rsync`` is for rsync clients, ``tls`` is
    served within TLS.
    """

    def __call__(
        self,
        listen: Sequence[str],
        node: str,
        metrics: str | None,
        rsync: str | None = None,
        tls: str | None = None,
    ) -> None: ...
