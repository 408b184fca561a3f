"""What the rest of the program wants of the network: heads and holders, and nothing of how they are had.

Two small protocols, so that a DHT of one's own and a gateway to somebody else's look the same to whoever
looks up or announces. What is found is signed, and verified before it is handed out; nothing here raises for
what other nodes do: they find less, or store less.
"""

from __future__ import annotations

import socket
from collections.abc import Collection
from typing import Protocol

from p2psync.network.way import Way
from p2psync_dht import Head, HolderRecord


class Heads(Protocol):
    """The newest head of each archive, and of its list of mirrors."""

    async def get_head(self, archive: bytes) -> Head | None:
        """The best head that is found of an archive (32 bytes); None if there is none."""

    async def get_mirrors_head(self, archive: bytes) -> Head | None:
        """The same of the list of mirrors that it recommends."""

    async def put_head(self, raw: bytes) -> int:
        """Store a head, of an archive or of its list of mirrors; how many hold it now, this one included.
        Raises RecordError if it is not valid.
        """

    async def refresh_head(self, raw: bytes) -> int:
        """Keep a head alive: store it only where it is missing, older or soon forgotten; how many were told.

        Raises RecordError if it is not valid.
        """


class Holders(Protocol):
    """Who has an archive or a large object."""

    async def get_holders(self, key: bytes) -> list[HolderRecord]:
        """Holder records under ``holders_key`` or ``object_key`` (20 bytes): current, one of each node."""

    async def announce(self, raws: Collection[bytes]) -> dict[bytes, int]:
        """Store holder records of this node; how many hold each, this one included.

        Raises RecordError if one is not valid.
        """


class Network(Heads, Holders, Protocol):
    """Both, and what its user has to know of the way to them."""

    @property
    def reachable(self) -> bool:
        """Whether it is worth asking: somebody is known, or the way in is being taken and will be waited
        for.
        """

    @property
    def way(self) -> Way:
        """What came of the way to them so far."""

    def observed(self, family: socket.AddressFamily) -> str | None:
        """Our IP address of a family as most of those see it who answered; None where nobody has told."""

    @property
    def received(self) -> int:
        """Bytes received so far."""
