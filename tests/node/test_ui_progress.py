"""How far work is, made from its events, and the displays of it. The clock is the test's."""

from __future__ import annotations

import io
import sys
import threading
from typing import Any

import pytest

from p2psync.events import Advanced, FileDone, Phase, Received, SourceState
from p2psync.progress import (
    RATE_WINDOW,
    SAMPLE_EVERY,
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
    assert line(now) == "fetch: 38 %, 1.50 KiB of 4.00 KiB at 512 B/s, 3 of 10 files, 1 source, 5.0 s left"
    assert line(Progress("publish\x1b[2J", files=1)) == "publish\\#033[2J: 0 B at 0 B/s, 1 file"


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
    assert said.startswith("fetch: 0 B")
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
