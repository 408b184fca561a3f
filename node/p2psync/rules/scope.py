"""The rules of one directory, and what they decide for the names in it.

rsync's rules of thumb (rsync(1), FILTER RULES): the first rule that matches decides, and a name that no rule
matches takes part. A walk makes a scope for each directory that it enters; it does not enter what is hidden,
and so nothing below it is asked about.
"""

from __future__ import annotations

from collections.abc import Iterable

from p2psync.format.paths import join
from p2psync.rules.parse import Rule
from p2psync.rules.patterns import Pattern
from p2psync.rules.temporary import is_temporary


class Side:
    """The rules that count on one side, sender or receiver, compiled."""

    __slots__ = ("_above", "_patterns", "_place")

    def __init__(self, rules: Iterable[Rule], above: bytes = b"", place: bytes = b"") -> None:
        """``above``: what stands before every path that is asked about, for rules begin there. ``place``:
        what does for absolute rules.
        """
        self._above = above
        self._place = place
        self._patterns = [
            (
                rule.include,
                rule.absolute,
                rule.perishable,
                Pattern(rule.pattern, negate=rule.negate, rooted=not (rule.absolute and place)),
            )
            for rule in rules
            if not rule.xattr
        ]

    def excludes(self, path: bytes, is_dir: bool, *, perishable: bool = True) -> bool:
        """Whether the first rule that matches `path` (relative, `/` between parts) excludes it. Without
        `perishable`, rules that are so do not count.
        """
        return self.decides(path, is_dir, perishable=perishable) or False

    def decides(self, path: bytes, is_dir: bool, *, perishable: bool = True) -> bool | None:
        """Whether the first rule that matches `path` excludes it; None: none matches. b"" is the tree's root
        itself.
        """
        relative = join(self._above, path) if path else self._above
        whole = join(self._place, path) if path else self._place
        for include, absolute, perishes, pattern in self._patterns:
            if perishes and not perishable:
                continue
            if pattern.matches(whole if absolute else relative, is_dir):
                return not include
        return None


class Scope:
    """What the rules decide for the names in one directory, on the side that sends them."""

    __slots__ = ("_before", "_sender", "_temporary")

    def __init__(self, directory: bytes, sender: Side, *, temporary: bool = True) -> None:
        """`directory` is relative to the root of the transfer; b"" is that root. `temporary`: what looks
        like a temporary name of rsync's is let through, where no rule is about it.
        """
        self._temporary = temporary
        self._before = directory + b"/" if directory else b""
        self._sender = sender

    def hides(self, name: bytes, is_dir: bool) -> bool:
        """Whether the sending side leaves `name` out of its list."""
        decided = self._sender.decides(self._before + name, is_dir)
        return is_temporary(name, is_dir) if decided is None and not self._temporary else bool(decided)
