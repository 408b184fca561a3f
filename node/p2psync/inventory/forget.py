"""Forgetting a directory: what the index has of it goes, and whoever serves or updates it stops. Files stay.

What stays as well: the newest head that was ever accepted, so that nobody can offer an older one later, and
the keys, unless they are to go. A node that runs here is told to let go first (``p2psync.daemon.commands``);
what it has announced, it takes back when it sees that the archive is here no more.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import Final, NamedTuple

from p2psync.errors import NetworkError, SelectionError, TransferTimeout, UsageError, show_path
from p2psync.events import SILENT, Teller
from p2psync.format.reserved import PARTIAL
from p2psync.format.url import ArchiveUrl, archive_text
from p2psync.inventory.find import find
from p2psync.inventory.holdings import role_of
from p2psync.publish.claim import RULES, was_published
from p2psync.state import State, Tree
from p2psync.state.ask import SOCKET_NAME, ask
from p2psync.text import name_fields

PATIENCE: Final = 60.0
"""Seconds that a node may take to stop an update: it waits for its writer, whose disk may be slow."""

STARTING: Final = 10.0
"""Seconds that a node may take from its first sign of life until it can be told something."""
LOOK: Final = 0.1
"""Seconds between looks whether it can be."""


class Forgotten(NamedTuple):
    """What was forgotten."""

    archive: bytes | None
    """None: the directory had single files, of any archive."""
    directories: list[tuple[bytes, str]]
    """Each path, and what it was: publisher, mirror or copy."""
    keys: str
    """What became of the archive's keys: "kept", "removed", or "" where there are none."""


def forget(
    state: State,
    directory: bytes | None,
    archive: bytes | None,
    *,
    keys: bool = False,
    tell: Teller = SILENT,
) -> Forgotten:
    """Forget the directory of this path, or all those of this archive: all of them, or none if one is in use.
    ``keys``: remove the archive's keys too, also where there is nothing but these. Blocks.

    Raises: SelectionError: there is nothing to forget. UsageError: it cannot be told what is meant, or
    another directory needs the keys that are to go. BusyError: somebody who is not the node publishes one
    of them, or fetches into it.
    """
    trees = _trees(state, directory, archive, keys=keys)
    archive = trees[0].archive if trees else archive
    for tree in trees:
        _release(state, tree, tell)
    with contextlib.ExitStack() as locks:
        for tree in trees:
            locks.enter_context(state.lock_place(tree.path))
        if archive is not None:
            locks.enter_context(state.lock("publish-" + archive_text(archive), on=archive_text(archive)))
        with state.transaction(durable=True):
            for tree in trees:
                now = state.trees.get(tree.path)
                if now is None or now.id != tree.id:
                    raise SelectionError(
                        f"{show_path(tree.path)} was forgotten meanwhile, by another command"
                    )
                state.trees.remove(tree)
            if archive is not None and not state.trees.by_archive(archive):
                state.meta.forget_snapshots(archive)
                state.checks.forget(archive)
        told = _keys(state, archive, remove=keys, tell=tell)
    for tree in trees:
        _tell_left(tree, tell)
    return Forgotten(archive, [(tree.path, role_of(tree)) for tree in trees], told)


def _trees(state: State, directory: bytes | None, archive: bytes | None, *, keys: bool) -> list[Tree]:
    """What is to be forgotten; nothing where only keys are. Raises as `forget`."""
    try:
        trees = find(state, directory, archive)
    except SelectionError:
        if directory is None and archive is not None and keys and _has_keys(state, archive):
            return []
        raise
    named = {tree.id for tree in trees}
    others = [] if not keys or trees[0].archive is None else state.trees.by_archive(trees[0].archive)
    for other in others:
        if other.id not in named and other.role == "publish":
            raise UsageError(
                f"{show_path(other.path)} is published with the same keys: leave them, or forget both by "
                "the archive's address"
            )
    return trees


def _release(state: State, tree: Tree, tell: Teller) -> None:
    """Have the node let go of a directory, if one runs here."""
    until = time.monotonic() + STARTING
    while state.node_runs() and not (state.path / SOCKET_NAME).exists() and time.monotonic() < until:
        time.sleep(LOOK)  # It starts, and would take up an update of what is forgotten meanwhile.
    if not state.node_runs():
        return
    try:
        answer = ask(state.path, "release", name_fields(tree.path, "directory"), timeout=PATIENCE)
    except TransferTimeout:
        raise
    except NetworkError as error:
        # It has ended meanwhile, serves nothing, or is of an earlier version; the lock says if it is at work.
        tell.warn(f"the node that runs here could not be told to let go of {show_path(tree.path)}: {error}")
        return
    if answer.get("is_main"):
        tell.warn(
            f"the node that runs here was started as 'p2psync mirror' of {show_path(tree.path)}, and goes on "
            "without it; started in the same way, it makes it a mirror again: change its unit or script"
        )


def _tell_left(tree: Tree, tell: Teller) -> None:
    """Say what is still there that may surprise."""
    partial = os.path.join(tree.path, PARTIAL)
    if os.path.lexists(partial):
        tell.warn(
            f"{show_path(partial)} has what was not whole yet; remove it, or the next fetch goes on from it"
        )
    if was_published(tree) and tree.options.get(RULES):
        tell.warn(
            f"the filter rules of {show_path(tree.path)} are forgotten too: give them again when you publish "
            "it, or what they left out is published"
        )


def _has_keys(state: State, archive: bytes) -> bool:
    return archive in state.keys.archives()


def _keys(state: State, archive: bytes | None, *, remove: bool, tell: Teller) -> str:
    if archive is None or not _has_keys(state, archive):
        return ""
    if not remove:
        return "kept"
    state.keys.remove(archive)
    tell.warn(
        f"the keys of {ArchiveUrl(archive)} were removed from this machine: without a copy of them nobody "
        "can publish this archive again"
    )
    return "removed"
