"""Whatever strangers give instead of an object, a message, an HTTP head or a URL is refused by its decoder,
or keeps to the format, and whatever they say on a connection is read in one way or refused: `fuzz.formats`,
`fuzz.streams` and `fuzz.requests` have the promises.
"""

from __future__ import annotations

import random

import pytest
from fuzz import formats, requests, streams, targets
from fuzz.corpus import kept
from fuzz.formats import FORMATS, REFUSALS
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


MAKERS = {name: maker for maker in (formats, streams, requests) for name in maker.TARGETS}


def check(name: str, data: bytes) -> None:
    MAKERS[name].TARGETS[name](data)


@pytest.mark.parametrize("name", FORMATS)
def test_a_seed_is_accepted(name: str) -> None:
    accepted = 0
    for seed in MAKERS[name].seeds(name):
        try:
            FORMATS[name](seed)
        except REFUSALS:
            continue
        accepted += 1
    assert accepted


@pytest.mark.parametrize("name", MAKERS)
@settings(max_examples=100)
@given(number=st.integers(0, 2**32))
def test_changed_bytes_are_refused_or_keep_to_the_format(name: str, number: int) -> None:
    chance = random.Random(number)
    for seed in MAKERS[name].seeds(name):
        check(name, changed(seed, chance))


@pytest.mark.parametrize("name", MAKERS)
@settings(max_examples=50)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_refused_or_keep_to_the_format(name: str, data: bytes) -> None:
    check(name, data)


@pytest.mark.parametrize("name", [*MAKERS, *targets.TARGETS])
def test_what_was_found_by_long_runs_breaks_nothing(name: str) -> None:
    maker = {**MAKERS, **dict.fromkeys(targets.TARGETS, targets)}[name]
    inputs = kept(name)
    assert inputs
    for each in inputs:
        maker.TARGETS[name](each)


def test_writing_beside_a_room_would_be_noticed() -> None:
    """The promise that the streams are held to is looked at."""
    rooms = streams._Rooms(1)
    rooms._memory[0][0] ^= 1
    with pytest.raises(AssertionError, match="beside"):
        rooms.check()
