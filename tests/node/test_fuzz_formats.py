"""Whatever strangers give instead of an object, a message, an HTTP head or a URL is refused by its decoder,
or keeps to the format: `fuzz.formats` has the promises.
"""

from __future__ import annotations

import random

import pytest
from fuzz.formats import FORMATS, REFUSALS, check, seeds
from hypothesis import given, settings
from hypothesis import strategies as st

CHANGES = [
    b"",
    b"\0",
    b"\x80",
    b"\x90",
    b"\xc0",
    b"\xc4\xff",
    b"\xdd\xff\xff\xff\xff",
    b"\xff" * 9,
    b"\r\n",
    b"%00",
    b"[",
]


def changed(seed: bytes, chance: random.Random) -> bytes:
    """A few bytes replaced, put in, doubled or cut off."""
    made = bytearray(seed)
    for _ in range(chance.choice([1, 1, 2, 4])):
        at = chance.randrange(len(made) + 1)
        end = at + chance.choice([0, 1, 1, 4, 40])
        made[at:end] = chance.choice([chance.randbytes(1), chance.choice(CHANGES), bytes(made[at:end]) * 2])
    return bytes(made)


@pytest.mark.parametrize("name", FORMATS)
def test_a_seed_is_accepted(name: str) -> None:
    accepted = 0
    for seed in seeds(name):
        try:
            FORMATS[name](seed)
        except REFUSALS:
            continue
        accepted += 1
    assert accepted


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=100)
@given(number=st.integers(0, 2**32))
def test_changed_bytes_are_refused_or_keep_to_the_format(name: str, number: int) -> None:
    chance = random.Random(number)
    for seed in seeds(name):
        check(name, changed(seed, chance))


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=50)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_refused_or_keep_to_the_format(name: str, data: bytes) -> None:
    check(name, data)
