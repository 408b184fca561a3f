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
_CLASSES: Final = {
    b"alnum": b"0-9A-Za-z",
    b"alpha": b"A-Za-z",
    b"blank": rb"\t ",
    b"cntrl": rb"\x00-\x1f\x7f",
    b"digit": b"0-9",
    b"graph": rb"\x21-\x7e",
    b"lower": b"a-z",
    b"print": rb"\x20-\x7e",
    b"punct": rb"\x21-\x2f\x3a-\x40\x5b-\x60\x7b-\x7e",
    b"space": rb"\t-\r ",
    b"upper": b"A-Z",
    b"xdigit": b"0-9A-Fa-f",
}
_NEVER: Final = b"(?!)"  # a malformed class matches nothing, as in rsync


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
    def _sender(self) -> list[tuple[bool, _Matcher]]:
        return [(rule.include, _Matcher(rule)) for rule in self.rules if rule.sender]

    @cached_property
    def _receiver(self) -> list[tuple[bool, _Matcher]]:
        return [(rule.include, _Matcher(rule)) for rule in self.rules if rule.receiver]

    @staticmethod
    def _excluded(matchers: Sequence[tuple[bool, _Matcher]], path: bytes, is_dir: bool) -> bool:
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


class _Matcher:
    """One pattern, compiled. What is matched against what follows rsync(1), PATTERN MATCHING RULES."""

    __slots__ = (
        "_anchored",
        "_dirs_only",
        "_leading",
        "_literal",
        "_negate",
        "_slash_end",
        "_tails",
        "_wild",
    )

    def __init__(self, rule: Rule) -> None:
        pattern = rule.pattern
        self._negate = rule.negate
        self._dirs_only = len(pattern) > 1 and pattern.endswith(b"/")
        if self._dirs_only:
            pattern = pattern[:-1]
        wild = any(char in pattern for char in (b"*", b"?", b"["))
        double = b"**" in pattern
        # A leading '**' may stand for nothing at all before a slash: 'name' is matched as '/name'.
        self._leading = leading = pattern.startswith(b"**")
        # A trailing '***' matches the directory itself as well: it is matched as 'name/'.
        self._slash_end = double and pattern.endswith(b"***")
        self._anchored = pattern.startswith(b"/")
        # How many trailing parts of a path are compared: 0 the whole path, -1 the path from each slash on.
        if self._anchored:
            self._tails = 0
            pattern = pattern[1:]
        elif double:
            self._tails = 0 if leading else -1
        else:
            self._tails = pattern.count(b"/") + 1
        self._literal = None if wild else pattern
        self._wild = re.compile(_translate(pattern), re.DOTALL) if wild else None

    def matches(self, path: bytes, is_dir: bool) -> bool:
        if self._dirs_only and not is_dir:
            return self._negate
        return self._hit(path, is_dir) != self._negate

    def _hit(self, path: bytes, is_dir: bool) -> bool:
        tails = self._tails
        if tails > 0:
            # Only the last parts count; a path with fewer parts cannot match.
            if tails == 1:
                path = path[path.rfind(b"/") + 1 :]
            else:
                parts = path.rsplit(b"/", tails)
                if len(parts) < tails:
                    return False
                if len(parts) > tails:
                    path = path[len(parts[0]) + 1 :]
        if self._wild is None:
            return path == self._literal
        if self._slash_end and is_dir:
            path += b"/"
        if self._leading:
            path = b"/" + path
        if self._wild.match(path) is not None:
            return True
        if tails < 0:
            start = path.find(b"/") + 1
            while start:
                if self._wild.match(path, start) is not None:
                    return True
                start = path.find(b"/", start) + 1
        return False


def _translate(pattern: bytes) -> bytes:
    """The regular expression of a wildcard pattern, to be used with `match`."""
    out: list[bytes] = []
    at = 0
    while at < len(pattern):
        char = pattern[at : at + 1]
        at += 1
        if char == b"*":
            stars = 1
            while pattern[at : at + 1] == b"*":
                stars += 1
                at += 1
            out.append(b".*" if stars > 1 else b"[^/]*")
        elif char == b"?":
            out.append(b"[^/]")
        elif char == b"[":
            expression, at = _class(pattern, at)
            out.append(expression)
        elif char == b"\\":
            literal = pattern[at : at + 1]
            at += 1
            out.append(re.escape(literal) if literal else _NEVER)
        else:
            out.append(re.escape(char))
    return b"".join(out) + rb"\Z"


class _Malformed(Exception):
    """A class that does not end, or that names an unknown set: it matches nothing, as in rsync."""


def _class(pattern: bytes, at: int) -> tuple[bytes, int]:
    """The expression of the class whose '[' stands before `at`, and where the pattern goes on."""
    negate = pattern[at : at + 1] in (b"!", b"^")
    try:
        items, at = _class_items(pattern, at + negate)
    except _Malformed:
        return _NEVER, len(pattern)
    # A class never matches a slash, negated or not.
    if negate:
        return b"[^/" + items + b"]", at
    return (b"(?!/)[" + items + b"]" if items else _NEVER), at


def _class_items(pattern: bytes, at: int) -> tuple[bytes, int]:
    """The inside of a class that begins at `at`, as that of an expression's, and what follows its ']'."""
    items: list[bytes] = []
    start = at
    previous: int | None = None
    while pattern[at : at + 1] != b"]" or at == start:
        char = pattern[at : at + 1]
        if char == b"-" and previous is not None and pattern[at + 1 : at + 2] not in (b"", b"]"):
            upper, at = _member(pattern, at + 1)
            if previous <= upper:
                items.append(b"\\x%02x-\\x%02x" % (previous, upper))
            previous = None
            continue
        named = _named(pattern, at)
        if named is not None:
            items.append(named[0])
            at, previous = named[1], None
            continue
        previous, at = _member(pattern, at)
        items.append(b"\\x%02x" % previous)
    return b"".join(items), at + 1


def _named(pattern: bytes, at: int) -> tuple[bytes, int] | None:
    """The set that '[:name:]' at `at` stands for, and what follows it; None if it is not that."""
    if not pattern.startswith(b"[:", at):
        return None
    end = pattern.find(b"]", at + 2)
    if end < 0:
        raise _Malformed
    if end == at + 2 or pattern[end - 1 : end] != b":":
        return None
    name = pattern[at + 2 : end - 1]
    if name not in _CLASSES:
        raise _Malformed
    return _CLASSES[name], end + 1


def _member(pattern: bytes, at: int) -> tuple[int, int]:
    """The byte at `at`, a backslash before it skipped, and what follows it."""
    if pattern[at : at + 1] == b"\\":
        at += 1
    if at >= len(pattern):
        raise _Malformed
    return pattern[at], at + 1
