"""Filter rules of the command line, in order, as the ``Filter`` of publish, fetch and mirror."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from p2psync.errors import FileError, show_path

if TYPE_CHECKING:
    from p2psync.rules.filter import Filter

MERGE_FILE_MAX = 16 << 20  # Rules are held against every name; a file beyond this was given by mistake.
IGNORED = ".cvsignore"  # In the home directory: names that cvs(1) ignores for its user.


def build_filter(
    rules: Iterable[tuple[str, str]],
    *,
    cvs_exclude: bool = False,
    delete_excluded: bool = False,
    from0: bool = False,
    read: Callable[[bytes], bytes] | None = None,
) -> Filter:
    """The list of rules in the order of the command line. ``cvs_exclude``: with what cvs ignores behind them
    (-C). ``delete_excluded``: rules that name no side are for the sender. ``from0``: files of patterns are
    separated by NUL. ``read``: how such a file is read, by default `read_rule_file`.

    Raises UsageError, or FileError for a file of rules.
    """
    from p2psync.rules.filter import Filter
    from p2psync.rules.parse import Outside

    given = list(rules) + ([("filter", "-C")] if cvs_exclude else [])
    asks_cvs = any(option == "filter" and "C" in text.split(" ")[0] for option, text in given)
    outside = Outside(read or read_rule_file, _ignored() if asks_cvs else (), delete_excluded)
    chosen = Filter()
    for option, text in given:
        raw = os.fsencode(text)
        match option:
            case "filter":
                chosen = chosen.with_rule(raw, outside)
            case "include":
                chosen = chosen.with_include(raw, outside)
            case "exclude":
                chosen = chosen.with_exclude(raw, outside)
            case _:
                chosen = chosen.with_patterns(raw, option == "include_from", outside, nul=from0)
    return chosen


def rules_given(rules: Sequence[tuple[str, str]], *, cvs_exclude: bool, from0: bool) -> Filter | None:
    """The same; None where nothing is said."""
    return build_filter(rules, cvs_exclude=cvs_exclude, from0=from0) if rules or cvs_exclude else None


def read_rule_file(name: bytes) -> bytes:
    """The text of a file of rules; of the standard input for ``-``. Raises FileError."""
    return _read(name, MERGE_FILE_MAX, "filter file")


def _read(name: bytes, most: int, what: str) -> bytes:
    try:
        if name == b"-":
            text = sys.stdin.buffer.read(most + 1)
        else:
            with open(name, "rb") as stream:
                text = stream.read(most + 1)
    except OSError as error:
        raise FileError(f"cannot read the {what} '{show_path(name)}': {error.strerror}") from None
    if len(text) > most:
        raise FileError(f"the {what} '{show_path(name)}' is larger than {most} bytes")
    return text


def read_names_file(name: str, *, nul: bool) -> Sequence[bytes]:
    """The names of a list for --files-from; ``-`` is the standard input. Raises FileError, UsageError."""
    from p2psync.rules.names import LIST_MAX, read_names

    return read_names(_read(os.fsencode(name), LIST_MAX, "list of files"), nul=nul)


def _ignored() -> tuple[bytes, ...]:
    """What this user has cvs ignore."""
    home = os.environ.get("HOME", "")
    place = os.path.join(home, IGNORED)
    of_user = read_rule_file(os.fsencode(place)) if home and os.path.exists(place) else b""
    return of_user, os.fsencode(os.environ.get("CVSIGNORE", ""))
