"""The rules of one transfer: the whole list, as it is given, kept with a tree, and asked.

Patterns and names are bytes. Nothing here reads a file or walks a tree: the caller hands in the text of merge
files, asks the `Scope` of each directory about its names, and does not descend into what is hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property

from p2psync.rules.parse import NOTHING, Outside, Rule, parse_pattern, parse_patterns, parse_rule
from p2psync.rules.scope import Scope, Side


@dataclass(frozen=True)
class Filter:
    """An ordered list of rules. Immutable; `with_*` return a longer list.

    Example: `Filter().with_rule(b"+ *.c").with_exclude(b"*").hidden(b"src/a.c", False)` is False.
    """

    rules: tuple[Rule, ...] = ()
    temporary: bool = True
    """Whether what looks like a temporary name of rsync's is let through, where no rule is about it."""
    above: bytes = b""
    """Where the tree lies below the root of the transfer, at which patterns begin: of `ID/DIR`, which makes
    DIR in DEST, it is DIR.
    """
    source: bytes = b""
    """Where the tree lies on the side that sends, for absolute rules: in the archive, or on the disk."""
    dest: bytes = b""
    """The same on the side that receives."""

    @classmethod
    def parse(cls, texts: Iterable[bytes], outside: Outside = NOTHING) -> Filter:
        """The list of the rules in `texts` (as given to `--filter`), in order. Raises UsageError."""
        rules: list[Rule] = []
        for text in texts:
            parse_rule(rules, text, outside)
        return cls(tuple(rules))

    def texts(self) -> list[bytes]:
        """The rules in short form, merge files resolved: what is kept with a tree."""
        return [rule.text for rule in self.rules]

    @property
    def hides_nothing(self) -> bool:
        """Whether it lets every name through."""
        return self.temporary and not self.rules

    def with_rule(self, text: bytes, outside: Outside = NOTHING) -> Filter:
        """The list with one rule as `--filter` takes it. See `parse_rule`."""
        return self._with(lambda rules: parse_rule(rules, text, outside))

    def with_include(self, pattern: bytes, outside: Outside = NOTHING) -> Filter:
        """The list with one pattern as `--include` takes it. See `parse_pattern`."""
        return self._with(lambda rules: parse_pattern(rules, pattern, True, outside))

    def with_exclude(self, pattern: bytes, outside: Outside = NOTHING) -> Filter:
        """The list with one pattern as `--exclude` takes it. See `parse_pattern`."""
        return self._with(lambda rules: parse_pattern(rules, pattern, False, outside))

    def with_patterns(self, name: bytes, include: bool, outside: Outside, *, nul: bool = False) -> Filter:
        """The list with the patterns of a file, as `--include-from` and `--exclude-from` take it. See
        `parse_patterns`.
        """
        return self._with(lambda rules: parse_patterns(rules, name, include, outside, nul=nul))

    def scope(self, directory: bytes) -> Scope:
        """What the rules decide in a directory: its path from the root of the transfer, b"" for the root."""
        return Scope(directory, self._sender, temporary=self.temporary)

    def hidden(self, path: bytes, is_dir: bool) -> bool:
        """Whether the sending side leaves `path` (relative, `/` between parts) out of its list. Whoever asks
        of a path has asked of the directories above it.
        """
        return self._sender.excludes(path, is_dir)

    def protected(self, path: bytes, is_dir: bool, *, inside: bool = False) -> bool:
        """Whether the receiving side keeps `path` though the sender does not have it; `inside`: it is in a
        directory that goes, where perishable rules do not count.
        """
        return self._receiver.excludes(path, is_dir, perishable=not inside)

    def _with(self, add: Callable[[list[Rule]], None]) -> Filter:
        rules = list(self.rules)
        add(rules)
        return replace(self, rules=tuple(rules))

    @cached_property
    def _sender(self) -> Side:
        return Side((rule for rule in self.rules if rule.sender), self.above, self.source)

    @cached_property
    def _receiver(self) -> Side:
        return Side((rule for rule in self.rules if rule.receiver), self.above, self.dest)
