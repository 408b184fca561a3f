"""The small parts: wire, tokens, rate limits, time-outs, addresses, public names, documents."""

from __future__ import annotations

import ast
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import p2psync_dht
from p2psync_dht import Identity
from p2psync_dht.contact import Contact, unpack_address, unpack_contact
from p2psync_dht.counters import Counters, QuietLog
from p2psync_dht.persistence import load_contacts, save_contacts
from p2psync_dht.ratelimit import (
    GLOBAL_BURST,
    MAX_SOURCES,
    PER_PROVIDER_BURST,
    PER_PROVIDER_RATE,
    PER_SOURCE_BURST,
    RateLimiter,
)
from p2psync_dht.rtt import FIRST_SOFT, MAX_ADDRESSES, MAX_SOFT, MIN_SOFT, RttBook
from p2psync_dht.scope import Scope, may_name, pack_ip, scope_of
from p2psync_dht.tokens import ROTATION, TokenMint
from p2psync_dht.wire import DEFAULT_NETWORK, MAX_DATAGRAM, Kind, WireError, decode, encode, field

PROJECT = Path(__file__).parents[2]


def squeezed(text: str) -> str:
    return re.sub(r"\s", "", text)


def test_the_documents_quote_the_vectors() -> None:
    vectors = json.loads((Path(__file__).parent / "vectors" / "records.json").read_text())
    page = squeezed((PROJECT / "docs/spec/records.md").read_text())
    for record in vectors["records"]:
        assert record["raw"] in page, record["name"]
    for value in vectors["dht_keys"].values():
        assert value in page


def test_the_example_datagram_of_the_document() -> None:
    sender = Identity.from_seed(b"\x02" * 32).node_id
    body = [bytes(range(16)), None]
    datagram = encode(DEFAULT_NETWORK, Kind.PING, bytes(range(1, 9)), sender, body, is_client=True)
    assert datagram.hex() in squeezed((PROJECT / "docs/spec/dht.md").read_text())


