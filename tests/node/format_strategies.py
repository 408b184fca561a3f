"""Hypothesis strategies for values of the archive format, shared by its tests."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from p2psync.format.ids import EMPTY, Ref
from p2psync.format.limits import (
    ATTRIBUTES_BYTES_MAX,
    INT64_MAX,
    LISTING_BYTES_MAX,
    NAME_MAX,
    OBJECT_BYTES_MAX,
    PARENTS_MAX,
    SINGLE_CHUNK_MAX,
    TREE_ENTRIES_MAX,
)
from p2psync.format.listing import Entry, Totals, dir_entry, file_entry, symlink_entry
from p2psync.format.snapshot import ParentSnapshot, Snapshot

digests = st.binary(min_size=32, max_size=32)
names = st.binary(min_size=1, max_size=NAME_MAX).filter(
    lambda name: (
        b"/" not in name
        and b"\0" not in name
        and name not in (b".", b"..")
        and not name.startswith(b".p2psync-tmp-")
    )
)
modes = st.integers(0, 0o7777)
times = st.integers(-INT64_MAX, INT64_MAX)
counts = st.integers(0, INT64_MAX)
numbers = st.integers(0, TREE_ENTRIES_MAX)
totals = st.builds(Totals, numbers, numbers, numbers, counts)


def refs(low: int, high: int) -> st.SearchStrategy[Ref]:
    return st.builds(Ref, st.integers(low, high), digests)


content_refs = st.just(EMPTY) | refs(1, OBJECT_BYTES_MAX)
listing_refs = refs(2, LISTING_BYTES_MAX)

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.binary(max_size=40)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
).filter(lambda value: depth(value) <= 5)
"""Values that newer writers may put where there is room for them."""

extras: st.SearchStrategy[dict[str, Any]] = st.just({}) | st.dictionaries(
    st.text(max_size=8), plain, max_size=3
)

files = st.builds(file_entry, names, modes, times, content_refs)
dirs = st.builds(dir_entry, names, modes, times, listing_refs, totals)
links = st.builds(
    symlink_entry,
    names,
    times,
    st.binary(min_size=1, max_size=300).filter(lambda target: b"\0" not in target),
)
entries: st.SearchStrategy[Entry] = st.builds(
    lambda entry, extra: entry._replace(extra=extra), files | dirs | links, extras
)
listings = st.lists(entries, max_size=8, unique_by=lambda entry: entry.name)

parents = st.lists(
    st.builds(ParentSnapshot, counts, counts, refs(1, SINGLE_CHUNK_MAX)),
    max_size=PARENTS_MAX,
    unique_by=lambda parent: parent.order,
).map(lambda found: tuple(sorted(found, key=lambda parent: parent.order, reverse=True)))
snapshots = st.builds(
    Snapshot,
    st.builds(
        lambda mode, mtime, ref, sums, extra: dir_entry(b"", mode, mtime, ref, sums)._replace(extra=extra),
        modes,
        times,
        listing_refs,
        totals,
        extras,
    ),
    counts,
    parents,
    st.none() | refs(1, ATTRIBUTES_BYTES_MAX),
    extras.map(
        lambda extra: {key: extra[key] for key in extra.keys() - {"v", "root", "time", "parents", "attrs"}}
    ),
)


def depth(value: Any) -> int:
    """Levels of nesting: 0 for a value that holds no other."""
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    return 0
