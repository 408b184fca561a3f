"""Who else holds what a node announces: how many are there, how many are silent, how many have left.

They are asked for their lists now and then, also where there is nothing to tell them: a list says who has
left, and who does not answer is not there.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Iterable
from typing import Final, NamedTuple

from p2psync.daemon.gossip import Gossip
from p2psync.state import State
from p2psync.state.off_loop import off_loop
from p2psync.text import count
from p2psync.trust import Standing
from p2psync_dht import HolderRole

MEET: Final = 3600.0
"""Seconds, on average, between two times that others are asked."""
MET_MAX: Final = 64
"""Archives whose holders are asked each time: a few hundred small requests an hour, however many there are.
"""


class Company(NamedTuple):
    """Other holders; one that holds several archives counts for each."""

    present: int = 0
    """Say that they are there, and nothing is known to the contrary."""
    silent: int = 0
    """Say so too, and did not answer when they were told or asked something last."""
    withdrawn: int = 0
    """Of those that were to stay, have said that they hold it no longer: nobody takes them for failing."""
    unproved: int = 0
    """Others say that they are there, and this node has not reached them lately."""

    def __str__(self) -> str:
        parts = [count(self.present, "other holder")]
        parts += [f"{self.silent} silent"] if self.silent else []
        parts += [f"{self.withdrawn} withdrawn"] if self.withdrawn else []
        parts += [f"{self.unproved} unproved"] if self.unproved else []
        return ", ".join(parts)


def company(
    state: State, archives: Iterable[bytes], own_key: bytes, silent: Collection[str], now: float
) -> Company:
    """The other holders of some archives at `now` (Unix s). `silent`: addresses (HOST:PORT) that did not
    answer.
    """
    present = quiet = withdrawn = unproved = 0
    for archive in archives:
        records = [each for each in state.holders.records(archive, now) if each.node_key != own_key]
        standings = state.nodes.standings(records, now)
        for record in records:
            if standings[record.node_key] == Standing.TOLD:
                unproved += not record.withdrawn
            elif record.withdrawn:
                withdrawn += record.role is not HolderRole.PEER  # A fetch that is over was never to stay.
            elif any(str(endpoint) in silent for endpoint in record.endpoints):
                quiet += 1
            else:
                present += 1
    return Company(present, quiet, withdrawn, unproved)


class Others:
    """The other holders of what a node announces."""

    def __init__(
        self,
        state: State,
        own_key: bytes,
        gossip: Gossip,
        archives: Callable[[], Collection[bytes]],
        rng: random.Random,
    ) -> None:
        self._state = state
        self._own_key = own_key
        self._gossip = gossip
        self._archives = archives
        self._random = rng
        self.company = Company()
        """As they were counted last."""

    def pause(self) -> float:
        """Seconds until it is time to `meet` again: not for all nodes at the same moment."""
        return MEET * self._random.uniform(0.5, 1.5)

    async def meet(self) -> None:
        """Ask some of them for their lists."""
        archives = list(self._archives())
        for archive in self._random.sample(archives, min(MET_MAX, len(archives))):
            await self._gossip.tell(archive, None, None)
        await self.count()

    async def count(self) -> None:
        """Count them."""
        self.company = await off_loop(self._counted)

    def _counted(self) -> Company:
        return company(self._state, self._archives(), self._own_key, self._gossip.silent, time.time())
