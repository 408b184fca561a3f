"""What a state directory remembers of holders: whom it has dealt with, and what strangers tell, within
bounds.
"""

from __future__ import annotations

import random

import pytest
from tests.node.simulator import identity

from p2psync.state import State
from p2psync.state.holders import MAX_HOLDERS_PER_ARCHIVE, MAX_KNOWN, MAX_TOLD, in_order
from p2psync.state.nodes import DELIVERED_FOR, NODES_MAX, PROVED_FOR, NodeStore
from p2psync.trust import Standing
from p2psync_dht import Endpoint, HolderRecord, HolderRole, Identity, holders_key
from p2psync_dht.places import HOLDERS_PER_NETWORK

NOW = 1_800_000_000
ARCHIVE = b"a" * 32


def record(
    who: str | Identity, *ips: str, issued: int = NOW - 10, expires: int = NOW + 80_000
) -> HolderRecord:
    return HolderRecord.sign(
        identity(who) if isinstance(who, str) else who,
        holders_key(ARCHIVE),
        endpoints=[Endpoint(ip, 8730) for ip in ips],
        issued=issued,
        expires=expires,
        role=HolderRole.MIRROR,
    )


def kept(state: State) -> set[bytes]:
    return set(state.holders.for_archive(ARCHIVE, NOW))


@pytest.mark.parametrize(
    ("pattern", "remembered"),
    [
        ("8.8.8.8", HOLDERS_PER_NETWORK.client),
        ("8.8.8.{n}", HOLDERS_PER_NETWORK.site),
        ("8.8.{n}.8", HOLDERS_PER_NETWORK.provider),
        ("2a01:4f8:1:1::{n:x}", HOLDERS_PER_NETWORK.client),
        ("2a01:4f8:1:{n:x}::1", HOLDERS_PER_NETWORK.site),
        ("2a01:4f8:{n:x}::1", HOLDERS_PER_NETWORK.provider),
    ],
)
def test_a_hundred_fakes_of_one_network_are_remembered_as_few(
    state: State, pattern: str, remembered: int
) -> None:
    honest = [record(f"honest {n}", f"9.9.{n}.9") for n in range(3)]
    state.holders.hear(ARCHIVE, honest, NOW)
    state.holders.hear(ARCHIVE, [record(f"fake {n}", pattern.format(n=n)) for n in range(11, 111)], NOW)
    assert {each.raw for each in honest} <= kept(state)
    assert len(kept(state)) == remembered + 3


def test_a_thousand_fakes_from_everywhere_displace_nobody_who_was_dealt_with(state: State) -> None:
    proved, gave, own = record("proved", "9.9.1.9"), record("gave", "9.9.2.9"), record("own", "9.9.3.9")
    state.holders.keep_own(ARCHIVE, own, NOW)
    state.holders.keep_proved(ARCHIVE, proved, proved.endpoints[0], NOW)
    state.holders.hear(ARCHIVE, [gave], NOW)
    state.nodes.delivered([gave.node_key], NOW)
    for start in (0, 500):
        fakes = [record(f"fake {n}", f"{11 + n % 50}.{n // 50}.0.1") for n in range(start, start + 500)]
        state.holders.hear(ARCHIVE, fakes, NOW)
    assert {proved.raw, gave.raw, own.raw} <= kept(state)
    assert len(kept(state)) == MAX_TOLD + 3
    first = state.holders.ordered(ARCHIVE, NOW)[:3]
    assert {each.raw for each in first} == {proved.raw, gave.raw, own.raw}


def test_a_flood_of_proofs_displaces_nobody_who_gave_something(state: State) -> None:
    gave = record("gave", "9.9.2.9", expires=NOW + 5)
    state.holders.hear(ARCHIVE, [gave], NOW)
    state.nodes.delivered([gave.node_key], NOW)
    with state.transaction():
        for number in range(MAX_KNOWN + 50):
            who = Identity.from_seed(number.to_bytes(32, "big"))
            fake = record(who, f"{11 + number % 50}.{number // 50}.0.1")
            state.nodes.proved(who.public_key, fake.endpoints[0], NOW)
            state.holders.keep(ARCHIVE, fake)
    last = record("last", "10.0.0.1")
    state.holders.keep_proved(ARCHIVE, last, last.endpoints[0], NOW)
    assert gave.raw in kept(state)
    assert len(kept(state)) == MAX_KNOWN


def test_what_was_only_heard_is_not_passed_on(state: State) -> None:
    told, proved = record("told", "9.9.1.9"), record("proved", "9.9.2.9")
    state.holders.hear(ARCHIVE, [told], NOW)
    state.holders.keep_proved(ARCHIVE, proved, proved.endpoints[0], NOW)
    assert kept(state) == {told.raw, proved.raw}
    assert state.holders.vouched(ARCHIVE, NOW) == [proved.raw]
    state.nodes.delivered([told.node_key], NOW)
    assert state.holders.vouched(ARCHIVE, NOW) == [proved.raw]


