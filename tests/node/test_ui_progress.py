"""How far work is, made from its events, and the displays of it. The clock is the test's."""

from __future__ import annotations

import io
import sys
import threading
from typing import Any

import pytest

from p2psync.events import (
    Advanced,
    Arrived,
    Awaiting,
    FileDone,
    Phase,
    Received,
    Resting,
    Served,
    SourceState,
)
from p2psync.progress import (
    RATE_WINDOW,
    SAMPLE_EVERY,
    STALLED_AFTER,
    Progress,
    ProgressMeter,
    RateMeter,
    SourceProgress,
)
from p2psync.ui.lines import Ticker, line
from p2psync.ui.observer import observing


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_steady_rate_is_told_exactly(clock: Clock) -> None:
    meter = RateMeter(clock.now)
    for _ in range(200):
        clock.now += 0.1
        meter.add(100, clock.now)
    assert meter.rate(clock.now) == pytest.approx(1000, rel=0.05)
    assert meter.total == 20_000


def test_the_rate_of_what_stopped_falls_to_zero(clock: Clock) -> None:
    meter = RateMeter(clock.now)
    for _ in range(50):
        clock.now += 0.1
        meter.add(1000, clock.now)
    assert meter.rate(clock.now + RATE_WINDOW / 2) < 6000
    assert meter.rate(clock.now + 2 * RATE_WINDOW) == 0


def test_a_meters_memory_is_bounded(clock: Clock) -> None:
    meter = RateMeter(clock.now)
    for _ in range(100_000):
        clock.now += 0.001
        meter.add(1, clock.now)
    assert len(meter._samples) <= RATE_WINDOW / SAMPLE_EVERY + 2


def test_time_left_follows_from_the_rate(clock: Clock) -> None:
    progress = ProgressMeter(clock)
    progress.hear(Phase("fetch", 10_000, 10))
    for _ in range(40):
        clock.now += 0.1
        progress.hear(Advanced(100, 0))
    now = progress.progress()
    assert (now.bytes, now.total_bytes, now.files, now.total_files) == (4000, 10_000, 0, 10)
    assert now.fraction == pytest.approx(0.4)
    assert now.eta == pytest.approx(6, rel=0.1)


def test_nothing_is_promised_before_there_is_a_rate(clock: Clock) -> None:
    progress = ProgressMeter(clock)
    progress.hear(Phase("fetch", 10_000, 10))
    assert progress.progress().eta is None
    progress.hear(Advanced(5000, 0))
    assert progress.progress().eta is None, "one burst is no rate yet"


def test_a_new_phase_starts_again_and_sources_stay(clock: Clock) -> None:
    progress = ProgressMeter(clock)
    progress.hear(Phase("fetch", 100, 1))
    progress.hear(Advanced(100, 1))
    progress.hear(Received("a:1", 70))
    progress.hear(Received("b:2", 30))
    progress.hear(SourceState("b:2", "banned"))
    progress.hear(Phase("verify", 0, 0))
    now = progress.progress()
    assert (now.phase, now.bytes, now.files, now.fraction) == ("verify", 0, 0, 0)
    assert [(s.name, s.received, s.state) for s in now.sources] == [("a:1", 70, ""), ("b:2", 30, "banned")]


def test_reused_bytes_are_done_and_no_rate(clock: Clock) -> None:
    progress = ProgressMeter(clock)
    progress.hear(Phase("fetching", 10_000))
    for _ in range(80):
        clock.now += 0.1
        progress.hear(Advanced(100, 0, reused=90))
    now = progress.progress()
    assert (now.bytes, now.reused) == (8000, 7200)
    assert now.rate == pytest.approx(100, rel=0.1)
    assert now.eta == pytest.approx(2, rel=0.1), "what is left goes on as it did, reuse included"


def test_what_was_found_here_in_a_moment_promises_nothing_of_the_rest(clock: Clock) -> None:
    progress = ProgressMeter(clock)
    progress.hear(Phase("fetching", 10_000))
    progress.hear(Advanced(5000, 0, reused=5000))
    for _ in range(20):
        clock.now += 0.1
        progress.hear(Advanced(100, 0))
    assert progress.progress().eta == pytest.approx(3, rel=0.1)


def test_where_all_is_here_its_own_pace_says_how_long_it_takes(clock: Clock) -> None:
    progress = ProgressMeter(clock)
    progress.hear(Phase("fetching", 10_000))
    for _ in range(20):
        clock.now += 0.1
        progress.hear(Advanced(100, 0, reused=100))
    now = progress.progress()
    assert now.rate == 0
    assert now.eta == pytest.approx(8, rel=0.1)


def test_the_rate_is_that_of_the_wire(clock: Clock) -> None:
    progress = ProgressMeter(clock)
    progress.hear(Phase("fetching", 100_000))
    progress.hear(Awaiting(True))
    for _ in range(20):
        clock.now += 0.1
        progress.hear(Arrived("a:1", 100))
    now = progress.progress()
    assert now.bytes == 0, "nothing is verified yet"
    assert now.rate == pytest.approx(1000, rel=0.1)
    assert now.sources[0].rate == pytest.approx(1000, rel=0.1)
    assert now.eta == pytest.approx(100, rel=0.1)


