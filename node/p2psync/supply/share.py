"""Who offers what a fetch has so far to others: one who shares, or nobody."""

from __future__ import annotations

from typing import Protocol

from p2psync.supply.bundles import Stamp
from p2psync.supply.jobs import Job


class Share(Protocol):
    """Who offers the chunks of unfinished objects to others while the fetch runs."""

    def offer(self, job: Job) -> None:
        """Its unfinished file holds the chunks of ``job.written``."""

    def complete(self, job: Job, path: bytes, stamp: Stamp) -> None:
        """It is whole, and lies at ``path`` below DEST, with this stamp, until the index knows it."""

    def withdraw(self, job: Job) -> None:
        """The index knows it, or it was given up."""


class Nothing:
    """The share of a fetch that does not share."""

    def offer(self, job: Job) -> None:
        return

    def complete(self, job: Job, path: bytes, stamp: Stamp) -> None:
        return

    def withdraw(self, job: Job) -> None:
        return
