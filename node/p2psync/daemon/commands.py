"""What a node answers and does at its control socket (``control``) about the directories that it serves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from p2psync.daemon.control import Command, Order
from p2psync.daemon.losses import Loss
from p2psync.daemon.mirrors import Mirrors
from p2psync.errors import UsageError
from p2psync.format.head import ArchiveHead
from p2psync.format.url import ArchiveUrl
from p2psync.state import State, Tree
from p2psync.state.off_loop import off_loop
from p2psync.text import name_fields, name_of


def archives_command(
    state: State,
    mirrors: Mirrors | None,
    listen: str,
    losses: Callable[[], Mapping[int, Loss]] = dict,
) -> Command:
    """What ``archives`` answers: each directory that the node serves, how its updates go, and what it has
    lost. ``mirrors``: None for a node that serves nothing.
    """

    async def archives() -> dict[str, Any]:
        rows = [] if mirrors is None else await off_loop(partial(_archives, state, mirrors, losses()))
        return {"listen": listen, "archives": rows}

    return archives


def _archives(state: State, mirrors: Mirrors, losses: Mapping[int, Loss]) -> list[dict[str, Any]]:
    trees = [tree for tree in state.trees.all() if tree.archive is not None and tree.role != "fetch"]
    archives = {tree.archive for tree in trees if tree.archive is not None}
    heads: dict[bytes | None, ArchiveHead | None] = {each: state.heads.newest(each) for each in archives}
    return [_archive(tree, heads[tree.archive], mirrors, losses.get(tree.id, Loss())) for tree in trees]


def _archive(tree: Tree, head: ArchiveHead | None, mirrors: Mirrors, loss: Loss) -> dict[str, Any]:
    told: dict[str, Any] = {
        "archive": str(ArchiveUrl(tree.archive or b"")),
        **name_fields(tree.path, "directory"),
        "role": tree.role,
        "ended": None if head is None else head.ended,
        "gone": loss.gone,
        "lost": loss.files,
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


def look_order(look: Callable[[], None] | None) -> Order:
    """What ``look`` does: the node looks at once, and not within half a second, what is new in the state
    directory. None for a node that looks for nothing there.
    """

    async def looking(_: Mapping[str, Any]) -> dict[str, Any]:
        if look is not None:
            look()
        return {}

    return looking


def _directory(content: Mapping[str, Any]) -> bytes:
    """The path in an order, as ``name_fields`` writes it. Raises UsageError."""
    try:
        path = name_of(content, "directory")
    except ValueError:
        path = b""
    if not path.startswith(b"/"):
        raise UsageError("an order to release names an absolute path in 'directory' or 'directory_b64'")
    return path
