"""What the display on a terminal says, and how it fits one that is narrow or low."""

from __future__ import annotations

import re
import time

import pytest
from rich.cells import cell_len

from p2psync.events import Resting
from p2psync.progress import Progress, SourceProgress
from p2psync.ui.layout import ASCII, layout, shorten

SOURCES = (
    SourceProgress("192.0.2.1:8730", 750, 100.0),
    SourceProgress("https://mirror.example/", 250, 0.0, "slow"),
    SourceProgress("198.51.100.7:9", 0, 0.0, "banned"),
)
BUSY = Progress(
    "fetching",
    45 << 30,
    100 << 30,
    1234,
    5678,
    12.5 * (1 << 20),
    4567.0,
    321.0,
    SOURCES,
    reused=7 << 30,
    path=b"pool/main/l/linux/linux-image-6.1.0-1-amd64.deb",
    sent=3 << 30,
    sent_rate=2.5 * (1 << 20),
    peers=3,
)
NOON = time.mktime((2026, 3, 4, 12, 0, 0, 0, 0, -1))


def drawn(now: Progress, width: int = 100, height: int = 20, at: float = NOON) -> list[str]:
    return ["".join(span.text for span in line) for line in layout(now, width, height, at=at)]


def test_everything_is_on_it() -> None:
    first, *rest = drawn(BUSY)
    assert re.fullmatch(r"fetching ━+─+ 45 %  1:16:07 left", first)
    text = "\n".join(rest)
    for words in (
        "45.0 GiB of 100 GiB",
        "12.5 MiB/s",
        "1,234 of 5,678 files",
        "5:21 so far",
        "reused 7.00 GiB",
        "up 2.50 MiB/s to 3 peers",
        "3.00 GiB given",
        "pool/main/l/linux/linux-image-6.1.0-1-amd64.deb",
    ):
        assert words in text
    assert re.search(r"192.0.2.1:8730 +75 % +750 B +100 B/s", text)
    assert re.search(r"https://mirror.example/ +25 % +250 B +0 B/s +slow", text)
    assert re.search(r"198.51.100.7:9 +0 % +0 B +0 B/s +banned", text)


@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_share_and_the_time_left_survive_every_width(width: int) -> None:
    lines = drawn(BUSY, width)
    assert lines[0].endswith("45 %  1:16:07 left")
    assert max(map(cell_len, lines)) <= width
    text = "\n".join(lines)
    assert "45.0 GiB of 100 GiB" in text
    assert "12.5 MiB/s" in text
    assert "5:21 so far" in text
    assert "amd64.deb" in text
    assert "100 B/s" in text, "of a source the rate is what is looked for"


@pytest.mark.parametrize("width", range(1, 60))
def test_nothing_is_wider_or_higher_than_the_terminal(width: int) -> None:
    resting = Progress(resting=Resting("up to date", NOON - 90, NOON + 61))
    for now in (BUSY, resting, BUSY._replace(stalled=12.4, rate=0.0, eta=None), Progress("x" * 80)):
        for height in (1, 2, 5):
            lines = drawn(now, width, height)
            assert len(lines) <= height
            assert all(cell_len(line) <= width for line in lines)


def test_silence_is_a_stall_and_no_rate() -> None:
    lines = drawn(BUSY._replace(stalled=12.4, rate=0.0, eta=None))
    assert lines[0].endswith("45 %  stalled for 12 s")
    assert not any(line.strip().startswith("0 B/s") or "  0 B/s  " in line for line in lines[1:4])


def test_sources_that_never_answered_have_no_row() -> None:
    silent = tuple(SourceProgress(f"203.0.113.{n}:8730") for n in range(5))
    text = "\n".join(drawn(BUSY._replace(sources=(*silent, *SOURCES))))
    assert "203.0.113" not in text
    assert "192.0.2.1" in text
    assert "198.51.100.7:9" in text, "a liar has not answered well, but its user should know it"


def test_more_sources_than_room_are_counted() -> None:
    many = tuple(SourceProgress(f"192.0.2.{n}:8730", n, float(n)) for n in range(1, 41))
    lines = drawn(Progress("fetching", sources=many), height=7)
    assert len(lines) == 7
    assert "192.0.2.40" in lines[5]
    assert lines[-1].strip() == "and 36 more"


def test_names_are_no_escape_sequences_and_the_longest_are_shortened_at_the_front() -> None:
    path = b"d/" * 500 + b"\x1b[2J\n\xff\xe2\x80\xaeend.iso"
    now = Progress("fetching\x1b[2J", path=path, sources=(SourceProgress("x\x1b[2J:1", 1),))
    for width in (40, 120):
        text = "\n".join(drawn(now, width))
        assert "\x1b" not in text
        assert "…" in text
        assert "end.iso" in text
        assert "\u202e" not in text, "nothing turns the line around"
        assert "x\\#033[2J:1" in text


def test_wide_characters_count_as_what_they_take() -> None:
    now = Progress("fetching", path="録画".encode() * 40)
    assert all(cell_len(line) <= 40 for line in drawn(now, 40))
    assert cell_len(shorten("録画" * 40, 9)) <= 9


def test_what_has_no_total_promises_none() -> None:
    assert drawn(Progress("looking up", seconds=2.0)) == ["looking up", "  2.0 s so far"]
    lines = drawn(Progress("publishing", 5 << 20, files=3, rate=1024.0, seconds=12.0))
    assert lines == ["publishing", "  5.00 MiB  1.00 KiB/s  3 files  12 s so far"]


def test_an_empty_archive_divides_by_nothing() -> None:
    assert drawn(Progress("fetching", 0, 0, 0, 0)) == ["fetching", "  0.0 s so far"]


def test_a_mirror_at_rest_says_what_it_does() -> None:
    now = Progress(resting=Resting("up to date", NOON - 3600, NOON + 754.6))
    assert drawn(now) == ["up to date since 11:00:00  next check in 12:35  nobody is connected"]
    yesterday = now._replace(resting=Resting("up to date", NOON - 86400, NOON - 5))
    assert drawn(yesterday) == ["up to date since 2026-03-03 12:00  next check in 0.0 s  nobody is connected"]
    serving = now._replace(sent=5 << 20, sent_rate=1024.0, peers=1)
    assert drawn(serving, 40) == [
        "up to date since 11:00:00",
        "next check in 12:35",
        "up 1.00 KiB/s to 1 peer  5.00 MiB given",
    ]


def test_a_node_without_mirrors_serves() -> None:
    assert drawn(Progress(resting=Resting("serving"))) == ["serving  nobody is connected"]


def test_where_nothing_goes_on_nothing_is_drawn() -> None:
    assert drawn(Progress()) == []


def test_terminals_without_unicode_get_ascii() -> None:
    text = "".join(span.text for line in layout(BUSY, 40, 10, ASCII) for span in line)
    assert text.isascii()
