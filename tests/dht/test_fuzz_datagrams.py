"""Fuzzed datagrams and fuzzed answers: nothing is raised, nobody unproved is believed, work is bounded.

The promises are checked by `fuzz.world` after every datagram; here hypothesis makes what arrives.
"""

from __future__ import annotations

import random
from typing import Any

from fuzz.targets import datagram, reply, seeds
from fuzz.world import ATTACKER, ELSEWHERE, FRIENDS, HEAD, HOLDER, LIAR, SOURCES, TOKEN_MARK, Lie, World
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p2psync_dht.codec import pack
from p2psync_dht.wire import DEFAULT_NETWORK, HEADER_SIZE, MAX_DATAGRAM, Kind, encode

FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(),
    st.text(max_size=20),
    st.binary(max_size=60),
    st.sampled_from([bytes(8), bytes(16), bytes(20), bytes(96), TOKEN_MARK, HEAD.raw, HOLDER.raw, HEAD.key]),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)
bodies = st.lists(values, max_size=7)


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


packed_contacts = st.lists(st.binary(min_size=26, max_size=26), max_size=45).map(b"".join)
told = st.one_of(st.none(), values, packed_contacts)
lies = st.builds(
    Lie,
    body=st.one_of(
        bodies,
        st.binary(max_size=1300),
        st.tuples(st.none(), st.none(), told, told).map(list),
        st.tuples(told, told, told, told, told).map(list),
    ),
    source=st.sampled_from([None, None, *SOURCES]),
    sender=st.sampled_from([None, None, None, FRIENDS[0].node_id, bytes(20)]),
    transaction=st.sampled_from([None, None, None, bytes(8)]),
    kind=st.sampled_from([None, None, None, *Kind]),
    flags=st.integers(0, 255),
    proved=st.sampled_from([True, True, False]),
    times=st.integers(1, 3),
)


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
    for name, target in (("datagram", datagram), ("reply", reply)):
        for seed in seeds(name):
            target(seed)
            for _ in range(10):
                near = bytearray(seed)
                near[rng.randrange(len(near))] = rng.randrange(256)
                target(bytes(near))
