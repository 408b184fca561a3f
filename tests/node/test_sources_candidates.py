"""Whom a fetch tries of those whom strangers name, in which order and how often."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from tests.node.simulator import identity

from p2psync.format.coverage import Coverage
from p2psync.sources.finders.candidates import (
    CANDIDATES_MAX,
    CLAIMS_MAX,
    FAILURES_CAPS,
    KNOWN_CAPS,
    Candidate,
    Candidates,
)
from p2psync.sources.finders.records import Found
from p2psync.trust import Standing
from p2psync_dht import Endpoint, HolderRecord, HolderRole, holders_key

WHO = identity("anybody")


def found(name: str, who: int | None = None) -> Found:
    ip, port = name.removeprefix("[").replace("]", "").rsplit(":", 1)
    signer = WHO if who is None else identity(f"node {who}")
    record = HolderRecord.sign(
        signer,
        holders_key(bytes(32)),
        endpoints=[Endpoint(ip, int(port))],
        issued=1,
        expires=9,
        role=HolderRole.MIRROR,
    )
    return Found(record, Coverage(True, 0, 1))


class Bench:
    def __init__(self) -> None:
        self.candidates = Candidates(random.Random(1).random)
        self.now = 0.0

    def add(self, name: str, standing: Standing = Standing.TOLD) -> Candidate | None:
        return self.candidates.add(name, found(name), standing)

    def next(self) -> Candidate | None:
        return self.candidates.next(self.now)

    def in_vain(self) -> Iterator[str]:
        """All that are tried now, nobody of whom answers."""
        while (candidate := self.next()) is not None:
            self.candidates.failed(candidate, self.now)
            yield candidate.name


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.mark.parametrize("host", ["203.0.113.7", "[2001:db8::7]", "127.0.0.1", "10.0.0.1"])
def test_a_victim_is_tried_twice_in_half_a_minute_at_most_and_seven_times_in_half_an_hour(
    bench: Bench, host: str
) -> None:
    tried: list[float] = []
    for second in range(1900):
        bench.now = float(second)
        for number in range(2):  # It is named again and again.
            bench.candidates.add(f"{host}:8730", found(f"{host}:8730", number))
        tried += [bench.now for _ in bench.in_vain()]
    assert len(tried) == 7
    assert max(sum(one <= other < one + 30 for other in tried) for one in tried) == 2


def test_other_ports_of_a_public_victim_are_the_same_victim(bench: Bench) -> None:
    for port in range(1, 1000):
        bench.add(f"203.0.113.7:{port}")
    assert len(list(bench.in_vain())) == 1
    assert bench.add("203.0.113.7:9999") is None


def test_one_at_a_time_is_tried_of_the_ports_of_a_public_address(bench: Bench) -> None:
    for port in (1, 2, 3):
        bench.add(f"203.0.113.7:{port}")
    first = bench.next()
    assert first is not None and bench.next() is None
    bench.candidates.succeeded(first, WHO.public_key)
    assert bench.next() is not None  # Behind a NAT there may be several, and one has answered.


def test_dead_nodes_on_this_machine_keep_nobody_else_here_from_being_tried(bench: Bench) -> None:
    names = {f"127.0.0.1:{port}" for port in range(1, 50)}
    for name in names:
        bench.add(name)
    assert set(bench.in_vain()) == names


def test_no_network_comes_twice_before_each_other_has_come_once(bench: Bench) -> None:
    for number in range(20):
        for network in range(50):
            bench.add(f"198.{network}.{network}.{number}:8730")
    for honest in ("203.0.113.1:8730", "192.0.2.1:8730"):
        bench.add(honest)
    first = [candidate.name for _ in range(52) if (candidate := bench.next()) is not None]
    assert {"203.0.113.1:8730", "192.0.2.1:8730"} <= set(first)


@pytest.mark.parametrize(
    ("names", "most", "late"),
    [
        ([f"203.0.113.{n}:8730" for n in range(200)], FAILURES_CAPS[1], "203.0.113.250:8730"),
        ([f"203.0.{n}.1:8730" for n in range(200)], FAILURES_CAPS[2], "203.0.250.1:8730"),
        ([f"[2001:db8:1:{n:x}::1]:8730" for n in range(200)], FAILURES_CAPS[1], "[2001:db8:1:999::1]:8730"),
        ([f"[2001:db8:{n:x}::1]:8730" for n in range(200)], FAILURES_CAPS[2], "[2001:db8:999::1]:8730"),
    ],
    ids=["/24", "/16", "/48", "/32"],
)
def test_a_network_that_names_many_in_vain_is_tried_no_more(
    bench: Bench, names: list[str], most: int, late: str
) -> None:
    for name in names:
        bench.add(name)
    assert len(list(bench.in_vain())) == most
    assert bench.add(late) is None


def test_those_who_proved_themselves_come_before_strangers_whatever_their_network_did(bench: Bench) -> None:
    for number in range(200):
        bench.add(f"203.0.113.{number}:8730")
    list(bench.in_vain())
    bench.add("192.0.2.1:8730")
    bench.add("203.0.113.250:8730", Standing.PROVED)
    first = bench.next()
    assert first is not None and first.name == "203.0.113.250:8730"


def test_who_proves_itself_while_it_waits_comes_first_and_once(bench: Bench) -> None:
    for number in range(5):
        bench.add(f"192.0.2.{number}:8730")
    bench.add("192.0.2.4:8730", Standing.PROVED)
    tried = list(bench.in_vain())
    assert tried[0] == "192.0.2.4:8730"
    assert len(tried) == 5


def test_strangers_fill_no_memory(bench: Bench) -> None:
    for number in range(1 << 14):
        bench.add(f"{1 + number % 100}.{number // 100}.0.1:8730")
    assert len(list(bench.in_vain())) == CANDIDATES_MAX
    many = Bench()
    for number in range(1000):
        many.candidates.add("203.0.113.7:8730", found("203.0.113.7:8730", number))
    candidate = many.next()
    assert candidate is not None and len(candidate.claims) == CLAIMS_MAX
    assert many.next() is None
    for number in range(1000):
        many.add(f"203.0.113.8:{number + 1}")
    assert sum(1 for port in range(1, 1000) if many.candidates.get(f"203.0.113.8:{port}")) == KNOWN_CAPS[0]
