"""p2psync_dht: signed records in a Kademlia DHT. A library of its own; it knows nothing of files."""

from p2psync_dht.contact import Contact
from p2psync_dht.counters import Counters
from p2psync_dht.crawl import Crawl, CrawledNode, SizeEstimate, crawl_network, estimate_size
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
from p2psync_dht.status import describe
from p2psync_dht.trace import Outcome, PingReport, Pong, Step, Trace, ping_address, trace_lookup

__all__ = [
    "ROLE_HEADS",
    "ROLE_MIRRORS",
    "Contact",
    "Counters",
    "Crawl",
    "CrawledNode",
    "Delegation",
    "DhtNode",
    "Endpoint",
    "Head",
    "HeadLookup",
    "HolderRecord",
    "HolderRole",
    "Identity",
    "Outcome",
    "PingReport",
    "Pong",
    "RecordError",
    "SizeEstimate",
    "Step",
    "Trace",
    "crawl_network",
    "describe",
    "estimate_size",
    "head_key",
    "holders_key",
    "node_id_of",
    "object_key",
    "ping_address",
    "trace_lookup",
    "verify_signature",
]
