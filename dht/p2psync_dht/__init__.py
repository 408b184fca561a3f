"""p2psync_dht: signed records in a Kademlia DHT. A library of its own; it knows nothing of files."""

from p2psync_dht.contact import Contact
from p2psync_dht.counters import Counters
from p2psync_dht.endpoint import Endpoint
from p2psync_dht.form import RecordError
from p2psync_dht.heads import HeadLookup
from p2psync_dht.keys import Identity, node_id_of, verify_signature
from p2psync_dht.node import DhtNode
from p2psync_dht.records import (
    ROLE_HEADS,
    ROLE_MIRRORS,
    Delegation,
    Head,
    HolderRecord,
    HolderRole,
    head_key,
    holders_key,
    object_key,
)

__all__ = [
    "ROLE_HEADS",
    "ROLE_MIRRORS",
    "Contact",
    "Counters",
    "Delegation",
    "DhtNode",
    "Endpoint",
    "Head",
    "HeadLookup",
    "HolderRecord",
    "HolderRole",
    "Identity",
    "RecordError",
    "head_key",
    "holders_key",
    "node_id_of",
    "object_key",
    "verify_signature",
]
