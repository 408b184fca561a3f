"""Exit codes and messages: what cron jobs and programs rely on."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

import p2psync
from p2psync import errors
from p2psync.errors import P2psyncError

RSYNC_EXIT_VALUES = {
    "UsageError": 1,
    "LinksNotKept": 1,
    "SelectionError": 3,
    "TrustError": 5,
    "NetworkError": 10,
    "NoHead": 10,
    "FileError": 11,
    "FormatError": 12,
    "HookError": 14,
    "InterruptedFetch": 20,
    "PartialError": 23,
    "VanishedWarning": 24,
    "DeleteLimitError": 25,
    "TransferTimeout": 30,
    "ConnectTimeout": 35,
    "BusyError": 75,
    "PlaceBusy": 75,
    "OriginChanged": 76,
}
"""rsync(1), EXIT VALUES, and one of sysexits.h: they are promised to scripts, so none may change."""


def all_errors() -> dict[str, type[P2psyncError]]:
    return {
        name: value
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, P2psyncError) and value is not P2psyncError
    }


def test_every_error_has_the_exit_code_that_rsync_gives_to_its_kind() -> None:
    assert {name: kind.exit_code for name, kind in all_errors().items()} == RSYNC_EXIT_VALUES


@pytest.mark.parametrize("kind", all_errors().values(), ids=all_errors().keys())
def test_an_error_as_json_is_one_line_with_code_and_message(kind: type[P2psyncError]) -> None:
    line = json.dumps(kind("the disk\nis “full”").as_event())
    assert "\n" not in line
    assert json.loads(line) == {"event": "error", "code": kind.exit_code, "message": "the disk\nis “full”"}


def test_every_error_says_for_whom_it_is_in_its_docstring_and_in_the_tree() -> None:
    for name, kind in all_errors().items():
        assert kind.__doc__
        assert name in (errors.__doc__ or "")


def sentences() -> list[tuple[str, str]]:
    """Where an error is made, and its message with "x" for what is filled in."""
    found = []
    for file in sorted(Path(p2psync.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in all_errors() and node.args:
                message = node.args[0]
                parts = message.values if isinstance(message, ast.JoinedStr) else [message]
                text = "".join(str(part.value) if isinstance(part, ast.Constant) else "x" for part in parts)
                found.append((f"{file.name}:{node.lineno}", text))
    return found


def test_messages_stand_behind_the_name_of_the_program_and_so_begin_small_and_end_without_a_stop() -> None:
    made = sentences()
    assert len(made) > 100
    for where, text in made:
        assert not text.endswith("."), where
        assert not re.match(r"[A-Z][a-z]", text), where


def test_who_catches_network_errors_catches_timeouts_too() -> None:
    assert issubclass(errors.TransferTimeout, errors.NetworkError)
    assert issubclass(errors.ConnectTimeout, errors.NetworkError)
