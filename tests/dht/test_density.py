"""The density of ids: what is a crowd, what is not, and what one liar can do to the estimate."""

from __future__ import annotations

import random

from p2psync_dht.contact import Contact
from p2psync_dht.density import MIN_SAMPLE, SAMPLES, Density, parts_of
from p2psync_dht.routing import KEY_BITS, ContactTable

RNG = random.Random(1)  # a test has to repeat
OWN = RNG.getrandbits(KEY_BITS)


def table_of(ids: list[int]) -> ContactTable:
    own = Contact(OWN.to_bytes(20, "big"), "", 0)
    table = ContactTable(own, lambda: 0.0)
    for number, one in enumerate(ids):
        table.add_verified(Contact(one.to_bytes(20, "big"), f"{11 + (number & 63)}.{number >> 6}.1.1", 1))
    return table


def ids(count: int) -> list[int]:
    return [RNG.getrandbits(KEY_BITS) for _ in range(count)]


def distances(nodes: list[int], key: int) -> list[int]:
    return sorted(one ^ key for one in nodes)[:20]


def test_few_honest_neighbourhoods_are_crowds_and_every_crowd_of_chosen_ids_is() -> None:
    nodes = ids(400)
    density = Density(table_of(nodes))
    for key in ids(SAMPLES):
        density.note(key, distances(nodes, key))
    assert sum(bool(density.region(distances(nodes, key))) for key in ids(2000)) <= 20
    for key in ids(100):
        chosen = [key ^ RNG.getrandbits(KEY_BITS - 10) for _ in range(MIN_SAMPLE)]
        region = density.region(distances(nodes + chosen, key))
        # Enough honest nodes are in it to hold the record.
        assert sum(one ^ key <= region for one in nodes) >= MIN_SAMPLE


def test_a_network_that_the_table_holds_whole_has_no_crowds() -> None:
    density = Density(table_of(ids(19)))
    assert density.per_distance() is None
    assert density.region([1] * 20) == 0


def test_whoever_crowds_round_the_own_id_hides_no_other_crowd() -> None:
    nodes = ids(400)
    density = Density(table_of(nodes + [OWN ^ RNG.getrandbits(KEY_BITS - 20) for _ in range(40)]))
    for key in ids(SAMPLES):
        density.note(key, distances(nodes, key))
    (key,) = ids(1)
    assert density.region(distances(nodes + [key ^ RNG.getrandbits(KEY_BITS - 10) for _ in range(20)], key))


def test_a_neighbourhood_counts_once_however_often_it_is_looked_at_and_a_small_one_not_at_all() -> None:
    nodes = ids(400)
    density = Density(table_of(nodes))
    before = density.per_distance()
    for _ in range(50):
        density.note(7, [10**6] * 20)
    density.note(8, [1] * (MIN_SAMPLE - 1))
    assert before is not None and density.per_distance() == (before + 20 / 10**6) / 2


def test_parts_of_a_region_are_apart_from_those_next_to_the_key() -> None:
    for region in (1, 2, 3, 4, 1 << 150, 2**KEY_BITS - 1):
        for part in parts_of(OWN, region, RNG):
            assert 0 < int.from_bytes(part, "big") ^ OWN < 2 * region
