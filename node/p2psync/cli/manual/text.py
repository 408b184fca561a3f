"""Writes a page as plain text, with or without bold letters for a terminal. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

import click

from p2psync.cli.manual.page import Block, Heading, Item, Lines, Page, Paragraph, Span, literal

INDENT: Final = 7
HANGING: Final = 14
"""Columns before a text, and before the explanation of a term: as man(1) has them."""
_STYLES: Final = {"bold": {"bold": True}, "italic": {"underline": True}}


def to_text(page: Page, width: int, *, styled: bool) -> str:
    """The page for people, in lines of at most ``width`` columns where words allow it."""
    lines = [
        *_heading("NAME", styled),
        *_filled([(f"{page.name} - {page.about}", "")], INDENT, width, styled),
    ]
    for title, blocks in page.sections:
        lines += ["", *_heading(title, styled)]
        before: Block | None = None
        for block in blocks:
            if before is not None and not (isinstance(block, Lines) or isinstance(before, Heading)):
                lines.append("")
            lines += _block(block, width, styled)
            before = block
    return "\n".join(lines) + "\n"


def _heading(title: str, styled: bool) -> Iterator[str]:
    yield _show(literal(title)[0], styled)


def _block(block: Block, width: int, styled: bool) -> Iterable[str]:
    match block:
        case Heading(title):
            return [" " * (INDENT // 2) + _show(literal(title)[0], styled)]
        case Item(term, spans):
            told = list(_filled(spans, HANGING, width, styled))
            named = list(_filled(term, INDENT, width, styled))
            length = sum(len(text) for text, _ in term)
            if told and length < HANGING - INDENT:  # Both stand in one line.
                told[0] = named.pop() + " " * (HANGING - INDENT - length) + told[0].lstrip()
            return [*named, *told]
        case Lines(lines):
            return [" " * (INDENT + 4) + line for line in lines]
        case Paragraph(spans):
            return _filled(spans, INDENT, width, styled)


def _filled(spans: Iterable[Span], indent: int, width: int, styled: bool) -> Iterator[str]:
    """Lines as full as they can be; what is styled takes no columns."""
    line, used = "", 0
    for word in _words(spans):
        length = sum(len(text) for text, _ in word)
        if line and indent + used + 1 + length > width:
            yield " " * indent + line
            line, used = "", 0
        shown = "".join(_show(span, styled) for span in word)
        line, used = (f"{line} {shown}", used + 1 + length) if line else (shown, length)
    if line:
        yield " " * indent + line


def _words(spans: Iterable[Span]) -> Iterator[list[Span]]:
    """What a line is not broken within: pieces of different styles without a space between them."""
    word: list[Span] = []
    for text, style in spans:
        for part in re.split(r"(\s+)", text):
            if part and not part.isspace():
                word.append((part, style))
            elif part and word:
                yield word
                word = []
    if word:
        yield word


def _show(span: Span, styled: bool) -> str:
    text, style = span
    return click.style(text, **_STYLES[style]) if styled and style else text