def test_silence_is_a_stall_while_others_owe_something(clock: Clock) -> None:
    progress = ProgressMeter(clock)
    progress.hear(Phase("fetching", 100_000))
    progress.hear(Awaiting(True))
    for _ in range(20):
        clock.now += 0.1
        progress.hear(Arrived("a:1", 100))
    before = progress.progress()
    clock.now += STALLED_AFTER * 0.9
    assert (progress.progress().rate, progress.progress().stalled) == (before.rate, None), (
        "no rate that sinks"
    )
    clock.now += 9.3
    now = progress.progress()
    assert (now.rate, now.eta) == (0, None)
    assert now.stalled == pytest.approx(12)
    for _ in range(20):
        progress.hear(Arrived("b:2", 100))
        clock.now += 0.1
    now = progress.progress()
    assert now.stalled is None
    assert now.rate == pytest.approx(1000, rel=0.1), "the stall is over, and not averaged with what follows"


def test_a_slow_disk_is_no_stall(clock: Clock) -> None:
    progress = ProgressMeter(clock)
    progress.hear(Phase("fetching", 100_000))
    progress.hear(Awaiting(True))
    progress.hear(Arrived("a:1", 100))
    progress.hear(Awaiting(False))
    clock.now += 60
    assert progress.progress().stalled is None
    progress.hear(Awaiting(True))
    assert progress.progress().stalled is None, "they have owed it only from now on"
    progress.hear(Phase("finishing"))
    clock.now += 60
    assert progress.progress().stalled is None


def test_what_was_interrupted_goes_on_where_it_was(clock: Clock) -> None:
    progress = ProgressMeter(clock)
    progress.hear(Phase("fetching", 1000, 10, done_bytes=600, done_files=6))
    now = progress.progress()
    assert (now.bytes, now.files, now.fraction, now.reused, now.rate) == (600, 6, 0.6, 0, 0)
    progress.hear(Advanced(400, 4))
    assert progress.progress().fraction == 1


def test_what_is_given_to_others_is_told(clock: Clock) -> None:
    progress = ProgressMeter(clock)
    progress.hear(Phase("fetching"))
    for _ in range(20):
        clock.now += 0.1
        progress.hear(Served(100, 2))
    progress.hear(Phase("finishing"))
    now = progress.progress()
    assert (now.sent, now.peers) == (2000, 2)
    assert now.sent_rate == pytest.approx(1000, rel=0.1)


def test_a_node_at_rest_forgets_the_sources_of_its_last_run(clock: Clock) -> None:
    progress = ProgressMeter(clock)
    progress.hear(Phase("fetching"))
    progress.hear(Received("a:1", 70))
    clock.now += 100
    progress.hear(Resting("up to date", 5.0, 6.0))
    now = progress.progress()
    assert (now.phase, now.sources, now.resting) == ("", (), Resting("up to date", 5.0, 6.0))
    clock.now += 3600
    progress.hear(Phase("looking up"))
    clock.now += 2
    now = progress.progress()
    assert (now.seconds, now.resting) == (2, None), "the next run has a time of its own"


def test_done_is_never_more_than_all() -> None:
    assert Progress(bytes=200, total_bytes=100).fraction == 1
    assert Progress(files=1, total_files=4).fraction == 0.25


