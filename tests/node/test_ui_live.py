"""The live display, drawn into a terminal of the test's own."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys

from rich.console import Console

from p2psync.progress import Progress, SourceProgress
from p2psync.ui.live import render


def drawn(now: Progress, *, width: int = 100, max_sources: int = 10) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False, highlight=False)
    console.print(render(now, max_sources))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


SOURCES = (
    SourceProgress("192.0.2.1:8730", 750, 100.0),
    SourceProgress("https://mirror.example/", 250, 0.0, "slow"),
    SourceProgress("198.51.100.7:9", 0, 0.0, "banned"),
)


def test_everything_is_on_it() -> None:
    text = drawn(Progress("fetch", 1000, 4000, 3, 10, 100.0, 30.0, 10.0, SOURCES))
    first, files, *sources = text.splitlines()
    assert first.startswith("fetch ")
    assert "25 %  1000 B of 3.91 KiB  100 B/s  30 s left" in first
    assert files.strip() == "3 of 10 files"
    assert re.search(r"192.0.2.1:8730 +75 % +750 B +100 B/s", sources[0])
    assert re.search(r"https://mirror.example/ +25 % +250 B +0 B/s +slow", sources[1])
    assert re.search(r"198.51.100.7:9 +0 % +0 B +0 B/s +banned", sources[2])


def test_more_sources_than_room_are_counted() -> None:
    many = tuple(SourceProgress(f"192.0.2.{n}:8730", n, float(n)) for n in range(40))
    lines = drawn(Progress("fetch", sources=many), max_sources=5).splitlines()
    assert len(lines) == 6
    assert "192.0.2.39" in lines[4]
    assert lines[-1].strip() == "and 36 more"


def test_names_are_neither_markup_nor_escape_sequences() -> None:
    text = drawn(Progress("fetch", sources=(SourceProgress("[red]x[/] \x1b[2J:1", 1),)))
    assert "[red]x[/] \\#033[2J:1" in text
    assert "\x1b" not in text


def test_it_fits_a_narrow_terminal() -> None:
    for width in (40, 60, 80, 200):
        text = drawn(Progress("fetch", 1000, 4000, 3, 10, 100.0, 30.0, 10.0, SOURCES), width=width)
        assert max(map(len, text.splitlines())) <= width


def test_on_a_real_terminal_it_is_redrawn_in_place_and_removed() -> None:
    program = """
import sys
from p2psync.cli.output import Output
out = Output()
with out.observing() as tell:
    tell.phase("fetch", 2**20, 5)
    tell.received("192.0.2.1:8730", 2**20)
    tell.advance(2**20, 5)
    sys.stdin.readline()
    out.warn("be careful")
out.say("that was it")
"""
    main, other = pty.openpty()
    with os.fdopen(main, "rb", buffering=0) as terminal:
        env = os.environ | {"TERM": "xterm", "COLUMNS": "100", "LINES": "24"}
        process = subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=other, stderr=other, env=env
        )
        assert process.stdin is not None
        os.close(other)
        said = b""
        while True:
            try:
                part = terminal.read(65536)
            except OSError:  # Linux says EIO when the last writer is gone.
                break
            if not part:
                break
            said += part
            if b"192.0.2.1:8730" in said and b"\x1b[2K" in said and not process.stdin.closed:
                process.stdin.close()  # it was drawn and drawn again, so the program may go on
        assert process.wait() == 0
    text = said.decode()
    assert "192.0.2.1:8730" in text
    assert "\x1b[2K" in text, "lines are erased and written again"
    assert "p2psync: warning: be careful" in text
    assert text.rstrip().endswith("that was it")
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1, "the cursor comes back"
