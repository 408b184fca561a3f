"""Rates and seconds of the command line, with the real rsync as judge of what is a rate and how much it
is.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.e2e.harness import need

from p2psync.rsync.units import parse_rate, parse_seconds

RATES = [
    *(
        "0",
        "1",
        "100",
        "1.5",
        "0.4",
        "0.5",
        ".5m",
        "1.",
        "1.5m",
        "2MB",
        "10KiB",
        "1g",
        "1G",
        "2.5GB",
        "1t",
        "1.5tb",
    ),
    *(
        "511b",
        "512b",
        "600b",
        "1023b",
        "1024b",
        "1536b",
        "0b",
        "0.1",
        "0.001g",
        "5kib",
        "5Kb",
        "7.25mib",
        "b",
        "m",
    ),
    *(
        "1m+1",
        "1m-1",
        "5+1",
        "5-1",
        "5k+1",
        "5k-1",
        "512b-1",
        "511b+1",
        "k+1",
        "5k+",
        "5+2",
        "+5",
        "-1",
        "5bb",
    ),
    *("5x", "5kx", "1e3", "5ki", "1.5.2", "0x10", "1k1", "1,5", "1_000", "\u0663", "", " 5", "5 ", "5bib"),
]
"""Beyond 2 TiB/s rsync's 32 bits overflow; those are left out."""


def rsyncs_rate(text: str, shell: Path) -> int | None:
    """What rsync makes of ``--bwlimit=TEXT``, in bytes a second; None if it refuses. It passes the rate on,
    in KiB, to
    the rsync that it starts on the other side; here that is a script that only notes its arguments."""
    notes = shell.with_suffix(".notes")
    notes.unlink(missing_ok=True)
    argv = [need("rsync"), "-e", os.fspath(shell), f"--bwlimit={text}", "/etc/hostname", "nowhere:/x"]
    code = subprocess.run(argv, capture_output=True, check=False).returncode
    if code == 1:
        return None
    found = re.search(r"--bwlimit=(\d+)", notes.read_text())
    return int(found[1]) * 1024 if found else 0


def test_rates_are_those_of_rsync(tmp_path: Path) -> None:
    shell = tmp_path / "shell"
    shell.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/shell.notes\nexit 1\n')
    shell.chmod(0o755)
    for text in RATES:
        try:
            ours: int | None = parse_rate(text)
        except ValueError:
            ours = None
        assert ours == rsyncs_rate(text, shell), f"--bwlimit={text!r}"


@given(st.text(max_size=12))
def test_a_rate_is_a_number_of_kib_or_refused(text: str) -> None:
    try:
        rate = parse_rate(text)
    except ValueError as error:
        assert text in str(error) or repr(text) in str(error)
    else:
        assert rate >= 0
        assert rate % 1024 == 0


def test_an_absurd_rate_is_refused() -> None:
    with pytest.raises(ValueError, match="too large"):
        parse_rate("99999999p")


@pytest.mark.parametrize(("text", "seconds"), [("0", 0), ("60", 60)])
def test_seconds(text: str, seconds: int) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "-1", "1.5", "5s", "1e3", "99999999999"])
def test_seconds_are_whole_numbers(text: str) -> None:
    with pytest.raises(ValueError, match="seconds"):
        parse_seconds(text)