def test_reports_from_many_threads_add_up() -> None:
    progress = ProgressMeter()
    progress.hear(Phase("publish", 0, 0))

    def report() -> None:
        for _ in range(2000):
            progress.hear(Advanced(1, 1))
            progress.hear(Received("a", 2))

    threads = [threading.Thread(target=report) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    now = progress.progress()
    assert (now.bytes, now.files, now.sources[0].received) == (8000, 8000, 16000)


def working() -> ProgressMeter:
    progress = ProgressMeter()
    progress.hear(Phase("fetch", 0, 0))
    return progress


def test_a_line_says_it_all() -> None:
    now = Progress("fetch", 1536, 4096, 3, 10, 512.0, 5.0, 3.0, (SourceProgress("a:1", 1536),))
    assert line(now) == (
        "fetch: 38 %, 5.0 s left, 1.50 KiB of 4.00 KiB, 512 B/s, 3 of 10 files, 3.0 s so far, 1 source"
    )
    assert line(Progress("publish\x1b[2J", files=1)) == "publish\\#033[2J: 1 file, 0.0 s so far"
    silent = now._replace(stalled=12.0, rate=0.0, eta=None, sources=(SourceProgress("b:2"),))
    assert line(silent) == (
        "fetch: 38 %, stalled for 12 s, 1.50 KiB of 4.00 KiB, 3 of 10 files, 3.0 s so far"
    )


def test_lines_come_while_it_lasts_and_stop() -> None:
    written = threading.Event()

    class Stream(io.StringIO):
        def write(self, text: str) -> int:
            count = super().write(text)
            if text.endswith("\n"):
                written.set()
            return count

    stream = Stream()
    display = Ticker(working(), lambda now: print(line(now), file=stream), 0.001)
    display.start()
    assert written.wait(60)
    display.stop()
    said = stream.getvalue()
    assert said.startswith("fetch: 0.0 s so far")
    assert stream.getvalue() == said


def test_no_lines_while_nothing_goes_on() -> None:
    rounds = threading.Semaphore(0)

    class Idle(ProgressMeter):
        def progress(self) -> Progress:
            rounds.release()
            return super().progress()

    stream = io.StringIO()
    display = Ticker(Idle(), lambda now: print(line(now), file=stream), 0.001)
    display.start()
    for _ in range(3):
        assert rounds.acquire(timeout=60)
    display.stop()
    assert stream.getvalue() == ""


def test_a_display_whose_reader_is_gone_stops_quietly() -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    display = Ticker(working(), lambda now: print(line(now), file=Broken()), 0.001)
    display.start()
    display._thread.join(60)
    assert not display._thread.is_alive()
    display.stop()


@pytest.mark.parametrize("options", [{"quiet": True}, {"on_progress": print}, {}])
def test_quick_work_prints_nothing_but_warnings(options: Any, capsys: pytest.CaptureFixture[str]) -> None:
    warned: list[str] = []
    with observing(warned.append, **options) as tell:
        tell.phase("fetch", 10, 1)
        tell.advance(10, 1)
        tell.received("a:1", 10)
        tell.warn("careful")
    assert capsys.readouterr() == ("", "")
    assert warned == ["careful"]


def test_lines_come_to_who_asks_and_to_terminals_that_cannot_be_drawn_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("p2psync.ui.lines.LINE_EVERY", 0.001)

    def said(*, lines: bool) -> str:
        class Meter(ProgressMeter):
            looks = 0

            def progress(self) -> Progress:
                now = super().progress()
                self.looks += bool(now.phase)
                if self.looks == 2:  # The first was shown since.
                    looked.set()
                return now

        looked = threading.Event()
        monkeypatch.setattr("p2psync.ui.observer.ProgressMeter", Meter)
        with observing(print, lines=lines) as tell:
            tell.phase("fetching", 10, 1)
            if lines or sys.stderr.isatty():
                assert looked.wait(60)
        return "".join(capsys.readouterr())

    assert said(lines=False) == "", "cron mails whatever is printed"
    assert said(lines=True).startswith("fetching: 0 %")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")
    assert said(lines=False).startswith("fetching: 0 %")


def test_what_is_stopped_leaves_a_line_that_says_how_far_it_came(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stop(*, lines: bool, quiet: bool = False) -> str:
        with pytest.raises(KeyboardInterrupt), observing(print, lines=lines, quiet=quiet) as tell:
            tell.phase("fetching", 100, 10)
            tell.advance(25, 1)
            raise KeyboardInterrupt
        return "".join(capsys.readouterr())

    assert stop(lines=True).startswith("fetching: 25 %, 25 B of 100 B, ")
    assert stop(lines=False) == stop(lines=True, quiet=True) == ""


def test_a_program_hears_of_rest_when_it_begins_and_then_seldom(clock: Clock) -> None:
    rounds = threading.Semaphore(0)
    go_on = threading.Semaphore(0)

    class Meter(ProgressMeter):
        def progress(self) -> Progress:
            rounds.release()
            assert go_on.acquire(timeout=60)
            return super().progress()

    meter = Meter(clock)
    seen: list[Resting | None] = []
    display = Ticker(meter, lambda now: seen.append(now.resting), 0.001, rest_every=60)
    display.start()
    expected: list[Resting | None] = []

    def round_(told: Resting | None) -> None:
        assert rounds.acquire(timeout=60)
        expected.extend([] if told is None else [told])
        go_on.release()

    meter.hear(Resting("up to date", 1.0, 2.0))
    round_(Resting("up to date", 1.0, 2.0))
    round_(None)
    assert rounds.acquire(timeout=60)
    clock.now += 61
    rounds.release()
    round_(Resting("up to date", 1.0, 2.0))
    assert rounds.acquire(timeout=60)
    meter.hear(Resting("up to date", 1.0, 3.0))
    rounds.release()
    round_(Resting("up to date", 1.0, 3.0))
    assert rounds.acquire(timeout=60)
    display._stopped.set()
    go_on.release()
    display.stop()
    assert seen == expected


def test_rich_is_not_loaded_without_a_terminal() -> None:
    import subprocess

    program = (
        "import sys; from p2psync.ui.observer import observing\n"
        "with observing(print): pass\nprint('rich' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_program_hears_of_progress_and_of_each_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2psync.ui.lines.EVENT_EVERY", 0.001)
    heard = threading.Event()
    seen: list[Progress] = []
    files: list[FileDone] = []

    def hear(now: Progress) -> None:
        seen.append(now)
        heard.set()

    with observing(print, quiet=True, on_progress=hear, on_file=files.append) as tell:
        assert tell.wants_files
        tell.phase("fetching", 10, 1)
        tell.advance(10, 1)
        tell.file_done(b"f", 10)
        assert heard.wait(60)
    assert seen[0].phase == "fetching"
    assert files == [FileDone(b"f", 10)]
    with observing(print, quiet=True, on_progress=hear) as tell:
        assert not tell.wants_files
