"""Where options come from: the command line, then the environment, then p2psync.toml; mistakes name file and
line.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from p2psync.cli.app import program, run
from p2psync.cli.command import Command
from p2psync.cli.environment import check_environment
from p2psync.cli.hooks_options import hooks_options
from p2psync.cli.mirrors_options import mirrors_options
from p2psync.cli.options import (
    Common,
    Network,
    common_options,
    network_options,
)
from p2psync.cli.settings import schema_of
from p2psync.cli.transfer_options import Transfer, transfer_options
from p2psync.cli.types import Address, Consent
from p2psync.config import Setting, default_files, line_of, load
from p2psync.daemon.policy import Policy
from p2psync.errors import UsageError
from p2psync.fetch.hooks import VARIABLES, Hooks

SCHEMA = {
    "fetch": {
        "bwlimit": Setting("bwlimit"),
        "source": Setting("source", multiple=True),
        "checksum": Setting("checksum", switch=True),
    },
    "node": {"listen": Setting("listen"), "source": Setting("source", multiple=True)},
    "key.delegate": {"days": Setting("days")},
}


def parse(tmp_path: Path, text: str) -> dict[str, dict[str, Any]]:
    file = tmp_path / "p2psync.toml"
    file.write_text(text)
    return load([file], SCHEMA)


def test_a_top_key_holds_for_every_command_that_has_it_and_a_table_for_one(tmp_path: Path) -> None:
    values = parse(
        tmp_path,
        'source = "a:1"\n[fetch]\nbwlimit = 500\nchecksum = true\n[node]\nsource = ["b:2", "c:3"]\n'
        "[key.delegate]\ndays = 30\n",
    )
    assert values["fetch"] == {"source": ["a:1"], "bwlimit": "500", "checksum": True}
    assert values["node"] == {"source": ["b:2", "c:3"]}
    assert values["key.delegate"] == {"days": "30"}


def test_later_files_win_and_missing_files_are_no_error(tmp_path: Path) -> None:
    (tmp_path / "a").write_text('[fetch]\nbwlimit = "1m"\nchecksum = true\n')
    (tmp_path / "b").write_text('[fetch]\nbwlimit = "2m"\n')
    values = load([tmp_path / "a", tmp_path / "none", tmp_path / "b"], SCHEMA)
    assert values["fetch"] == {"bwlimit": "2m", "checksum": True}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "# c\n[fetch]\nbwlimt = 1\n",
            r"p2psync.toml, line 3: unknown key 'bwlimt' in \[fetch\]; did you mean 'bwlimit'",
        ),
        ("\nsauce = 1\n", r"line 2: unknown key 'sauce'; did you mean 'source'"),
        ("[fetsch]\n", r"line 1: unknown command 'fetsch'; did you mean 'fetch'"),
        ("[key]\ndays = 1\n", r"line 2: unknown key 'days' in \[key\]; known are: delegate"),
        ("[key.delegate]\ndaze = 1\n", r"line 2: unknown key 'daze' in \[key.delegate\]"),
        ("[key.nothing]\n", r"line 1: unknown key 'nothing' in \[key\]"),
        ('[fetch]\nchecksum = "yes"\n', r"line 2: 'checksum' should be true or false"),
        ("[fetch]\nbwlimit = true\n", r"line 2: 'bwlimit' should be a text or a number"),
        ("[node]\nsource = [1]\n", r"line 2: 'source' should be a text or a list of texts"),
        ("[fetch\n", r"p2psync.toml: "),
        ("\xff", r"not UTF-8"),
    ],
)
def test_mistakes_name_file_line_and_remedy(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "p2psync.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match=message):
        load([tmp_path / "p2psync.toml"], SCHEMA)


def test_a_directory_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        load([tmp_path], SCHEMA)


@pytest.mark.parametrize(
    ("text", "table", "key", "line"),
    [
        ("a = 1\n[t]\na = 2\n", "", "a", 1),
        ("a = 1\n[t]\na = 2\n", "t", "a", 3),
        ('\n["t"]\n"a" = 2\n', "t", "a", 3),
        ("t.a = 2\n", "t", "a", 1),
        ("t = {a = 2}\n", "t", "a", 0),
        ("[t.u]\n", "t", "u", 1),
    ],
)
def test_lines_are_found(text: str, table: str, key: str, line: int) -> None:
    assert line_of(text, table, key) == line


def test_configuration_is_looked_for_where_xdg_says() -> None:
    files = default_files({"XDG_CONFIG_HOME": "/x"})
    assert files == [Path("/etc/p2psync.toml"), Path("/x/p2psync/p2psync.toml")]


# ---- through the program: a command of our own with all shared options
# --------------------------------------------

seen: dict[str, Any] = {}


@click.command("probe", cls=Command)
@transfer_options
@network_options(listen="0.0.0.0:8730")
@common_options
def probe(common: Common, network: Network, transfer: Transfer) -> None:
    """Note what came in."""
    seen.update(common=common, network=network, transfer=transfer, rules=transfer.rules)


@pytest.fixture
def probe_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Run ``p2psync publish`` with `probe` in its place; returns what it saw."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr("p2psync.cli.publish_cmd.command", probe)

    def call(*argv: str) -> dict[str, Any]:
        seen.clear()
        assert run(["publish", *argv]) == 0
        return seen

    return call


def configure(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "config" / "p2psync"
    folder.mkdir(parents=True)
    (folder / "p2psync.toml").write_text(text)


def test_defaults(probe_run: Any) -> None:
    found = probe_run()
    assert found["network"] == Network(Address("0.0.0.0", 8730), (), ())
    assert found["transfer"] == Transfer(
        0,
        None,
        False,
        False,
        False,
        False,
        "auto",
        None,
        None,
        None,
        None,
        (),
        False,
        False,
        None,
        0,
        False,
        False,
        [],
    )
    assert found["rules"] == []
    assert found["common"].state_path is None


def test_command_line_beats_environment_beats_file(
    probe_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(
        tmp_path, '[publish]\nbwlimit = 1\ntimeout = 2\ncontimeout = 3\nbootstrap = "a"\nno-share = true\n'
    )
    monkeypatch.setenv("P2PSYNC_PUBLISH_BWLIMIT", "10")
    monkeypatch.setenv("P2PSYNC_PUBLISH_TIMEOUT", "20")
    transfer = probe_run("--bwlimit=100")["transfer"]
    assert (transfer.bwlimit, transfer.timeout, transfer.contimeout) == (102400, 20, 3)
    assert transfer.no_share is True
    assert seen["network"].bootstrap == (Address("a", 8730),)


def test_a_configuration_given_by_hand_is_the_only_one(probe_run: Any, tmp_path: Path) -> None:
    configure(tmp_path, "[publish]\nbwlimit = 1\n")
    other = tmp_path / "other.toml"
    other.write_text("[publish]\ntimeout = 7\n")
    transfer = probe_run("--config", str(other))["transfer"]
    assert (transfer.bwlimit, transfer.timeout) == (0, 7)


def test_a_missing_configuration_given_by_hand_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["publish", "--config", str(tmp_path / "none"), str(tmp_path)]) == 1
    assert "none" in capsys.readouterr().err


def test_a_wrong_value_in_the_configuration_is_an_error(
    probe_run: Any, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    configure(tmp_path, '[publish]\nbwlimit = "fast"\n')
    assert run(["publish", "--json"]) == 1
    assert "'fast' is not a rate" in json.loads(capsysbinary.readouterr().out)["message"]


def test_lists_in_the_environment(probe_run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P2PSYNC_PUBLISH_BOOTSTRAP", "a:1 [::1]:2")
    monkeypatch.setenv("P2PSYNC_PUBLISH_EXCLUDE", "a b\n*.tmp")
    found = probe_run()
    assert found["network"].bootstrap == (Address("a", 1), Address("::1", 2))
    assert found["rules"] == [("exclude", "a b"), ("exclude", "*.tmp")]


def test_filter_rules_keep_the_order_of_the_command_line(probe_run: Any) -> None:
    words = (
        "--include=a --exclude b --filter=-_c --include d --json --exclude=--include --bwlimit 5 --exclude e"
    )
    assert probe_run(*words.split())["rules"] == [
        ("include", "a"),
        ("exclude", "b"),
        ("filter", "-_c"),
        ("include", "d"),
        ("exclude", "--include"),
        ("exclude", "e"),
    ]


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        ("--listen :9", "listen", Address("::", 9)),
        ("--listen [::]:9", "listen", Address("::", 9)),
        ("--listen host", "listen", Address("host", 8730)),
        ("--source https://x/y --source h:1 --source i", "sources", ("https://x/y", "h:1", "i:8730")),
    ],
)
def test_addresses(probe_run: Any, words: str, field: str, value: Any) -> None:
    assert getattr(probe_run(*words.split())["network"], field) == value


@pytest.mark.parametrize("words", ["--listen a:b", "--bootstrap x:99999", "--source ftp://x", "--source ::1"])
def test_bad_addresses_are_usage_errors(
    words: str, probe_run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["publish", *words.split()]) == 1
    assert capsys.readouterr().err.startswith("p2psync: invalid value for")


@click.command("probe", cls=Command)
@mirrors_options
@common_options
def policy_probe(common: Common, policy: Policy) -> None:
    """Note which mirrors are recommended."""
    seen.update(policy=policy)


@pytest.fixture
def policy_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Policy]:
    """Run ``p2psync node`` with `policy_probe` in its place."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr("p2psync.cli.node_cmd.command", policy_probe)

    def call(*argv: str) -> Policy:
        seen.clear()
        assert run(["node", *argv]) == 0
        found: Policy = seen["policy"]
        return found

    return call


