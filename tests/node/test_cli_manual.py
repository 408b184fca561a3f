"""The manual: a page for each command, the same text as its help, and what man(1), mandoc and whatis say of
it.
"""

from __future__ import annotations

import os
import pty
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from tests.e2e.harness import need

from p2psync import errors
from p2psync.cli.app import program, run
from p2psync.cli.command import Explained, option_groups
from p2psync.cli.manual.build import context_of, contexts, page_of, path_of, root_context
from p2psync.cli.manual.entries import entry_of
from p2psync.cli.manual.exit_codes import EXIT_CODES
from p2psync.cli.manual.files import write_pages
from p2psync.cli.manual.page import Item, Lines, Page, Paragraph
from p2psync.cli.manual.roff import to_roff
from p2psync.cli.manual.text import to_text
from p2psync.cli.types import Consent

DOCS = Path(__file__).parents[2] / "docs"
ROOT = root_context(program)
PATHS = [path_of(context) for context in contexts(ROOT)]
COMMANDS = [" ".join(path) for path in PATHS]
WHERE_CRON_LOOKS = "(/usr/bin:/bin)"


def words(text: str) -> str:
    """Without what only marks or breaks it: lines end at hyphens too."""
    return "".join(text.replace("`", "").split())


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_pages(tmp_path_factory.mktemp("man"))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_examples_and_exit_codes(command: str) -> None:
    entry = entry_of(tuple(command.split()))
    assert entry is not None, f"write of '{command}' in p2psync.cli.manual (see entries.py)"
    assert entry.examples
    assert {0, 1} <= entry.exits.keys() <= EXIT_CODES.keys()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_page_has_the_sections_of_man_pages_in_their_order(command: str) -> None:
    titles = [title for title, _ in page_of(context_of(ROOT, command.split())).sections]
    wanted = ["SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXAMPLES", "EXIT STATUS", "SEE ALSO"]
    assert [title for title in titles if title in wanted] == wanted
    if isinstance(context_of(ROOT, command.split()).command, click.Group):
        assert "COMMANDS" in titles
    else:
        assert "ENVIRONMENT" in titles


