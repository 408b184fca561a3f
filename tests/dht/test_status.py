"""A node described in plain numbers; every reason that may stand there is explained to operators."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path

from p2psync_dht import Identity, describe
from p2psync_dht.testing.loopback import loopback_network
from p2psync_dht.testing.virtual import VirtualNetwork, run_virtual

from .conftest import HeadMaker, HolderMaker, identity

ROOT = Path(__file__).parent.parent.parent
REASON = re.compile(r"""(?:WireError\(|\.drop\(|(?:drops|events)\[)"([a-z_]+)\"""")


async def test_a_description_is_what_the_node_has(
    root: Identity, make_head: HeadMaker, make_holder: HolderMaker
) -> None:
    async with loopback_network(5, agent="example/1") as nodes:
        node = nodes[2]
        node.storage.put(make_head().raw)
        for number in (1, 2):
            node.storage.put(make_holder(identity(number)).raw)
        described = describe(node)
        assert json.loads(json.dumps(described)) == described
        assert (described["node"], described["mode"], described["agent"]) == (
            node.node_id.hex(),
            "server",
            "example/1",
        )
        assert described["records"] == {"heads": 1, "holders": 2, "holder_keys": 1}
        assert described["address"] == list(node.address)
        assert described["observed"] == {"IPv4": list(node.address)}
        assert described["lookups"]["ended"] == node.counters.lookups > 0
        assert described["lookups"]["queries"] > 0


def test_buckets_say_how_many_bits_their_contacts_share() -> None:
    async def run() -> None:
        network = VirtualNetwork(3)
        await network.grow(120)
        for node in network.nodes[::20]:
            table = node.protocol.tables[socket.AF_INET]
            described = describe(node)["tables"]["IPv4"]
            assert described["contacts"] == len(table)
            assert sum(bucket["contacts"] for bucket in described["buckets"]) == len(table)
            own = int.from_bytes(node.node_id, "big")
            shared = [160 - (contact.long_id ^ own).bit_length() for contact in table]
            last = described["buckets"][-1]["bits"]
            for bucket in described["buckets"][:-1]:
                assert bucket["contacts"] == shared.count(bucket["bits"])
            assert described["buckets"][-1]["contacts"] == sum(bits >= last for bits in shared)
        await network.close()

    run_virtual(run)


def test_every_reason_and_event_is_explained_to_operators() -> None:
    sources = (ROOT / "dht/p2psync_dht").glob("*.py")
    reasons = {name for path in sources for name in REASON.findall(path.read_text())}
    assert len(reasons) > 20
    table_rows = [row for row in (ROOT / "docs/dht.md").read_text().splitlines() if row.startswith("| `")]
    explained = {name for row in table_rows for name in re.findall(r"`([a-z_]+)`", row.split("|")[1])}
    assert reasons == explained
