"""Whether somebody else speaks with the key of this node: a copy of its state directory that runs elsewhere
(a cloned machine, a backup), or a thief.

Each record of a node takes the place of the one before, whoever of the two signed it, so others find now one
of them and now the other. What they get is right all the same: hashes decide. The remedy is a new key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from p2psync_dht import Endpoint, HolderRecord, HolderRole


class Twin:
    """Looks for records with our key that are not ours; says so once."""

    def __init__(self, key_file: Path, warn: Callable[[str], None]) -> None:
        self._key_file = key_file
        self._warn = warn
        self._began: int | None = None
        self._said: set[Endpoint] = set()
        self._told = False

    def look(self, found: Iterable[HolderRecord], ours: HolderRecord) -> None:
        """``found`` is what others have of an archive, ``ours`` what has just been signed for it."""
        self._said.update(ours.endpoints)
        self._began = ours.issued if self._began is None else self._began
        theirs = next((record for record in found if self._is_foreign(record, ours)), None)
        if theirs is not None and not self._told:
            self._told = True
            where = " or ".join(map(str, theirs.endpoints))
            self._warn(
                f"somebody else announces this node at {where}, with its key: a copy of its state directory "
                f"runs there, or the key is stolen; stop one of the two, remove {self._key_file} and start "
                "again, which makes a new key"
            )

    def _is_foreign(self, record: HolderRecord, ours: HolderRecord) -> bool:
        """A fetch with this state directory announces itself as a peer, at a port of its own. What is issued
        earlier than we began may be ours, from another address.
        """
        if record.node_key != ours.node_key or record.role is HolderRole.PEER or record.raw == ours.raw:
            return False
        elsewhere = self._began is not None and record.issued > self._began
        return record.issued > ours.issued or (elsewhere and self._said.isdisjoint(record.endpoints))
