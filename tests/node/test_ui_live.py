"""The live display, drawn into a terminal of the test's own."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys

import pytest
from rich.console import Console

from p2psync.progress import Progress, SourceProgress
from p2psync.ui.layout import ASCII, UNICODE, layout
from p2psync.ui.live import render, signs_of


def test_names_are_no_markup() -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system="standard")
    lines = layout(Progress("fetch", sources=(SourceProgress("[red]x[/]:1", 1),)), 99, 10)
    console.print(render(lines))
    assert isinstance(console.file, io.StringIO)
    assert "[red]x[/]:1" in console.file.getvalue()


def test_without_colour_it_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    console = Console(file=io.StringIO(), width=60, force_terminal=True)
    lines = layout(Progress("fetch", 1, 4), 59, 10)
    console.print(render(lines))
    assert isinstance(console.file, io.StringIO)
    said = console.file.getvalue()
    assert "\x1b[3" not in said
    assert "fetch" in said
    assert "25 %" in said


def test_what_cannot_be_encoded_is_drawn_in_ascii() -> None:
    assert signs_of("utf-8") == UNICODE
    assert signs_of("ascii") == signs_of("iso-8859-1") == ASCII


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
