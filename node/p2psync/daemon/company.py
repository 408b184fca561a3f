"""Who else holds what a node announces: how many are there, how many are silent, how many have left."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from p2psync.state import State
from p2psync.text import count
from p2psync_dht import HolderRole


class Company(NamedTuple):
    """Other holders; one that holds several archives counts for each."""

    present: int = 0
    """Say that they are there, and nothing is known to the contrary."""
    silent: int = 0
    """Say so too, and did not answer when they were told something last."""
    withdrawn: int = 0
    """Of those that were to stay, have said that they hold it no longer: nobody takes them for failing."""

    def __str__(self) -> str:
        parts = [count(self.present, "other holder")]
        parts += [f"{self.silent} silent"] if self.silent else []
        parts += [f"{self.withdrawn} withdrawn"] if self.withdrawn else []
        return ", ".join(parts)


def company(
    state: State, archives: Iterable[bytes], own_key: bytes, silent: Collection[str], now: float
) -> Company:
    """The other holders of some archives at `now` (Unix s). `silent`: addresses (HOST:PORT) that did not
    answer.
    """
    present = quiet = withdrawn = 0
    for archive in archives:
        for record in state.holders.records(archive, now):
            if record.node_key == own_key:
                continue
            if record.withdrawn:
                withdrawn += record.role is not HolderRole.PEER  # A fetch that is over was never to stay.
            elif any(str(endpoint) in silent for endpoint in record.endpoints):
                quiet += 1
            else:
                present += 1
    return Company(present, quiet, withdrawn)
