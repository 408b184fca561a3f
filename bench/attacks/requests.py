"""The small requests that are expensive, as raw bytes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from p2psync.sources import wire

if TYPE_CHECKING:
    from bench.attacks.world import World

READ_SLOWLY: Final = 2_000
"""Bytes a second that a slow reader takes."""


class Kind(NamedTuple):
    """A kind of attack: what its connections send in turn, and how fast they read."""

    name: str
    requests: Callable[[World], list[bytes]]
    slow: int = 0


def _get(path: str, method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: node\r\n\r\n".encode()


def _post(path: str, body: bytes) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: node\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def _batch(rows: list[wire.Row]) -> bytes:
    return _post(wire.BATCH_PATH, wire.encode_batch(rows))


def _rows(digest: bytes) -> list[wire.Row]:
    return [(digest, number, 1) for number in range(wire.BATCH_ROWS_MAX)]


def batch(world: World) -> list[bytes]:
    """One listing thousands of times, of middling size and large."""
    return [_batch(_rows(digest)) for digest in world.listings.values()]


def absent(_: World) -> list[bytes]:
    """Thousands of things that nobody has."""
    return [_batch([(os.urandom(32), 0, 1) for _ in range(wire.BATCH_ROWS_MAX)]) for _ in range(16)]


def recipes(_: World) -> list[bytes]:
    return [_post(wire.RECIPES_PATH, wire.encode_recipes([os.urandom(32) for _ in range(256)]))]


def have(world: World) -> list[bytes]:
    return [
        _post(
            wire.HAVE_PATH,
            wire.encode_have([*world.listings.values(), *[os.urandom(32) for _ in range(1000)]]),
        )
    ]


def head(world: World) -> list[bytes]:
    return [_get(f"{world.path}/{name}/", "HEAD") for name in world.listings]


def deep(world: World) -> list[bytes]:
    """Files in large directories, and names that are not there."""
    return [
        _get(f"{world.path}/{name}/{there}", "HEAD")
        for name in world.listings
        for there in ("file1", "no such file", "zzz")
    ]


def pages(world: World) -> list[bytes]:
    return [_get(f"{world.path}/{name}/") for name in world.listings]


KINDS: Final[Mapping[str, Kind]] = {
    kind.name: kind
    for kind in (
        Kind("batch", batch),
        Kind("absent", absent),
        Kind("recipes", recipes),
        Kind("have", have),
        Kind("head", head),
        Kind("paths", deep),
        Kind("pages", pages),
        Kind("slow-pages", pages, READ_SLOWLY),
    )
}
