"""What the command line says to somebody who made a mistake: what is wrong, and what to write instead."""

from __future__ import annotations

import io
import os
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from p2psync.cli.app import run
from p2psync.cli.output import Output
from p2psync.format.url import archive_text

URL = f"p2psync://{archive_text(bytes(range(32)))}"

Refused = Callable[..., str]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Refused:
    """``refused("fetch", URL, "host:dir")`` is the one sentence that a wrong command line is refused with."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    monkeypatch.chdir(tmp_path)

    def said(*argv: str) -> str:
        assert run([*argv, "--state", str(tmp_path / "state")]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("p2psync: ")
        assert err.count("\n") == 1
        assert not (tmp_path / "state").exists()
        return err

    return said


@pytest.mark.parametrize(
    "dest",
    [
        "host:dir",
        "me@host:dir",
        "host::module/x",
        "rsync://host/x",
        "[::1]:x",
        ":x",
        "h:a b",
        "h:it's",
        "h:$x",
    ],
)
@pytest.mark.parametrize("command", [["fetch"], ["mirror", "--once"]], ids="".join)
def test_dest_on_another_machine_is_refused_with_the_name_for_one_here(
    refused: Refused, command: list[str], dest: str
) -> None:
    said = refused(*command, URL, dest)
    assert "on another machine" in said
    written = said.rpartition(" is written ")[2].partition("; see ")[0]
    assert shlex.split(written) == [f"./{dest}"]


def test_a_colon_behind_a_slash_is_part_of_a_name(tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "host:dir").write_text("a file")
    for dest in ("./host:dir", str(tmp_path / "host:dir")):
        assert "on another machine" not in refused("mirror", URL, dest)


def test_what_is_published_may_have_a_colon_if_it_is_there(tmp_path: Path, refused: Refused) -> None:
    assert "on another machine" in refused("publish", "host:dir")
    assert "on another machine" in refused("verify", "host:dir")
    (tmp_path / "host:dir").mkdir()
    assert run(["publish", "host:dir", "--state", str(tmp_path / "other")]) == 0


@pytest.mark.parametrize(
    "command", [["fetch", URL], ["mirror", URL], ["publish"], ["verify"]], ids=lambda c: c[0]
)
def test_an_empty_directory_name_is_no_directory(refused: Refused, command: list[str]) -> None:
    assert "variable without a value" in refused(*command, "")


def test_an_archive_where_a_directory_belongs_is_called_one(refused: Refused) -> None:
    assert "address of an archive" in refused("publish", URL)
    assert "address of an archive" in refused("fetch", URL, URL)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--source", "rsync://h/m", "rsync servers"),
        ("--source", URL, "HOST:PORT"),
        ("--source", "ftp://h/", "web mirror"),
        ("--source", "https://", "web mirror"),
        ("--source", "h::m", "HOST:PORT"),
        ("--bootstrap", "http://h/", "--source"),
        ("--bootstrap", URL, "HOST:PORT"),
        ("--bootstrap", "h:99999", "below 65536"),
    ],
)
def test_somebody_to_ask_who_cannot_be_asked_is_refused_with_who_can(
    refused: Refused, option: str, value: str, said: str
) -> None:
    assert said in refused("fetch", URL, "copy", option, value)
    assert not os.path.exists("copy")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("P2PSYNC_FETCH_BWLIMT", "P2PSYNC_FETCH_BWLIMIT"),
        ("P2PSYNC_FECTH_BWLIMIT", "P2PSYNC_FETCH_BWLIMIT"),
        ("P2PSYNC_BWLIMIT", "P2PSYNC_FETCH_BWLIMIT"),
        ("P2PSYNC_FETCH_NO-SHARE", "P2PSYNC_FETCH_NO_SHARE"),
        ("P2PSYNC_KEY_DELEGATE_DAY", "P2PSYNC_KEY_DELEGATE_DAYS"),
        ("P2PSYNC_DSN", "P2PSYNC_DNS"),
        ("P2PSYNC_STATE", "P2PSYNC_FETCH_STATE"),
        ("P2PSYNC_ZZZZZZZZZZZZ", "<COMMAND>_<OPTION>"),
    ],
)
def test_a_misspelt_variable_is_an_error_that_names_the_one_that_was_meant(
    refused: Refused, monkeypatch: pytest.MonkeyPatch, name: str, meant: str
) -> None:
    monkeypatch.setenv(name, "1")
    said = refused("fetch", URL, "copy")
    assert f"the environment variable {name} is no setting" in said
    assert meant in said
    assert run(["fetch", "--help"]) == 0


@pytest.mark.parametrize(
    "name",
    [
        "P2PSYNC_SERVICE_HOST",
        "P2PSYNC_NODE_SERVICE_PORT",
        "P2PSYNC_SERVICE_PORT_HTTP",
        "P2PSYNC_PORT",
        "P2PSYNC_MY_MIRROR_PORT_8730_UDP_ADDR",
        "P2PSYNC_OPTS",
        "P2PSYNC_VERSION",
        "P2PSYNC_DNS",
        "P2PSYNC_SEEDS_SIGN_JSON",
        "_P2PSYNC_ANYTHING",
        "P2PSYNCX",
    ],
)
def test_variables_of_other_commands_and_of_others_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "192.0.2.1")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    (tmp_path / "tree").mkdir()
    assert run(["publish", str(tmp_path / "tree"), "--state", str(tmp_path / "state")]) == 0


@pytest.mark.parametrize("command", ["fetch", "mirror", "ls", "mirrors"])
def test_every_command_explains_a_wrong_url(refused: Refused, command: str) -> None:
    dest = ["copy"] if command in ("fetch", "mirror") else []
    assert "p2psync:// is missing" in refused(command, URL.removeprefix("p2psync://"), *dest)


class Screen(io.StringIO):
    """What a person looks at."""

    def isatty(self) -> bool:
        return True


def test_an_address_with_a_hint_is_quoted_for_people_and_plain_for_programs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"{URL}?peer=h:1&peer=i:2"
    Output().address(url)
    assert capsys.readouterr().out == url + "\n"
    monkeypatch.setattr("sys.stdout", screen := Screen())
    Output().address(url)
    assert shlex.split(f"p2psync fetch {screen.getvalue()} copy") == ["p2psync", "fetch", url, "copy"]
    monkeypatch.setattr("sys.stdout", screen := Screen())
    Output().address(URL)
    assert screen.getvalue() == URL + "\n"
