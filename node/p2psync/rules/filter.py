"""The rules of one transfer: the whole list, as it is given, kept with a tree, and asked.

Patterns and names are bytes. Nothing here reads a file or walks a tree: the caller hands in the text of merge
files, asks the `Scope` of each directory about its names, and does not descend into what is hidden.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

from p2psync.rules.parse import ReadFile, Rule, parse_pattern, parse_rule
from p2psync.rules.scope import Scope, Side


@dataclass(frozen=True)
class Filter:
    """An ordered list of rules. Immutable; `with_*` return a longer list.

    Example: `Filter().with_rule(b"+ *.c").with_exclude(b"*").hidden(b"src/a.c", False)` is False.
    """

    rules: tuple[Rule, ...] = ()
    temporary: bool = True
    """Whether what looks like a temporary name of rsync's is let through, where no rule is about it."""

    @classmethod
    def parse(cls, texts: Iterable[bytes], read: ReadFile | None = None) -> Filter:
        """The list of the rules in `texts` (as given to `--filter`), in order. Raises UsageError."""
        rules: list[Rule] = []
        for text in texts:
            parse_rule(rules, text, read)
        return cls(tuple(rules))

    def texts(self) -> list[bytes]:
        """The rules in short form, merge files resolved: what is kept with a tree."""
        return [rule.text for rule in self.rules]

    @property
    def hides_nothing(self) -> bool:
        """Whether it lets every name through."""
        return self.temporary and not self.rules

    def with_rule(self, text: bytes, read: ReadFile | None = None) -> Filter:
        """The list with one rule as `--filter` takes it. See `parse_rule`."""
        rules = list(self.rules)
        parse_rule(rules, text, read)
        return replace(self, rules=tuple(rules))

    def with_include(self, pattern: bytes) -> Filter:
        """The list with one pattern as `--include` takes it. See `parse_pattern`."""
        return self._with_pattern(pattern, True)

    def with_exclude(self, pattern: bytes) -> Filter:
        """The list with one pattern as `--exclude` takes it. See `parse_pattern`."""
        return self._with_pattern(pattern, False)

    def scope(self, directory: bytes) -> Scope:
        """What the rules decide in a directory: its path from the root of the transfer, b"" for the root."""
        return Scope(directory, self._sender, temporary=self.temporary)

    def hidden(self, path: bytes, is_dir: bool) -> bool:
        """Whether the sending side leaves `path` (relative, `/` between parts) out of its list. Whoever asks
        of a path has asked of the directories above it.
        """
        return self._sender.excludes(path, is_dir)

    def protected(self, path: bytes, is_dir: bool) -> bool:
        """Whether the receiving side keeps `path` though the sender does not have it."""
        return self._receiver.excludes(path, is_dir)

    def _with_pattern(self, pattern: bytes, include: bool) -> Filter:
        rules = list(self.rules)
        parse_pattern(rules, pattern, include)
        return replace(self, rules=tuple(rules))

    @cached_property
    def _sender(self) -> Side:
        return Side(rule for rule in self.rules if rule.sender)

    @cached_property
    def _receiver(self) -> Side:
        return Side(rule for rule in self.rules if rule.receiver)