def test_a_proof_is_passed_on_for_half_a_day(state: State) -> None:
    proved = record("proved", "9.9.2.9")
    state.holders.keep_proved(ARCHIVE, proved, proved.endpoints[0], NOW)
    assert state.holders.vouched(ARCHIVE, NOW + PROVED_FOR - 1) == [proved.raw]
    assert state.holders.vouched(ARCHIVE, NOW + PROVED_FOR) == []
    assert state.nodes.standings([proved], NOW + PROVED_FOR) == {proved.node_key: Standing.TOLD}


@pytest.mark.parametrize(
    ("ips", "passed_on"),
    [
        (("9.9.2.9",), True),
        (("9.9.2.9", "2a01:4f8::1"), True),
        (("9.9.2.10",), False),
        (("9.9.2.9", "9.9.2.10"), False),
        (("2a01:4f8::1",), False),
    ],
)
def test_who_proved_its_key_has_no_other_address_passed_on(
    state: State, ips: tuple[str, ...], passed_on: bool
) -> None:
    proved = record("proved", "9.9.2.9")
    state.holders.keep_proved(ARCHIVE, proved, proved.endpoints[0], NOW)
    later = record("proved", *ips, issued=NOW)
    state.holders.hear(ARCHIVE, [later], NOW)
    assert state.holders.vouched(ARCHIVE, NOW) == ([later.raw] if passed_on else [])
    expected = Standing.PROVED if passed_on else Standing.TOLD
    assert state.nodes.standings([later], NOW)[later.node_key] == expected


def test_that_a_listed_node_has_left_is_passed_on(state: State) -> None:
    proved = record("proved", "9.9.2.9")
    state.holders.keep_proved(ARCHIVE, proved, proved.endpoints[0], NOW)
    left = proved.withdraw(identity("proved"), NOW)
    state.holders.hear(ARCHIVE, [left], NOW)
    assert state.holders.vouched(ARCHIVE, NOW) == [left.raw]


def test_what_this_node_says_of_itself_is_passed_on(state: State) -> None:
    own = record("own", "9.9.2.9", "2a01:4f8::1")
    state.holders.keep_own(ARCHIVE, own, NOW)
    assert state.holders.vouched(ARCHIVE, NOW) == [own.raw]


def test_who_gave_something_is_known_when_its_record_has_long_expired(state: State) -> None:
    state.nodes.delivered([identity("gave").public_key], NOW)
    later = record("gave", "9.9.9.9", issued=NOW + 80 * 86400, expires=NOW + 80 * 86400 + 50)
    assert state.nodes.standings([later], NOW + 80 * 86400)[later.node_key] == Standing.DELIVERED
    assert state.nodes.prune(NOW + DELIVERED_FOR - 1) == 0
    assert state.nodes.prune(NOW + DELIVERED_FOR) == 1
    assert state.nodes.standings([later], NOW + DELIVERED_FOR)[later.node_key] == Standing.TOLD


def test_nodes_that_are_remembered_are_bounded_and_those_who_gave_something_stay(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert NODES_MAX >= 4 * MAX_HOLDERS_PER_ARCHIVE
    monkeypatch.setattr("p2psync.state.nodes.NODES_MAX", 10)
    gave = record("gave", "9.9.9.9")
    state.nodes.delivered([gave.node_key], NOW)
    fakes = [record(f"fake {n}", f"8.8.8.{n}") for n in range(30)]
    for age, fake in enumerate(fakes):
        state.nodes.proved(fake.node_key, fake.endpoints[0], NOW + age)
    standings = state.nodes.standings([gave, *fakes], NOW + 30)
    assert standings[gave.node_key] == Standing.DELIVERED
    assert [standings[fake.node_key] for fake in fakes] == [Standing.TOLD] * 21 + [Standing.PROVED] * 9


def test_those_who_were_dealt_with_come_first_and_then_no_network_twice_before_the_others() -> None:
    gave, proved = record("gave", "8.8.8.1"), record("proved", "8.8.8.2")
    fakes = [record(f"fake {n}", f"8.8.8.{n}") for n in range(10, 60)]
    honest = [record("honest", "9.9.9.9"), record("other", "7.7.7.7")]
    standings = {gave.node_key: Standing.DELIVERED, proved.node_key: Standing.PROVED}
    for seed in range(5):
        ordered = in_order([*fakes, *honest, proved, gave], standings, random.Random(seed))
        assert ordered[:2] == [gave, proved]
        assert set(honest) <= set(ordered[2:6])
        assert len(ordered) == 54


def test_an_index_of_before_learns_of_nodes_as_it_goes(state: State) -> None:
    state._db.connection.execute("DROP TABLE nodes")
    path = state.path
    state.close()
    with State.open(path) as again:
        assert isinstance(again.nodes, NodeStore)
        again.nodes.delivered([b"k" * 32], NOW)
