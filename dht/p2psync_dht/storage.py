"""What a node keeps for others: verified records under bounds, compactly.

An entry is the record's bytes with eight bytes behind them (when to drop it, which network it came from): a
Python object per record would double the memory. Heads have one entry a key, and the order of heads
decides; holder records have one a node. `put` checks everything but the sender's right to store, which is
`protocol`'s (tokens).
"""

from __future__ import annotations

import random
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

from kademlia.storage import IStorage

from p2psync_dht.form import RecordError
from p2psync_dht.holder_record import TAG_HOLDER, HolderRecord
from p2psync_dht.networks import fairly
from p2psync_dht.places import Places, networks_behind
from p2psync_dht.records import TAG_HEAD, TAG_MIRRORS, Head
from p2psync_dht.scope import may_claim
from p2psync_dht.wire import Status

MAX_RECORDS: Final = 100_000  # 30 MB
MAX_SOURCE_SHARE: Final = 4  # one provider may fill a quarter of that
# Nobody needs all of more holders; which of them are kept is not for one network to choose.
MAX_HOLDERS_PER_KEY: Final = 512
HEAD_KEEP: Final = 7 * 24 * 3600  # seconds from its last refresh; holders of the archive refresh it hourly
EVICTION_BATCH: Final = 100  # one scan of the whole store makes room for a 100th of it
EVICTION_SAMPLE: Final = 4000  # records of the largest provider of which the batch is chosen fairly: 20 ms
PRUNE_SLICE: Final = 2000  # keys looked at in one step: a few milliseconds
FEW: Final = 4  # holders of a key up to which nobody has too many (`HOLDERS_PER_NETWORK`)
MAX_PLACES: Final = 16  # keys whose places are remembered, those written last: up to 100 KB each

_TRAILER: Final = struct.Struct("!II")
_TRAILER_SIZE: Final = _TRAILER.size
_MAX_U32: Final = 2**32 - 1
_NODE_PREFIX: Final = 16  # bytes of a node key that tell holders of one key apart
# Where the fixed-size fields stand: one byte each of array header and tag, two of byte-string header.
_HEAD_ROOT: Final = slice(4, 36)
_HOLDER_KEY: Final = slice(4, 24)
_HOLDER_NODE: Final = slice(26, 26 + _NODE_PREFIX)

_Entries = dict[bytes, bytes]


def _whose(raw: bytes) -> bytes:
    """Under which name a head is kept: its root, with another byte behind it for one of mirrors."""
    root = raw[_HEAD_ROOT]
    return root if raw[1] == TAG_HEAD else root + raw[1:2]


def _head_in(entry: bytes) -> Head:
    """The head of an entry, which was verified."""
    raw = entry[:-_TRAILER_SIZE]
    return Head.decode(raw, tag=raw[1])


def _drop_after(entry: bytes) -> int:
    return int.from_bytes(entry[-8:-4], "big")


def _source(entry: bytes) -> int:
    return int.from_bytes(entry[-4:], "big")


