"""rsync's command line: the table of its options against the real rsync, how words become options, and what
is left to it.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.e2e.harness import need

from p2psync.cli import drop_in
from p2psync.cli.drop_in import Pull, pull_of, refuse_aliases
from p2psync.fetch.options import Delete
from p2psync.rsync.command_line import NotRead, read
from p2psync.rsync.options import LETTERS, LONG, OPTIONS, PARTS, Handling, Option

VALUES = {
    "info": "progress2,stats1",
    "filter": "- x",
    "exclude-from": __file__,
    "include-from": __file__,
    "files-from": __file__,
}
NOTHING: Mapping[str, str] = {}
SRC = "rsync://host.example/pub/dir/"


def pull(*words: str, src: str = SRC, root: bool = False, environ: Mapping[str, str] = NOTHING) -> Pull:
    return pull_of([*words, src, "."], is_root=root, environ=environ)


def why(*words: str, root: bool = False, environ: Mapping[str, str] = NOTHING) -> str:
    """Why a command line is left to the real rsync."""
    with pytest.raises(NotRead) as raised:
        pull_of(words, is_root=root, environ=environ)
    return str(raised.value)


# The table.


def test_every_option_of_the_real_rsyncs_help_is_in_the_table_with_its_value() -> None:
    told = subprocess.run([need("rsync"), "--help"], capture_output=True, text=True, check=True).stdout
    options = told.partition("\nOptions\n")[2].partition("\nUse ")[0]
    found = 0
    for line in options.splitlines():
        if line.startswith("--no-OPTION"):  # Any of them.
            continue
        for name, value in re.findall(r"(?:^|, )--([a-z0-9][\w-]*)(?:=(\S+?))?(?=,|\s)", line):
            assert name in LONG, line
            assert bool(LONG[name].option.value) == bool(value), line
            found += 1
        for letter in re.findall(r"(?:^|, )-(\w)(?=\s|,)", line):
            assert letter in LETTERS, line
            found += 1
    assert found > 150


def test_the_real_rsync_knows_every_name_in_the_table(tmp_path: Path) -> None:
    def refused(word: str) -> bool:
        done = subprocess.run(
            [need("rsync"), word, "--version"], capture_output=True, text=True, check=False, cwd=tmp_path
        )
        return any(words in done.stderr for words in ("unknown option", "does not take", "missing argument"))

    # The options of its daemon are of another table.
    names = {name: word for name, word in LONG.items() if word.option.why != "an rsync server"}
    words = [f"--{name}{'=1' if word.on and word.option.value else ''}" for name, word in names.items()]
    words += [f"-{letter}{'1' if word.option.value else ''}" for letter, word in LETTERS.items()]
    assert [word for word in words if refused(word)] == []


def test_every_option_is_in_the_table_once_and_those_that_differ_say_where() -> None:
    names = [name for option in OPTIONS for name in (option.name, *option.others, *option.off)]
    letters = [option.letter for option in OPTIONS if option.letter]
    assert len(set(names)) == len(names)
    assert len({*letters, *(n for n in names if len(n) == 1)}) == len(letters) + sum(
        len(n) == 1 for n in names
    )
    assert all(option.why for option in OPTIONS if option.handling is Handling.DIFFERENT)
    assert all(part in LONG for parts in PARTS.values() for part in parts)


# Words.


@pytest.mark.parametrize(
    ("words", "on", "values"),
    [
        (
            ["-prltvHSB8192"],
            {"perms", "recursive", "links", "times", "verbose", "hard-links", "sparse", "block-size"},
            {"block-size": "8192"},
        ),
        (["-B", "8192", "-r"], {"block-size", "recursive"}, {"block-size": "8192"}),
        (["-rB=8192"], {"block-size", "recursive"}, {"block-size": "8192"}),
        (["--timeout=5", "--timeout", "-6"], {"timeout"}, {"timeout": "-6"}),
        (["--filter=", "-f- x", "-f", "-- y"], {"filter"}, {"filter": "-- y"}),
        (
            ["-a", "--no-o", "--no-group", "--no-D"],
            {"recursive", "links", "perms", "times"},
            {},
        ),
        (["--no-r", "-r", "-tt"], {"recursive", "times"}, {}),
        (["-P", "--no-progress"], {"partial"}, {}),
        (["--bwlimit=5", "--no-bwlimit"], set(), {}),
        (["--del", "--i-r", "--protect-args"], {"delete-during", "inc-recursive", "secluded-args"}, {}),
    ],
)
def test_options_are_read_as_rsync_reads_them(words: list[str], on: set[str], values: dict[str, str]) -> None:
    line = read(words)
    assert line.on == on
    assert line.values == values
    assert line.places == []


def test_options_stand_anywhere_before_two_dashes_and_one_dash_is_a_name() -> None:
    line = read(["a", "-r", "-", "--", "-t", "--", "b"])
    assert line.places == ["a", "-", "-t", "--", "b"]
    assert line.on == {"recursive"}


def test_filter_rules_keep_their_order_among_all_options() -> None:
    line = read(["--exclude=a", "-v", "--include", "b", "-f- c", "--no-v"])
    assert line.said == [("exclude", "a"), ("verbose", ""), ("include", "b"), ("filter", "- c")]


def test_how_often_an_option_was_given_is_known_and_that_it_was_taken_back() -> None:
    assert read(["-vvh", "-h"]).counts == {"verbose": 2, "human-readable": 2}
    assert read(["-vv", "--no-v", "-v"]).counts == {"verbose": 1}


@pytest.mark.parametrize(
    "words", [["--verb"], ["--verbose=1"], ["-Y"], ["-rY"], ["--timeout"], ["-B"], ["--no-r=1"]]
)
def test_what_rsync_refuses_is_left_to_it_for_its_own_words(words: list[str]) -> None:
    with pytest.raises(NotRead):
        read(words)
    done = subprocess.run([need("rsync"), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 1


# What is asked for.


def test_a_pull_that_rsync_and_p2p_do_alike_is_a_fetch(tmp_path: Path) -> None:
    made = pull_of(
        ["-rlptqzy", "--delete-delay", "--max-delete=-1", "--timeout=9", "--contimeout=3", "--bwlimit=1.5m",
         "-c", "--no-motd", "-W", "-B8192", "host.example::pub/dir", "--port=8873", str(tmp_path)],
        is_root=True,
        environ={"RSYNC_RSH": "ssh"},
    )  # fmt: skip
    assert made.origin.server == "rsync://host.example:8873"
    assert (made.origin.path, made.origin.inside) == (b"pub/dir", False)
    assert made.dest == str(tmp_path)
    assert made.options == {
        "special_bits": True,
        "checksum": True,
        "delete": Delete.ALL,
        "max_delete": 0,
        "timeout": 9.0,
        "contimeout": 3.0,
        "bwlimit": 1572864,
    }


def test_nothing_is_deleted_unless_it_is_asked_for() -> None:
    assert pull("-a").options["delete"] is Delete.NONE
    assert pull("-a", "--delete").options["delete"] is Delete.ALL


@pytest.mark.parametrize(
    "option", [o for o in OPTIONS if o.handling is Handling.HANDED], ids=lambda o: o.shown
)
def test_an_option_that_p2p_does_not_have_leaves_the_command_line_to_rsync(option: Option) -> None:
    word = f"--{option.name}" if len(option.name) > 1 else f"-{option.name}"
    word += "=1" if option.value else ""
    assert why("-a", word, SRC, ".")
    if option.off:
        assert pull("-a", word, f"--{option.off[0]}")


@pytest.mark.parametrize(
    "option",
    [o for o in OPTIONS if o.handling is not Handling.HANDED and o.name not in ("archive",)],
    ids=lambda o: o.shown,
)
def test_an_option_that_p2p_has_leaves_it_a_fetch(option: Option) -> None:
    word = f"--{option.name}" if len(option.name) > 1 else f"-{option.name}"
    assert pull(
        "-rlpt",
        word + ("=" + VALUES.get(option.name, "600") if option.value else ""),
        src="host.example::pub",
    )


@pytest.mark.parametrize(
    "words",
    [
        [],
        [SRC],
        ["-a", SRC],
        ["-a", SRC, SRC, "."],
        ["-a", "rsync://host.example/", "."],
        ["-a", "host.example::", "."],
        ["-a", "host.example:pub", "."],
        ["-a", "/etc", "."],
        ["-a", "./host::pub", "."],
        ["-a", "https://host.example/pub", "."],
        ["-a", ".", SRC],
        ["-a", SRC, "host:pub"],
        ["-a", SRC, "rsync://host/pub"],
        ["-a", SRC, ""],
        ["-a", "rsync://user@host.example/pub", "."],
        ["-a", "user@host.example::pub", "."],
        ["-a", "host.example::pub/*.iso", "."],
        ["-a", SRC, "/does/not/exist/at/all"],
        ["-a", SRC, "/etc/passwd"],
        ["-rlt", SRC, "."],
        ["-rpt", SRC, "."],
        ["-lpt", SRC, "."],
        ["-rlp", SRC, "."],
        ["-a", "--no-perms", SRC, "."],
        ["-a", "--port=8873", SRC, "."],
        ["-a6", "rsync://192.0.2.1/pub", "."],
        ["-a4", "rsync://[2001:db8::1]/pub", "."],
        ["-a", "--files-from=:list", SRC, "."],
        ["-a", "--files-from=-", SRC, "."],
        ["-a", f"--files-from={__file__}", "--delete", SRC, "."],
        ["-a", f"--files-from={__file__}", "--no-relative", SRC, "."],
        ["-a", f"--files-from={__file__}", SRC.rstrip("/"), "."],
        ["-a", "--timeout=x", SRC, "."],
        ["-a", "--bwlimit=x", SRC, "."],
        ["-a", "--max-delete=-2", SRC, "."],
    ],
    ids=" ".join,
)
def test_other_places_and_other_ways_of_copying_are_left_to_rsync(words: list[str]) -> None:
    assert why(*words)


def test_as_root_owners_and_groups_are_left_to_rsync() -> None:
    assert "--owner" in why("-a", SRC, ".", root=True)
    assert "--group" in why("-rlptg", SRC, ".", root=True)
    assert pull("-a", "--no-o", "--no-g", root=True)
    assert pull("-rlptD", root=True)


@pytest.mark.parametrize("word", ["--log-file={}", "--exclude-from={}", "--filter=. {}"])
def test_files_behind_links_of_others_are_left_to_rsync_which_refuses_them(
    word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/file").write_text("- x\n")
    (tmp_path / "link").symlink_to("folder")
    named = word.format(tmp_path / "link/file")
    assert pull("-a", named)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    if (tmp_path / "link").lstat().st_uid:
        assert "link of others" in why("-a", named, SRC, ".")
    else:
        assert pull("-a", named)
        os.lchown(tmp_path / "link", 54321, 54321)
        assert "link of others" in why("-a", named, SRC, ".")


@pytest.mark.parametrize("name", drop_in.VARIABLES)
def test_variables_that_lead_another_way_leave_it_to_rsync(name: str) -> None:
    assert name in why("-a", SRC, ".", environ={name: "x"})
    assert pull("-a", environ={name: ""})


def test_whoever_has_named_options_of_his_own_for_rsync_has_rsync_read_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(drop_in, "ALIASES", ("~/.popt",))
    refuse_aliases()
    (tmp_path / ".popt").write_text("# rsync alias -Z --compress\nother alias -Z -z\n")
    refuse_aliases()
    (tmp_path / ".popt").write_text("rsync alias -Z --no-p --chmod=ugo=rwX\n")
    with pytest.raises(NotRead, match=r"\.popt"):
        refuse_aliases()


# The real rsync is asked how it reads a command line: it says its version if it gets that far.

SAFE = {
    "checksum-choice": "md5",
    "compress-choice": "zlib",
    "block-size": "8192",
    "info": "name1",
    "debug": "none",
    "stderr": "errors",
    "outbuf": "L",
    "max-alloc": "1g",
    "filter": "- x",
    "protocol": "30",
    "stop-at": "2099-01-01T00:00",
    "confine-root": "/",
    "chmod": "u+r",
    "chown": "a:b",
    "remote-option": "-v",
}
"""Values that rsync takes, where that is not so of a number."""
NOT_TRIED = {
    "crtimes",
    "exclude-from",
    "include-from",
    "files-from",
    "help",
    "version",
    "server",
    "sender",
    "daemon",
}
EXCLUSIVE = [{"chown", "usermap", "groupmap"}, {"compare-dest", "copy-dest", "link-dest"}]
"""Of each of these rsync takes one, once; all of them are handed over to it anyway."""
TRIED = [o for o in OPTIONS if o.name not in NOT_TRIED and o.why != "an rsync server"]


@st.composite
def words_of_options(draw: st.DrawFn) -> list[str]:
    """Options in all ways in which they may be written, and some in which they may not."""
    words: list[str] = []
    drawn = draw(st.lists(st.sampled_from(TRIED), min_size=1, max_size=4))
    for names in EXCLUSIVE:
        several = [option for option in drawn if option.name in names]
        drawn = [option for option in drawn if option.name not in names] + several[:1]
    for option in drawn:
        value = SAFE.get(option.name, "1")
        longs = [name for name in (option.name, *option.others) if len(name) > 1]
        letter = option.letter or (option.name if len(option.name) == 1 else "")
        ways = [[f"--{name}={value}"] for name in longs]
        ways += [[f"--{name}", value] if option.value else [f"--{name}"] for name in longs]
        ways += [[f"--{name}"] for name in option.off]
        if letter and option.value:
            ways += [[f"-{letter}{value}"], [f"-r{letter}", value], [f"-{letter}={value}"]]
        elif letter:
            ways += [[f"-{letter}"], [f"-t{letter}r"], [f"-{letter}=1"]]
        words += draw(st.sampled_from(ways))
    spoil = draw(st.sampled_from([None, None, None, "--recurs", "--no-archive", "-Y", "--", "-", "name"]))
    return words if spoil is None else [*words, spoil]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(words_of_options())
def test_command_lines_are_read_where_the_real_rsync_reads_them(words: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [need("rsync"), *words, "--version"]
            if "--" not in words
            else [need("rsync"), "--version", *words],
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
        )
    try:
        read(words)
        is_read = True
    except NotRead:
        is_read = False
    assert is_read == (done.returncode == 0), done.stderr
