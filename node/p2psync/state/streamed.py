"""Rows of a directory that is too large to be held in memory: found for many digests at once, in one pass.

Pieces are read a window at a time, from the file of the database (sqlite.org/c3ref/blob_open.html). The
records of a piece are sorted by digest and its names lie in the same order, so both are read forwards only:
to go back would have SQLite follow the pages of the value from its beginning.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from p2psync.format.limits import NAME_MAX
from p2psync.state.connection import Connection, explaining
from p2psync.state.directories import span
from p2psync.state.rows import DIGEST_AT, NO_DIGEST, RECORD, FileRow, bisect_records, is_gone

WINDOW_RECORDS: Final = 8192
"""Records in memory at once: 608 KiB."""
WINDOW_NAMES: Final = 512 << 10
"""Bytes of names in memory at once, where names are looked for."""
EACH_MAX: Final = 64
"""Rows of one content that are looked at in a window: any of them will do, and some are in very many files.
"""


def find_streamed(
    connection: Connection, directory: int, digests: Iterable[bytes]
) -> dict[bytes, list[FileRow]]:
    """Some rows of the files with each of these contents in the directory with this number; contents of which
    there are none are absent. It takes 5 to 10 ms for 200,000 files, and 10 us for each that is found.
    """
    wanted = sorted({digest or NO_DIGEST for digest in digests})
    with explaining(connection.file), _reading(connection):
        pieces = connection.execute(
            "SELECT id FROM pieces WHERE id BETWEEN ? AND ? ORDER BY id DESC", span(directory)
        ).fetchall()
        found = [list(_rows_in(connection, piece, wanted)) for (piece,) in pieces]
        for newer, (piece,) in enumerate(pieces[:-1], 1):
            names = {row.name for rows in found[newer:] for row in rows}
            if names:
                hidden = {name for window in _names_in(connection, piece) for name in names & window}
                found[newer:] = [[row for row in rows if row.name not in hidden] for rows in found[newer:]]
    by_digest: dict[bytes, list[FileRow]] = {}
    for row in (row for rows in found for row in rows if not is_gone(row)):
        by_digest.setdefault(row.digest, []).append(row)
    return by_digest


@contextmanager
def _reading(connection: sqlite3.Connection) -> Iterator[None]:
    """All that is read within is of one moment."""
    if connection.in_transaction:
        yield
        return
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("COMMIT")


def _rows_in(connection: sqlite3.Connection, piece: int, wanted: list[bytes]) -> Iterator[FileRow]:
    """The rows of a piece that have one of these digests, which are sorted; names that are gone are among
    them.
    """
    with (
        connection.blobopen("pieces", "records", piece, readonly=True) as records,
        connection.blobopen("pieces", "names", piece, readonly=True) as names,
    ):
        first = 0
        while first < len(wanted) and (window := records.read(WINDOW_RECORDS * RECORD.size)):
            last_digest = window[DIGEST_AT - RECORD.size :][: len(NO_DIGEST)]
            some = wanted[first : bisect_right(wanted, last_digest)]
            first = bisect_left(wanted, last_digest)  # what the last record has may go on in the next window
            rows = [RECORD.unpack_from(window, start) for start in _starts(window, some)]
            if not rows:
                continue
            begin, end = rows[0][-1], rows[-1][-1]
            names.seek(begin)
            text = names.read(end - begin + NAME_MAX + 1)
            for size, mtime_ns, ctime_ns, ino, digest, hashed_ns, offset in rows:
                name = text[offset - begin : text.index(b"\0", offset - begin)]
                content = digest if digest != NO_DIGEST else b""
                yield FileRow(name, size, mtime_ns, ctime_ns, ino, content, hashed_ns)


def _starts(window: bytes, some: list[bytes]) -> Iterator[int]:
    """Where the records with these digests begin in a window."""
    for digest in some:
        first = bisect_records(window, digest)
        for start in range(first, first + EACH_MAX * RECORD.size, RECORD.size):
            if not window.startswith(digest, start + DIGEST_AT):
                break
            yield start


def _names_in(connection: sqlite3.Connection, piece: int) -> Iterator[set[bytes]]:
    """The names of a piece, a window at a time."""
    with connection.blobopen("pieces", "names", piece, readonly=True) as names:
        rest = b""
        while window := names.read(WINDOW_NAMES):
            *whole, rest = (rest + window).split(b"\0")
            yield set(whole)
