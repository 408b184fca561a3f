"""How a mirror was asked for, as the record of its tree keeps it: later updates are done the same way.

Every option that shapes an update is recorded, a new one without further ado. What belongs to one run (where
it listens, by whom it joins) is not. A record that this version cannot read is an error: an update that
guessed might delete what it should keep.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, Final

from p2psync.errors import UsageError
from p2psync.fetch.options import Compress, Delete, FetchOptions
from p2psync.format.url import ArchiveUrl

OF_ONE_RUN: Final = frozenset(
    {"url", "dest", "bootstrap", "share", "listen", "mirror", "accept_shrink", "accept_moved", "dry_run"}
)
"""Fields that are not recorded: the tree has the first two, the node that updates has the next, and consent
is given once.
"""
INTERVAL: Final = "interval"
_KEYS: Final = {"mirror_interval": INTERVAL}
"""Where a record has another name than the field."""


def to_record(options: FetchOptions) -> dict[str, Any]:
    """What a tree's options say of how it is to be updated; values that msgpack can hold."""
    record = {key: _plain(getattr(options, name)) for name, key, _ in _recorded()}
    return record | {"above": options.rules_begin}


def from_record(dest: bytes, source: str, record: Mapping[str, Any]) -> FetchOptions:
    """How the mirror at ``dest`` of ``source`` (a URL) is to be updated. What was not recorded, by an earlier
    version, has its default.

    Raises UsageError: something recorded is not what this version can follow.
    """
    made: dict[str, Any] = {"delete": Delete.OWN}
    for name, key, kind in _recorded():
        if key in record:
            try:
                made[name] = _READ[kind](record[key])
            except (TypeError, ValueError):
                raise UsageError(
                    f"what is recorded of the mirror {os.fsdecode(dest)!r} cannot be followed: {key} is "
                    f"{record[key]!r}; run 'p2psync mirror' for it again, with the options it should have"
                ) from None
    # The tree is where the directory itself is, also in records that were made before a slash counted.
    return FetchOptions(ArchiveUrl.parse(source).inner, dest, mirror=True, **made)


def _recorded() -> list[tuple[str, str, str]]:
    """The name of each field that is recorded, its key in the record and its type."""
    return [
        (field.name, _KEYS.get(field.name, field.name), str(field.type))
        for field in fields(FetchOptions)
        if field.name not in OF_ONE_RUN
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Delete | Compress) else value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise TypeError
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _octets(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError
    return value


def _several(value: Any) -> tuple[bytes, ...]:
    return tuple(map(_octets, value if isinstance(value, list) else [None]))


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise TypeError
    return tuple(value)


_READ: Final[Mapping[str, Callable[[Any], Any]]] = {
    "bool": _flag,
    "bytes": _octets,
    "tuple[bytes, ...]": _several,
    "tuple[bytes, ...] | None": lambda value: None if value is None else _several(value),
    "float": lambda value: float(_number(value)),
    "float | None": lambda value: None if value is None else float(_number(value)),
    "int": lambda value: int(_number(value)),
    "int | None": lambda value: None if value is None else int(_number(value)),
    "tuple[str, ...]": _texts,
    "Delete": Delete,
    "Compress": Compress,
}
"""Readers of recorded values by the type of their field; each raises TypeError or ValueError."""
