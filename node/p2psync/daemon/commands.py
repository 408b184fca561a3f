"""What a node answers and does at its control socket (``control``) about the directories that it serves."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from functools import partial
from typing import Any

from p2psync.daemon.control import Command, Order
from p2psync.daemon.mirrors import Mirrors
from p2psync.errors import UsageError
from p2psync.format.head import ArchiveHead
from p2psync.format.url import ArchiveUrl
from p2psync.state import State, Tree
from p2psync.state.off_loop import off_loop
from p2psync.text import name_fields


def archives_command(state: State, mirrors: Mirrors | None, listen: str) -> Command:
    """What ``archives`` answers: each directory that the node serves, and how its updates go. ``mirrors``:
    None for a node that serves nothing.
    """

    async def archives() -> dict[str, Any]:
        rows = [] if mirrors is None else await off_loop(partial(_archives, state, mirrors))
        return {"listen": listen, "archives": rows}

    return archives


def _archives(state: State, mirrors: Mirrors) -> list[dict[str, Any]]:
    trees = [tree for tree in state.trees.all() if tree.archive is not None and tree.role != "fetch"]
    heads = {tree.archive: state.heads.newest(tree.archive) for tree in trees if tree.archive is not None}
    return [_archive(tree, heads[tree.archive], mirrors) for tree in trees if tree.archive is not None]


def _archive(tree: Tree, head: ArchiveHead | None, mirrors: Mirrors) -> dict[str, Any]:
    told: dict[str, Any] = {
        "archive": str(ArchiveUrl(tree.archive or b"")),
        **name_fields(tree.path, "directory"),
        "role": tree.role,
        "ended": None if head is None else head.ended,
    }
    if tree.role == "mirror":
        told |= {"updated": mirrors.updated.get(tree.id), "failures": mirrors.failures(tree)}
    return told


def release_order(mirrors: Mirrors | None) -> Order:
    """What ``release`` does: it lets go of a directory, so that somebody else can work in it or forget it.
    ``mirrors`` as in `archives_command`.
    """

    async def release(content: Mapping[str, Any]) -> dict[str, Any]:
        directory = _directory(content)
        if mirrors is None:
            return {"stopped": False, "is_main": False}
        return {"stopped": await mirrors.release(directory), "is_main": directory == mirrors.main}

    return release


def _directory(content: Mapping[str, Any]) -> bytes:
    """The path in an order, as ``name_fields`` writes it. Raises UsageError."""
    exact, text = content.get("directory_b64"), content.get("directory")
    try:
        path = base64.b64decode(exact, validate=True) if exact is not None else os.fsencode(text or "")
    except (TypeError, ValueError, binascii.Error):
        path = b""
    if not path.startswith(b"/"):
        raise UsageError("an order to release names an absolute path in 'directory' or 'directory_b64'")
    return path
