"""Which requests are plain, which are for bulk bytes, and who may connect: the parts that touch no socket."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2psync.content.admission import Admission, Ticket
from p2psync.content.debts import Debts
from p2psync.content.gate import Gate
from p2psync.content.request import HEADERS_MAX, NOT_PLAIN, Request, parse_request
from p2psync.content.turns import Turns
from p2psync.network.here import network_of
from p2psync.sources import wire

OBJECT = wire.object_path(b"\xab" * 32).encode()


def test_a_plain_request() -> None:
    raw = b"POST /a?b HTTP/1.1\r\nHost: x\r\nContent-LENGTH: 12\r\nRange:bytes=0-1 \t\r\nConnection: x, Close"
    headers = {"host": "x", "content-length": "12", "range": "bytes=0-1", "connection": "x, Close"}
    assert parse_request(raw) == Request("POST", "/a?b", headers, 12, keep_alive=False)
    assert parse_request(b"GET / HTTP/1.1").keep_alive
    assert not parse_request(b"GET / HTTP/1.0\r\nConnection: keep-alive").keep_alive


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"GET /",
        b"GET / HTTP/2.0",
        b"GET / HTTP/1.1 ",
        b"GET  / HTTP/1.1",
        b"get / HTTP/1.1",
        b"GET http://x/ HTTP/1.1",
        b"GET /\xff HTTP/1.1",
        b"\r\nGET / HTTP/1.1",
        b"GET / HTTP/1.1\nHost: x",
        b"GET / HTTP/1.1\r\nHost",
        b"GET / HTTP/1.1\r\nHost : x",
        b"GET / HTTP/1.1\r\n Host: x",
        b"GET / HTTP/1.1\r\nA: b\r\n c",
        b"GET / HTTP/1.1\r\nA: b\nc: d",
        b"GET / HTTP/1.1\r\nA: b\rc",
        b"GET / HTTP/1.1\r\nA: b\0",
        b"GET / HTTP/1.1\r\nA: b\r\na: b",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1",
        b"GET / HTTP/1.1\r\nContent-Length: -1",
        b"GET / HTTP/1.1\r\nContent-Length: +1",
        b"GET / HTTP/1.1\r\nContent-Length: 1,1",
        b"GET / HTTP/1.1\r\nContent-Length:",
        b"GET / HTTP/1.1\r\nContent-Length: \xb2",
        b"GET / HTTP/1.1\r\nContent-Length: " + b"1" * 16,
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked",
        b"POST / HTTP/1.1\r\nExpect: 100-continue",
        b"GET / HTTP/1.1\r\nUpgrade: websocket",
        b"GET / HTTP/1.1" + b"".join(b"\r\nh%d: x" % index for index in range(HEADERS_MAX + 1)),
    ],
)
def test_requests_that_are_not_plain(raw: bytes) -> None:
    assert parse_request(raw) is NOT_PLAIN


@given(st.binary(max_size=80), st.booleans())
def test_any_bytes_are_plain_or_not(raw: bytes, begun: bool) -> None:
    request = parse_request(b"GET / HTTP/1.1\r\n" + raw if begun else raw)
    assert request is NOT_PLAIN or request.length is None or request.length >= 0


@pytest.mark.parametrize(
    ("raw", "bulk"),
    [
        (b"GET " + OBJECT + b" HTTP/1.1", True),
        (b"GET " + OBJECT + b" HTTP/1.1\r\nContent-Length: 0", True),
        (b"GET " + OBJECT + b" HTTP/1.1\r\nContent-Length: 1", False),
        (b"HEAD " + OBJECT + b" HTTP/1.1", False),
        (b"GET " + OBJECT + b"?x HTTP/1.1", False),
        (b"GET " + OBJECT + b"0 HTTP/1.1", False),
        (b"GET " + OBJECT.upper() + b" HTTP/1.1", False),
        (b"GET " + wire.INFO_PATH.encode() + b" HTTP/1.1", False),
        (b"POST " + wire.BATCH_PATH.encode() + b" HTTP/1.1\r\nContent-Length: 9", True),
        (b"POST " + wire.BATCH_PATH.encode() + b" HTTP/1.1\r\nContent-Length: 262144", True),
        (b"POST " + wire.BATCH_PATH.encode() + b" HTTP/1.1\r\nContent-Length: 262145", False),
        (b"POST " + wire.BATCH_PATH.encode() + b" HTTP/1.1", False),
        (b"GET " + wire.BATCH_PATH.encode() + b" HTTP/1.1\r\nContent-Length: 9", False),
        (b"POST " + wire.RECIPES_PATH.encode() + b" HTTP/1.1\r\nContent-Length: 9", True),
        (b"POST " + wire.HAVE_PATH.encode() + b" HTTP/1.1\r\nContent-Length: 9", False),
    ],
)
def test_what_is_for_bulk_bytes(raw: bytes, bulk: bool) -> None:
    assert parse_request(raw).is_bulk() is bulk


def test_addresses_take_turns_however_many_connections_they_have() -> None:
    turns = Turns[str](Debts())
    for address, item in [("a", "a1"), ("a", "a2"), ("a", "a3"), ("b", "b1"), ("c", "c1"), ("b", "b2")]:
        turns.put(address, item)
    taken = [turns.take() for _ in range(3)]
    turns.put("c", "c2")
    while turns:
        taken.append(turns.take())
    assert [turn and turn.item for turn in taken] == ["a1", "b1", "c1", "a2", "b2", "c2", "a3"]
    assert turns.take() is None


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_who_has_cost_much_comes_last_and_only_so_many_at_once() -> None:
    clock = Clock()
    debts = Debts(clock)
    turns = Turns[str](debts, owing_max=1)
    debts.charge("192.0.2.1", 9.0)
    debts.charge("192.0.2.2", 5.0)
    for client in ("192.0.2.1", "192.0.2.2", "198.51.100.1", "198.51.100.2"):
        turns.put(client, client)
    order = [turns.take() for _ in range(3)]
    assert [turn and turn.item for turn in order] == ["198.51.100.1", "198.51.100.2", "192.0.2.2"]
    assert turns.take() is None, "one that owes something is being served"
    assert not turns.wanted("198.51.100.1"), "nobody waits whom an honest client would keep waiting"
    assert turns.wanted("192.0.2.2")
    last = order[-1]
    assert last is not None
    turns.done(last)
    again = turns.take()
    assert again is not None and again.item == "192.0.2.1"


def test_who_owes_something_rests_while_others_are_served() -> None:
    clock = Clock()
    debts = Debts(clock)
    turns, elsewhere = Turns[str](debts), Turns[str](debts)
    debts.charge("192.0.2.1", 9.0)
    turns.put("192.0.2.1", "expensive")
    turn = turns.take()
    assert turn is not None
    assert turns.rest_of(turn, 0.01) == 0, "it is alone"
    elsewhere.put("198.51.100.1", "honest")
    other = elsewhere.take()
    assert other is not None
    assert turns.rest_of(turn, 0.01) > 0.01
    assert elsewhere.rest_of(other, 0.01) == 0
    clock.now += 10
    assert turns.rest_of(turn, 0.01) == 0


def test_what_was_sent_pays_for_what_it_cost_and_debts_are_forgotten() -> None:
    clock = Clock()
    debts = Debts(clock)
    for _ in range(1000):
        debts.charge("192.0.2.1", 1.0, 100_000_000)
    assert debts.of("192.0.2.1") == 0
    debts.charge("192.0.2.1", 10.0)
    assert debts.owes("192.0.2.1")
    assert 0 < debts.of("192.0.2.77") < debts.of("192.0.2.1"), "who is in the same network owes a part of it"
    assert debts.of("198.51.100.1") == 0
    clock.now = 120.0
    assert not debts.owes("192.0.2.1")


def test_debts_of_any_number_of_clients_take_bounded_memory() -> None:
    debts = Debts(Clock())
    for number in range(20_000):
        debts.charge(f"2001:db8:{number:x}::", 1.0)
    assert not debts.owes("2001:db8:1::"), "the oldest are forgotten"
    assert debts.owes(f"2001:db8:{19_999:x}::")


async def test_a_gate_lets_only_some_of_those_through_that_owe_something() -> None:
    debts = Debts(Clock())
    gate = Gate(debts, 3, 1)
    debts.charge("192.0.2.1", 9.0)
    first = await gate.enter("192.0.2.1")
    second = asyncio.create_task(gate.enter("192.0.2.1"))
    given_up = asyncio.create_task(gate.enter("192.0.2.1"))
    await asyncio.sleep(0)
    others = [await gate.enter("198.51.100.1") for _ in range(2)]
    third = asyncio.create_task(gate.enter("198.51.100.1"))
    await asyncio.sleep(0)
    given_up.cancel()
    assert not second.done() and not third.done()
    others[0].leave()
    await third
    first.leave()
    first.leave()
    others[1].leave()
    (await second).leave()
    with pytest.raises(asyncio.CancelledError):
        await given_up


def test_connections_are_counted_by_address_and_in_all() -> None:
    admission = Admission(3, 1)
    first = admission.admit("a")
    assert first is not None
    assert admission.admit("a") is None
    assert admission.admit("b") is not None
    assert admission.admit("c") is not None
    assert admission.admit("d") is None, "nobody has more than it would have"
    assert admission.refused == 2
    first.release()
    first.release()
    assert admission.connections == 2
    assert admission.addresses == 2
    assert admission.admit("d") is not None


def test_who_has_waited_longest_makes_room_for_its_own_address_first() -> None:
    admission = Admission(4, 2, idle_grace=0)
    tickets = {name: admission.admit(name[0]) for name in ("a1", "b1", "b2", "c1")}
    cut: list[str] = []
    for name, ticket in tickets.items():
        assert ticket is not None
        ticket.cut = lambda name=name: cut.append(name)  # type: ignore[misc]
    assert admission.admit("b") is not None
    assert cut == ["b1"]
    assert admission.admit("d") is not None
    assert cut == ["b1", "a1"]


def test_who_is_answered_or_has_just_come_makes_no_room_for_its_equals() -> None:
    admission = Admission(2, 2, idle_grace=0)
    for address in "ab":
        ticket = admission.admit(address)
        assert ticket is not None
        ticket.busy()
    assert admission.admit("a") is None
    assert admission.admit("c") is None
    patient = Admission(1, 1, idle_grace=60)
    assert patient.admit("a") is not None
    assert patient.admit("b") is None


def held(admission: Admission, address: str, moved: int = 0) -> Ticket:
    """A connection that is being answered, and was sent so many bytes."""
    ticket = admission.admit(address)
    assert ticket is not None
    ticket.busy()
    ticket.moved(moved)
    return ticket


def test_addresses_that_hold_all_connections_make_room_for_others_slowest_first() -> None:
    admission = Admission(64, 16)
    cut: list[str] = []
    for number in range(64):
        address = f"192.0.2.{number // 16}"
        ticket = held(admission, address, moved=1000 + number)
        ticket.cut = lambda number=number: cut.append(str(number))  # type: ignore[misc]
    honest = [held(admission, "198.51.100.7", moved=10) for _ in range(3)]
    assert cut == ["0", "1", "2"], "the slowest of the network that has most"
    for ticket in honest:
        ticket.cut = lambda: cut.append("honest")
    for number in range(16):
        held(admission, f"203.0.113.{number}")
    assert "honest" not in cut
    assert (admission.connections, admission.refused) == (64, 0)


def test_one_address_keeps_nobody_of_its_own_network_out() -> None:
    admission = Admission(16, 16)
    for _ in range(16):
        held(admission, "192.0.2.1")
    assert all(admission.admit("192.0.2.2") is not None for _ in range(8))
    assert admission.admit("192.0.2.2") is None or admission.connections == 16


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.200", True),
        ("192.0.2.1", "192.0.3.1", False),
        ("2001:db8:1:2::", "2001:db8:1:3::", True),
        ("2001:db8:1::", "2001:db8:2::", False),
    ],
)
def test_networks(one: str, other: str, same: bool) -> None:
    assert (network_of(one) == network_of(other)) is same


def test_a_trickle_is_too_slow_in_the_end_and_a_slow_line_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    admission = Admission(2, 2)
    trickle, modem = held(admission, "192.0.2.1"), held(admission, "192.0.2.2")
    for _ in range(1000):
        for ticket in (trickle, modem):
            ticket.begin_waiting()
        clock.now += 1
        for ticket, moved in ((trickle, 400), (modem, 5000)):
            ticket.end_waiting()
            ticket.moved(moved)
        if trickle.too_slow:
            break
    assert trickle.too_slow and clock.now < 300
    assert not modem.too_slow
    assert modem.rate(clock.now) > trickle.rate(clock.now)
