"""Runs that were asked for while another one was at work in the same directory: whoever ends looks here, and
goes once more.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final

from p2psync.errors import FileError
from p2psync.state.private import make_file, make_folder

FOLDER: Final = "queued"
"""In the state directory: an empty file for each directory that somebody wants brought up to date again."""
NAME_BYTES: Final = 16
"""Of a hash: names of directories are longer than names of files may be."""


class Queued:
    """What is asked for in one directory."""

    def __init__(self, state: Path, place: bytes) -> None:
        """``place``: the directory, as an absolute path."""
        name = hashlib.blake2b(place, digest_size=NAME_BYTES).hexdigest()
        self._mark = state / FOLDER / name

    def ask(self) -> None:
        """Whoever is at work is to go once more when he is done. Raises FileError."""
        try:
            make_folder(self._mark.parent)
            make_file(self._mark)
        except OSError as error:
            raise self._unusable(error) from error

    def take(self) -> bool:
        """Whether somebody has asked since the last time; a run that begins after this is the answer. Raises
        FileError.
        """
        try:
            os.unlink(self._mark)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise self._unusable(error) from error
        return True

    def _unusable(self, error: OSError) -> FileError:
        return FileError(f"{self._mark} cannot be changed: {error.strerror}; let this user write there")
