"""Filter rules of the command line, in order, as the ``Filter`` that publish uses."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from p2psync.errors import FileError, show_path

if TYPE_CHECKING:
    from p2psync.rules.filter import Filter

MERGE_FILE_MAX = 16 << 20  # Rules are held against every name; a file beyond this was given by mistake.


def build_filter(rules: Iterable[tuple[str, str]]) -> Filter:
    """The list of rules in the order of the command line. Raises UsageError, or FileError for a merge
    file.
    """
    from p2psync.rules.filter import Filter

    chosen = Filter()
    for option, text in rules:
        raw = os.fsencode(text)
        if option == "filter":
            chosen = chosen.with_rule(raw, read_merge_file)
        elif option == "include":
            chosen = chosen.with_include(raw)
        else:
            chosen = chosen.with_exclude(raw)
    return chosen


def read_merge_file(name: bytes) -> bytes:
    """The text of a merge file. Raises FileError."""
    try:
        with open(name, "rb") as stream:
            text = stream.read(MERGE_FILE_MAX + 1)
    except OSError as error:
        raise FileError(f"cannot read the filter file '{show_path(name)}': {error.strerror}") from None
    if len(text) > MERGE_FILE_MAX:
        raise FileError(f"the filter file '{show_path(name)}' is larger than {MERGE_FILE_MAX} bytes")
    return text
