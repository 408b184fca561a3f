"""The routing table: verified contacts in k-buckets, the k closest exactly, replacements kept in waiting.

Subclasses of kademlia's table and bucket. A contact enters only through `add_verified`, whose caller has
seen it sign a nonce; whoever was merely heard of waits as a candidate. IPv4 and IPv6 contacts have a table
each (BEP 32). Sending the pings that the table asks for is `protocol`'s and `maintenance`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from kademlia.routing import KBucket, RoutingTable

from p2psync_dht.contact import Address, Contact
from p2psync_dht.keys import ID_SIZE
from p2psync_dht.networks import NetworkQuota

# Contacts in a bucket, copies of a record, and what a lookup converges on: the Kademlia paper's value.
K: Final = 20
MAX_FAILURES: Final = 2  # time-outs in a row after which a contact is dead: one may be packet loss
MAX_CANDIDATES: Final = 4  # waiting per bucket; more would be out of date before their turn
KEY_BITS: Final = 8 * ID_SIZE
# Seconds without a lookup in its range, then a bucket is refreshed (the paper's).
REFRESH_AFTER: Final = 3600.0


class ContactBucket(KBucket):  # type: ignore[misc]  # kademlia has no type hints, so its classes are Any
    """Up to k contacts whose ids share a prefix. `range` is inclusive at both ends."""

    def __init__(self, low: int, high: int, ksize: int, clock: Callable[[], float]) -> None:
        self._clock = clock
        super().__init__(low, high, ksize, replacementNodeFactor=1)
        self.max_replacement_nodes = MAX_CANDIDATES
        # Plain dictionaries keep their order as well, in half the memory.
        self.nodes: dict[bytes, Contact] = {}
        self.replacement_nodes: dict[bytes, Contact] = {}

    def touch_last_updated(self) -> None:
        self.last_updated = self._clock()

    def split(self) -> tuple[ContactBucket, ContactBucket]:
        """Two buckets, each with its half of the contacts and candidates."""
        low, high = self.range
        middle = (low + high) // 2
        halves = (
            ContactBucket(low, middle, self.ksize, self._clock),
            ContactBucket(middle + 1, high, self.ksize, self._clock),
        )
        for contact in self.nodes.values():
            halves[contact.long_id > middle].nodes[contact.id] = contact
        for contact in self.replacement_nodes.values():
            halves[contact.long_id > middle].replacement_nodes[contact.id] = contact
        for half in halves:
            half.last_updated = self.last_updated
        return halves

    def remove_node(self, node: Contact) -> None:
        """Forget a contact. Nobody takes its place before having been pinged."""
        self.nodes.pop(node.id, None)
        self.replacement_nodes.pop(node.id, None)

    def add_candidate(self, contact: Contact) -> None:
        waiting = self.replacement_nodes
        waiting.pop(contact.id, None)
        waiting[contact.id] = contact
        if len(waiting) > self.max_replacement_nodes:
            del waiting[next(iter(waiting))]

    def distance_rank(self, target: int) -> int:
        """Orders buckets by distance from `target`: ranges are aligned, so distances of two buckets never
        mix.
        """
        low, high = self.range
        width = (high - low).bit_length()
        rank: int = (low ^ target) >> width << width
        return rank


class ContactTable(RoutingTable):  # type: ignore[misc]  # kademlia has no type hints, so its classes are Any
    """Buckets over the whole key space around one node. `clock` is monotonic, in seconds."""

    def __init__(
        self,
        node: Contact,
        clock: Callable[[], float],
        *,
        ksize: int = K,
        diversify_local: bool = False,
    ) -> None:
        self._clock = clock
        self.node: Contact
        self._diversify_local = diversify_local
        super().__init__(None, ksize, node)

    def flush(self) -> None:
        """Forget everybody."""
        self.buckets: list[ContactBucket] = [ContactBucket(0, 2**KEY_BITS - 1, self.ksize, self._clock)]

    def __len__(self) -> int:
        return sum(len(bucket) for bucket in self.buckets)

    def __iter__(self) -> Iterator[Contact]:
        return iter([contact for bucket in self.buckets for contact in bucket.nodes.values()])

    def _index(self, long_id: int) -> int:
        for index, bucket in enumerate(self.buckets):
            if long_id <= bucket.range[1]:
                return index
        raise ValueError("an id beyond the key space")

    def get_bucket_for(self, node: Contact) -> int:
        return self._index(node.long_id)

    def bucket_of(self, long_id: int) -> ContactBucket:
        return self.buckets[self._index(long_id)]

    def get(self, node_id: bytes) -> Contact | None:
        """The contact with that id, if it is in the table."""
        found: Contact | None = self.bucket_of(int.from_bytes(node_id, "big"))[node_id]
        return found

    def at(self, address: Address) -> Contact | None:
        """The contact at that address, if any. Searches: an index would double the memory of a table."""
        return next((contact for contact in self if contact.address == address), None)

    def is_new_node(self, node: Contact) -> bool:
        return self.get(node.id) is None

    def _is_diverse(self, bucket: ContactBucket, contact: Contact) -> bool:
        ips = (one.ip for one in bucket.nodes.values())
        return NetworkQuota(ips, diversify_local=self._diversify_local).admit(contact.ip)

    def wants(self, contact: Contact) -> bool:
        """Whether `contact` would be taken in if it proved itself now."""
        if contact.id == self.node.id:
            return False
        bucket = self.bucket_of(contact.long_id)
        if contact.id in bucket.nodes:
            return False
        room = len(bucket) < self.ksize or bucket.has_in_range(self.node)
        return room and self._is_diverse(bucket, contact)

    def add_verified(self, contact: Contact) -> bool:
        """Take in a contact that has just proved its id from its address; whether it has a place now.

        One address has one id: the newest proof counts. An id keeps its address until that fails, so that a
        relay of somebody's proof cannot draw it away.
        """
        if contact.id == self.node.id:
            return False
        known = self.get(contact.id)
        if known is not None and known.address != contact.address and not known.failures:
            return False
        squatter = self.at(contact.address)
        if squatter is not None and squatter.id != contact.id:
            self.remove_contact(squatter)
        if known is not None:
            self.remove_contact(known)
        while True:
            index = self._index(contact.long_id)
            bucket = self.buckets[index]
            if not self._is_diverse(bucket, contact):
                return False
            if len(bucket) < self.ksize:
                break
            if not bucket.has_in_range(self.node):
                bucket.add_candidate(contact)
                return False
            self.split_bucket(index)
        bucket.replacement_nodes.pop(contact.id, None)
        contact.failures = 0
        contact.seen = self._clock()
        bucket.nodes[contact.id] = contact
        return True

    def add_contact(self, node: Contact) -> None:
        """kademlia's name for `add_verified`."""
        self.add_verified(node)

    def note_candidate(self, contact: Contact) -> None:
        """Remember somebody who was heard of, for when a place becomes free."""
        bucket = self.bucket_of(contact.long_id)
        if (
            contact.id != self.node.id
            and contact.id not in bucket.nodes
            and self._is_diverse(bucket, contact)
        ):
            bucket.add_candidate(contact)

    def note_alive(self, contact: Contact) -> None:
        """An answer came from a contact of the table: move it to the end of its bucket."""
        bucket = self.bucket_of(contact.long_id)
        known = bucket.nodes.get(contact.id)
        if known is not None and known.address == contact.address:
            known.failures = 0
            known.seen = self._clock()
            bucket.nodes[contact.id] = bucket.nodes.pop(contact.id)

    def note_failure(self, contact: Contact) -> Contact | None:
        """Count a time-out; after the second the contact goes, and the candidate to ping for its place is
        returned.
        """
        bucket = self.bucket_of(contact.long_id)
        known = bucket.nodes.get(contact.id)
        if known is None or known.address != contact.address:
            bucket.replacement_nodes.pop(contact.id, None)
            return None
        known.failures += 1
        if known.failures < MAX_FAILURES:
            return None
        self.remove_contact(known)
        return self.next_candidate(bucket)

    def next_candidate(self, bucket: ContactBucket) -> Contact | None:
        """Take the newest candidate of a bucket that has room."""
        if len(bucket) < self.ksize and bucket.replacement_nodes:
            candidate: Contact = bucket.replacement_nodes.popitem()[1]
            return candidate
        return None

    def remove_contact(self, node: Contact) -> None:
        bucket = self.bucket_of(node.long_id)
        bucket.remove_node(node)

    def closest(self, target: int, count: int | None = None, *, working: bool = False) -> list[Contact]:
        """The `count` (k) contacts nearest to `target`, exactly, nearest first; `working`: none failing."""
        count = self.ksize if count is None else count
        found: list[Contact] = []
        for bucket in sorted(self.buckets, key=lambda bucket: bucket.distance_rank(target)):
            here = [contact for contact in bucket.nodes.values() if not (working and contact.failures)]
            here.sort(key=lambda contact: contact.long_id ^ target)
            found += here
            if len(found) >= count:
                break
        return found[:count]

    def density(self) -> float | None:
        """Nodes per unit of distance, from the k nearest to the own id; None in networks that a table holds
        whole.
        """
        near = self.closest(self.node.long_id)
        return self.ksize / (near[-1].long_id ^ self.node.long_id) if len(near) >= self.ksize else None

    def find_neighbors(
        self, node: Contact, k: int | None = None, exclude: Contact | None = None
    ) -> list[Contact]:
        """kademlia's name for `closest`."""
        found = self.closest(node.long_id, (k or self.ksize) + 1)
        kept = [
            one for one in found if one.id != node.id and (exclude is None or one.address != exclude.address)
        ]
        return kept[: k or self.ksize]

    def lonely_buckets(self) -> list[ContactBucket]:
        """Buckets without a lookup in their range for `REFRESH_AFTER`."""
        before = self._clock() - REFRESH_AFTER
        return [bucket for bucket in self.buckets if bucket.last_updated < before]
