"""A source that is named by a name with addresses of both families: one that cannot be used here costs
nothing.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.node.wire_support import Served, served

from p2psync.network.dial import Handle, dial
from p2psync.network.server import Server
from p2psync.sources.node import PeerSource

NAME = "both"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Served]:
    (tmp_path / "t").mkdir()
    async with served(tmp_path, tmp_path / "t") as made:
        yield made


@pytest.fixture
def no_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel without IPv6, and a resolver that names IPv6 first."""
    real, plain = socket.getaddrinfo, socket.socket.__init__

    def resolve(host: bytes | str, port: int, *args: Any, **options: Any) -> list[Any]:
        if host not in (NAME, NAME.encode()):
            return real(host, port, *args, **options)
        if options.get("flags", 0) & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "no number")
        kind = (socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        return [
            (socket.AF_INET6, *kind, ("2001:db8::1", port, 0, 0)),
            (socket.AF_INET, *kind, ("127.0.0.1", port)),
        ]

    def make(self: socket.socket, family: int = -1, *args: Any, **options: Any) -> None:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        plain(self, family, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket.socket, "__init__", make)


@pytest.mark.usefixtures("no_ipv6")
async def test_a_name_is_reached_by_the_family_that_there_is(node: Served) -> None:
    port = int(node.address.rpartition(":")[2])
    source = PeerSource(f"{NAME}:{port}")
    try:
        assert (await source.info()).key == node.identity.public_key
    finally:
        await source.close()
    handle = Handle()
    with dial(Server.peer(f"{NAME}:{port}"), handle, timeout=10).sock as made:
        assert made.getpeername() == ("127.0.0.1", port)
