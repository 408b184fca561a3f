"""Objects that a running fetch has in part, offered to others while it goes on. In memory; gone with the
process.

Only the very file that is written is offered: others may be able to write to the directory that it is in, and
what they put under its name is neither theirs to publish nor ours to be blamed for.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import NamedTuple

from p2psync.format.paths import join
from p2psync.format.recipe import Recipe
from p2psync.sources.wire import Have
from p2psync.tree.opener import FileContent, Stamp, open_beneath, open_regular


class Place(NamedTuple):
    """Where a file lies: no symbolic link leads to it from ``root``."""

    root: bytes
    """Absolute."""
    directory: bytes
    """Below it."""
    name: bytes


@dataclass
class _Partial:
    place: Place
    recipe: Recipe
    bitmap: bytearray
    ino: int
    stamp: Stamp | None = None

    def open(self) -> int | None:
        """A descriptor of the file, if that is what lies there."""
        try:
            folder = open_beneath(self.place.root, self.place.directory)
        except OSError:
            return None
        try:
            fd = open_regular(self.place.name, folder)
        finally:
            os.close(folder)
        if fd is not None and os.fstat(fd).st_ino != self.ino:
            os.close(fd)
            return None
        return fd


class PartialObjects:
    """Registry of temporary files, by object digest. Threads may share it."""

    def __init__(self) -> None:
        self._objects: dict[bytes, _Partial] = {}
        self._lock = threading.Lock()

    def register(self, digest: bytes, place: Place, recipe: Recipe, bitmap: bytearray, ino: int) -> None:
        """Offer the chunks of the object ``digest`` that are in the file at ``place`` with the inode ``ino``.

        ``bitmap`` has a bit for each chunk, most significant first, and stays the caller's: a bit is set
        once the chunk is verified and written at its offset, and bytes of such a chunk never change again.
        """
        if len(bitmap) != (len(recipe) + 7) // 8:
            raise ValueError(f"a bitmap of {len(bitmap)} bytes for {len(recipe)} chunks")
        with self._lock:
            self._objects[digest] = _Partial(place, recipe, bitmap, ino)

    def complete(self, digest: bytes, place: Place, stamp: Stamp) -> None:
        """The registered object is whole now and lies at ``place`` for good, its times set: from here on it
        is offered from there, as long as the file has this stamp; until ``drop``, when the index has it.

        Nothing happens to one that is not registered.
        """
        with self._lock:
            held = self._objects.pop(digest, None)
            if held is not None and stamp.size == held.recipe.size:
                full = bytearray(b"\xff" * len(held.bitmap))
                self._objects[digest] = _Partial(place, held.recipe, full, stamp.ino, stamp)

    def drop(self, digest: bytes) -> None:
        """Offer it no longer. The caller's file is left alone."""
        with self._lock:
            self._objects.pop(digest, None)

    def open(self, digest: bytes) -> FileContent | None:
        """The file, with the chunks that are there now. None if it is not registered, or cannot be opened."""
        with self._lock:
            held = self._objects.get(digest)
        if held is None:
            return None
        present = None if held.stamp is not None else (held.recipe.offsets, bytes(held.bitmap))
        fd = held.open()
        if fd is None:
            return None
        content = FileContent(fd, held.recipe.size, held.stamp, present)
        if not content.unchanged():
            content.close()
            return None
        return content

    def path(self, digest: bytes) -> bytes | None:
        """Where a registered object lies."""
        with self._lock:
            held = self._objects.get(digest)
        return None if held is None else join(held.place.root, join(held.place.directory, held.place.name))

    def have(self, digest: bytes) -> Have:
        """What is there of an object."""
        with self._lock:
            held = self._objects.get(digest)
            if held is None or not any(held.bitmap):
                return False
            return True if held.stamp is not None else bytes(held.bitmap)

    def recipe(self, digest: bytes) -> bytes | None:
        """The encoded recipe of a registered object."""
        with self._lock:
            held = self._objects.get(digest)
        return None if held is None else held.recipe.encode()