def test_the_library_knows_nothing_of_the_application() -> None:
    for path in Path(p2psync_dht.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not any(name.split(".")[0] == "p2psync" for name in names), path


def test_every_public_name_exists() -> None:
    assert len(set(p2psync_dht.__all__)) == len(p2psync_dht.__all__)
    assert all(hasattr(p2psync_dht, name) for name in p2psync_dht.__all__)


bodies = st.lists(st.none() | st.integers(0, 2**32) | st.binary(max_size=200), max_size=5)


@given(
    st.sampled_from(list(Kind)), st.binary(min_size=8, max_size=8), bodies, st.booleans(), st.integers(0, 400)
)
@settings(max_examples=200)
def test_datagrams_survive(kind: Kind, transaction: bytes, body: list[Any], is_reply: bool, pad: int) -> None:
    datagram = encode(DEFAULT_NETWORK, kind, transaction, b"s" * 20, body, is_reply=is_reply, pad_to=pad)
    message = decode(datagram, DEFAULT_NETWORK)
    assert (message.kind, message.is_reply, message.transaction, message.body) == (
        kind,
        is_reply,
        transaction,
        body,
    )
    assert message.size == max(len(datagram), pad)


@given(st.binary(max_size=1300))
@settings(max_examples=300)
def test_decoding_raises_one_exception(raw: bytes) -> None:
    for datagram in (raw, DEFAULT_NETWORK + b"\x01\x02" + raw):
        try:
            decode(datagram, DEFAULT_NETWORK)
        except WireError as error:
            assert error.reason


def test_no_datagram_is_larger_than_the_limit() -> None:
    with pytest.raises(ValueError, match="bytes"):
        encode(DEFAULT_NETWORK, Kind.FIND, bytes(8), bytes(20), [bytes(MAX_DATAGRAM)])


def test_fields_are_of_exactly_their_type() -> None:
    assert field([b"ab"], 0, bytes, size=2) == b"ab"
    assert field([], 3, bytes, optional=True) is None
    for body in ([True], [1.0], [None], []):
        with pytest.raises(WireError):
            field(body, 0, int)


@pytest.mark.parametrize(
    ("ip", "scope"),
    [
        ("127.0.0.1", Scope.LOOPBACK),
        ("10.1.2.3", Scope.PRIVATE),
        ("172.31.0.1", Scope.PRIVATE),
        ("172.32.0.1", Scope.GLOBAL),
        ("192.168.1.1", Scope.PRIVATE),
        ("169.254.169.254", Scope.UNUSABLE),
        ("100.64.0.1", Scope.PRIVATE),
        ("8.8.8.8", Scope.GLOBAL),
        ("0.1.2.3", Scope.UNUSABLE),
        ("224.0.0.1", Scope.UNUSABLE),
        ("255.255.255.255", Scope.UNUSABLE),
        ("::1", Scope.LOOPBACK),
        ("::", Scope.UNUSABLE),
        ("fe80::1", Scope.UNUSABLE),
        ("ff02::1", Scope.UNUSABLE),
        ("fd00::1", Scope.PRIVATE),
        ("2001:db8::1", Scope.GLOBAL),
        ("::ffff:8.8.8.8", Scope.UNUSABLE),
        ("::8.8.8.8", Scope.UNUSABLE),
        ("fec0::1", Scope.PRIVATE),
        ("64:ff9b::8.8.8.8", Scope.GLOBAL),
        ("64:ff9b::10.1.2.3", Scope.UNUSABLE),
        ("2002:808:808::1", Scope.GLOBAL),
        ("2002:7f00:1::1", Scope.UNUSABLE),
    ],
)
def test_scopes(ip: str, scope: Scope) -> None:
    assert scope_of(pack_ip(ip)) == scope


@pytest.mark.parametrize(
    "example", ["192.0.2.1", "198.51.100.9", "203.0.113.77", "2001:db8::1", "3fff:fff::1"]
)
def test_addresses_of_examples_are_named_by_examples_alone(example: str) -> None:
    assert not may_name("8.8.8.8", example)
    assert not may_name("2a01:4f8::1", example)
    assert may_name("192.0.2.1", example)
    assert may_name("10.0.0.1", example)  # in a laboratory
    assert may_name(example, "8.8.8.8")
    assert not may_name(example, "192.168.1.1")


def test_nobody_tells_of_addresses_nearer_than_its_own() -> None:
    inside = Contact(b"x" * 20, "192.168.1.1", 80).pack()
    assert unpack_contact(inside, Scope.GLOBAL) is None
    assert unpack_contact(inside, Scope.PRIVATE) is not None


@given(st.binary(max_size=40))
def test_addresses_are_refused_with_one_exception(raw: bytes) -> None:
    try:
        ip, port = unpack_address(raw)
    except ValueError:
        return
    assert 0 < port < 65536
    assert pack_ip(ip) == raw[:-2]


def test_tokens_are_bound_to_the_address_and_expire() -> None:
    mint = TokenMint(random.Random(1), 0.0)
    token = mint.make(("192.0.2.1", 80), 0.0)
    assert mint.check(token, ("192.0.2.1", 80), ROTATION)
    assert not mint.check(token, ("192.0.2.1", 81), 0.0)
    assert not mint.check(token, ("192.0.2.2", 80), 0.0)
    assert not mint.check(token, ("192.0.2.1", 80), 3 * ROTATION)
    assert not mint.check(None, ("192.0.2.1", 80), 0.0)
    late = mint.make(("192.0.2.1", 80), 10 * ROTATION)
    assert not mint.check(late, ("192.0.2.1", 80), 20 * ROTATION)


def test_one_source_cannot_use_up_the_budget_of_all() -> None:
    limiter = RateLimiter(0.0)
    assert sum(limiter.allow("greedy", 0.0) for _ in range(5000)) == PER_SOURCE_BURST
    assert limiter.allow("modest", 0.0)
    assert limiter.allow("greedy", 1.0)


def test_somebody_with_a_whole_provider_does_not_use_up_the_budget_of_all() -> None:
    limiter = RateLimiter(0.0)
    answered = sum(limiter.allow(f"site {number}", 0.0, "provider") for number in range(20_000))
    assert answered == PER_PROVIDER_BURST
    assert len(limiter._sources) == PER_PROVIDER_BURST + 1
    assert limiter.allow("elsewhere", 0.0, "another provider")
    assert (
        sum(limiter.allow(f"site {number}", 1.0, "provider") for number in range(20_000)) == PER_PROVIDER_RATE
    )


def test_a_greedy_site_leaves_its_providers_others_what_is_theirs() -> None:
    limiter = RateLimiter(0.0)
    assert sum(limiter.allow("greedy", 0.0, "provider") for _ in range(5000)) == PER_SOURCE_BURST
    assert limiter.allow("modest", 0.0, "provider")


def test_all_sources_together_are_limited_and_bounded() -> None:
    limiter = RateLimiter(0.0)
    assert sum(limiter.allow(number, 0.0) for number in range(20_000)) <= GLOBAL_BURST
    assert len(limiter._sources) <= MAX_SOURCES
    assert limiter.allow("later", 100.0)


def test_time_outs_follow_what_was_measured() -> None:
    book = RttBook()
    near, far = ("192.0.2.1", 1), ("192.0.2.2", 1)
    assert book.soft(near) == FIRST_SOFT
    for _ in range(20):
        book.sample(near, 0.001)
        book.sample(far, 5.0)
    assert book.soft(near) == MIN_SOFT
    assert book.soft(far) == MAX_SOFT
    assert MIN_SOFT < book.soft(("192.0.2.3", 1)) <= MAX_SOFT
    for number in range(2 * MAX_ADDRESSES):
        book.sample((str(number), 1), 0.1)
    assert len(book._known) == MAX_ADDRESSES


def test_the_log_has_one_line_a_second(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "p2psync_dht")
    log = QuietLog()
    for tick in range(1000):
        log.note(tick / 500, "dropped %s", "something")
    assert len(caplog.records) == 2
    assert "499 more" in caplog.records[1].getMessage()


def test_counters_give_one_flat_dictionary() -> None:
    counters = Counters(bytes_in=3)
    counters.drops["size"] += 1
    assert counters.snapshot()["bytes_in"] == 3
    assert counters.snapshot()["drop_size"] == 1


def test_a_damaged_cache_is_an_empty_one(tmp_path: Path) -> None:
    path = tmp_path / "contacts"
    contacts = [Contact(bytes([number]) * 20, f"192.0.2.{number}", 80) for number in range(1, 9)]
    save_contacts(path, contacts)
    assert load_contacts(path) == contacts
    whole = path.read_bytes()
    rng = random.Random(3)
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged[: rng.randrange(len(damaged))])
        assert len(load_contacts(path)) <= 8
    path.write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    assert load_contacts(path) == []
    path.unlink()
    assert load_contacts(path) == []
    assert [entry.name for entry in tmp_path.iterdir()] == []
