"""Writes the man pages of all commands into a folder: for the build, and for ``make man``."""

from __future__ import annotations

from pathlib import Path

from p2psync import __version__
from p2psync.cli.app import program
from p2psync.cli.manual.build import contexts, page_of, root_context
from p2psync.cli.manual.roff import SECTION, to_roff


def write_pages(folder: Path) -> list[Path]:
    """Write a page for each command; where they are. The same source gives the same pages."""
    made = []
    for context in contexts(root_context(program)):
        page = page_of(context)
        path = folder / f"{page.name}.{SECTION}"
        path.write_text(to_roff(page, __version__))
        made.append(path)
    return made
