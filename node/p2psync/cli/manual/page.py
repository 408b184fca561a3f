"""A page of the manual as values: sections of paragraphs, lines, items and headings. Pure.

``build`` makes pages; ``roff`` and ``text`` write them out.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_MARKED: Final = re.compile(r"`([^`]+)`|(?<![\w`.'-])(--?[a-z][\w-]*)")
_META: Final = re.compile(r"\b[A-Z][A-Z0-9_]*\b")

Span = tuple[str, str]
"""A text and its style: "bold" is typed as it stands, "italic" is replaced by something, "" is prose."""


class Paragraph(NamedTuple):
    """Prose."""

    spans: tuple[Span, ...]


class Lines(NamedTuple):
    """Lines that are shown as they are, such as commands."""

    lines: tuple[str, ...]


class Item(NamedTuple):
    """A term and its explanation."""

    term: tuple[Span, ...]
    spans: tuple[Span, ...]


class Heading(NamedTuple):
    """A heading within a section."""

    title: str


Block = Paragraph | Lines | Item | Heading


class Page(NamedTuple):
    """A page: ``name`` is what ``man`` finds it by, ``about`` what whatis(1) says of it."""

    name: str
    about: str
    sections: tuple[tuple[str, tuple[Block, ...]], ...]
    """A title and what stands below it."""


def literal(text: str) -> tuple[Span, ...]:
    """What is typed as it stands."""
    return ((text, "bold"),)


def spans_of(text: str) -> tuple[Span, ...]:
    """Prose in pieces: what stands in backticks, and names of options, are typed as they stand.

    >>> spans_of("As `p2psync ls`, without --once.")
    (('As ', ''), ('p2psync ls', 'bold'), (', without ', ''), ('--once', 'bold'), ('.', ''))
    """
    made: list[Span] = []
    end = 0
    for match in _MARKED.finditer(text):
        made += [(text[end : match.start()], ""), (match[1] or match[2], "bold")]
        end = match.end()
    return tuple(span for span in (*made, (text[end:], "")) if span[0])


def term_of(text: str) -> tuple[Span, ...]:
    """The names of an option and what goes with them, or a synopsis.

    >>> term_of("-s, --state DIR")
    (('-s', 'bold'), (', ', ''), ('--state', 'bold'), (' ', ''), ('DIR', 'italic'))
    """
    made: list[Span] = []
    for span, style in spans_of(text):
        end = 0
        for match in () if style else _META.finditer(span):
            made += [(span[end : match.start()], ""), (match[0], "italic")]
            end = match.end()
        made.append((span[end:], style))
    return tuple(span for span in made if span[0])


def paragraph(text: str) -> Paragraph:
    """A paragraph, however its lines were broken."""
    return Paragraph(spans_of(" ".join(text.split())))


def item(term: str, text: str) -> Item:
    """A term that is typed as it stands, and its explanation as a sentence."""
    text = " ".join(text.split()).rstrip(".")
    return Item(literal(term), spans_of(f"{text[:1].upper()}{text[1:]}."))
