"""Filter rules: which names of a tree take part, in the language of rsync.

The rules are those of rsync(1), FILTER RULES: an ordered list, the first rule that matches decides, a name
that no rule matches is included, and a directory that is excluded is not descended into. Patterns and names
are bytes. This module reads no file and walks no tree: the caller hands in the text of merge files, asks
about one name at a time, and does not descend into what is excluded.

Supported: include/exclude, hide/show, protect/risk, merge (`. FILE`, also with `+` and `-`), clear (`!`),
the modifiers `!`, `s` and `r`, and every pattern form (`/` anchors, `*`, `**`, `***`, `?`, `[class]`, a
trailing `/`, backslash). Per-directory merge files and the modifiers `/`, `C`, `p`, `x`, `e`, `n`, `w` are
refused with an error that names them: a rule that is silently ignored publishes what somebody meant to
hide.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, NamedTuple

from p2psync.errors import UsageError
from p2psync.rules.patterns import Pattern

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
        """The rule in short form; `Filter.parse` reads it back."""
        side = b"" if self.sender == self.receiver else (b"s" if self.sender else b"r")
        return (b"+" if self.include else b"-") + (b"!" if self.negate else b"") + side + b" " + self.pattern


@dataclass(frozen=True)
class Filter:
    """An ordered list of rules. Immutable; `with_*` return a longer list.

    Example: `Filter().with_rule(b"+ *.c").with_exclude(b"*").hidden(b"src/a.c", False)` is False.
    """

    rules: tuple[Rule, ...] = ()
    _depth: int = field(default=0, repr=False, compare=False)

    @classmethod
    def parse(cls, texts: Iterable[bytes], read: ReadFile | None = None) -> Filter:
        """The list of the rules in `texts` (as given to `--filter`), in order."""
        out = cls()
        for text in texts:
            out = out.with_rule(text, read)
        return out

    def texts(self) -> list[bytes]:
        """The rules in short form, merge files resolved: what is kept with a tree."""
        return [rule.text for rule in self.rules]

    def with_rule(self, text: bytes, read: ReadFile | None = None) -> Filter:
        """The list with one rule in the syntax of `--filter` added.

        `read` returns the bytes of a merge file. Raises UsageError for a rule that is malformed or
        unsupported.
        """
        kind, modifiers, argument = _split(text)
        if kind == b"!":
            if argument or modifiers:
                raise UsageError(f"The filter rule {_show(text)} clears the list and takes no argument.")
            return Filter()
        if not argument:
            raise UsageError(f"The filter rule {_show(text)} lacks a pattern or file name.")
        if kind == b".":
            return self._merge(text, modifiers, argument, read)
        negate, sender, receiver = _modifiers(text, modifiers)
        if kind in _SIDES:
            if sender or receiver:
                raise UsageError(f"The filter rule {_show(text)} names its side twice.")
            kind, side = _SIDES[kind]
            sender, receiver = side == b"s", side == b"r"
        elif not sender and not receiver:
            sender = receiver = True
        return self._add(Rule(kind == b"+", argument, negate, sender, receiver))

    def with_include(self, pattern: bytes) -> Filter:
        """As rsync's `--include`: a pattern, or `+ PATTERN`, `- PATTERN`, `!`."""
        return self._old_style(pattern, True)

    def with_exclude(self, pattern: bytes) -> Filter:
        """As rsync's `--exclude`: a pattern, or `+ PATTERN`, `- PATTERN`, `!`."""
        return self._old_style(pattern, False)

    def hidden(self, path: bytes, is_dir: bool) -> bool:
        """Whether the sending side leaves `path` (relative, `/` between parts) out of its list."""
        return self._excluded(self._sender, path, is_dir)

    def protected(self, path: bytes, is_dir: bool) -> bool:
        """Whether the receiving side keeps `path` though the sender does not have it."""
        return self._excluded(self._receiver, path, is_dir)

    @cached_property
    def _sender(self) -> list[tuple[bool, Pattern]]:
        return [
            (rule.include, Pattern(rule.pattern, negate=rule.negate)) for rule in self.rules if rule.sender
        ]

    @cached_property
    def _receiver(self) -> list[tuple[bool, Pattern]]:
        return [
            (rule.include, Pattern(rule.pattern, negate=rule.negate)) for rule in self.rules if rule.receiver
        ]

    @staticmethod
    def _excluded(matchers: Sequence[tuple[bool, Pattern]], path: bytes, is_dir: bool) -> bool:
        for include, matcher in matchers:
            if matcher.matches(path, is_dir):
                return not include
        return False

    def _add(self, rule: Rule) -> Filter:
        if len(rule.pattern) > MAX_PATTERN:
            raise UsageError(f"A filter pattern is longer than {MAX_PATTERN} bytes.")
        if b"\0" in rule.pattern:
            raise UsageError(f"The filter pattern {_show(rule.pattern)} holds a NUL byte; no name can.")
        if len(self.rules) >= MAX_RULES:
            raise UsageError(f"There are more than {MAX_RULES} filter rules.")
        return Filter((*self.rules, rule), self._depth)

    def _old_style(self, pattern: bytes, include: bool) -> Filter:
        if pattern == b"!":
            return Filter()
        if pattern[:2] in {b"+ ", b"- "}:
            include, pattern = pattern[:1] == b"+", pattern[2:]
        if not pattern:
            raise UsageError("An include or exclude pattern is empty.")
        return self._add(Rule(include, pattern))

    def _merge(self, text: bytes, modifiers: bytes, name: bytes, read: ReadFile | None) -> Filter:
        plain = modifiers.strip(b"+-")
        if plain or len(modifiers) > 1:
            _modifiers(text, plain)
            raise UsageError(f"In the filter rule {_show(text)} only the modifiers + and - are supported.")
        if read is None:
            raise UsageError(f"The filter rule {_show(text)} names a file, which cannot be read here.")
        if self._depth >= MAX_MERGE_DEPTH:
            raise UsageError(
                f"Filter files merge each other more than {MAX_MERGE_DEPTH} deep at {_show(name)}."
            )
        out = Filter(self.rules, self._depth + 1)
        for line in re.split(rb"[\r\n]+", read(name)):
            if not line or line.startswith(b"#") or (not modifiers and line.startswith(b";")):
                continue
            if modifiers:
                out = out._add(Rule(modifiers == b"+", line))
            else:
                out = Filter(out.rules, self._depth + 1).with_rule(line, read)
        return Filter(out.rules, self._depth)


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
                f"The filter rule {_show(text)} is unknown; it starts like '- PATTERN' or '+ PATTERN'."
            )
        if rest.startswith(b","):
            rest = rest[1:]
    if short == b":":
        raise UsageError(
            f"The filter rule {_show(text)} asks for per-directory rules, which are not supported."
        )
    match = re.match(rb"([^ _]*)(?:[ _](.*))?\Z", rest, re.DOTALL)
    if match is None:  # the expression matches every string; this keeps the types honest
        raise UsageError(f"The filter rule {_show(text)} is malformed.")
    return short, match[1], match[2] or b""


def _modifiers(text: bytes, modifiers: bytes) -> tuple[bool, bool, bool]:
    """(negate, sender side named, receiver side named)."""
    for value in modifiers:
        modifier = bytes((value,))
        if modifier in _UNSUPPORTED:
            raise UsageError(f"The filter rule {_show(text)} uses {_UNSUPPORTED[modifier]}: not supported.")
        if modifier not in b"!sr":
            raise UsageError(f"The filter rule {_show(text)} has an unknown modifier {_show(modifier)}.")
    return b"!" in modifiers, b"s" in modifiers, b"r" in modifiers
