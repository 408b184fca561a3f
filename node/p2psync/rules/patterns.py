"""Patterns of filter rules: rsync's wildcards as regular expressions over bytes.

What a pattern is matched against follows rsync(1), PATTERN MATCHING RULES; the real rsync is the judge in
the tests. What a match means for a name is the business of `p2psync.rules.scope`.
"""

from __future__ import annotations

import re
from typing import Final

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


class Pattern:
    """One pattern, compiled. What is matched against what follows rsync(1), PATTERN MATCHING RULES."""

    __slots__ = (
        "_dirs_only",
        "_leading",
        "_literal",
        "_negate",
        "_slash_end",
        "_tails",
        "_wild",
    )

    def __init__(self, pattern: bytes, *, negate: bool = False, rooted: bool = True) -> None:
        """``rooted``: whether the paths that it is asked about begin where the transfer does."""
        self._negate = negate
        self._dirs_only = len(pattern) > 1 and pattern.endswith(b"/")
        if self._dirs_only:
            pattern = pattern[:-1]
        wild = any(char in pattern for char in (b"*", b"?", b"["))
        double = b"**" in pattern
        # A leading '**' may stand for nothing at all before a slash: 'name' is matched as '/name'.
        leading = pattern.startswith(b"**")
        self._leading = leading and rooted
        # A trailing '***' matches the directory itself as well: it is matched as 'name/'.
        self._slash_end = double and pattern.endswith(b"***")
        anchored = pattern.startswith(b"/")
        # How many trailing parts of a path are compared: 0 the whole path, -1 the path from each slash on.
        if anchored:
            self._tails = 0
            pattern = pattern[1:]
        elif double:
            self._tails = 0 if leading else -1
        else:
            self._tails = pattern.count(b"/") + 1
        self._literal = None if wild else pattern
        self._wild = re.compile(_translate(pattern), re.DOTALL) if wild else None

    def matches(self, path: bytes, is_dir: bool) -> bool:
        """Whether `path` (relative, `/` between parts) matches; with `negate`, whether it does not."""
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
