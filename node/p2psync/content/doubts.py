"""Files that are not as the index has them: served as far as their bytes are what was published.

What was hashed again counts at once, for the one who asks. That the index has the new stamp afterwards, and
that people hear of what is lost, is up to who takes the notes of where it happened
(`p2psync.daemon.recheck`).
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from p2psync.errors import FormatError
from p2psync.format.ids import Ref, chunk_id
from p2psync.format.limits import SINGLE_CHUNK_MAX
from p2psync.format.recipe import Recipe
from p2psync.sources.wire import Have
from p2psync.state.meta import MetaStore
from p2psync.state.rows import Located
from p2psync.tree.checked import CheckedFile
from p2psync.tree.opener import Folder, Opener, open_regular

PLACES_MAX: Final = 10_000
"""Directories that are noted: beyond that, the whole of a tree is looked at anyway."""
DAMAGED_MAX: Final = 10_000
"""Objects of which it is kept what is left of them: of others it is found out when somebody asks for them."""
RECIPES_KEPT: Final = 2
"""Recipes kept decoded: a large file is asked for by many ranges, and the largest recipe has 36 MiB."""


class Place(NamedTuple):
    """A directory of a tree."""

    tree_id: int
    directory: bytes


class Doubts:
    """What is to be looked at, and what is known to be damaged. Threads share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._places: dict[Place, None] = {}
        self._damaged: dict[int, Mapping[bytes, bytes]] = {}
        self.wake: Callable[[], None] | None = None
        """Called when there is something to be looked at, from any thread."""

    def note(self, tree_id: int, directory: bytes) -> None:
        """A file there was missing, or not as it was."""
        place = Place(tree_id, directory)
        with self._lock:
            if place in self._places or len(self._places) >= PLACES_MAX:
                return
            self._places[place] = None
        if self.wake is not None:
            self.wake()

    def take(self) -> list[Place]:
        """The places that were noted since."""
        with self._lock:
            taken, self._places = list(self._places), {}
        return taken

    def set_damaged(self, tree_id: int, damaged: Mapping[bytes, bytes]) -> None:
        """Of the objects that a tree no longer has as a whole, the chunks that it still has: a bit for each,
        most significant first."""
        with self._lock:
            self._damaged[tree_id] = damaged

    def left_of(self, digest: bytes) -> bytes | None:
        """The chunks that are left of an object; None if it is not known to be damaged."""
        with self._lock:
            return next((each[digest] for each in self._damaged.values() if digest in each), None)

    def have(self, digest: bytes) -> Have:
        """What is there of an object, as far as is known."""
        left = self.left_of(digest)
        return True if left is None else left if any(left) else False


class CheckedFiles:
    """Opens files whose stamps do not hold. Threads share it."""

    def __init__(self, opener: Opener, meta: MetaStore, doubts: Doubts) -> None:
        self._opener = opener
        self._meta = meta
        self._doubts = doubts
        self._lock = threading.Lock()
        self._recipes: OrderedDict[bytes, Recipe] = OrderedDict()

    def open(self, digest: bytes, located: Iterable[Located]) -> CheckedFile | None:
        """The file in the first of these places that begins as the object does; else one that may have
        other parts of it."""
        rest: CheckedFile | None = None
        for at in located:
            self._doubts.note(at.tree_id, at.dir)
            fd = self._opener.open_any(at.tree_path, at.dir, at.name)
            if fd is None:
                continue
            recipe = self._recipe(digest, at.size)
            if recipe is None:
                os.close(fd)
                break
            content = CheckedFile(fd, recipe, self._doubts.left_of(digest))
            content.archive = at.archive
            if content.allowed(0, 1):
                if rest is not None:
                    rest.close()
                return content
            if rest is None and len(recipe) > 1:
                rest = content
            else:
                content.close()
        return rest

    def read_small(self, folder: Folder, at: Located, digest: bytes, offset: int, into: memoryview) -> bool:
        """Read the whole of a file of one chunk, if it is right: as quick as if its stamp held."""
        if offset or len(into) != at.size or at.size > SINGLE_CHUNK_MAX:
            return False
        self._doubts.note(at.tree_id, at.dir)
        fd = open_regular(at.name, folder.fd)
        if fd is None:
            return False
        try:
            return os.preadv(fd, [into], 0) == len(into) and chunk_id(into) == digest
        except OSError:
            return False
        finally:
            os.close(fd)

    def _recipe(self, digest: bytes, size: int) -> Recipe | None:
        with self._lock:
            if (known := self._recipes.get(digest)) is not None:
                self._recipes.move_to_end(digest)
                return known
        made = recipe_of(self._meta, Ref(size, digest))
        if made is not None and len(made) > 1:
            with self._lock:
                self._recipes[digest] = made
                if len(self._recipes) > RECIPES_KEPT:
                    self._recipes.popitem(last=False)
        return made


def recipe_of(meta: MetaStore, ref: Ref) -> Recipe | None:
    """The recipe of an object; None if it is not here, or damaged."""
    if ref.is_empty or ref.is_single:
        return Recipe.single(ref)
    raw = meta.get_recipe(ref.digest)
    try:
        return None if raw is None else Recipe.decode(raw, ref)
    except FormatError:
        return None
