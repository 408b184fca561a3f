"""The rules of one directory, and what they decide for the names in it.

rsync's rules of thumb (rsync(1), FILTER RULES): the first rule that matches decides, and a name that no rule
matches takes part. A walk makes a scope for each directory that it enters; it does not enter what is hidden,
and so nothing below it is asked about.
"""

from __future__ import annotations

from collections.abc import Iterable

from p2psync.rules.parse import Rule
from p2psync.rules.patterns import Pattern


class Side:
    """The rules that count on one side, sender or receiver, compiled."""

    __slots__ = ("_patterns",)

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._patterns = [(rule.include, Pattern(rule.pattern, negate=rule.negate)) for rule in rules]

    def excludes(self, path: bytes, is_dir: bool) -> bool:
        """Whether the first rule that matches `path` (relative, `/` between parts) excludes it."""
        for include, pattern in self._patterns:
            if pattern.matches(path, is_dir):
                return not include
        return False


class Scope:
    """What the rules decide for the names in one directory, on the side that sends them."""

    __slots__ = ("_before", "_sender")

    def __init__(self, directory: bytes, sender: Side) -> None:
        """`directory` is relative to the root of the transfer; b"" is that root."""
        self._before = directory + b"/" if directory else b""
        self._sender = sender

    def hides(self, name: bytes, is_dir: bool) -> bool:
        """Whether the sending side leaves `name` out of its list."""
        return self._sender.excludes(self._before + name, is_dir)
