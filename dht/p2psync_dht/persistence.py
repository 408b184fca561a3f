"""A node's memory on disk: contacts and records, written atomically, read back as if from the network.

msgpack, never pickle: loading a file runs no code and believes nothing. Contacts come back unproved,
records are verified again before they are kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from p2psync_dht import files
from p2psync_dht.codec import CodecError, pack, unpack
from p2psync_dht.contact import COMPACT_SIZE, Contact, unpack_contact
from p2psync_dht.storage import RecordStore
from p2psync_dht.wire import Status

FORMAT: Final = 1
MAX_CONTACTS: Final = 512  # cached; a table of a million-node network has about 400
MAX_CONTACTS_FILE: Final = 64 * 1024
MAX_RECORDS_FILE: Final = 128 * 1024 * 1024  # MAX_RECORDS of the largest kind, and some
RECORDS_AT_ONCE: Final = 50  # verified before the event loop gets its turn: about 7 ms


def _read(path: Path, limit: int) -> Any:
    """The value in a file, or None if there is none that we wrote."""
    try:
        with path.open("rb") as file:
            raw = file.read(limit + 1)
        value = unpack(raw, limit=limit)
    except (FileNotFoundError, CodecError):
        return None
    if not isinstance(value, list) or len(value) < 2 or value[0] != FORMAT or not isinstance(value[1], list):
        return None
    return value[1]


def save_contacts(path: Path, contacts: Iterable[Contact]) -> int:
    """Write contacts in compact form, the first `MAX_CONTACTS`; how many. Raises OSError."""
    compact = [contact.pack() for contact in contacts][:MAX_CONTACTS]
    files.replace(path, pack([FORMAT, compact]))
    return len(compact)


def load_contacts(path: Path) -> list[Contact]:
    """The usable contacts of a file; none if it is missing or damaged. OSError if it cannot be read."""
    found = []
    for compact in (_read(path, MAX_CONTACTS_FILE) or [])[:MAX_CONTACTS]:
        if isinstance(compact, bytes) and len(compact) in COMPACT_SIZE.values():
            contact = unpack_contact(compact)
            if contact is not None:
                found.append(contact)
    return found


def save_records(path: Path, records: Iterable[tuple[bytes, int, int]]) -> int:
    """Write records with their drop times and sources (`RecordStore.records`); how many. Raises OSError."""
    rows = [list(row) for row in records]
    files.replace(path, pack([FORMAT, rows]))
    return len(rows)


async def load_records(path: Path, store: RecordStore) -> int:
    """Verify the records of a file and keep them; how many were kept. Raises OSError if it cannot be read."""
    kept = 0
    for index, row in enumerate(await asyncio.to_thread(_read, path, MAX_RECORDS_FILE) or []):
        if index % RECORDS_AT_ONCE == RECORDS_AT_ONCE - 1:
            await asyncio.sleep(0)
        if not isinstance(row, list) or len(row) < 3:
            continue
        raw, drop_after, source = row[:3]
        if type(raw) is bytes and type(drop_after) is int and type(source) is int and 0 <= source < 2**32:
            kept += store.restore(raw, drop_after, source) == Status.STORED
    return kept
