"""A fetch told in rsync's words, read by the programs that read those; figures against the real rsync."""

from __future__ import annotations

import io
import re
import subprocess
from pathlib import Path

import pytest
from tests.e2e.harness import need

from p2psync.events import Changing, FileDone, Received, Removing, Warned, Whole
from p2psync.rsync.command_line import NotRead, read
from p2psync.rsync.figures import fraction, name, number
from p2psync.rsync.program import has_utf8
from p2psync.rsync.wishes import wishes
from p2psync.ui.as_rsync import AsRsync, Totals

DONE = Totals(12, 3_456_789)
BIG = 5 * 2**30


def told(*words: str, code: int = 0, log: bool = False) -> str:
    """What a fetch with a new file and link and a change of a mode tells by a command line."""
    out, logged, warned = io.BytesIO(), io.BytesIO(), list[str]()
    lines = AsRsync(wishes(read(words)), out, logged if log else None, warned.append, prefix=b"d/")
    lines.begin(None)
    for event in (
        Whole(3, 1, 1, BIG + 30, 5),
        Changing(b"", "d", True, "", False, 0, 10**18, 0o755),
        Changing(b"big", "f", True, "", True, BIG, 10**18, 0o644),
        Changing(b"mode", "f", False, "p", False, 30, 10**18, 0o600),
        Changing(b"link", "L", True, "", False, 5, 10**18, 0o777, b"other"),
        Received("peer", 1000),
        FileDone(b"big", BIG),
        Removing(b"gone", "d", 0o755),
        Warned("something"),
    ):
        lines.hear(event)
    lines.end(DONE, code)
    assert warned == ["something"]
    return (logged if log else out).getvalue().decode()


# Who reads it.


def test_tunasync_finds_the_size_of_the_mirror() -> None:
    found = re.findall(r"(?m)^Total file size: ([0-9\.]+[KMGTP]?) bytes", told("-vh", "--stats"))
    assert found == ["5.37G"]


def test_ftpsync_finds_the_bytes_in_its_log() -> None:
    # It adds up what stands behind these words in each line of the log of a run.
    for words in (["-q", "--stats"], ["-v"], ["-t"]):
        text = told(*words, "--log-file=/dev/null", log=True)
        lines = [line.split(" ", 3)[3] for line in text.splitlines() if " bytes  received " in line]
        assert len(lines) == 1
        found = re.match(r"sent ([0-9,]+) bytes\s+received ([0-9,]+) bytes", lines[0])
        assert found is not None
        assert [int(each.replace(",", "")) for each in found.groups()] == [12, 3_456_789]


def test_scripts_find_one_line_with_the_total_and_one_for_each_new_file() -> None:
    text = told("-vi", "--stats")
    assert len(re.findall(r"(?m)^total size is ", text)) == 1
    assert re.findall(r"(?m)^>f\+{9} (.*)$", text) == ["d/big"]
    assert re.findall(r"(?m)^\*deleting   (.*)$", text) == ["d/gone/"]


def test_quick_fedora_mirror_finds_the_whole_block() -> None:
    text = told("--stats", "--no-h")
    wanted = {
        "Number of files": "6 (reg: 3, dir: 2, link: 1)",
        "Number of created files": "3 (reg: 1, dir: 1, link: 1)",
        "Number of deleted files": "1 (dir: 1)",
        "Number of regular files transferred": "1",
        "Total file size": f"{BIG + 35} bytes",
        "Total transferred file size": f"{BIG} bytes",
        "Literal data": "1000 bytes",
        "Matched data": f"{BIG - 1000} bytes",
        "Total bytes sent": "12",
        "Total bytes received": "3456789",
    }
    found = dict(re.findall(r"(?m)^([A-Z][\w ]+): (.*)$", text))
    assert found.items() >= wanted.items()


def test_nothing_is_said_unless_it_is_asked_for() -> None:
    assert told() == ""
    assert told("-q") == ""
    assert told("-qv", "--stats", "--progress") == ""
    assert told("--log-file=/dev/null") == ""


def test_how_it_ended_stands_in_the_log() -> None:
    text = told("--log-file=/dev/null", log=True, code=23)
    assert "rsync error: some files/attrs were not transferred (see previous errors) (code 23)" in text


@pytest.mark.parametrize(
    "words",
    [
        ["-vv"],
        ["-ii"],
        ["--info=all"],
        ["--info=name2"],
        ["--info=help"],
        ["--info="],
        ["--out-format=%b"],
        ["--out-format=%"],
        ["--out-format="],
        ["--log-file-format=%h"],
    ],
    ids=" ".join,
)
def test_more_than_a_fetch_tells_is_left_to_rsync(words: list[str]) -> None:
    with pytest.raises(NotRead):
        wishes(read(words))


# Figures.


@pytest.mark.parametrize("human", range(4))
def test_numbers_are_written_as_rsync_writes_them(human: int, tmp_path: Path) -> None:
    sizes = [0, 7, 999, 1000, 1023, 1024, 999_994, 999_995, 1_000_000, 1_048_575, 2**30 - 1, 10**12]
    for size in sizes:
        with (tmp_path / "file").open("wb") as file:
            file.truncate(size)
        option = ["--no-h", "--stats", "-h", "-hh"][human]
        done = subprocess.run(
            [need("rsync"), "-n", "--stats", option, tmp_path / "file", tmp_path / "other/"],
            capture_output=True,
            text=True,
            check=True,
        )
        figures = dict(re.findall(r"(?m)^(.*?)(?::| is) ([\d.,]+[KMGTP]?)(?: bytes|  speedup)?", done.stdout))
        assert number(size, human) == figures["Total file size"] == figures["total size"]
    assert fraction(999.994, human) == "999.99"


def test_what_is_not_printable_is_escaped_as_the_locale_has_it() -> None:
    raw = b"a\xc3\xbc\xff\n\t\\#012\x7f"
    assert name(raw, utf8=True) == b"a\xc3\xbc\\#377\\#012\t\\#134#012\x7f"
    assert name(raw, utf8=False) == b"a\\#303\\#274\\#377\\#012\t\\#134#012\\#177"
    assert name(raw, utf8=False, eight_bit=True) == b"a\xc3\xbc\xff\\#012\t\\#134#012\x7f"
    assert [has_utf8(env) for env in ({"LANG": "de_DE.UTF-8"}, {"LC_CTYPE": "C.utf8", "LANG": "C"})] == [
        True
    ] * 2
    assert [has_utf8(env) for env in ({}, {"LC_ALL": "C", "LANG": "C.UTF-8"}, {"LANG": "de_DE@euro"})] == [
        False
    ] * 3
