"""Changing what is in a directory tree is done in one room, and nowhere else."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import p2psync

CHANGING = {
    *("unlink", "remove", "rmdir", "removedirs", "rename", "renames", "replace", "link", "symlink", "mkdir"),
    *("makedirs", "mkfifo", "mknod", "chmod", "fchmod", "lchmod", "chown", "fchown", "lchown", "utime"),
    *("truncate", "ftruncate", "write", "pwrite", "writev", "pwritev", "setxattr", "removexattr"),
}
"""What ``os`` has for it."""
ROOMS = ("plan", "supply", "fetch", "sources", "publish", "content", "format", "rules")
"""Those that work with trees, but for the one that writes."""
PACKAGE = Path(p2psync.__path__[0])
NO_TREE = {"content/objects.py", "sources/http/bell.py"}
"""Write what is in no tree: unnamed files of a node's own, and a pipe."""


@pytest.mark.parametrize("room", ROOMS)
def test_no_other_room_changes_files(room: str) -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}: os.{node.attr}"
        for path in sorted((PACKAGE / room).rglob("*.py"))
        if path.relative_to(PACKAGE).as_posix() not in NO_TREE
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in CHANGING
        if isinstance(node.value, ast.Name) and node.value.id in ("os", "shutil")
    ]
    assert found == []


def test_the_room_that_writes_does() -> None:
    text = "".join(path.read_text() for path in (PACKAGE / "tree").glob("*.py"))
    assert all(f"os.{name}(" in text for name in ("rename", "mkdir", "unlink", "utime", "fchmod", "symlink"))
