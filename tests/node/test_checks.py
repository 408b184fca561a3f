"""What follows from checks of a holder: when it is listed, dropped, listed again, and checked next."""

from __future__ import annotations

import pytest

from p2psync.checks import (
    CHECK_EVERY,
    FAILURES_MAX,
    HISTORY_MAX,
    PROBATION,
    RETRY_FIRST,
    SUSPECTS_MAX,
    Result,
    Suspect,
    Track,
    Verdict,
    checked,
    due_at,
)

START = 1_800_000_000
PUBLISHED = START - 7 * 86_400
KEY = bytes([128]) * 32
RIGHT = Result(Verdict.RIGHT, seq=3, asked=8, came=8, complete=True, rate=1e6)
SILENT = Result(Verdict.FAILED, "192.0.2.1:8730: silent")
WRONG = Result(Verdict.WRONG, "sent wrong bytes for a chunk of 'a'", seq=3)
LACKS = Result(Verdict.LACKS, "lacks 2 chunks of 8 that it says it has", seq=3)
EMPTY = Result(Verdict.EMPTY, "has nothing yet that it was asked for", seq=3)


def after(*results: Result, track: Track | None = None, start: int = START) -> Track:
    """What is known after these checks, a minute apart."""
    for number, result in enumerate(results):
        track = checked(track, "mirror", ["192.0.2.1:8730"], result, PUBLISHED, start + 60 * number)
    assert track is not None
    return track


def test_a_nomination_counts_once_its_check_has_succeeded() -> None:
    assert not after(EMPTY).listed
    assert not after(SILENT).listed
    assert after(EMPTY, RIGHT).listed
    track = after(RIGHT)
    assert (track.listed, track.complete, track.seq, track.passed) == (True, True, 3, START)


def test_one_that_fails_is_off_the_list_after_as_many_checks_and_on_it_again_when_it_recovers() -> None:
    track = after(RIGHT, *[SILENT] * (FAILURES_MAX - 1))
    assert track.listed and track.failures == FAILURES_MAX - 1
    track = after(SILENT, track=track)
    assert not track.listed and track.reason == SILENT.reason
    track = after(RIGHT, track=track)
    assert track.listed and not track.failures and not track.reason


@pytest.mark.parametrize("crime", [WRONG, LACKS], ids=["wrong bytes", "claims more than it has"])
def test_one_that_lies_is_dropped_at_once_and_has_to_pass_several_checks(crime: Result) -> None:
    track = after(RIGHT, crime)
    assert track.dropped and not track.listed and track.reason == crime.reason
    track = after(*[RIGHT] * (PROBATION - 1), track=track)
    assert track.dropped and not track.listed and track.reason == crime.reason
    assert not after(RIGHT, track=track).dropped
    assert after(RIGHT, track=track).listed


def test_silence_makes_nobody_forget_what_one_was_dropped_for() -> None:
    track = after(WRONG, RIGHT, SILENT, RIGHT, RIGHT)
    assert track.dropped and track.reason == WRONG.reason
    assert after(RIGHT, track=track).listed


def test_who_fell_silent_is_not_put_on_the_list_by_having_nothing() -> None:
    assert not after(RIGHT, EMPTY).listed
    assert not after(*[SILENT] * 9, EMPTY).listed


def test_chunks_that_came_wrong_are_asked_for_until_it_is_listed_again() -> None:
    suspects = [Suspect(bytes([n]) * 32, 0, 9, bytes(32), b"a") for n in range(SUSPECTS_MAX + 2)]
    track = after(*(WRONG._replace(suspects=(each,)) for each in suspects))
    assert track.suspects == tuple(suspects[: -SUSPECTS_MAX - 1 : -1])
    assert after(WRONG._replace(suspects=(suspects[-1],)), track=track).suspects == track.suspects
    assert after(*[RIGHT] * PROBATION, track=track).suspects == ()


def test_lag_counts_from_when_the_first_snapshot_that_it_lacks_was_signed() -> None:
    old = RIGHT._replace(behind=True, complete=False, seq=2)
    track = checked(after(RIGHT), "mirror", [], old, START + 500, START + 600)
    assert track.lag(START + 600) == 100
    track = checked(track, "mirror", [], old, START + 900, START + 1000)  # a further one was published
    assert track.lag(START + 1000) == 500
    track = checked(track, "mirror", [], SILENT, START + 900, START + 1100)
    assert track.lag(START + 1100) == 600
    track = checked(track, "mirror", [], RIGHT, START + 900, START + 1200)
    assert track.lag(START + 9999) == 0


def test_a_publisher_whose_clock_is_ahead_makes_nobody_lag() -> None:
    track = checked(None, "mirror", [], RIGHT._replace(behind=True), START + 500, START)
    assert track.lag(START) == 0


def test_the_rate_is_smoothed_and_one_bad_hour_is_not_forgotten_at_once() -> None:
    track = after(RIGHT, RIGHT._replace(rate=0.0), RIGHT._replace(rate=2e6))
    assert 1.2e6 < track.rate < 1.4e6


def test_what_is_kept_is_bounded_whatever_a_holder_says() -> None:
    long = Result(Verdict.FAILED, "x" * 9999, parts=tuple(b"%d" % n for n in range(999)))
    track = after(*[RIGHT._replace(parts=long.parts), long] * 99)
    assert len(track.history) == HISTORY_MAX
    assert len(track.reason) <= 200 and len(track.parts) <= 32
    assert track.checks == 198 and track.passes == 99


def test_checks_are_an_hour_apart_and_not_all_at_one_moment() -> None:
    track = after(RIGHT)
    pauses = {due_at(track, bytes([byte]) * 32) - START for byte in range(256)}
    assert len(pauses) == 256
    assert (min(pauses), max(pauses)) == pytest.approx((0.9 * CHECK_EVERY, 1.1 * CHECK_EVERY))


def test_who_fails_is_checked_sooner_and_then_ever_more_seldom() -> None:
    track, pauses = after(RIGHT), []
    for _ in range(12):
        track = checked(track, "mirror", [], SILENT, PUBLISHED, START)
        pauses.append(due_at(track, KEY) - START)
    assert pauses[:4] == [RETRY_FIRST, 2 * RETRY_FIRST, 4 * RETRY_FIRST, 8 * RETRY_FIRST]
    assert max(pauses) == CHECK_EVERY


def test_who_lies_is_checked_no_sooner_than_others() -> None:
    assert due_at(after(WRONG), KEY) - START >= 0.9 * CHECK_EVERY


def test_who_is_behind_or_has_nothing_yet_is_looked_at_soon() -> None:
    assert due_at(after(RIGHT._replace(behind=True)), KEY) - START < 600
    assert due_at(after(EMPTY), KEY) - START < 600
