"""Addresses as this machine and others see them."""

from __future__ import annotations

import socket

import pytest

from p2psync.network import here
from p2psync.network.here import client_of, reached_at


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::9", "2001:db8:1:2::"),
        ("2001:db8:1:3::9", "2001:db8:1:3::"),
        ("fe80::1%eth0", "fe80::"),
        ("::1", "::1"),
    ],
)
def test_a_client_has_an_ipv4_address_or_a_64th_of_ipv6(address: str, client: str) -> None:
    assert client_of(address) == client


OWN = {socket.AF_INET: "192.0.2.7", socket.AF_INET6: "2001:db8::7"}


@pytest.mark.parametrize(
    ("host", "own", "reached"),
    [
        ("127.0.0.1", OWN, ["127.0.0.1:9"]),
        ("::1", OWN, ["[::1]:9"]),
        ("::", OWN, ["192.0.2.7:9", "[2001:db8::7]:9"]),
        ("0.0.0.0", OWN, ["192.0.2.7:9"]),
        ("::", {socket.AF_INET6: "2001:db8::7"}, ["[2001:db8::7]:9"]),
        ("::", {socket.AF_INET6: "fe80::7"}, ["127.0.0.1:9"]),
        ("::", {}, ["127.0.0.1:9"]),
    ],
)
def test_a_node_is_reached_at_addresses_that_exist(
    host: str, own: dict[socket.AddressFamily, str], reached: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(here, "own_address", own.get)
    assert reached_at(host, 9) == reached
