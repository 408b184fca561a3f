"""Listening everywhere: a socket for each address family on one port, and IPv4 as IPv4."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from p2psync_dht import sockets
from p2psync_dht.sockets import ANY_IPV4, EVERYWHERE, has_ipv6, open_sockets, own_address

KINDS = [socket.SOCK_DGRAM, socket.SOCK_STREAM]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def opened(stack: ExitStack, host: str, port: int, kind: socket.SocketKind) -> list[socket.socket]:
    return [stack.enter_context(each) for each in open_sockets(host, port, kind)]


@pytest.mark.parametrize("kind", KINDS)
def test_everywhere_is_a_socket_of_each_family_on_one_port(stack: ExitStack, kind: socket.SocketKind) -> None:
    if not has_ipv6():
        pytest.skip("this machine has no IPv6")
    four, six = opened(stack, EVERYWHERE, 0, kind)
    assert (four.family, six.family) == (socket.AF_INET, socket.AF_INET6)
    assert four.getsockname()[1] == six.getsockname()[1] != 0
    assert six.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
    assert not (four.getblocking() or six.getblocking())


def test_who_comes_by_ipv4_has_an_ipv4_address(stack: ExitStack) -> None:
    places = opened(stack, EVERYWHERE, 0, socket.SOCK_DGRAM)
    port = places[0].getsockname()[1]
    for place, there in zip(places, ["127.0.0.1", "::1"], strict=False):
        family = socket.AF_INET6 if ":" in there else socket.AF_INET
        sender = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
        sender.sendto(b"x", (there, port))
        place.settimeout(10)
        assert place.recvfrom(10)[1][0] == there


@pytest.mark.parametrize("kind", KINDS)
def test_all_of_ipv4_is_ipv4_alone(stack: ExitStack, kind: socket.SocketKind) -> None:
    (only,) = opened(stack, ANY_IPV4, 0, kind)
    assert only.family == socket.AF_INET


@pytest.mark.parametrize("kind", KINDS)
def test_where_there_is_no_ipv6_everywhere_is_ipv4(
    stack: ExitStack, kind: socket.SocketKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "has_ipv6", lambda: False)
    (only,) = opened(stack, EVERYWHERE, 0, kind)
    assert only.getsockname()[0] == ANY_IPV4


@pytest.mark.parametrize("missing", [socket.AF_INET, socket.AF_INET6])
def test_a_family_that_the_kernel_refuses_is_done_without(
    stack: ExitStack, missing: socket.AddressFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_ipv6():
        pytest.skip("this machine has no IPv6")
    plain = socket.socket.bind

    def bind(self: socket.socket, address: tuple[str, int]) -> None:
        if self.family == missing:
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        plain(self, address)

    monkeypatch.setattr(socket.socket, "bind", bind)
    monkeypatch.setattr(sockets, "has_ipv6", lambda: True)
    (only,) = opened(stack, EVERYWHERE, 0, socket.SOCK_DGRAM)
    assert only.family != missing


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("host", [ANY_IPV4, EVERYWHERE])
def test_a_port_that_is_taken_in_one_family_is_taken(
    stack: ExitStack, kind: socket.SocketKind, host: str
) -> None:
    taken = opened(stack, host, 0, kind)
    for each in taken:
        if kind == socket.SOCK_STREAM:
            each.listen()
    with pytest.raises(OSError, match="in use"):
        open_sockets(EVERYWHERE, taken[0].getsockname()[1], kind)


def test_our_own_address_is_that_of_the_way_there() -> None:
    assert own_address(socket.AF_INET, "127.0.0.1") == "127.0.0.1"
    assert own_address(socket.AF_INET, "255.255.255.255") is None
