"""Writes a page in the man macros, man(7): what groff and mandoc show and ``whatis`` reads. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from textwrap import wrap
from typing import Final

from p2psync.cli.manual.page import Block, Heading, Item, Lines, Page, Paragraph, Span

SECTION: Final = 1
"""Of the manual: commands of users."""
REVISED: Final = "2026-11-25"
"""When the manual last changed in more than a word: it stands at the foot of each page."""
WIDTH: Final = 78
_FONTS: Final = {"bold": "B", "italic": "I"}
_ESCAPES: Final = str.maketrans(
    {
        "\\": r"\e",
        "-": r"\-",  # A plain one may be shown as a hyphen, which no shell takes for a minus.
        "'": r"\(aq",
        "`": r"\(ga",
        "^": r"\(ha",
        "~": r"\(ti",
        '"': r"\(dq",
    }
)
"""What would not be shown as it is (groff_char(7)): the terminal's own quotes and signs can be copied."""


def to_roff(page: Page, version: str) -> str:
    """The text of a man page; the same page always gives the same text."""
    name = escape(page.name)
    lines = [
        f'.TH "{name.upper()}" {SECTION} "{REVISED}" "p2psync {version}" "p2psync manual"',
        ".nh",
        ".ad l",
        ".SH NAME",
        *_filled(rf"{name} \- {escape(page.about)}"),
    ]
    for title, blocks in page.sections:
        lines.append(f".SH {title}")
        before: Block = Heading(title)
        for block in blocks:
            lines += _block(block, before)
            before = block
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """Text that is shown as it is; everything beyond ASCII by its code point."""
    safe = "".join(c if c.isascii() else rf"\[u{ord(c):04X}]" for c in text.translate(_ESCAPES))
    return rf"\&{safe}" if safe.startswith(".") else safe


def _block(block: Block, before: Block) -> Iterable[str]:
    match block:
        case Heading(title):
            return [f".SS {escape(title)}"]
        case Item(term, spans):
            return [".TP", _fonts(term), *_filled(_fonts(spans))]
        case Lines(lines):
            return [".RS 4", ".nf", *map(escape, lines), ".fi", ".RE"]
        case Paragraph(spans):
            return [*([] if isinstance(before, Heading) else [".PP"]), *_filled(_fonts(spans))]


def _filled(text: str) -> Iterable[str]:
    """Lines short enough for whoever reads the source; where they end means nothing."""
    lines = wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False)
    return [rf"\&{line}" if line.startswith(".") else line for line in lines]


def _fonts(spans: Iterable[Span]) -> str:
    return "".join(rf"\f{_FONTS[style]}{escape(text)}\fR" if style else escape(text) for text, style in spans)