@pytest.mark.parametrize("command", COMMANDS)
def test_a_page_and_the_help_have_the_same_text(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    context = context_of(ROOT, command.split())
    assert isinstance(context.command, Explained), f"'{command}' needs cls=Command (p2psync.cli.command)"
    page = words(to_text(page_of(context), 80, styled=False))
    assert run([*command.split(), "--help"]) == 0
    told = words(capsys.readouterr().out)
    for text in (page, told):
        for paragraph in (context.command.help or "").split("\n\n"):
            assert words(paragraph) in text
        for rows in option_groups(context.command, context).values():
            for names, meaning in rows:
                assert words(names + meaning) in text
    entry = entry_of(path_of(context))
    assert entry is not None
    for example in entry.examples:
        assert words(example.purpose) in told
        assert all(words(line) in told for line in example.lines)


@pytest.mark.parametrize("command", COMMANDS)
def test_no_option_is_missing_and_each_is_explained(command: str) -> None:
    context = context_of(ROOT, command.split())
    told = [names for rows in option_groups(context.command, context).values() for names, _ in rows]
    known = {
        name
        for param in context.command.get_params(context)
        if isinstance(param, click.Option)
        for name in (*param.opts, *param.secondary_opts)
    }
    assert {word for names in told for word in re.findall(r"(?<!\S)--?[a-z0@][\w-]*", names, re.I)} == known
    assert all(meaning for rows in option_groups(context.command, context).values() for _, meaning in rows)


def test_the_page_of_the_program_names_every_option_that_is_no_setting() -> None:
    page = to_text(page_of(ROOT), 80, styled=False)
    consents = {
        max(param.opts, key=len)
        for context in contexts(ROOT)
        for param in context.command.params
        if isinstance(param, Consent)
    }
    assert all(option in page for option in consents)


def example_lines() -> list[str]:
    """Every line of every example that runs p2psync, as one string where it goes on in the next."""
    lines = []
    for path in PATHS:
        entry = entry_of(path)
        for example in entry.examples if entry is not None else ():
            text = re.sub(r"([|&\\])\n\s+", r"\1 ", "\n".join(example.lines)).replace("\\ ", "")
            lines += [line for line in text.splitlines() if re.search(r"\bp2psync ", line)]
    return lines


@pytest.mark.parametrize("line", example_lines())
def test_examples_are_commands_that_exist(line: str) -> None:
    for part in re.split(r"&&|\||;|>", line):
        found = re.search(r"(?:^|\s|=)(?:/\S+/)?p2psync (.*)", part)
        if not found:
            continue
        argv = shlex.split(found[1])
        context = ROOT
        while argv and isinstance(context.command, click.Group):
            context = context_of(context, [argv.pop(0)])
        context.command.make_parser(context).parse_args(argv)


@pytest.mark.parametrize("line", example_lines())
def test_examples_survive_a_shell_and_cron(line: str) -> None:
    """A ? or & outside quotes would mean something, and cron finds nothing that pipx or venv installed."""
    unquoted = re.sub(r"'[^']*'", "", line.replace(" && ", " "))
    assert not re.search(r"p2psync://\S*[?&]", unquoted)
    if re.match(r"[\d*]+ [\d*]+ ", line) or line.startswith("ExecStart="):
        assert re.search(r"(?:\s|=)/\S+/p2psync ", line), (
            f"a full path is needed: cron has {WHERE_CRON_LOOKS}"
        )


def test_cron_lines_and_units_in_the_documentation_have_full_paths() -> None:
    root = DOCS.parent
    texts = [*root.glob("*.md"), *DOCS.rglob("*.md"), *(root / "bootstrap").iterdir()]
    looked_at = 0
    for path in texts:
        for line in path.read_text().splitlines():
            if re.match(
                r"\s*(?:[\d*/,-]+ ){4}[\d*/,-]+ .*p2psync|\s*@(?:daily|hourly|reboot)\b.*p2psync", line
            ) or (re.match(r"\s*Exec\w+=.*p2psync", line)):
                looked_at += 1
                assert re.search(r"(?:\s|=)/\S+/p2psync\b", line), f"{path.name}: {line}"
    assert looked_at >= 4


def test_the_exit_codes_are_those_of_the_documentation() -> None:
    rows = [f"| {code} | {told.means} | {told.remedy} |" for code, told in EXIT_CODES.items()]
    text = (DOCS / "exit-codes.md").read_text()
    found = [re.sub(r"\s+\|$", " |", line) for line in text.splitlines() if re.match(r"\| \d", line)]
    assert found == [re.sub(r"\|  \|$", "| |", row) for row in rows]


def test_every_error_has_an_exit_code_that_is_explained() -> None:
    codes = {
        found.exit_code
        for found in vars(errors).values()
        if isinstance(found, type) and issubclass(found, errors.P2psyncError)
    }
    assert {0} | codes == EXIT_CODES.keys()


def test_mandoc_finds_nothing_to_criticise(pages: list[Path]) -> None:
    done = subprocess.run([need("mandoc"), "-T", "lint", *pages], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_man_shows_every_page_without_a_warning(pages: list[Path]) -> None:
    """As Debian's lintian asks it."""
    env = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "MANROFFSEQ": "", "MANWIDTH": "80"}
    for page in pages:
        argv: list[str | Path] = [need("man"), "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", page]
        done = subprocess.run(argv, env=env, capture_output=True, text=True, check=True)
        assert done.stderr == ""


def test_whatis_finds_every_page_by_its_name(pages: list[Path]) -> None:
    done = subprocess.run([need("lexgrog"), *pages], capture_output=True, text=True, check=True)
    found = dict(re.findall(r'^\S+/([^/]+)\.1: "(\S+) - .+"$', done.stdout, re.MULTILINE))
    names = ["-".join(["p2psync", *path]) for path in PATHS]
    assert found == {name: name for name in names}


def test_man_and_p2psync_help_show_the_same(pages: list[Path]) -> None:
    for path, page in zip(PATHS, pages, strict=True):
        argv: list[str | Path] = [need("mandoc"), "-T", "utf8", "-O", "width=78", page]
        done = subprocess.run(argv, capture_output=True, text=True, check=True)
        shown = to_text(page_of(context_of(ROOT, path)), 78, styled=False)
        assert words(shown) in words(re.sub(".\b", "", done.stdout))


NASTY = r"""\fBbold \(em \n[.l] "quoted" 'single' `back` ^~ -- -x \\ .TH 'SH .so /etc/passwd — é"""


def test_text_that_looks_like_roff_is_shown_as_it_is(tmp_path: Path) -> None:
    spans = ((NASTY, ""),)
    blocks = (Paragraph(spans), Item(((".x", "bold"),), spans), Lines((".so /etc/passwd", "'x", NASTY)))
    page = tmp_path / "nasty.1"
    page.write_text(to_roff(Page("nasty", "is .so", (("SECTION", blocks),)), "1"))
    done = subprocess.run(
        [need("mandoc"), "-T", "utf8", "-O", "width=300", page], capture_output=True, text=True, check=True
    )
    shown = re.sub(".\b", "", done.stdout)
    assert shown.count(NASTY) == 3
    assert {".so /etc/passwd", "'x"} <= {line.strip() for line in shown.splitlines()}
    assert "nasty - is .so" in shown


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_lines_of_prose_fit(path: tuple[str, ...]) -> None:
    shown = to_text(page_of(context_of(ROOT, path)), 80, styled=False)
    assert "\x1b" not in shown
    entry = entry_of(path)
    typed = {line.strip() for example in (entry.examples if entry else ()) for line in example.lines}
    assert all(len(line) <= 80 or line.strip() in typed for line in shown.splitlines())


def test_help_shows_the_page_plain_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["help", "key", "export"]) == 0
    page = page_of(context_of(ROOT, ["key", "export"]))
    assert capsys.readouterr().out == to_text(page, 80, styled=False)
    assert run(["help"]) == 0
    assert "p2psync-key-export(1)" in capsys.readouterr().out


@pytest.mark.parametrize("argv", [["nonsense"], ["key", "nonsense"], ["fetch", "more"]])
def test_help_on_what_is_no_command_says_so(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["help", *argv]) == 1
    assert capsys.readouterr().err.startswith(f"p2psync: there is no command 'p2psync {' '.join(argv)}'")


def test_help_on_a_terminal_goes_through_the_pager(tmp_path: Path) -> None:
    pager = tmp_path / "pager"
    pager.write_text(f"#!/bin/sh\ncat > {tmp_path}/shown\n")
    pager.chmod(0o755)
    ours, theirs = pty.openpty()
    env = {**os.environ, "PAGER": str(pager), "TERM": "xterm"}
    argv = [sys.executable, "-m", "p2psync", "help", "fetch"]
    done = subprocess.run(argv, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, env=env, check=True)
    os.close(theirs)
    os.close(ours)
    assert done.stderr == b""
    shown = (tmp_path / "shown").read_text()
    assert "\nEXIT STATUS\n" in re.sub(r"\x1b\[\d+m", "", shown)
