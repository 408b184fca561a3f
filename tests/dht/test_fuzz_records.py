"""Fuzzed records: one exception, no way past a signature, and a store that counts right."""

from __future__ import annotations

import asyncio
import random
import tempfile
from pathlib import Path
from typing import Any

from fuzz.targets import check_store, record, seeds
from fuzz.world import HEAD, HOLDER, LIAR, NOW, ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p2psync_dht import Head, HolderRecord, RecordError, tag_of
from p2psync_dht.codec import pack
from p2psync_dht.keys import DOMAIN_HEAD, DOMAIN_HOLDER
from p2psync_dht.persistence import load_records
from p2psync_dht.storage import RecordStore

FUZZ = settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])

odd = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(),
    st.text(max_size=30),
    st.binary(max_size=140),
    st.lists(st.one_of(st.binary(min_size=6, max_size=6), st.text(max_size=10)), max_size=6),
    st.sampled_from([NOW, NOW + 60, NOW + 700, 2**40, 2**40 + 1, 2**63 - 1, 2**63, b"", bytes(32)]),
)


@st.composite
def signed(draw: st.DrawFn) -> bytes:
    """A head or holder record with some fields replaced or added, signed as its owner would."""
    is_head = draw(st.booleans())
    fields: list[Any] = (
        [2, ROOT.public_key, 0, 1, b"payload", NOW, NOW + 60, None]
        if is_head
        else [3, HOLDER.key, LIAR.public_key, [bytes([127, 0, 0, 9, 15, 160])], NOW, NOW + 60, 2, b""]
    )
    for _ in range(draw(st.integers(0, 3))):
        fields[draw(st.integers(0, len(fields) - 1))] = draw(odd)
    fields += draw(st.lists(odd, max_size=3))
    body = pack(fields[: draw(st.sampled_from([None, None, None, 0, 3, 7]))])
    signer, domain = (ROOT, DOMAIN_HEAD) if is_head else (LIAR, DOMAIN_HOLDER)
    return body + signer.sign(body, domain=domain)


@FUZZ
@given(st.one_of(signed(), st.binary(max_size=460)))
def test_whatever_is_stored_verifies_and_is_given_back(raw: bytes) -> None:
    check_store(raw)
    record(b"\x00" + raw)


def test_a_further_field_that_is_not_a_number_does_no_harm() -> None:
    body = pack([2, ROOT.public_key, 0, 1, b"payload", NOW, NOW + 60, None, float("nan")])
    record(b"\x01" + body)


@FUZZ
@given(st.sampled_from([HEAD, HOLDER]), st.data())
def test_no_changed_byte_passes_a_signature(whole: Head | HolderRecord, data: st.DataObject) -> None:
    changed = bytearray(whole.raw)
    at = data.draw(st.integers(0, len(changed) - 1))
    changed[at] ^= data.draw(st.integers(1, 255))
    store = RecordStore(lambda: NOW, random.Random(1))
    store.put(bytes(changed), sender_ip="127.0.0.9")
    assert len(store) == 0


def test_seeds_of_the_coverage_guided_fuzzer_and_their_neighbours_pass() -> None:
    rng = random.Random(12)
    for seed in seeds("record"):
        record(seed)
        for _ in range(40):
            near = bytearray(seed)
            near[rng.randrange(len(near))] = rng.randrange(256)
            record(bytes(near))


@FUZZ
@given(
    st.one_of(
        st.binary(max_size=300),
        st.lists(st.one_of(odd, st.lists(st.one_of(signed(), odd), max_size=4)), max_size=6).map(
            lambda rows: pack([1, rows])
        ),
    )
)
def test_any_file_of_records_is_read_as_if_from_the_network(content: bytes) -> None:
    store = RecordStore(lambda: NOW, random.Random(1))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "records"
        path.write_bytes(content)
        kept = asyncio.run(load_records(path, store))
    assert kept == len(store)
    for _, raw in store:
        made: Head | HolderRecord
        try:
            made = Head.decode(raw, tag=tag_of(raw))
        except RecordError:
            made = HolderRecord.decode(raw)
        made.verify(NOW)
