"""Holder records as a fetch reads them: what is left of anybody's bytes once they are checked. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from p2psync.errors import FormatError
from p2psync.format.coverage import Coverage
from p2psync.trust import Standing
from p2psync_dht import HolderRecord, HolderRole, RecordError, holders_key
from p2psync_dht.networks import NetworkQuota

NOTHING: Final = Coverage(False, 0, 0)
"""What is covered by a record that takes another one back."""


class Found(NamedTuple):
    """Somebody who says that it has (part of) the archive, or no longer, in a record that is rightly signed
    and current.
    """

    record: HolderRecord
    coverage: Coverage

    @property
    def names(self) -> list[str]:
        """Its addresses, as sources are named."""
        return [str(endpoint) for endpoint in self.record.endpoints if not endpoint.url]

    @property
    def whole(self) -> bool:
        """It claims a snapshot in full, and means to stay."""
        return self.coverage.complete and self.record.role != HolderRole.PEER

    @property
    def claims(self) -> tuple[int, int] | None:
        """(epoch, sequence number) of the snapshot that it claims in full."""
        return (self.coverage.epoch, self.coverage.seq) if self.whole else None


def by_chance(
    found: Iterable[Found], count: int, chance: random.Random, standings: Mapping[bytes, Standing]
) -> list[Found]:
    """``count`` of them at most, those whom this machine has dealt with first (``standings`` by node key),
    then those who claim a snapshot in full, and no more of one network than count as different
    (``p2psync_dht.networks.PER_NETWORK``): who made many records has many chances, and who has few
    addresses has few.
    """
    shuffled = list(found)
    chance.shuffle(shuffled)
    quota = NetworkQuota()
    chosen: list[Found] = []
    for each in sorted(shuffled, key=lambda one: (standings[one.record.node_key], not one.whole)):
        ip = next((endpoint.ip for endpoint in each.record.endpoints if endpoint.ip), None)
        if ip is not None and len(chosen) < count and quota.admit(ip):
            chosen.append(each)
    return chosen


def read_records(
    raws: Iterable[bytes], archive: bytes, own_key: bytes, now: float, *, verified: bool
) -> list[Found]:
    """The records of ``archive`` among ``raws`` that are current at ``now`` (Unix seconds), without our own.

    ``verified``: their signatures have been checked before.
    """
    key = holders_key(archive)
    found: list[Found] = []
    for raw in raws:
        try:
            record = HolderRecord.decode(raw)
            if record.key != key or record.node_key == own_key:
                continue
            record.check_time(int(now))
            if not verified:
                record.verify()
            found.append(Found(record, NOTHING if record.withdrawn else Coverage.decode(record.payload)))
        except (RecordError, FormatError):
            continue
    return found
