"""Rules from text: one as `--filter` takes it, a pattern as `--include` and `--exclude` do, or a whole file.

The language is that of rsync(1), FILTER RULES, and the functions add to a list of rules as rsync's own do,
since a rule may clear the list. Understood are include and exclude, hide and show, protect and risk, merge
(`. FILE`, also with `+` and `-`), clear (`!`), and the modifiers `!`, `s` and `r`. Per-directory merge files
and the modifiers `/`, `C`, `p`, `x`, `e`, `n`, `w` are refused with an error that names them: a rule that is
silently ignored publishes what somebody meant to hide. No file is read here: the caller says how.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from p2psync.errors import UsageError

MAX_RULES: Final = 100_000  # each name is held against each rule in turn; beyond this the list is a mistake
MAX_PATTERN: Final = 4096  # PATH_MAX: a longer pattern matches nothing
MAX_MERGE_DEPTH: Final = 16  # a merge file that merges itself ends here

ReadFile = Callable[[bytes], bytes]

_SHORT: Final = b"+-.:HSPR!"
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
_SIDES: Final = {b"H": (b"-", b"s"), b"S": (b"+", b"s"), b"P": (b"-", b"r"), b"R": (b"+", b"r")}
_UNSUPPORTED: Final = {
    b"/": "the modifier '/' (absolute paths)",
    b"C": "the modifier 'C' (CVS rules)",
    b"p": "the modifier 'p' (perishable)",
    b"x": "the modifier 'x' (xattr names)",
    b"e": "the modifier 'e'",
    b"n": "the modifier 'n'",
    b"w": "the modifier 'w'",
}


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

    @property
    def text(self) -> bytes:
        """The rule in short form; `parse_rule` reads it back."""
        side = b"" if self.sender == self.receiver else (b"s" if self.sender else b"r")
        return (b"+" if self.include else b"-") + (b"!" if self.negate else b"") + side + b" " + self.pattern


def parse_rule(rules: list[Rule], text: bytes, read: ReadFile | None = None, depth: int = 0) -> None:
    """Add what one rule in the syntax of `--filter` says; `!` empties the list.

    `read` returns the bytes of a merge file, which is `depth` merge files deep. Raises UsageError for a rule
    that is malformed or not supported.
    """
    kind, modifiers, argument = _split(text)
    if kind == b"!":
        if argument or modifiers:
            raise UsageError(f"the filter rule {_show(text)} clears the list and takes no argument")
        rules.clear()
        return
    if not argument:
        raise UsageError(f"the filter rule {_show(text)} lacks a pattern or file name")
    if kind == b".":
        _merge(rules, text, modifiers, argument, read, depth)
        return
    negate, sender, receiver = _modifiers(text, modifiers)
    if kind in _SIDES:
        if sender or receiver:
            raise UsageError(f"the filter rule {_show(text)} names its side twice")
        kind, side = _SIDES[kind]
        sender, receiver = side == b"s", side == b"r"
    elif not sender and not receiver:
        sender = receiver = True
    _add(rules, Rule(kind == b"+", argument, negate, sender, receiver))


def parse_pattern(rules: list[Rule], pattern: bytes, include: bool) -> None:
    """Add what `--include` or `--exclude` say: a pattern, or `+ PATTERN`, `- PATTERN`, `!`. Raises
    UsageError.
    """
    if pattern == b"!":
        rules.clear()
        return
    if pattern[:2] in {b"+ ", b"- "}:
        include, pattern = pattern[:1] == b"+", pattern[2:]
    if not pattern:
        raise UsageError("an include or exclude pattern is empty")
    _add(rules, Rule(include, pattern))


def _add(rules: list[Rule], rule: Rule) -> None:
    if len(rule.pattern) > MAX_PATTERN:
        raise UsageError(f"a filter pattern is longer than {MAX_PATTERN} bytes")
    if b"\0" in rule.pattern:
        raise UsageError(f"the filter pattern {_show(rule.pattern)} holds a NUL byte; no name can")
    if len(rules) >= MAX_RULES:
        raise UsageError(f"there are more than {MAX_RULES} filter rules")
    rules.append(rule)


def _merge(
    rules: list[Rule], text: bytes, modifiers: bytes, name: bytes, read: ReadFile | None, depth: int
) -> None:
    """Add the rules of a file, or with the modifier + or - its lines as patterns."""
    plain = modifiers.strip(b"+-")
    if plain or len(modifiers) > 1:
        _modifiers(text, plain)
        raise UsageError(f"in the filter rule {_show(text)} only the modifiers + and - are supported")
    if read is None:
        raise UsageError(f"the filter rule {_show(text)} names a file, which cannot be read here")
    if depth >= MAX_MERGE_DEPTH:
        raise UsageError(f"filter files merge each other more than {MAX_MERGE_DEPTH} deep at {_show(name)}")
    for line in re.split(rb"[\r\n]+", read(name)):
        if not line or line.startswith(b"#") or (not modifiers and line.startswith(b";")):
            continue
        if modifiers:
            _add(rules, Rule(modifiers == b"+", line))
        else:
            parse_rule(rules, line, read, depth + 1)


def _show(text: bytes) -> str:
    return repr(text.decode("utf-8", "backslashreplace"))


def _split(text: bytes) -> tuple[bytes, bytes, bytes]:
    """(short rule name, modifiers, pattern or file name)."""
    for long, kind in _LONG.items():
        if text.startswith(long) and (len(text) == len(long) or text[len(long) :][:1] in b" _,"):
            short, rest = kind, text[len(long) :]
            if rest.startswith(b","):
                rest = rest[1:]
            break
    else:
        short, rest = text[:1], text[1:]
        if not short or short not in _SHORT:
            raise UsageError(
                f"the filter rule {_show(text)} is unknown; it starts like '- PATTERN' or '+ PATTERN'"
            )
        if rest.startswith(b","):
            rest = rest[1:]
    if short == b":":
        raise UsageError(
            f"the filter rule {_show(text)} asks for per-directory rules, which are not supported"
        )
    match = re.match(rb"([^ _]*)(?:[ _](.*))?\Z", rest, re.DOTALL)
    if match is None:  # the expression matches every string; this keeps the types honest
        raise UsageError(f"the filter rule {_show(text)} is malformed")
    return short, match[1], match[2] or b""


def _modifiers(text: bytes, modifiers: bytes) -> tuple[bool, bool, bool]:
    """(negate, sender side named, receiver side named)."""
    for value in modifiers:
        modifier = bytes((value,))
        if modifier in _UNSUPPORTED:
            raise UsageError(f"the filter rule {_show(text)} uses {_UNSUPPORTED[modifier]}: not supported")
        if modifier not in b"!sr":
            raise UsageError(f"the filter rule {_show(text)} has an unknown modifier {_show(modifier)}")
    return b"!" in modifiers, b"s" in modifiers, b"r" in modifiers
