"""docs/rsync.md against the table of options that the program goes by."""

from __future__ import annotations

import re
from pathlib import Path

from p2psync.cli.drop_in import VARIABLES
from p2psync.rsync.options import OPTIONS, Option

PAGE = (Path(__file__).parents[2] / "docs" / "rsync.md").read_text()


def row(option: Option) -> str:
    """How the page has an option."""
    return f"| `{option.shown.replace('|', chr(92) + '|')}` | {option.handling} | {option.why} |"


def test_the_page_has_every_option_as_the_program_has_it() -> None:
    rows = [line for line in PAGE.splitlines() if re.match(r"\| `-", line)]
    assert rows == [row(option) for option in OPTIONS]


def test_the_page_names_the_variables_that_have_rsync_run() -> None:
    assert all(f"`{name}`" in PAGE for name in VARIABLES)
