"""What a node is and has at this moment, as plain numbers and text: for status displays and metrics."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from p2psync_dht.counters import TRAFFIC
from p2psync_dht.routing import KEY_BITS, ContactTable
from p2psync_dht.wire import VERSION

if TYPE_CHECKING:
    from p2psync_dht.node import DhtNode

FAMILY_NAMES = {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6"}


def describe(node: DhtNode) -> dict[str, Any]:
    """The state of a node in JSON's types. Times are seconds, sizes bytes, addresses [host, port].

    Of each table only buckets that hold somebody are named: at most 160, since each holds at least one of the
    nodes that share so many bits with this one. The reasons of drops and events are fixed in the code, so
    nobody outside can make the answer long.
    """
    protocol = node.protocol
    counters = protocol.counters
    observed = {family: protocol.observed(family) for family in protocol.families()}
    return {
        "node": node.node_id.hex(),
        "mode": "server" if node.is_server else "client",
        "protocol": VERSION,
        "agent": protocol.agent.decode(),
        "network": protocol.network.hex(),
        "address": list(node.address),
        "observed": {FAMILY_NAMES[family]: list(seen) for family, seen in observed.items() if seen},
        "tables": {
            FAMILY_NAMES[family]: describe_table(protocol.tables[family], protocol.now())
            for family in protocol.families()
        },
        "records": node.storage.counts(),
        "traffic": {name: getattr(counters, name) for name in TRAFFIC},
        "lookups": {
            "ended": counters.lookups,
            "queries": counters.lookup_queries,
            "seconds": round(counters.lookup_seconds, 3),
        },
        "drops": dict(counters.drops.most_common()),
        "events": dict(counters.events.most_common()),
    }


def describe_table(table: ContactTable, now: float) -> dict[str, Any]:
    """A routing table: contacts in all, those that failed last time, and each bucket with somebody in it.

    `bits` is how many leading bits of its ids are those of this node (in the last bucket: at least so many).
    """
    buckets = []
    for bucket in table.buckets:
        if bucket.nodes or bucket.replacement_nodes:
            low, high = bucket.range
            width = (high - low).bit_length()
            shared = KEY_BITS - ((low ^ table.node.long_id) >> width << width).bit_length()
            own = low <= table.node.long_id <= high
            buckets.append(
                {
                    "bits": KEY_BITS - width if own else shared,
                    "contacts": len(bucket.nodes),
                    "candidates": len(bucket.replacement_nodes),
                    "quiet": round(now - bucket.last_updated, 1),
                }
            )
    buckets.sort(key=lambda one: one["bits"])
    return {
        "contacts": len(table),
        "failing": sum(contact.failures > 0 for contact in table),
        "buckets": buckets,
    }
