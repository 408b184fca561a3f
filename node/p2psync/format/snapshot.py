"""Snapshot objects: one version of an archive. Pure.

A canonical msgpack map with the keys ``v`` (1), ``root`` (``[mode, mtime_ns, size, digest, totals]`` of the
root directory, and a map of further fields as in a listing), ``time`` (ns since 1970 when it was published),
``parents`` (``[[epoch, seq, size, digest], …]``, newest first) and, where there are any, ``attrs`` (``[size,
digest]`` of the root's attributes object). Keys that this version does not know are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Final, NamedTuple

from p2psync.errors import FormatError
from p2psync.format.canonical import decode, encode, integer, mapping, row
from p2psync.format.ids import Ref
from p2psync.format.limits import (
    ATTRIBUTES_BYTES_MAX,
    INT64_MAX,
    LISTING_BYTES_MAX,
    PARENTS_MAX,
    SNAPSHOT_BYTES_MAX,
)
from p2psync.format.listing import MODE_MAX, NO_EXTRA, Entry, decode_totals, dir_entry

VERSION: Final = 1
_KNOWN: Final = frozenset({"v", "root", "time", "parents", "attrs"})


class ParentSnapshot(NamedTuple):
    """An earlier snapshot: its place in the order of heads, and the object."""

    epoch: int
    seq: int
    ref: Ref

    @property
    def order(self) -> tuple[int, int]:
        """Greater is newer."""
        return self.epoch, self.seq


class Snapshot(NamedTuple):
    """One version of an archive. ``root`` is a directory entry with an empty name."""

    root: Entry
    created_ns: int
    parents: tuple[ParentSnapshot, ...] = ()
    attributes: Ref | None = None
    extra: Mapping[str, Any] = NO_EXTRA

    def encode(self) -> bytes:
        """Raises FormatError if it would be a snapshot that ``decode`` refuses."""
        root = self.root
        value: dict[str, Any] = dict(self.extra)
        value["v"] = VERSION
        value["root"] = [root.mode, root.mtime_ns, root.size, root.digest, list(root.totals)]
        if root.extra:
            value["root"].append(root.extra)
        value["time"] = self.created_ns
        value["parents"] = [[p.epoch, p.seq, *p.ref.to_row()] for p in self.parents]
        if self.attributes is not None:
            value["attrs"] = self.attributes.to_row()
        raw = encode(value)
        Snapshot.decode(raw)
        return raw

    @classmethod
    def decode(cls, raw: bytes) -> Snapshot:
        """Raises FormatError: damaged, not canonical, over a limit, or of a version that is not known."""
        what = "a snapshot"
        value = mapping(decode(raw, SNAPSHOT_BYTES_MAX, what), what)
        if type(value.get("v")) is not int or value["v"] != VERSION:
            raise FormatError("a snapshot is of a version that this p2psync does not know; update it")
        missing = _KNOWN - {"attrs"} - value.keys()
        if missing:
            raise FormatError(f"{what} lacks {', '.join(sorted(missing))}")
        parents = row(value["parents"], 0, "the parents of a snapshot")
        if len(parents) > PARENTS_MAX:
            raise FormatError(f"a snapshot names more than {PARENTS_MAX} earlier ones")
        named = [_parent(parent) for parent in parents]
        if any(newer.order <= older.order for newer, older in pairwise(named)):
            raise FormatError("the parents of a snapshot are not sorted, newest first")
        attributes = None
        if "attrs" in value:
            attributes = Ref.from_row(value["attrs"], "the attributes of a snapshot")
            integer(attributes.size, 1, ATTRIBUTES_BYTES_MAX, "the size of an attributes object")
        return cls(
            root=_root(row(value["root"], 5, "the root of a snapshot")),
            created_ns=integer(value["time"], 0, INT64_MAX, "the time of a snapshot"),
            parents=tuple(named),
            attributes=attributes,
            extra={key: item for key, item in value.items() if key not in _KNOWN},
        )


def _root(fields: list[Any]) -> Entry:
    mode = integer(fields[0], 0, MODE_MAX, "the mode of the root")
    mtime_ns = integer(fields[1], -INT64_MAX, INT64_MAX, "the modification time of the root")
    integer(fields[2], 1, LISTING_BYTES_MAX, "the size of the root directory object")
    root = dir_entry(b"", mode, mtime_ns, Ref(fields[2], fields[3]), decode_totals(fields[4]))
    if len(fields) == 5:
        return root
    if len(fields) != 6 or not mapping(fields[5], "the further fields of the root"):
        raise FormatError("the root of a snapshot has a wrong number of fields")
    return root._replace(extra=fields[5])


def _parent(value: Any) -> ParentSnapshot:
    fields = row(value, 4, "a parent of a snapshot")
    if len(fields) != 4:
        raise FormatError("a parent of a snapshot has a wrong number of fields")
    epoch = integer(fields[0], 0, INT64_MAX, "an epoch")
    seq = integer(fields[1], 0, INT64_MAX, "a sequence number")
    ref = Ref(fields[2], fields[3])
    if not ref.is_single:
        raise FormatError(f"a parent of a snapshot is {ref.size} bytes long, which no snapshot is")
    return ParentSnapshot(epoch, seq, ref)
