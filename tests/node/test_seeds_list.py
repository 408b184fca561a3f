"""Seed lists as bytes: what is signed, what is refused, and that nothing hostile gets past the limits."""

from __future__ import annotations

import base64
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2psync.errors import FormatError, P2psyncError, TrustError, UsageError
from p2psync.network.seeds.seedlist import (
    DOMAIN,
    LIFETIME_MAX,
    LIST_MAX,
    SEEDS_MAX,
    TXT_STRING_MAX,
    decode,
    from_dns,
    key_text,
    parse_key,
    sign,
    text_for_dns,
)
from p2psync_dht import Identity

NOW = 1_800_000_000
KEY = Identity.from_seed(bytes(range(32)))
OTHER = Identity.from_seed(bytes(32))
SEEDS = ("boot1.example.org:8730", "192.0.2.7:99", "[2001:db8::7]:8730")


def signed(body: str | bytes, identity: Identity = KEY) -> bytes:
    """A list as its signer wrote it, whatever that is."""
    raw = body if isinstance(body, bytes) else body.encode()
    signature = base64.b64encode(identity.sign(raw, domain=DOMAIN)).rstrip(b"=")
    return raw + b"#signature " + key_text(identity.public_key).encode() + b" " + signature + b"\n"


def a_list(**fields: str) -> bytes:
    """A signed list with some fields written otherwise; an empty text leaves one out."""
    written = {
        "version": "1",
        "issued": "2027-01-15T08:00:00Z",
        "expires": "2027-02-01T00:00:00Z",
        "seeds": '["a.example:1"]',
    } | fields
    return signed("".join(f"{name} = {value}\n" for name, value in written.items() if value))


def test_a_list_is_read_as_it_was_signed() -> None:
    raw = sign(KEY, SEEDS, issued=NOW, expires=NOW + 86400, successor=OTHER.public_key)
    found = decode(raw, now=NOW, keys=[KEY.public_key])
    assert found.seeds == SEEDS
    assert (found.issued, found.expires) == (NOW, NOW + 86400)
    assert (found.key, found.successor, found.raw) == (KEY.public_key, OTHER.public_key, raw)
    assert not found.is_expired(NOW + 86399)
    assert found.is_expired(NOW + 86400)


def test_seeds_without_a_port_have_the_usual_one_and_repetitions_count_once() -> None:
    raw = sign(KEY, ["a.example", "a.example:8730", "[::1]"], issued=NOW, expires=NOW + 1)
    assert decode(raw, now=NOW).seeds == ("a.example:8730", "[::1]:8730")


def test_a_changed_byte_anywhere_is_noticed() -> None:
    raw = sign(KEY, SEEDS, issued=NOW, expires=NOW + 86400)
    for at in range(0, len(raw) - 1, 7):
        changed = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
        with pytest.raises(P2psyncError):
            decode(changed, now=NOW, keys=[KEY.public_key])


def test_signed_by_another_key_is_refused_though_the_signature_is_right() -> None:
    raw = sign(OTHER, SEEDS, issued=NOW, expires=NOW + 86400)
    with pytest.raises(TrustError, match=key_text(OTHER.public_key)):
        decode(raw, now=NOW, keys=[KEY.public_key])


def test_a_signature_over_something_else_of_the_same_key_is_no_signature_of_a_list() -> None:
    body = b'version = 1\nseeds = ["a:1"]\n'
    line = b"#signature " + key_text(KEY.public_key).encode() + b" "
    with pytest.raises(TrustError, match="wrong"):
        decode(body + line + base64.b64encode(KEY.sign(body)).rstrip(b"="), now=NOW)


def test_text_behind_the_signature_is_not_part_of_any_list() -> None:
    raw = sign(KEY, SEEDS, issued=NOW, expires=NOW + 86400) + b'seeds = ["evil.example:1"]\n'
    with pytest.raises(P2psyncError):
        decode(raw, now=NOW)


def test_a_list_inside_a_signed_list_is_not_taken_for_it() -> None:
    inner = sign(OTHER, ["evil.example:1"], issued=NOW, expires=NOW + 86400)
    raw = signed(inner)
    with pytest.raises(P2psyncError):
        decode(raw, now=NOW, keys=[OTHER.public_key])


