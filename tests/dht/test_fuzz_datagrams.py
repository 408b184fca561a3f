"""Fuzzed datagrams and fuzzed answers: nothing is raised, nobody unproved is believed, work is bounded.

The promises are checked by `fuzz.world` after every datagram; here hypothesis makes what arrives.
"""

from __future__ import annotations

import random
from typing import Any

from fuzz.targets import datagram, look, reply, seeds
from fuzz.world import ATTACKER, ELSEWHERE, FRIENDS, HEAD, LIAR, SOURCES, Lie, World
from hypothesis import given
from hypothesis import strategies as st
from tests.dht.fuzz_answers import FUZZ, bodies, lies

from p2psync_dht.codec import pack
from p2psync_dht.wire import DEFAULT_NETWORK, HEADER_SIZE, MAX_DATAGRAM, Kind, encode


@st.composite
def datagrams(draw: st.DrawFn) -> bytes:
    """A well-formed header over any body, for any kind."""
    body = draw(bodies.filter(lambda made: HEADER_SIZE + len(pack(made)) <= MAX_DATAGRAM))
    return encode(
        DEFAULT_NETWORK,
        draw(st.sampled_from(Kind)),
        draw(st.binary(min_size=8, max_size=8)),
        draw(st.sampled_from([LIAR.node_id, FRIENDS[0].node_id, bytes(20), b"\xff" * 20])),
        body,
        is_reply=draw(st.booleans()),
        is_client=draw(st.booleans()),
        wants_proof=draw(st.booleans()),
        pad_to=draw(st.sampled_from([0, 100, 400, MAX_DATAGRAM])),
    )


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A datagram that somebody might send, with some bytes changed, inserted or cut off."""
    made = bytearray(draw(st.sampled_from([seed[1:] for seed in seeds("datagram")])))
    made[:0] = DEFAULT_NETWORK + b"\x01"
    for _ in range(draw(st.integers(0, 4))):
        made[draw(st.integers(0, len(made) - 1))] = draw(st.integers(0, 255))
    return bytes(made[: draw(st.none() | st.integers(1, len(made)))])


sources = st.sampled_from(SOURCES)


@FUZZ
@given(st.lists(st.tuples(st.one_of(st.binary(max_size=1500), datagrams(), mutated()), sources), max_size=12))
def test_any_datagrams_are_answered_within_bounds_or_dropped(arriving: list[tuple[bytes, Any]]) -> None:
    with World() as world:
        for raw, source in arriving:
            world.receive(raw, source)
        world.pass_time(5)
        world.check_beliefs()
        # The socket is alive: an honest ping is answered.
        before = world.node.counters.requests_served
        world.receive(encode(DEFAULT_NETWORK, Kind.PING, bytes(8), LIAR.node_id, [None, None]), ELSEWHERE)
        assert world.node.counters.requests_served == before + 1
        assert sorted(world.node.storage) == world.stored


@FUZZ
@given(st.lists(lies, max_size=12), st.booleans(), st.booleans())
def test_any_answers_end_a_read_without_a_lie_believed(
    script: list[Lie], holders: bool, server: bool
) -> None:
    with World(server=server) as world:
        world.read(script, holders=holders)
        world.receive(
            encode(DEFAULT_NETWORK, Kind.PING, bytes(8), FRIENDS[0].node_id, [None, None]), ELSEWHERE
        )
        assert world.node.counters.requests_served == int(server)


def test_true_answers_from_a_wrong_address_are_not_taken() -> None:
    with World(server=False) as world:
        world.read([Lie(body=[None, None, None, [HEAD.raw, 0]], source=ELSEWHERE, times=50)] * 4)
        assert world.node.counters.drops["address"] >= 50
        assert world.node.counters.queries_answered == 0
        world.read([Lie(body=[None, None, None, [HEAD.raw, 0]], source=ATTACKER)] * 2)
        assert world.node.counters.queries_answered >= 1


def test_seeds_of_the_coverage_guided_fuzzer_and_their_neighbours_pass() -> None:
    rng = random.Random(11)
    for name, target in (("datagram", datagram), ("reply", reply), ("look", look)):
        for seed in seeds(name):
            target(seed)
            for _ in range(10):
                near = bytearray(seed)
                near[rng.randrange(len(near))] = rng.randrange(256)
                target(bytes(near))