def test_which_mirrors_are_recommended_stands_in_a_table_of_its_own(
    policy_of: Callable[..., Policy], tmp_path: Path
) -> None:
    assert policy_of() == Policy()
    campus, key = ipaddress.ip_network("10.0.0.0/8"), "ab" * 32
    configure(
        tmp_path,
        f'[mirrors]\nallow = ["192.0.2.0/24", "{key}"]\ndeny = "192.0.2.9"\nmax-lag = 3600\n'
        f'network = ["10.0.0.0/8={key}"]\nsite = ["10.0.0.0/8=192.0.2.7"]\nweight = ["{key}=250"]\n'
        'web = "https://mirror.example.org/pub"\nsource = ["a:1"]\n',
    )
    who = bytes.fromhex(key)
    assert policy_of() == Policy(
        allow=(ipaddress.ip_network("192.0.2.0/24"), who),
        deny=(ipaddress.ip_network("192.0.2.9/32"),),
        max_lag=3600.0,
        networks=((campus, who),),
        sites=((campus, ipaddress.ip_network("192.0.2.7/32")),),
        weights=((who, 250),),
        web=("https://mirror.example.org/pub/",),
    )
    assert policy_of("--mirrors-max-lag", "60", "--mirrors-deny", key).deny == (who,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[mirrors]\nallow = ["mirror.example.org"]\n', "line 2: 'mirrors-allow': .* neither a node's key"),
        ('[mirrors]\nweight = ["192.0.2.1=1001"]\n', "line 2: 'mirrors-weight': .* from 0 to 1000"),
        ('[mirrors]\nsite = ["192.0.2.1"]\n', "line 2: 'mirrors-site': .* write NETWORK=WHO"),
        ("[mirrors]\nmax_lag = 5\n", "line 2: unknown key 'max_lag'.*'max-lag'"),
        ('[node]\nmirrors-allow = "192.0.2.1"\n', "line 2: unknown key 'mirrors-allow'"),
    ],
)
def test_mistakes_in_that_table_name_line_and_remedy(
    policy_of: Callable[..., Policy],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    text: str,
    message: str,
) -> None:
    configure(tmp_path, text)
    assert run(["node"]) == 1
    assert re.search(message, capsys.readouterr().err)


