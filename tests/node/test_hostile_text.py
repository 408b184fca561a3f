"""Text that strangers have written, wherever it is shown: nothing of it is obeyed by a terminal or turns a
line round, and programs get it exactly.

The kinds are those of Unicode's "other" and "separator" categories, and bytes that are no text at all.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.node.publishing import write

from p2psync.cli import app
from p2psync.cli.output import Output, print_json
from p2psync.content import pages
from p2psync.errors import FileError, FormatError, show_path
from p2psync.format.listing import symlink_entry
from p2psync.text import clean_lines, clean_text, json_text, name_of

NASTY = {
    "C0 control": "\x1b[2J",
    "delete": "\x7f",
    "C1 control, CSI in one character": "\x9b2J",
    "next line": "\x85",
    "right-to-left override": "\u202egpj.exe",
    "isolate": "\u2067x\u2069",
    "Arabic letter mark": "\u061c",
    "line separator": "\u2028",
    "paragraph separator": "\u2029",
    "zero width space": "\u200b",
    "byte order mark": "\ufeff",
    "tag characters": "\U000e0041",
    "private use": "\ue000",
    "half of a pair of surrogates": "\ud800",
    "the other half": "\udfff",
    "a byte that is no UTF-8": "\udcff",
    "carriage return": "\rdone",
}
KINDS = pytest.mark.parametrize("text", NASTY.values(), ids=NASTY.keys())


def is_harmless(shown: str) -> bool:
    """Whether it can be written to a terminal as it is."""
    return shown.isprintable() and shown.encode().decode() == shown


@KINDS
def test_messages_names_and_json_lines_show_nothing_that_a_terminal_obeys(text: str) -> None:
    for shown in (show_path(text), clean_text(text), clean_lines(text), json_text({text: [text]})):
        assert is_harmless(shown)


@given(st.dictionaries(st.text(), st.text()))
def test_a_program_reads_from_json_exactly_what_was_written(value: dict[str, str]) -> None:
    line = json_text(value)
    assert is_harmless(line)
    assert json.loads(line) == value


@given(st.text(st.characters(categories=["Cs", "Cc", "Cf", "Lu", "Zl"])))
def test_surrogates_leave_json_that_every_reader_takes(text: str) -> None:
    line = json_text([text])
    assert is_harmless(line)
    json.loads(line.encode())[0].encode()


@KINDS
def test_what_a_server_says_in_an_error_steers_no_terminal(
    text: str, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Also in the traceback that -v shows."""

    def main(**_: object) -> None:
        raise FormatError(f"the server said {text!s}")

    monkeypatch.setattr(app.program, "main", main)
    for argv in (["fetch"], ["fetch", "--json"], ["fetch", "-v"]):
        assert app.run(argv) == FormatError.exit_code
        out, err = capsysbinary.readouterr()
        for line in (out + err).decode().split("\n"):
            assert is_harmless(line)


@KINDS
def test_results_warnings_and_details_steer_no_terminal(
    text: str, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    for out in (Output(verbose=2), Output(json=True, verbose=2)):
        out.result(f"one {text}\ntwo")
        out.say(text)
        out.warn(text)
        out.detail(text)
        out.event("holder", endpoints=[text])
    print_json(FileError(text).as_event())
    said, told = capsysbinary.readouterr()
    for line in (said + told).decode().split("\n"):
        assert is_harmless(line)


@KINDS
def test_a_name_in_a_web_page_turns_nothing_round(text: str) -> None:
    name = text.encode("utf-8", "surrogatepass").replace(b"/", b"")
    for entry in (symlink_entry(name, 0, b"target"), symlink_entry(b"link", 0, name)):
        row = pages._row(entry, lambda _: False)
        assert is_harmless(row.removesuffix("\n"))
    assert is_harmless(pages._top(show_path(name)).replace("\n", ""))


def test_names_of_an_archive_are_listed_harmlessly_and_exactly(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    names = [text.encode("utf-8", "surrogatepass") for text in NASTY.values()]
    for name in names:
        write(tmp_path / "tree" / Path(name.decode("utf-8", "surrogateescape")), b"x")
    state = ["--state", str(tmp_path / "state")]
    assert app.run(["publish", str(tmp_path / "tree"), "-q", *state]) == 0
    url = capsysbinary.readouterr().out.decode().strip()
    assert app.run(["ls", url, *state]) == 0
    for line in capsysbinary.readouterr().out.decode().split("\n"):
        assert is_harmless(line)
    assert app.run(["ls", url, "--json", *state]) == 0
    lines = capsysbinary.readouterr().out.decode().splitlines()
    assert all(map(is_harmless, lines))
    found = [name_of(entry, "path") for entry in map(json.loads, lines) if entry["event"] == "entry"]
    assert sorted(found) == sorted([b".", *names])
