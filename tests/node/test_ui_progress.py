"""What the displays know: amounts, rates, time left, sources. The clock is the test's."""

from __future__ import annotations

import io
import sys
import threading
from typing import Any

import pytest

from p2psync.ui.lines import LineDisplay, line
from p2psync.ui.observer import observing
from p2psync.ui.progress import RATE_WINDOW, SAMPLE_EVERY, Meter, Progress, Snapshot, SourceLine


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_steady_rate_is_told_exactly(clock: Clock) -> None:
    meter = Meter(clock.now)
    for _ in range(200):
        clock.now += 0.1
        meter.add(100, clock.now)
    assert meter.rate(clock.now) == pytest.approx(1000, rel=0.05)
    assert meter.total == 20_000


def test_the_rate_of_what_stopped_falls_to_zero(clock: Clock) -> None:
    meter = Meter(clock.now)
    for _ in range(50):
        clock.now += 0.1
        meter.add(1000, clock.now)
    assert meter.rate(clock.now + RATE_WINDOW / 2) < 6000
    assert meter.rate(clock.now + 2 * RATE_WINDOW) == 0


def test_a_meters_memory_is_bounded(clock: Clock) -> None:
    meter = Meter(clock.now)
    for _ in range(100_000):
        clock.now += 0.001
        meter.add(1, clock.now)
    assert len(meter._samples) <= RATE_WINDOW / SAMPLE_EVERY + 2


def test_time_left_follows_from_the_rate(clock: Clock) -> None:
    progress = Progress(clock)
    progress.phase("fetch", 10_000, 10)
    for _ in range(40):
        clock.now += 0.1
        progress.advance(100, 0)
    now = progress.snapshot()
    assert (now.bytes_done, now.bytes_total, now.files_done, now.files_total) == (4000, 10_000, 0, 10)
    assert now.fraction == pytest.approx(0.4)
    assert now.seconds_left == pytest.approx(6, rel=0.1)


def test_nothing_is_promised_before_there_is_a_rate(clock: Clock) -> None:
    progress = Progress(clock)
    progress.phase("fetch", 10_000, 10)
    assert progress.snapshot().seconds_left is None
    progress.advance(5000, 0)
    assert progress.snapshot().seconds_left is None, "one burst is no rate yet"


def test_a_new_phase_starts_again_and_sources_stay(clock: Clock) -> None:
    progress = Progress(clock)
    progress.phase("fetch", 100, 1)
    progress.advance(100, 1)
    progress.source_bytes("a:1", 70)
    progress.source_bytes("b:2", 30)
    progress.source_state("b:2", "banned")
    progress.phase("verify", 0, 0)
    now = progress.snapshot()
    assert (now.phase, now.bytes_done, now.files_done, now.fraction) == ("verify", 0, 0, 0)
    assert [(s.name, s.received, s.state) for s in now.sources] == [("a:1", 70, ""), ("b:2", 30, "banned")]


def test_done_is_never_more_than_all() -> None:
    assert Snapshot(bytes_done=200, bytes_total=100).fraction == 1
    assert Snapshot(files_done=1, files_total=4).fraction == 0.25


def test_reports_from_many_threads_add_up() -> None:
    progress = Progress()
    progress.phase("publish", 0, 0)

    def report() -> None:
        for _ in range(2000):
            progress.advance(1, 1)
            progress.source_bytes("a", 2)

    threads = [threading.Thread(target=report) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    now = progress.snapshot()
    assert (now.bytes_done, now.files_done, now.sources[0].received) == (8000, 8000, 16000)


def working() -> Progress:
    progress = Progress()
    progress.phase("fetch", 0, 0)
    return progress


def test_a_line_says_it_all() -> None:
    now = Snapshot("fetch", 3, 10, 1536, 4096, 512.0, 5.0, 3.0, [SourceLine("a:1", 1536)])
    assert line(now) == "fetch: 38 %, 1.50 KiB of 4.00 KiB at 512 B/s, 3 of 10 files, 1 source, 5.0 s left"
    assert line(Snapshot("publish\x1b[2J", files_done=1)) == "publish\\#033[2J: 0 B at 0 B/s, 1 file"


def test_lines_come_while_it_lasts_and_stop() -> None:
    written = threading.Event()

    class Stream(io.StringIO):
        def write(self, text: str) -> int:
            count = super().write(text)
            if text.endswith("\n"):
                written.set()
            return count

    stream = Stream()
    display = LineDisplay(working(), stream, every=0.001)
    display.start()
    assert written.wait(60)
    display.stop()
    said = stream.getvalue()
    assert said.startswith("fetch: 0 B")
    assert stream.getvalue() == said


def test_no_lines_while_nothing_goes_on() -> None:
    rounds = threading.Semaphore(0)

    class Idle(Progress):
        def snapshot(self) -> Snapshot:
            rounds.release()
            return super().snapshot()

    stream = io.StringIO()
    display = LineDisplay(Idle(), stream, every=0.001)
    display.start()
    for _ in range(3):
        assert rounds.acquire(timeout=60)
    display.stop()
    assert stream.getvalue() == ""


def test_a_display_whose_reader_is_gone_stops_quietly() -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    display = LineDisplay(working(), Broken(), every=0.001)
    display.start()
    display._thread.join(60)
    assert not display._thread.is_alive()
    display.stop()


@pytest.mark.parametrize("options", [{"quiet": True}, {"json": True}, {}])
def test_quick_work_prints_nothing_but_warnings(options: Any, capsys: pytest.CaptureFixture[str]) -> None:
    warned: list[str] = []
    with observing(warned.append, **options) as tell:
        tell.phase("fetch", 10, 1)
        tell.advance(10, 1)
        tell.received("a:1", 10)
        tell.warn("careful")
    assert capsys.readouterr() == ("", "")
    assert warned == ["careful"]


def test_rich_is_not_loaded_without_a_terminal() -> None:
    import subprocess

    program = (
        "import sys; from p2psync.ui.observer import observing\n"
        "with observing(print): pass\nprint('rich' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
