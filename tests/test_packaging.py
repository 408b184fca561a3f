"""What is installed and documented: the wheel's contents, man pages, completion, and docs that name real
things.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import click
import pytest

from p2psync.cli.app import COMMANDS, program
from p2psync.cli.manual.files import write_pages
from p2psync.rsync.options import LETTERS, LONG

ROOT = Path(__file__).parent.parent
DOCS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(
    (ROOT / "docs").rglob("*.md")
)
GUIDES = [path for path in DOCS if "spec" not in path.parts]
"""What users read; the specification speaks of bytes, not of commands."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source distribution, as pip would."""
    out = tmp_path_factory.mktemp("dist")
    argv: list[str | Path] = [sys.executable, "-m", "build", "--outdir", out, ROOT]
    subprocess.run(argv, check=True, capture_output=True)
    assert len(list(out.glob("*.tar.gz"))) == 1
    (found,) = out.glob("*.whl")
    return found


def test_the_wheel_holds_both_packages_whole(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for top, package in (("dht", "p2psync_dht"), ("node", "p2psync")):
        sources = {
            str(path.relative_to(ROOT / top))
            for path in (ROOT / top / package).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        assert sources <= names
    assert not any(name.startswith(("tests", "docs", "bench")) for name in names)
    assert any(name.endswith("entry_points.txt") for name in names)


def test_the_wheel_installs_the_man_pages_where_man_looks_beside_the_program(
    wheel: Path, tmp_path: Path
) -> None:
    archive = zipfile.ZipFile(wheel)
    place = re.compile(r"p2psync-[^/]+\.data/data/share/man/man1/([^/]+)")
    found = {match[1]: archive.read(name) for name in archive.namelist() if (match := place.fullmatch(name))}
    assert found == {path.name: path.read_bytes() for path in write_pages(tmp_path)}
    assert {"p2psync.1", "p2psync-fetch.1", "p2psync-key-export.1"} <= found.keys()


def test_the_source_distribution_has_the_same_man_pages(wheel: Path, tmp_path: Path) -> None:
    (source,) = wheel.parent.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        found = {
            Path(member.name).name: stream.read()
            for member in archive
            if Path(member.name).parts[1] == "man" and (stream := archive.extractfile(member))
        }
    assert found == {path.name: path.read_bytes() for path in write_pages(tmp_path)}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_for_shells(shell: str) -> None:
    script = Path(sys.executable).with_name("p2psync")
    env = {"_P2PSYNC_COMPLETE": f"{shell}_source", "PATH": "/usr/bin:/bin"}
    done = subprocess.run([script], env=env, capture_output=True, text=True, check=True)
    assert "p2psync" in done.stdout


def option_names() -> dict[str, set[str]]:
    """Command -> its options; a group's are those of all its subcommands."""
    context = click.Context(program)
    found: dict[str, set[str]] = {}
    for name in COMMANDS:
        command = program.get_command(context, name)
        assert command is not None
        parts = [command]
        if isinstance(command, click.Group):
            parts += [c for sub in command.list_commands(context) if (c := command.get_command(context, sub))]
        found[name] = {
            opt
            for part in parts
            for param in part.get_params(context)
            for opt in (*param.opts, *param.secondary_opts)
        }
    return found


def is_of_rsync(option: str) -> bool:
    """Whether rsync has an option, or all the letters of a cluster."""
    return option[2:] in LONG if option.startswith("--") else set(option[1:]) <= LETTERS.keys()


@pytest.mark.parametrize("document", GUIDES, ids=lambda path: path.name)
def test_commands_and_options_in_the_documentation_exist(document: Path) -> None:
    known = option_names()
    for line in document.read_text().splitlines():
        for command, rest in re.findall(r"\bp2psync ([a-z]+)([^`#|(]*)", line):
            if line.startswith("    ") or f"`p2psync {command}" in line:
                assert command in known, f"{document.name}: there is no p2psync {command}"
                for option in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", rest):
                    there = is_of_rsync(option) if command == "rsync" else option in known[command]
                    assert there, f"{document.name}: p2psync {command} has no {option}"


@pytest.mark.parametrize("document", DOCS, ids=lambda path: path.name)
def test_links_in_the_documentation_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
        assert (document.parent / target).exists(), f"{document.name}: {target} is missing"


def test_make_targets_in_the_documentation_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for document in DOCS:
        for target in re.findall(r"(?:^    |`)make ([a-z]+)", document.read_text(), re.MULTILINE):
            assert target in targets, f"{document.name}: there is no make {target}"


def test_every_dependency_has_its_reason() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    reasons = "".join(path.read_text() for path in sorted((ROOT / "docs/adr").glob("*.md")))
    for requirement in [*project["dependencies"], *project["optional-dependencies"]["dev"]]:
        name = re.split(r"[<>=!\[; ]", requirement)[0]
        assert re.search(rf"\b{re.escape(name)}\b", reasons), f"{name} has no reason in docs/adr"
