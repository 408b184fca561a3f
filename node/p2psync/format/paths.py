"""Paths in an archive or in DEST: bytes, relative, `/` between names; b"" is the root. Pure."""

from __future__ import annotations


def join(directory: bytes, name: bytes) -> bytes:
    """The path of ``name`` in ``directory``."""
    return directory + b"/" + name if directory else name


def split(path: bytes) -> tuple[bytes, bytes]:
    """The directory and the name in it; both are empty for the root."""
    directory, _, name = path.rpartition(b"/")
    return directory, name