class RecordStore(IStorage):  # type: ignore[misc]  # kademlia has no type hints, so its classes are Any
    """Records by 20-byte key. `clock` gives Unix seconds."""

    def __init__(
        self,
        clock: Callable[[], float],
        rng: random.Random,
        *,
        max_records: int = MAX_RECORDS,
        max_holders_per_key: int = MAX_HOLDERS_PER_KEY,
    ) -> None:
        self._clock = clock
        self._rng = rng
        self._max_records = max_records
        self._max_per_key = max_holders_per_key
        self._heads: dict[bytes, bytes] = {}  # by whose they are
        self._whose: dict[bytes, bytes] = {}  # by DHT key
        self._holders: dict[bytes, bytes | _Entries] = {}  # one holder needs no dictionary
        self._by_source: Counter[int] = Counter()
        self._pruning: list[bytes] = []
        self._places: dict[bytes, Places] = {}  # of keys with more than a few holders

    def __len__(self) -> int:
        return self._by_source.total()

    def counts(self) -> dict[str, int]:
        """Heads, holder records, and the keys that these are under."""
        heads = len(self._heads)
        return {"heads": heads, "holders": len(self) - heads, "holder_keys": len(self._holders)}

    # Writing

    def put(self, raw: bytes, *, source: int = 0, sender_ip: str | None = None) -> Status:
        """Check a record and keep it if it is better than what is held.

        `source` is the network that pays for it. With `sender_ip`, IP endpoints must be that address, and
        perhaps one of the other family (`scope.may_claim`): nobody announces somebody else.
        """
        if type(raw) is not bytes or len(raw) < 2:
            return Status.REFUSED
        if raw[1] in (TAG_HEAD, TAG_MIRRORS):
            return self._put_head(raw, source)
        if raw[1] == TAG_HOLDER:
            return self._put_holder(raw, source, sender_ip)
        return Status.REFUSED

    def _put_head(self, raw: bytes, source: int) -> Status:
        whose = _whose(raw)
        held = self._heads.get(whose)
        now = int(self._clock())
        drop_after = min(now + HEAD_KEEP, _MAX_U32)
        if held is not None and held.startswith(raw) and len(held) == len(raw) + _TRAILER_SIZE:
            self._heads[whose] = raw + _TRAILER.pack(drop_after, _source(held))
            return Status.SAME
        try:
            head = Head.decode(raw, tag=raw[1])
            if held is not None and head.order < Head.decode(held[:-_TRAILER_SIZE], tag=raw[1]).order:
                return Status.OLDER
            head.verify(now)
        except RecordError:
            return Status.REFUSED
        if held is None and not self._make_room(source):
            return Status.FULL
        if held is not None:
            self._uncount(held)
        self._heads[whose] = raw + _TRAILER.pack(drop_after, source)
        self._whose[head.key] = whose
        self._by_source[source] += 1
        return Status.STORED

    def _put_holder(self, raw: bytes, source: int, sender_ip: str | None) -> Status:
        key, node = raw[_HOLDER_KEY], raw[_HOLDER_NODE]
        held = self._held(key, node)
        if held is not None and held.startswith(raw) and len(held) == len(raw) + _TRAILER_SIZE:
            return Status.SAME
        try:
            record = HolderRecord.decode(raw)
            if held is not None and record.order < HolderRecord.decode(held[:-_TRAILER_SIZE]).order:
                return Status.OLDER
            self._check_holder(record, sender_ip)
        except RecordError:
            return Status.REFUSED
        if record.withdrawn and held is None and sender_ip is not None:
            return Status.SAME  # Nothing of this node is here, which is all that it wants.
        drop_after = min(record.expires, _MAX_U32)
        if record.withdrawn and held is not None:
            # It takes the place of what it takes back, and for no longer than that would have been here.
            drop_after, source = min(drop_after, _drop_after(held)), _source(held)
        entry = raw + _TRAILER.pack(drop_after, source)
        if held is not None:
            self._uncount(held)
        elif not self._make_room_under(key, entry) or not self._make_room(source):
            return Status.FULL
        self._insert_holder(key, node, entry)
        self._by_source[source] += 1
        if held is None and (places := self._places.get(key)) is not None:
            networks, local = networks_behind(entry, _source(entry))
            places.add(node, networks, local=local)
        return Status.STORED

    def _held(self, key: bytes, node: bytes) -> bytes | None:
        """The entry of a node under a key."""
        entries = self._holders.get(key)
        if isinstance(entries, bytes):
            return entries if entries[_HOLDER_NODE] == node else None
        return entries.get(node) if entries else None

    def _check_holder(self, record: HolderRecord, sender_ip: str | None) -> None:
        """RecordError unless a record is current, rightly signed, and of nobody but its sender.

        A withdrawal announces nobody: its node may have another address by now.
        """
        places = [place.ip for place in record.endpoints]
        if sender_ip is not None and not record.withdrawn and not may_claim(places, sender_ip):
            raise RecordError("a holder record that announces somebody else")
        record.verify(int(self._clock()))

    def _insert_holder(self, key: bytes, node: bytes, entry: bytes) -> None:
        entries = self._holders.get(key)
        if entries is None or (type(entries) is bytes and entries[_HOLDER_NODE] == node):
            self._holders[key] = entry
        elif isinstance(entries, bytes):
            self._holders[key] = {entries[_HOLDER_NODE]: entries, node: entry}
        else:
            entries[node] = entry

    # Room

    def _uncount(self, entry: bytes) -> None:
        source = _source(entry)
        self._by_source[source] -= 1
        if not self._by_source[source]:
            del self._by_source[source]

    def _make_room_under(self, key: bytes, newcomer: bytes) -> bool:
        """Room for one more holder of `key`: of a network that has its share, or if there is no room at all
        of the one that has most, somebody gives a place up, or the newcomer gets none.
        """
        entries = self._holders.get(key)
        if not isinstance(entries, dict) or len(entries) < FEW:
            return True
        places, (networks, local) = (
            self._places_under(key, entries),
            networks_behind(newcomer, _source(newcomer)),
        )
        width = None if local else places.full(networks)
        if width is None and len(entries) < self._max_per_key:
            return True
        victim = places.yields(networks, width, self._rng)
        if victim is not None:
            self._remove(key, victim)
        return victim is not None

    def _places_under(self, key: bytes, entries: _Entries) -> Places:
        places = self._places.get(key)
        if places is None:
            places = Places(
                (node, *networks_behind(entry, _source(entry))) for node, entry in entries.items()
            )
            if len(self._places) >= MAX_PLACES:
                del self._places[next(iter(self._places))]
            self._places[key] = places
        return places

    def _make_room(self, source: int) -> bool:
        """Room for one more record of `source`: the provider with the most of all gives up a batch."""
        if self._by_source[source] >= max(self._max_records // MAX_SOURCE_SHARE, 1):
            return False
        if len(self) < self._max_records:
            return True
        self.prune(everything=True)
        if len(self) >= self._max_records:
            largest, count = self._by_source.most_common(1)[0]
            self._drop_of(largest, max(min(count, self._max_records // EVICTION_BATCH), 1))
        return True

    def _drop_of(self, source: int, count: int) -> None:
        theirs = [(key, node, entry) for key, node, entry in self._entries() if _source(entry) == source]
        some = self._rng.sample(theirs, min(EVICTION_SAMPLE, len(theirs)))
        # Customers of the provider that have little here lose little.
        ordered = fairly(
            some, lambda one: [] if one[1] is None else [networks_behind(one[2], _source(one[2]))[0]]
        )
        for key, node, _ in ordered[-count:]:
            self._remove(key, node)

    def _remove(self, key: bytes, node: bytes | None) -> None:
        """Remove the head of whom `key` says, or the holder record of `node` under `key`."""
        if node is None:
            entry = self._heads.pop(key)
            self._whose.pop(_head_in(entry).key, None)
        else:
            entries = self._holders[key]
            places = self._places.get(key)
            if places is not None:
                places.remove(node)
            if isinstance(entries, bytes):
                entry = entries
                del self._holders[key]
            else:
                entry = entries.pop(node)
                if not entries:
                    del self._holders[key]
        self._uncount(entry)

    def _entries(self) -> Iterator[tuple[bytes, bytes | None, bytes]]:
        """(whose, None, entry) of heads and (key, node, entry) of holder records; the store must not change
        meanwhile.
        """
        for whose, entry in self._heads.items():
            yield whose, None, entry
        for key, entries in self._holders.items():
            if isinstance(entries, bytes):
                yield key, entries[_HOLDER_NODE], entries
            else:
                for node, entry in entries.items():
                    yield key, node, entry

    def prune(self, *, everything: bool = False) -> int:
        """Drop what has expired, in the next `PRUNE_SLICE` keys or everywhere; how many records went."""
        now = self._clock()
        if everything or not self._pruning:
            self._pruning = [*self._heads, *self._holders]
        count = len(self._pruning) if everything else PRUNE_SLICE
        keys, self._pruning = self._pruning[:count], self._pruning[count:]
        gone = 0
        for key in keys:
            held = self._heads.get(key)
            if held is not None and _drop_after(held) <= now:
                self._remove(key, None)
                gone += 1
            for entry in self._under(key):
                if _drop_after(entry) <= now:
                    self._remove(key, entry[_HOLDER_NODE])
                    gone += 1
        return gone

    # Reading

    def _under(self, key: bytes) -> list[bytes]:
        entries = self._holders.get(key)
        if entries is None:
            return []
        return [entries] if isinstance(entries, bytes) else list(entries.values())

    def head(self, key: bytes) -> tuple[bytes, int] | None:
        """The head under a DHT key and the seconds since it was last refreshed."""
        whose = self._whose.get(key)
        entry = None if whose is None else self._heads.get(whose)
        if entry is None:
            return None
        left = _drop_after(entry) - int(self._clock())
        return (entry[:-_TRAILER_SIZE], max(HEAD_KEEP - left, 0)) if left > 0 else None

    def holders(self, key: bytes, limit: int, offset: int | None = None) -> tuple[int, list[bytes]]:
        """How many holder records are kept under `key`, and up to `limit`: a random sample, or those from
        `offset` on.
        """
        entries = self._under(key)
        if offset is None:
            chosen = entries if len(entries) <= limit else self._rng.sample(entries, limit)
        else:
            chosen = entries[offset : offset + limit]
        now = self._clock()
        current = [one[:-_TRAILER_SIZE] for one in chosen if _drop_after(one) > now]
        return len(entries), current

    def records(self) -> Iterator[tuple[bytes, int, int]]:
        """Every record with its drop time (Unix s) and source, as they are now: the store may change while
        they are read, also in another thread.
        """
        entries = [entry for _, _, entry in self._entries()]
        return ((entry[:-_TRAILER_SIZE], *_TRAILER.unpack(entry[-_TRAILER_SIZE:])) for entry in entries)

    def restore(self, raw: bytes, drop_after: int, source: int) -> Status:
        """Put back a record that `records` gave. A head keeps the age that it had."""
        now = int(self._clock())
        if drop_after <= now:
            return Status.REFUSED
        status = self.put(raw, source=source)
        if status == Status.STORED and raw[1] != TAG_HOLDER:
            kept = min(drop_after, now + HEAD_KEEP, _MAX_U32)
            self._heads[_whose(raw)] = raw + _TRAILER.pack(kept, source)
        return status

    # kademlia's storage interface, over raw records

    def __setitem__(self, key: bytes, value: bytes) -> None:
        """Put a record; RecordError if it is not kept or does not belong to `key`."""
        status = self.put(value)
        if status not in (Status.STORED, Status.SAME) or value not in self.get(key, []):
            raise RecordError(f"not stored: {status.name.lower()}")

    def __getitem__(self, key: bytes) -> list[bytes]:
        found: list[bytes] | None = self.get(key)
        if found is None:
            raise KeyError(key)
        return found

    def get(self, key: bytes, default: Any = None) -> Any:
        """All records under a DHT key, or `default` if there are none."""
        head = self.head(key)
        found = ([] if head is None else [head[0]]) + self.holders(key, self._max_per_key)[1]
        return found or default

    def iter_older_than(self, seconds_old: float) -> list[tuple[bytes, bytes]]:
        """(key, head) of the heads that nobody has refreshed for that long; holder records are their
        holders'.
        """
        found = ((key, self.head(key)) for key in self._whose)
        return [(key, one[0]) for key, one in found if one is not None and one[1] >= seconds_old]

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        for raw, _, _ in self.records():
            yield (raw[_HOLDER_KEY] if raw[1] == TAG_HOLDER else Head.decode(raw, tag=raw[1]).key), raw
