"""Fuzzed answers to those who look closely: pings, watched lookups and walks end, and believe no lie.

The promises are in `fuzz.looks`; here hypothesis makes the answers, by script and as mutations of true ones.
"""

from __future__ import annotations

import random

from fuzz.looks import check_crawl, check_report, check_trace
from fuzz.world import HEAD, HOLDER, Lie, World
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.dht.fuzz_answers import FUZZ, lies, named, plausible

from p2psync_dht.contact import Address
from p2psync_dht.crawl import MAX_RATE, crawl_network
from p2psync_dht.testing.virtual import VirtualNetwork, run_virtual
from p2psync_dht.trace import ping_address, trace_lookup
from p2psync_dht.wire import HEADER_SIZE, Want

from .conftest import record_of

scripts = st.lists(lies | plausible | named, max_size=24) | st.lists(plausible, min_size=2, max_size=40)


@FUZZ
@given(st.lists(lies | named, max_size=8), st.booleans())
def test_any_answers_to_a_ping_are_told_apart(script: list[Lie], server: bool) -> None:
    with World(server=server) as world:
        world.ping(script)


@FUZZ
@given(scripts, st.sampled_from(Want), st.booleans())
def test_any_answers_end_a_watched_lookup_and_are_checked(
    script: list[Lie], want: Want, server: bool
) -> None:
    with World(server=server) as world:
        world.trace(script, want)


@FUZZ
@given(scripts, st.booleans())
def test_any_answers_end_a_walk_within_its_limit(script: list[Lie], server: bool) -> None:
    with World(server=server) as world:
        world.crawl(script)


@settings(FUZZ, max_examples=25)
@given(st.integers(0, 2**32), st.sampled_from([Want.HEAD, Want.HOLDERS]))
def test_mutations_of_true_answers_hide_nobody_honest(seed: int, want: Want) -> None:
    async def run() -> None:
        chance = random.Random(seed)
        network = VirtualNetwork(3, loss=0)
        nodes = await network.grow(10)
        client = network.add(server=False)
        await client.join([node.address for node in nodes])
        record = record_of(client, HOLDER.key)
        assert await client.put_head(HEAD.raw) == await client.put_holder(record.raw) == len(nodes)
        liars = {node.address for node in chance.sample(nodes, 4)}
        honest = {node.node_id for node in nodes if node.address not in liars}
        carry = network.carry

        def mutate(data: bytes, sender: Address, receiver: Address) -> None:
            carry(mutated(data, chance) if sender in liars else data, sender, receiver)

        network.carry = mutate  # type: ignore[method-assign]  # a fault of the network, not of a node
        everybody = {node.node_id for node in nodes}
        for node in nodes:
            check_report(await ping_address(client, node.address, count=1), everybody)
        trace = await trace_lookup(client, HOLDER.key if want == Want.HOLDERS else HEAD.key, want)
        check_trace(trace, everybody)
        gave = {step.contact.id for step in trace.steps if step.head or step.holders}
        assert honest <= gave
        (found,) = await crawl_network(client, rate=MAX_RATE, targets=1)
        check_crawl(found, everybody)
        assert honest <= set(found.nodes)
        await network.close()

    run_virtual(run)


def mutated(datagram: bytes, chance: random.Random) -> bytes:
    """Some bytes of the body changed, or put in or cut off with the length set right; or as it was."""
    body = bytearray(datagram[HEADER_SIZE:])
    for _ in range(chance.choice([0, 1, 1, 2, 5])):
        at = chance.randrange(len(body) + 1)
        body[at : at + chance.choice([0, 1, 1, 1, 30])] = chance.randbytes(chance.choice([0, 1, 1, 1, 30]))
    return datagram[: HEADER_SIZE - 2] + len(body).to_bytes(2, "big") + bytes(body)
