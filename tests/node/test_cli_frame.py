"""The command line as a program: help, exit codes, errors, JSON, what it imports."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from p2psync.cli import app as frame
from p2psync.cli.app import COMMANDS, explain, program, run
from p2psync.cli.signals import Stopped
from p2psync.errors import FileError, PartialError, TrustError

HEAVY = [
    "aiohttp",
    "rich",
    "msgpack",
    "blake3",
    "cryptography",
    "sqlite3",
    "pyfastcdc",
    "zstandard",
    "kademlia",
    "asyncio",
    "ssl",
]


def imported_by(*argv: str) -> set[str]:
    """Modules that a fresh process has loaded after it ran a command line."""
    script = (
        "import sys, json; from p2psync.cli.app import run; run(sys.argv[1:]); "
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script, *argv], capture_output=True, check=True)
    return set(json.loads(done.stderr.splitlines()[-1]))


def test_help_loads_nothing_heavy() -> None:
    loaded = imported_by("--help")
    assert "click" in loaded
    assert loaded.isdisjoint(HEAVY)
    assert not any(name.endswith("_cmd") for name in loaded), "help imports no command"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_commands_help_loads_nothing_heavy(command: str) -> None:
    assert imported_by(command, "--help").isdisjoint(HEAVY)


def test_publishing_without_a_network_loads_no_network(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    loaded = imported_by("publish", str(tmp_path / "tree"), "--state", str(tmp_path / "state"))
    assert "sqlite3" in loaded
    assert loaded.isdisjoint({"aiohttp", "rich"})


def command_paths() -> list[str]:
    context = click.Context(program)
    paths = []
    for name in COMMANDS:
        command = program.get_command(context, name)
        paths.append(name)
        if isinstance(command, click.Group):
            paths += [f"{name} {sub}" for sub in command.list_commands(context)]
    return paths


def find(path: str) -> click.Command:
    context = click.Context(program)
    command: click.Command = program
    for word in path.split():
        assert isinstance(command, click.Group)
        found = command.get_command(context, word)
        assert found is not None
        command = found
    return command


def test_the_table_of_commands_says_what_the_commands_say() -> None:
    for name, (_, line) in COMMANDS.items():
        assert find(name).help is not None
        assert str(find(name).help).splitlines()[0] == line


@pytest.mark.parametrize("path", [path for path in command_paths() if path != "help"])
def test_every_command_has_the_common_options(path: str) -> None:
    command = find(path)
    if not isinstance(command, click.Group):
        options = {name for p in command.params if isinstance(p, click.Option) for name in p.opts}
        assert {"--state", "--config", "--json", "--quiet", "-q", "--verbose", "-v"} <= options
        for param in command.params:
            if isinstance(param, click.Option):
                assert param.help or param.show_default, f"{path} {param.opts} is not explained"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == "p2psync 0.1.0\n"


@pytest.mark.parametrize("argv", [[], ["nonsense"], ["key"], ["publish"], ["publish", "--nonsense", "."]])
def test_usage_errors_end_with_1_and_one_sentence(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(argv) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("p2psync: ")
    assert err.count("\n") == 1
    assert "--help" in err


def test_an_error_is_told_to_machines_and_to_people(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert run(["publish", "--json", "/does/not/exist"]) == 1
    out, err = capsysbinary.readouterr()
    event = json.loads(out)
    assert (event["event"], event["code"]) == ("error", 1)
    assert "/does/not/exist" in event["message"]
    assert err.startswith(b"p2psync: ")


def test_json_may_be_asked_for_by_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setenv("P2PSYNC_PUBLISH_JSON", "1")
    assert run(["publish", "/does/not/exist"]) == 1
    assert json.loads(capsysbinary.readouterr().out)["event"] == "error"


def fail_with(error: BaseException, monkeypatch: pytest.MonkeyPatch, *argv: str) -> int:
    def main(**_: Any) -> None:
        raise error

    monkeypatch.setattr(frame.program, "main", main)
    return run(list(argv))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TrustError("x"), 5),
        (FileError("x"), 11),
        (PartialError("x"), 23),
        (KeyboardInterrupt(), 20),
        (Stopped(), 20),
        (click.Abort(), 20),
        (PermissionError(13, "Permission denied", "/etc/shadow"), 11),
        (
            ExceptionGroup(
                "tasks", [ValueError("noise"), ExceptionGroup("inner", [TrustError("the cause")])]
            ),
            5,
        ),
        (ZeroDivisionError("oops"), 1),
    ],
)
def test_exit_codes(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fail_with(error, monkeypatch) == code
    assert capsys.readouterr().err.count("\n") == 1


def test_a_defect_asks_for_a_report_and_shows_its_traceback_with_v(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fail_with(ZeroDivisionError("oops"), monkeypatch) == 1
    assert "report" in (quiet := capsys.readouterr().err)
    assert "Traceback" not in quiet
    assert fail_with(ZeroDivisionError("oops"), monkeypatch, "fetch", "-v") == 1
    assert "Traceback" in capsys.readouterr().err


def test_messages_cannot_steer_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(FileError("name \x1b[2J\nwith\udcff tricks"), monkeypatch)
    err = capsys.readouterr().err
    assert err == "p2psync: name \\#033[2J with\\#377 tricks\n"


def test_explain_names_the_file_of_a_system_error() -> None:
    assert (
        str(explain(OSError(28, "No space left on device", b"/srv/x")))
        == "No space left on device ('/srv/x')"
    )


def test_a_reader_that_goes_away_is_no_error_to_talk_about() -> None:
    program = "import sys; from p2psync.cli.app import run; sys.exit(run(['--help']))"
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 1
    assert said == b""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("body", ["run_async(asyncio.sleep(60))", "time.sleep(60)"])
def test_signals_end_with_20_after_cleaning_up(number: signal.Signals, body: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(f"""
import asyncio, signal, sys, time
from p2psync.cli import app as frame
from p2psync.cli.signals import run_async
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # It may be ignored by whoever runs the tests.
def main(**_):
    try:
        print("started", flush=True)
        {body}
    finally:
        print("cleaned", flush=True)
