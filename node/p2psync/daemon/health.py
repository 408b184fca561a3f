"""How a node is, in a few figures: for ``/health``, for systemd's status line, and for metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from p2psync import __version__
from p2psync.checks import Counts
from p2psync.content.server import ContentServer
from p2psync.daemon.announce import Announcer
from p2psync.daemon.company import Company
from p2psync.daemon.losses import Loss
from p2psync.daemon.mirrors import Mirrors
from p2psync.daemon.options import NodeOptions
from p2psync.errors import P2psyncError, show_path
from p2psync.format.url import archive_text
from p2psync.network.seeds.find import Seeds
from p2psync.state import State, Tree
from p2psync.text import count, name_fields
from p2psync_dht import DhtNode

ALONE_MAX: Final = 900.0
"""Seconds without any contact after which a node is not well: a router that restarts takes some minutes."""


@dataclass
class Vitals:
    """The parts of a running node that can be asked how they are. A bootstrap node has fewer."""

    options: NodeOptions
    state: State
    dht: DhtNode
    seeds: Seeds
    server: ContentServer | None = None
    announcer: Announcer | None = None
    mirrors: Mirrors | None = None
    checked: Callable[[], Mapping[bytes, Counts]] = dict
    """How the mirrors that were checked stand, by archive."""
    losses: Callable[[], Mapping[int, Loss]] = dict
    """What trees no longer have of their archives, by the ids of trees."""
    clock: Callable[[], float] = time.monotonic
    started: float = field(default_factory=time.time)
    """Unix seconds."""
    _alone_since: float | None = field(init=False)
    _had_company: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self._alone_since = self.clock()
        self.look()

    def look(self) -> int:
        """Note whether anybody is there; how many contacts there are."""
        contacts = len(self.dht.contacts())
        if contacts:
            self._alone_since = None
            self._had_company = True
        elif self._alone_since is None:
            self._alone_since = self.clock()
        return contacts

    @property
    def alone(self) -> float:
        """Seconds since the last contact was lost, or since the start; 0 in company."""
        return 0.0 if self._alone_since is None else self.clock() - self._alone_since

    @property
    def ok(self) -> bool:
        """False: alone for too long. The first node of a network has nobody to wait for."""
        expected = bool(self.options.bootstrap) or self._had_company
        return not expected or self.alone < ALONE_MAX

    def archives(self) -> set[bytes]:
        """Archives that are published or mirrored here. Raises FileError."""
        trees = self.state.trees.all()
        return {tree.archive for tree in trees if tree.archive is not None and tree.role != "fetch"}

    def held_back(self) -> list[str]:
        """The archives whose mirrors stay at an older snapshot, since the newest has lost too much of them.
        Raises FileError.
        """
        trees = self.mirrors.held_back() if self.mirrors is not None else []
        return sorted({archive_text(tree.archive) for tree in trees if tree.archive is not None})

    def damaged(self) -> list[tuple[Tree, Loss]]:
        """The trees that no longer have all of what was published. Raises FileError."""
        losses = self.losses()
        return [(tree, losses[tree.id]) for tree in self.state.trees.all() if tree.id in losses]

    def ended(self) -> list[str]:
        """The archives here that their publishers have ended. Raises FileError."""
        heads = (self.state.heads.newest(archive) for archive in self.archives())
        return sorted(
            archive_text(head.archive) for head in heads if head is not None and head.ended is not None
        )

    def report(self) -> dict[str, Any]:
        """The JSON object of ``/health``. Raises FileError."""
        contacts = self.look()
        return {
            "ok": self.ok,
            "node": self.dht.node_id.hex(),
            "role": str(self.options.role),
            "version": __version__,
            "uptime_seconds": round(time.time() - self.started, 3),
            "contacts": contacts,
            "alone_seconds": round(self.alone, 3),
            "records": len(self.dht.storage),
            "archives": len(self.archives()) if self.announcer is not None else 0,
            "held_back": self.held_back(),
            "ended": self.ended() if self.announcer is not None else [],
            "damaged": [
                {
                    "archive": archive_text(tree.archive or b""),
                    **name_fields(tree.path, "path"),
                    "gone": loss.gone,
                    "files": loss.files,
                    "bytes": loss.size,
                }
                for tree, loss in self.damaged()
            ],
            "last_announcement": self.announcer.last_announced if self.announcer is not None else None,
            "holders": self.company._asdict(),
        }

    @property
    def company(self) -> Company:
        """The other holders of what is announced here."""
        return Company() if self.announcer is None else self.announcer.others.company

    def status(self) -> str:
        """One line for people. Never raises: what cannot be told is said to be so."""
        contacts = self.look()
        parts = [count(contacts, "contact"), count(len(self.dht.storage), "record")]
        if self.announcer is not None:
            try:
                parts.append(count(len(self.archives()), "archive"))
                if held_back := self.held_back():
                    parts.append(
                        f"{count(len(held_back), 'archive')} held back: the newest snapshot lost too much"
                    )
                if ended := self.ended():
                    parts.append(f"{count(len(ended), 'archive')} ended by the publisher")
                for tree, loss in self.damaged():
                    what = (
                        "has nothing of its archive" if loss.gone else f"has lost {count(loss.files, 'file')}"
                    )
                    parts.append(f"{show_path(tree.path)} {what}")
            except P2psyncError as error:
                parts.append(f"the index cannot be read: {error}")
            if any(self.company):
                parts.append(str(self.company))
        return ", ".join(parts) + (
            "" if self.ok else f"; nobody has answered for {self.alone / 60:.0f} minutes"
        )
