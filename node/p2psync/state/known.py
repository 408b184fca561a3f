"""Small files of what was once heard and is to be held to, a ``NAME VALUE`` a line, as ssh's known_hosts.

People read and correct them. What the values are, and what follows from them, is for those who keep them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Generic, TypeVar

from p2psync.errors import FileError, P2psyncError
from p2psync.state.files import read_private, write_private
from p2psync.state.locks import lock
from p2psync.state.private import make_folder

BYTES_MAX: Final = 1 << 20
"""Of a file: a thousand lines of the longest names are less."""
_NAME: Final = re.compile(r"[^\s#]\S*")

V = TypeVar("V")


class KnownFile(Generic[V]):
    """One such file. Its folder is made when something is first kept."""

    def __init__(
        self, path: Path, parse: Callable[[str], V], text: Callable[[V], str], form: str, most: int
    ) -> None:
        """``parse`` reads a value and raises ValueError or P2psyncError, ``text`` writes it; ``form`` is how
        a line looks, for messages; ``most``: names that it may have.
        """
        self.path = path
        self._parse = parse
        self._text = text
        self._form = form
        self._most = most

    def all(self) -> dict[str, V]:
        """What is kept, in the order of the file. Raises FileError."""
        raw = read_private(self.path) or b""
        if len(raw) > BYTES_MAX:
            raise FileError(f"{self.path} is larger than {BYTES_MAX} bytes: move it away")
        made: dict[str, V] = {}
        for number, line in enumerate(raw.decode("utf-8", "replace").splitlines(), 1):
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            try:
                name, value = words
                made[name] = self._parse(value)
            except (ValueError, P2psyncError):
                raise FileError(
                    f"{self.path}, line {number}: not '{self._form}'; correct or remove the line"
                ) from None
        return made

    def get(self, name: str) -> V | None:
        """Raises FileError."""
        return self.all().get(name)

    def keep(self, name: str, value: V) -> None:
        """Keep a value, in place of the one that the name had. Raises FileError: also where there are too
        many names; ValueError for a name that no line can have.
        """

        def add(known: Mapping[str, V]) -> Mapping[str, V]:
            made = {**known, name: value}
            if len(made) > self._most:
                raise FileError(f"{self.path} has {self._most} names: remove some")
            return dict(sorted(made.items()))

        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot stand in {self.path}")
        self.change(add)

    def change(self, change: Callable[[Mapping[str, V]], Mapping[str, V]]) -> None:
        """Replace what is kept by what ``change`` makes of it; nobody else writes meanwhile. Raises
        FileError.
        """
        folder = self.path.parent
        try:
            for each in (folder.parent, folder):
                make_folder(each)
        except OSError as error:
            raise FileError(f"{folder} cannot be made: {error.strerror}") from None
        with lock(folder, f"{self.path.name}.lock", patience=None):
            lines = [f"{name} {self._text(value)}\n" for name, value in change(self.all()).items()]
            write_private(self.path, "".join(lines).encode(), replace=True)
