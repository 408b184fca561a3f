"""Objects that a running fetch has in part, offered to others while it goes on. In memory; gone with the
process."""

from __future__ import annotations

import os
import stat
import threading
from dataclasses import dataclass
from typing import Final

from p2psync.format.recipe import Recipe
from p2psync.sources.wire import Have
from p2psync.tree.opener import FileContent, Stamp

_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass
class _Partial:
    path: bytes
    recipe: Recipe
    bitmap: bytearray
    stamp: Stamp | None = None


class PartialObjects:
    """Registry of temporary files, by object digest. Threads may share it."""

    def __init__(self) -> None:
        self._objects: dict[bytes, _Partial] = {}
        self._lock = threading.Lock()

    def register(self, digest: bytes, path: bytes, recipe: Recipe, bitmap: bytearray) -> None:
        """Offer the chunks of the object ``digest`` that are in the file ``path`` (absolute).

        ``bitmap`` has a bit for each chunk, most significant first, and stays the caller's: a bit is set
        once the chunk is verified and written at its offset, and bytes of such a chunk never change again.
        """
        if len(bitmap) != (len(recipe) + 7) // 8:
            raise ValueError(f"a bitmap of {len(bitmap)} bytes for {len(recipe)} chunks")
        with self._lock:
            self._objects[digest] = _Partial(path, recipe, bitmap)

    def complete(self, digest: bytes, path: bytes) -> None:
        """The registered object is whole now and lies at ``path`` for good, its times set: from here on it is
        offered from there, as long as the file stays as it is; until ``drop``, when the index has it.

        If no such file is there (any more), the object is no longer offered. Nothing happens to one that is
        not registered.
        """
        try:
            status = os.lstat(path)
        except OSError:
            status = None
        with self._lock:
            held = self._objects.pop(digest, None)
            if held is None or status is None:
                return
            if stat.S_ISREG(status.st_mode) and status.st_size == held.recipe.size:
                full = bytearray(b"\xff" * len(held.bitmap))
                self._objects[digest] = _Partial(path, held.recipe, full, Stamp.of(status))

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
        try:
            fd = os.open(held.path, _FLAGS)
        except OSError:
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
        return None if held is None else held.path

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