frame.program.main = main
sys.exit(frame.run([]))
""")
    process = subprocess.Popen(
        [sys.executable, program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    process.send_signal(number)
    out, err = process.communicate()
    assert (process.returncode, out) == (20, "cleaned\n")
    assert err.startswith("p2psync: stopped")


def test_shell_completion_knows_commands_and_options() -> None:
    def complete(words: str, index: int) -> str:
        env = {
            "_P2PSYNC_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(index),
            "PATH": "",
        }
        program = [
            sys.executable,
            "-c",
            "from p2psync.cli.app import program; program.main(prog_name='p2psync')",
        ]
        return subprocess.run(program, env=env, capture_output=True, text=True, check=False).stdout

    assert "plain,publish" in complete("p2psync pub", 1)
    assert "plain,--bwlimit" in complete("p2psync fetch --bw", 2)


def program_with(redirection: str, *argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The program, started by a shell with its streams redirected."""
    words = " ".join([shlex.quote(sys.executable), "-m", "p2psync", *map(shlex.quote, argv), redirection])
    plain = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        ["sh", "-c", words], capture_output=True, text=True, check=False, env=plain | environment
    )


def a_tree(folder: Path) -> list[str]:
    (folder / "tree").mkdir()
    (folder / "tree" / "file").write_text("content")
    return ["publish", str(folder / "tree"), "--state", str(folder / "state")]


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_closed_streams_are_as_good_as_dev_null(closed: str, tmp_path: Path) -> None:
    done = program_with(closed, *a_tree(tmp_path))
    assert done.returncode == 0
    assert done.stderr == ""
    assert (done.stdout.startswith("p2psync://")) == (">&-" not in closed.split())
    done = program_with(closed, "verify", str(tmp_path / "tree"), "--state", str(tmp_path / "state"))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("argv", [[], ["--json"], ["--help"]], ids="".join)
def test_a_full_standard_output_is_a_file_error_that_says_so(argv: list[str], tmp_path: Path) -> None:
    done = program_with(">/dev/full", *a_tree(tmp_path), *argv)
    assert done.returncode == 11
    assert done.stderr.startswith("p2psync: standard output cannot be written to: No space left on device")
    assert done.stderr.count("\n") == 1


def test_a_full_standard_error_stops_nothing(tmp_path: Path) -> None:
    command = a_tree(tmp_path)
    os.mkfifo(tmp_path / "tree" / "pipe")
    done = program_with("2>/dev/full", *command)
    assert done.returncode == 0
    assert done.stdout.startswith("p2psync://")


def test_a_user_without_a_home_is_told_to_name_a_state_directory(tmp_path: Path) -> None:
    tree = a_tree(tmp_path)[:2]
    for home in ({}, {"HOME": ""}, {"HOME": "relative"}):
        script = "import os; os.getuid = lambda: 4_000_000_000; import sys; from p2psync.cli.app import run; "
        done = subprocess.run(
            [sys.executable, "-c", script + "sys.exit(run(sys.argv[1:]))", *tree],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env={"PYTHONPATH": os.pathsep.join(sys.path)} | home,
        )
        assert done.returncode == 11
        assert done.stderr.startswith("p2psync: there is no home directory")
        assert "--state" in done.stderr
        assert done.stderr.count("\n") == 1
    assert sorted(os.listdir(tmp_path)) == ["tree"]


def test_a_hangup_that_nohup_has_it_ignore_stays_ignored(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("""
import asyncio, os, signal, sys
from p2psync.cli import app as frame
from p2psync.cli.signals import run_async
async def work():
    os.kill(os.getpid(), signal.SIGHUP)
    await asyncio.sleep(0.1)
def main(**_):
    os.kill(os.getpid(), signal.SIGHUP)
    run_async(work())
frame.program.main = main
signal.signal(signal.SIGHUP, signal.SIG_IGN)
sys.exit(frame.run([]))
""")
    assert subprocess.run([sys.executable, program], check=False).returncode == 0


@pytest.mark.parametrize("options", [[], ["--quiet"]], ids=["plain", "quiet"])
def test_in_cron_only_trouble_is_told(options: list[str], tmp_path: Path) -> None:
    program_with("", *a_tree(tmp_path))
    verify = ["verify", str(tmp_path / "tree"), "--state", str(tmp_path / "state"), *options]
    assert program_with("", *verify).stdout == ""
    (tmp_path / "tree" / "file").write_text("CONTENT")
    done = program_with("", *verify)
    assert done.returncode == 23
    assert "content    file" in done.stdout
    assert ("2 differences" in done.stdout) == (not options)


def test_who_asks_hears_how_it_went_without_a_terminal(tmp_path: Path) -> None:
    assert program_with("", *a_tree(tmp_path), "-v").stdout.startswith(
        "published 1 file, 7 B as snapshot 1; "
    )
