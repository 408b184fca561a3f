"""Rules from text: one as `--filter` takes it, a pattern as `--include` and `--exclude` do, or a whole file.

The language is that of rsync(1), FILTER RULES, and the functions add to a list of rules as rsync's own do,
since a rule may clear the list. Understood are include and exclude, hide and show, protect and risk, merge,
clear (`!`), and all modifiers. Per-directory merge files are refused with an error that says so: a rule that
is silently ignored publishes what somebody meant to hide. No file is read here: the caller says how.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from p2psync.errors import UsageError
from p2psync.rules.cvs import DEFAULT

MAX_RULES: Final = 100_000  # each name is held against each rule in turn; beyond this the list is a mistake
MAX_PATTERN: Final = 4096  # PATH_MAX: a longer pattern matches nothing
MAX_MERGE_DEPTH: Final = 16  # a merge file that merges itself ends here

ReadFile = Callable[[bytes], bytes]

_LONG: Final = {
    b"include": b"+",
    b"exclude": b"-",
    b"merge": b".",
    b"dir-merge": b":",
    b"hide": b"H",
    b"show": b"S",
    b"protect": b"P",
    b"risk": b"R",
    b"clear": b"!",
}
_SHORT: Final = frozenset(_LONG.values())
_SIDES: Final = {b"H": (b"-", b"s"), b"S": (b"+", b"s"), b"P": (b"-", b"r"), b"R": (b"+", b"r")}
_OF_MERGE: Final = b"+-enw"
_OF_RULE: Final = b"!"
_OF_BOTH: Final = b"/Cprsx"
_LINES: Final = re.compile(rb"[\r\n]+")
_SPLIT: Final = re.compile(rb"([^ _]*)(?:[ _](.*))?", re.DOTALL)


class Outside(NamedTuple):
    """What rules take from this machine."""

    read: ReadFile | None = None
    """The text of a merge file; None: none is to be read."""
    ignored: tuple[bytes, ...] = ()
    """Texts of names that cvs ignores beside its own: of ~/.cvsignore and of $CVSIGNORE."""
    deletes_excluded: bool = False
    """Whether rules that name no side count for the sender alone (rsync's --delete-excluded)."""


NOTHING: Final = Outside()


class Rule(NamedTuple):
    """One include or exclude rule.

    `sender` and `receiver` say where it counts: on the sending side a match hides a name from the list of
    files, on the receiving side it protects a name that the sender does not have from deletion.
    """

    include: bool
    pattern: bytes
    negate: bool = False
    sender: bool = True
    receiver: bool = True
    absolute: bool = False
    """Whether it is held against the whole path, and not the one from the root of the transfer."""
    perishable: bool = False
    """Whether it protects nothing in a directory that is being deleted."""
    xattr: bool = False
    """Whether it is about names of extended attributes, and so about no file."""

    @property
    def text(self) -> bytes:
        """The rule in short form; `parse_rule` reads it back."""
        side = b"" if self.sender == self.receiver else (b"s" if self.sender else b"r")
        marks = (self.negate, b"!"), (self.absolute, b"/"), (self.perishable, b"p"), (self.xattr, b"x")
        modifiers = b"".join(mark for given, mark in marks if given)
        return (b"+" if self.include else b"-") + modifiers + side + b" " + self.pattern


class _Container(NamedTuple):
    """What the rules of a merge file have from the rule that names it."""

    depth: int = 0
    include: bool = False
    patterns: bool = False
    """Whether there are patterns alone in it, which are not read as rules."""
    words: bool = False
    """Whether white space separates them, and not only the ends of lines."""
    clears: bool = False
    """Whether ``!`` clears the list where there are patterns alone."""
    prefixed: bool = False
    """Whether patterns may begin with ``+ `` or ``- ``, as in files of --include-from and --exclude-from."""
    sides: bytes = b""
    absolute: bool = False
    perishable: bool = False


_TOP: Final = _Container()


def parse_rule(rules: list[Rule], text: bytes, outside: Outside = NOTHING) -> None:
    """Add what one rule in the syntax of `--filter` says; `!` empties the list. Raises UsageError for a rule
    that is malformed or not supported.
    """
    _rule(rules, text, outside, _TOP)


def parse_pattern(rules: list[Rule], pattern: bytes, include: bool, outside: Outside = NOTHING) -> None:
    """Add what `--include` or `--exclude` say: a pattern, or `+ PATTERN`, `- PATTERN`, `!`. Raises
    UsageError.
    """
    if not pattern:
        raise UsageError("an include or exclude pattern is empty")
    _pattern(rules, pattern, outside, _Container(include=include, prefixed=True))


def parse_patterns(
    rules: list[Rule], name: bytes, include: bool, outside: Outside, *, nul: bool = False
) -> None:
    """Add the patterns in a file as `--include-from` and `--exclude-from` do; `nul`: they are separated by
    NUL (`--from0`). Raises UsageError.
    """
    _file(rules, name, outside, _Container(include=include, prefixed=True), nul=nul)


def _rule(rules: list[Rule], text: bytes, outside: Outside, within: _Container) -> None:
    kind, modifiers, argument = _split(text)
    if kind == b"!":
        if argument or modifiers:
            raise UsageError(f"the filter rule {_show(text)} clears the list and takes no argument")
        rules.clear()
        return
    of_cvs = b"C" in modifiers
    if not argument and not of_cvs:
        raise UsageError(f"the filter rule {_show(text)} lacks a pattern or file name")
    _check_modifiers(text, kind, modifiers)
    one_sided = _SIDES.get(kind)
    kind, sides = one_sided or (kind, bytes(sorted({*modifiers} & {*b"sr"})))
    if sides and within.sides:
        raise UsageError(
            f"the filter rule {_show(text)} names a side, as does the rule for the file it is in"
        )
    sides = sides or within.sides
    absolute = b"/" in modifiers or within.absolute
    perishable = b"p" in modifiers or within.perishable
    if kind == b".":
        inner = _Container(
            within.depth + 1,
            include=b"+" in modifiers,
            patterns=of_cvs or not {*modifiers}.isdisjoint(b"+-"),
            words=of_cvs or b"w" in modifiers,
            clears=of_cvs,
            sides=sides,
            absolute=absolute,
            perishable=perishable,
        )
        name = argument or b".cvsignore"
        if b"e" in modifiers:
            _add(rules, Rule(False, name.rpartition(b"/")[2]))
        _file(rules, name, outside, inner)
        return
    made = _sided(
        Rule(kind == b"+", argument, b"!" in modifiers, absolute=absolute, perishable=perishable),
        sides,
        outside,
    )._replace(xattr=b"x" in modifiers)
    if of_cvs:
        _cvs(rules, made, outside)
    else:
        _add(rules, made)


def _sided(rule: Rule, sides: bytes, outside: Outside) -> Rule:
    if sides in (b"", b"rs"):
        return rule._replace(receiver=bool(sides) or not outside.deletes_excluded)
    return rule._replace(sender=sides == b"s", receiver=sides == b"r")


def _cvs(rules: list[Rule], like: Rule, outside: Outside) -> None:
    """Add what cvs ignores. Its own names do not keep a directory that goes."""
    for text, perishable in ((DEFAULT, True), *((text, like.perishable) for text in outside.ignored)):
        for word in text.split():
            if word == b"!":
                rules.clear()
            else:
                _add(rules, like._replace(pattern=word, perishable=perishable))


def _pattern(rules: list[Rule], pattern: bytes, outside: Outside, within: _Container) -> None:
    if pattern == b"!" and (within.prefixed or within.clears):
        rules.clear()
        return
    include = within.include
    if within.prefixed and pattern[:2] in {b"+ ", b"- "}:
        include, pattern = pattern[:1] == b"+", pattern[2:]
    if not pattern:
        raise UsageError("an include or exclude pattern is empty")
    rule = Rule(include, pattern, absolute=within.absolute, perishable=within.perishable)
    _add(rules, _sided(rule, within.sides, outside))


def _add(rules: list[Rule], rule: Rule) -> None:
    if len(rule.pattern) > MAX_PATTERN:
        raise UsageError(f"a filter pattern is longer than {MAX_PATTERN} bytes")
    if b"\0" in rule.pattern:
        raise UsageError(f"the filter pattern {_show(rule.pattern)} holds a NUL byte; no name can")
    if len(rules) >= MAX_RULES:
        raise UsageError(f"there are more than {MAX_RULES} filter rules")
    rules.append(rule)


def _file(rules: list[Rule], name: bytes, outside: Outside, within: _Container, *, nul: bool = False) -> None:
    """Add the rules or patterns of a file."""
    if outside.read is None:
        raise UsageError(f"the filter file {_show(name)} cannot be read here")
    if within.depth > MAX_MERGE_DEPTH:
        raise UsageError(f"filter files merge each other more than {MAX_MERGE_DEPTH} deep at {_show(name)}")
    text = outside.read(name)
    if within.words:
        tokens = text.split()
    else:
        lines = text.split(b"\0") if nul else _LINES.split(text)
        tokens = [line for line in lines if line and line[:1] not in b";#"]
    for token in tokens:
        if within.patterns or within.prefixed:
            _pattern(rules, token, outside, within)
        else:
            _rule(rules, token, outside, within)


def _show(text: bytes) -> str:
    return repr(text.decode("utf-8", "backslashreplace"))


def _split(text: bytes) -> tuple[bytes, bytes, bytes]:
    """(short rule name, modifiers, pattern or file name)."""
    for long, kind in _LONG.items():
        if text.startswith(long) and (len(text) == len(long) or text[len(long) :][:1] in b" _,"):
            short, rest = kind, text[len(long) :]
            break
    else:
        short, rest = text[:1], text[1:]
        if short not in _SHORT:
            raise UsageError(
                f"the filter rule {_show(text)} is unknown; it starts like '- PATTERN' or '+ PATTERN'"
            )
    if short == b":":
        raise UsageError(
            f"the filter rule {_show(text)} asks for per-directory rules, which are not supported"
        )
    match = _SPLIT.fullmatch(rest.removeprefix(b","))
    if match is None:  # the expression matches every string; this keeps the types honest
        raise UsageError(f"the filter rule {_show(text)} is malformed")
    return short, match[1], match[2] or b""


def _check_modifiers(text: bytes, kind: bytes, modifiers: bytes) -> None:
    """Raises UsageError for modifiers that rsync does not take, there or together."""
    allowed = _OF_BOTH + (_OF_MERGE if kind == b"." else _OF_RULE)
    for value in modifiers:
        if value not in allowed:
            raise UsageError(f"the filter rule {_show(text)} has an unknown modifier {chr(value)!r}")
    if kind in _SIDES and not {*modifiers}.isdisjoint(b"rsC"):
        raise UsageError(f"the filter rule {_show(text)} names its side twice, or is about cvs")
    if sum(modifiers.count(each) for each in (b"+", b"-", b"C")) > 1:
        raise UsageError(f"the filter rule {_show(text)} says twice what its file holds")
