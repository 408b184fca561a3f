"""The example configuration: it has every key, and every key in it is taken when its "#" goes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from p2psync.cli.app import program
from p2psync.cli.settings import TABLES, schema_of
from p2psync.cli.types import is_setting
from p2psync.config import load
from p2psync.errors import UsageError

KIT = Path(__file__).parents[2] / "bootstrap"
EXAMPLE = KIT / "p2psync.toml"


def uncommented() -> str:
    return re.sub(r"^#(?=[a-z0-9-]+ = )", "", EXAMPLE.read_text(), flags=re.M)


def test_it_is_what_the_options_say_now() -> None:
    argv: list[str | Path] = [sys.executable, KIT / "example_config.py"]
    made = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert made == EXAMPLE.read_text(), "run: python bootstrap/example_config.py > bootstrap/p2psync.toml"


def test_as_it_is_it_sets_nothing() -> None:
    schema = schema_of(program, click.Context(program))
    assert not any(load([EXAMPLE], schema).values())


def test_every_key_is_in_it_with_a_value_that_its_option_takes(tmp_path: Path) -> None:
    context = click.Context(program)
    schema = schema_of(program, context)
    file = tmp_path / "p2psync.toml"
    file.write_text(uncommented())
    values = load([file], schema)
    for path, settings in schema.items():
        if path.startswith("seeds."):
            continue  # They share a name with a key, so TOML gives them no table.
        assert values[path].keys() == settings.keys(), path
        command: click.Command = program
        for word in path.split("."):
            assert isinstance(command, click.Group)
            found = command.get_command(context, word)
            assert found is not None or path in TABLES
            command = found or click.Command(path)  # A table that is of no command has no options either.
        for param in command.params:
            if not is_setting(param) or param.name in ("config", "help"):
                continue
            key = max(param.opts, key=len).lstrip("-")
            # They stand in one table, whichever command has them.
            shared = next((table for table in TABLES if key.startswith(f"{table}-")), None)
            value = values[shared][key.removeprefix(f"{shared}-")] if shared else values[path][key]
            exists = isinstance(param.type, click.Path) and param.type.exists
            if not exists and param.flag_value in (True, None):
                assert param.type_cast_value(click.Context(command), value) is not None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[node]\nrole = ["bootstrap"]\n', "line 2: 'role' should be a text"),
        ('\n[node]\nroles = "x"\n', r"line 3: unknown key 'roles' in \[node\]; did you mean 'role'"),
        ("seeds = 5\n", "line 1: 'seeds' should be a text or a list"),
        ('seed = "example.org"\n', "line 1: unknown key 'seed'; did you mean 'seeds'"),
        ("[mirror]\nmetrics = true\n", "line 2: 'metrics' should be a text"),
        ('[node]\nseeds_key = "x"\n', "line 2: unknown key 'seeds_key'.*did you mean 'seeds-key'"),
    ],
)
def test_mistakes_in_the_operators_keys_name_line_and_remedy(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "p2psync.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=message):
        load([file], schema_of(program, click.Context(program)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[node]\nrole = "boot"\n', "'boot' is not one of 'auto', 'server', 'bootstrap'"),
        ('[node]\nmetrics = "here:there"\n', "is not HOST:PORT"),
        ('seeds = "ftp://example.org/"\n', "https:// URL"),
        ('seeds = "/nonexistent/seeds.toml"\n', "there is no seed list"),
        ('seeds-key = "abc"\n', "52 characters"),
        ('dns = "dns.example.org"\n', "IP address"),
    ],
)
def test_wrong_values_end_the_start_with_a_sentence(
    tmp_path: Path, text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from p2psync.cli.app import run

    file = tmp_path / "p2psync.toml"
    file.write_text(text)
    assert run(["node", "--config", str(file), "--state", str(tmp_path / "state")]) == 1
    said = capsys.readouterr().err
    assert message in said
    line = text.count("\n")
    assert said.startswith(f"p2psync: {file}, line {line}: '{text.splitlines()[-1].split(' ')[0]}': ")