@click.command("probe", cls=Command)
@hooks_options
@common_options
def hooks_probe(common: Common, hooks: Hooks) -> None:
    """Note which commands are run."""
    seen.update(hooks=hooks)


@pytest.fixture
def hooks_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Hooks]:
    """Run ``p2psync node`` with `hooks_probe` in its place."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr("p2psync.cli.node_cmd.command", hooks_probe)

    def call(*argv: str) -> Hooks:
        seen.clear()
        assert run(["node", *argv]) == 0
        found: Hooks = seen["hooks"]
        return found

    return call


def test_commands_around_updates_are_lists_of_words_in_a_table_of_their_own(
    hooks_of: Callable[..., Hooks], tmp_path: Path
) -> None:
    assert hooks_of() == Hooks()
    configure(
        tmp_path,
        'state = "/var/lib/x"\ntimeout = 7\n[hooks]\nbefore = ["/bin/my program", "a b", "$HOME;ls", ""]\n'
        "after = \"/bin/after 'a b' c\"\ntimeout = 90\n",
    )
    before = ("/bin/my program", "a b", "$HOME;ls", "")
    assert hooks_of() == Hooks(before, ("/bin/after", "a b", "c"), (), 90.0)
    assert hooks_of("--hooks-before", "true", "--hooks-timeout", "0") == Hooks(
        ("true",), ("/bin/after", "a b", "c"), (), 0.0
    )
    text = "timeout = 7\n"
    (tmp_path / "config" / "p2psync" / "p2psync.toml").write_text(text)
    assert hooks_of().timeout == 60.0  # That is of transfers.


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[hooks]\nbefore = []\n", "line 2: 'before' should be a list of texts: a program, and its arg"),
        ("[hooks]\nbefore = [1]\n", "line 2: 'before' should be a list of texts"),
        ('[hooks]\nafter = ""\n', "line 2: 'hooks-after': it names no program"),
        ('[hooks]\nafter = "a \'b"\n', "line 2: 'hooks-after': .* is no list of words"),
        ('[hooks]\nfail = "true"\n', "line 2: unknown key 'fail' in .hooks.; did you mean 'failed'"),
        ('after = "true"\n', "line 1: unknown key 'after'"),
    ],
)
def test_mistakes_in_commands_name_line_and_remedy(
    hooks_of: Callable[..., Hooks],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    text: str,
    message: str,
) -> None:
    configure(tmp_path, text)
    assert run(["node"]) == 1
    assert re.search(message, capsys.readouterr().err)


def test_what_a_command_around_an_update_hears_is_no_misspelt_setting(
    hooks_of: Callable[..., Hooks], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may run this program."""
    for name in VARIABLES:
        monkeypatch.setenv(name, "x")
    assert hooks_of() == Hooks()


