"""Which of the directories that are known here somebody means: by its path, or by the archive that it has."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from p2psync.errors import SelectionError, UsageError, show_path
from p2psync.format.url import ArchiveUrl
from p2psync.publish.claim import NAMED, was_published
from p2psync.state import State, Tree

SHOWN: Final = 3
"""Directories that are named in one sentence."""
SEE_LIST: Final = "'p2psync list' shows what is here"


def find(state: State, directory: bytes | None, archive: bytes | None) -> list[Tree]:
    """The directory of this path, or those that have (a part of) this archive; one of the two is given.

    Raises: SelectionError: nothing is known of it. UsageError: it may be one of several, or both or none
    are given.
    """
    if directory is not None and archive is None:
        return [by_directory(state, directory)]
    if archive is None or directory is not None:
        raise UsageError("give either a directory or an archive")
    return by_archive(state, archive)


def published(state: State, directory: bytes | None, archive: bytes | None) -> bytes:
    """The archive that is published, or was until it was ended, from this directory, or is this one; its key
    alone may be here.

    Raises:
        SelectionError: nothing is published there. UsageError: as `find`.
    """
    if directory is None and archive is not None:
        return archive
    (tree,) = find(state, directory, archive)
    if tree.archive is None or not was_published(tree):
        raise SelectionError(
            f"{show_path(tree.path)} is not published from here; 'p2psync forget' ends a mirror or a copy"
        )
    return tree.archive


def by_archive(state: State, archive: bytes) -> list[Tree]:
    """The directories that have (a part of) an archive. Raises SelectionError: none has."""
    found = state.trees.by_archive(archive)
    if not found:
        known = state.heads.newest(archive) is not None
        name = ArchiveUrl(archive)
        if archive in state.keys.archives():
            raise SelectionError(
                f"no directory here has {name}, of which only the keys are here; {SEE_LIST}, and "
                "'p2psync key list' shows keys"
            )
        what = "published, mirrored or fetched here" if known else "known here"
        raise SelectionError(f"nothing of {name} is {what}; {SEE_LIST}")
    return found


def by_directory(state: State, directory: bytes) -> Tree:
    """The directory of this name, which need not be there any more.

    Raises:
        SelectionError: nothing is known of it. UsageError: it may be one of several.
    """
    given = os.path.abspath(directory)
    path = os.path.realpath(given)
    every = state.trees.all()
    found = [tree for tree in every if tree.path == path or tree.options.get(NAMED) == given]
    if len(found) == 1:
        return found[0]
    where = show_path(given)
    if found:
        raise UsageError(
            f"{where} leads to one directory now, and was published when it led to another one: name one of "
            f"{_names(found)}"
        )
    above = [tree for tree in every if path.startswith(tree.path.rstrip(b"/") + b"/")]
    below = [tree for tree in every if tree.path.startswith(path.rstrip(b"/") + b"/")]
    if below:
        raise UsageError(
            f"{where} itself is not known here, but directories in it are: name one of {_names(below)}"
        )
    if above:
        raise SelectionError(f"{where} lies in {_names(above)}: name that one itself")
    raise SelectionError(f"{where} was not published, mirrored or fetched into here; {SEE_LIST}")


def _names(trees: Sequence[Tree]) -> str:
    told = ", ".join(show_path(tree.path) for tree in trees[:SHOWN])
    more = len(trees) - SHOWN
    return f"{told} and {more} more ({SEE_LIST})" if more > 0 else told
