"""p2psync_dht: signed records in a Kademlia DHT. A library of its own; it knows nothing of files.

Keys and records are pure and come at once; what needs the network (and with it asyncio and kademlia) is
imported when it is first used, so that a program which only signs or reads records starts quickly (PEP 562).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from p2psync_dht.endpoint import Endpoint
from p2psync_dht.form import RecordError
from p2psync_dht.holder_record import HolderRecord, HolderRole
from p2psync_dht.keys import Identity, node_id_of, verify_signature
from p2psync_dht.records import (
    ROLE_HEADS,
    ROLE_MIRRORS,
    TAG_HEAD,
    TAG_MIRRORS,
    Delegation,
    Head,
    head_key,
    holders_key,
    mirrors_key,
    object_key,
    tag_of,
)

if TYPE_CHECKING:
    from p2psync_dht.contact import Contact
    from p2psync_dht.counters import Counters
    from p2psync_dht.crawl import Crawl, CrawledNode, SizeEstimate, crawl_network, estimate_size
    from p2psync_dht.heads import HeadLookup
    from p2psync_dht.node import DhtNode
    from p2psync_dht.status import describe
    from p2psync_dht.trace import Outcome, PingReport, Pong, Step, Trace, ping_address, trace_lookup

_LATER = {
    "contact": ("Contact",),
    "counters": ("Counters",),
    "crawl": ("Crawl", "CrawledNode", "SizeEstimate", "crawl_network", "estimate_size"),
    "heads": ("HeadLookup",),
    "node": ("DhtNode",),
    "status": ("describe",),
    "trace": ("Outcome", "PingReport", "Pong", "Step", "Trace", "ping_address", "trace_lookup"),
}
_HOME = {name: module for module, names in _LATER.items() for name in names}

__all__ = [
    "ROLE_HEADS",
    "ROLE_MIRRORS",
    "TAG_HEAD",
    "TAG_MIRRORS",
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
    "mirrors_key",
    "node_id_of",
    "object_key",
    "ping_address",
    "tag_of",
    "trace_lookup",
    "verify_signature",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