def test_the_command_of_the_tables_name_takes_its_own_keys_alone(tmp_path: Path) -> None:
    (tmp_path / "c").write_text('[mirrors]\nallow = "192.0.2.1"\nbootstrap = "127.0.0.1:9"\n')
    words = ["mirrors", "p2psync://" + "a" * 52, "--config", str(tmp_path / "c"), "--state", str(tmp_path)]
    assert run(words) == 10  # It asks there, in vain.


def test_every_option_has_a_key_in_the_configuration() -> None:
    schema = schema_of(program, click.Context(program))
    assert {"publish", "fetch", "mirror", "node", "ls", "mirrors", "verify", "key.delegate", "demo"} <= set(
        schema
    )
    assert schema["fetch"]["bwlimit"] == Setting("bwlimit")
    assert schema["fetch"]["source"].multiple
    assert schema["fetch"]["delete"].switch
    assert "config" not in schema["fetch"]


@pytest.mark.parametrize("command", ["publish", "fetch", "mirror"])
def test_what_says_yes_to_one_run_is_no_setting(command: str, tmp_path: Path) -> None:
    context = click.Context(program)
    found = program.get_command(context, command)
    assert found is not None
    consents = {param.name for param in found.params if isinstance(param, Consent)}
    assert "accept_shrink" in consents
    assert not consents & {key.replace("-", "_") for key in schema_of(program, context)[command]}
    environ = {f"P2PSYNC_{command.upper()}_ACCEPT_SHRINK": "1"}
    with pytest.raises(UsageError, match="is no setting"):
        check_environment(click.Context(found, info_name=command, parent=context), environ)
    file = tmp_path / "p2psync.toml"
    file.write_text(f"[{command}]\naccept-shrink = true\n")
    with pytest.raises(UsageError, match="unknown key 'accept-shrink'"):
        load([file], schema_of(program, context))
