"""Answers that are made for clients with an older version: the blocks of what they lack, by which they find
what they have of it, and the rest, compressed.

Both begin with the rows of a batch, and neither holds more than such an answer.
"""

from __future__ import annotations

import time

from p2psync.chunking import BlockCutter
from p2psync.content.counters import Counters
from p2psync.content.interface import Library, Taken
from p2psync.sources import wire
from p2psync.sources.packing import pack


def packed_blocks(library: Library, raw: bytes) -> tuple[bytes, float]:
    """The answer to a request for blocks, and the seconds that it took. Raises FormatError."""
    began = time.monotonic()
    content, taken = _gathered(library, raw)
    cutter = BlockCutter()
    rows: list[list[wire.Block] | None] = []
    position = 0
    for size in taken.sizes:
        end = position + size
        row = content[position + wire.ROW_LENGTH.size : end]
        rows.append(cutter.cut(row) if row else None)
        position = end
    return pack(wire.encode_blocks_answer(rows)), time.monotonic() - began


def packed_rows(library: Library, counters: Counters, raw: bytes) -> tuple[bytes, float]:
    """The answer to a request for packed rows, and the seconds that it took. Raises FormatError."""
    began = time.monotonic()
    content, taken = _gathered(library, raw)
    body = pack(content)
    whose = next((archive for archive in taken.archives if archive is not None), None)
    counters.add("packed", whose, len(body))
    counters.note(batches=1, rows=len(taken.sizes), missed=taken.sizes.count(wire.ROW_LENGTH.size))
    return body, time.monotonic() - began


def _gathered(library: Library, raw: bytes) -> tuple[memoryview, Taken]:
    rows = wire.decode_batch(raw)
    room = memoryview(bytearray(sum(length for _, _, length in rows) + len(rows) * wire.ROW_LENGTH.size))
    taken = library.gather(rows, room)
    return room[: sum(taken.sizes)], taken