def test_unsigned_lists_are_taken_only_where_they_are_allowed() -> None:
    raw = b'seeds = ["a.example:1"]\n'
    assert decode(raw, now=NOW, unsigned=True).key is None
    with pytest.raises(TrustError, match="not signed"):
        decode(raw, now=NOW)
    with pytest.raises(TrustError, match="signed by nobody"):
        decode(raw, now=NOW, keys=[KEY.public_key], unsigned=True)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"version": "2"}, "version 2"),
        ({"version": '"1"'}, "version '1'"),
        ({"seeds": ""}, "no list"),
        ({"seeds": "[]"}, "1 to"),
        ({"seeds": "[1]"}, "no list"),
        ({"seeds": '"a.example:1"'}, "no list"),
        ({"seeds": str([f"h{i}.example:1" for i in range(SEEDS_MAX + 1)])}, f"1 to {SEEDS_MAX}"),
        ({"seeds": '["a:99999"]'}, "is not HOST:PORT"),
        ({"seeds": '["a:0"]'}, "is not HOST:PORT"),
        ({"seeds": '["a b:1"]'}, "is not HOST:PORT"),
        ({"seeds": '["http://a/"]'}, "is not HOST:PORT"),
        ({"seeds": '["a\\\\nb:1"]'}, "is not HOST:PORT"),
        ({"seeds": '["bücher.example:1"]'}, "xn--"),
        ({"seeds": f'["{"a" * 300}:1"]'}, "is not HOST:PORT"),
        ({"issued": ""}, "when it was issued"),
        ({"expires": ""}, "when it expires"),
        ({"expires": '"soon"'}, "not a time"),
        ({"expires": "2027-02-01"}, "not a time"),
        ({"expires": "2027-02-01T00:00:00"}, "not a time"),
        ({"expires": "9999-12-31T23:59:59-23:59"}, "."),
        ({"successor": '"abc"'}, "is not a key"),
        ({"seeds": "[" * 2000}, "nested"),
        ({"x": "{y=" * 9 + "1" + "}" * 9}, "nested"),
        ({"x": "1" * 5000}, "not TOML"),
        ({"version": "1\nversion = 1"}, "not TOML"),
    ],
)
def test_a_signer_may_not_write_just_anything(fields: dict[str, str], message: str) -> None:
    with pytest.raises((FormatError, TrustError), match=message):
        decode(a_list(**fields), now=NOW, keys=[KEY.public_key])


def test_fields_of_later_writers_are_passed_over() -> None:
    assert decode(a_list(regions='{eu = ["b.example:2"]}'), now=NOW).seeds == ("a.example:1",)


def test_times_that_cannot_be_are_refused() -> None:
    with pytest.raises(TrustError, match="future"):
        decode(sign(KEY, SEEDS, issued=NOW, expires=NOW + 86400), now=NOW - 2 * 3600)
    with pytest.raises(UsageError, match="400 days"):
        sign(KEY, SEEDS, issued=NOW, expires=NOW + LIFETIME_MAX + 1)
    with pytest.raises(UsageError, match="no time"):
        sign(KEY, SEEDS, issued=NOW, expires=NOW)


def test_what_is_too_large_is_not_even_hashed() -> None:
    with pytest.raises(FormatError, match=str(LIST_MAX)):
        decode(signed("#" * LIST_MAX + "\n"), now=NOW)


def test_not_utf8() -> None:
    with pytest.raises(FormatError, match="UTF-8"):
        decode(signed(b"# \xff\n"), now=NOW)


@given(raw=st.binary(max_size=400))
def test_any_bytes_are_a_list_or_an_error_that_explains_itself(raw: bytes) -> None:
    for hostile in (raw, signed(raw + b"\n"), raw + b"#signature a b"):
        try:
            decode(hostile, now=NOW, unsigned=True)
        except P2psyncError as error:
            assert str(error)


names = st.from_regex(r"[a-z][a-z0-9-]{0,20}(\.[a-z]{1,10}){0,3}", fullmatch=True)


@given(
    seeds=st.lists(st.tuples(names, st.integers(1, 65535)), min_size=1, max_size=40, unique=True),
    days=st.integers(1, 400),
)
def test_dns_carries_any_list_unchanged(seeds: list[tuple[str, int]], days: int) -> None:
    texts = tuple(f"{host}:{port}" for host, port in seeds)
    raw = sign(KEY, texts, issued=NOW, expires=NOW + days * 86400)
    strings = text_for_dns(raw)
    assert all(len(part) <= TXT_STRING_MAX for part in strings)
    carried = from_dns(part.encode() for part in strings)
    assert carried == raw
    assert decode(carried, now=NOW, keys=[KEY.public_key]).seeds == texts


def test_dns_records_of_others_are_no_lists() -> None:
    with pytest.raises(TrustError):
        decode(from_dns([b"v=spf1 -all"]), now=NOW)
    with pytest.raises(FormatError):
        from_dns([b"x" * 255] * 100)
    with pytest.raises(FormatError, match="DNS"):
        text_for_dns(b"a|b\n")


def test_keys_are_written_as_archive_ids_are() -> None:
    assert parse_key(key_text(KEY.public_key)) == KEY.public_key
    with pytest.raises(UsageError, match="52 characters"):
        parse_key("A" * 52)


def test_vector() -> None:
    """The example of docs/spec/seeds.md."""
    raw = sign(KEY, ["boot1.example.org:8730"], issued=NOW, expires=NOW + 30 * 86400)
    assert raw.decode() == (
        "# p2psync seed list\n"
        "version = 1\n"
        "issued = 2027-01-15T08:00:00Z\n"
        "expires = 2027-02-14T08:00:00Z\n"
        "seeds = [\n"
        '  "boot1.example.org:8730",\n'
        "]\n"
        "#signature aoqqpp7tzyil4hlq3umoos6atft6jvrqtosq2xy53sdgiesvgg4a "
        "DdpOp1YbYB4EOHZBOtLfUFWZ8ics2Y8yKgTiykkpRwwueJoiE/r+egXJXb5TXeqygm+Okf6sGt9oOSgND4KJBg\n"
    )
    assert time.gmtime(NOW)[:4] == (2027, 1, 15, 8)
