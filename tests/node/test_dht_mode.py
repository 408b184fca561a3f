"""Whether a node serves the DHT or only asks: decided by those who try to reach it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest

from p2psync.daemon.options import Role
from p2psync.network.dht import open_dht, settle_mode
from p2psync.state import State
from p2psync_dht import DhtNode


class FakeNode:
    """A DHT node of which only its reachability matters."""

    remembered = (("192.0.2.1", 1), ("no-such-name.invalid", 2))

    def __init__(self, reached: bool | None) -> None:
        self.reached = reached
        self.is_server = True
        self.asked: list[tuple[str, int]] = []

    async def probe_reachable(self, addresses: Sequence[tuple[str, int]]) -> bool | None:
        self.asked = list(addresses)
        return self.reached

    def serve(self, on: bool = True) -> None:
        self.is_server = on


@pytest.mark.parametrize(("reached", "serves"), [(True, True), (False, False), (None, True)])
async def test_a_node_serves_unless_nobody_gets_through(reached: bool | None, serves: bool) -> None:
    node = FakeNode(reached)
    await settle_mode(cast(DhtNode, node), [("localhost", 9)])
    assert node.is_server is serves
    assert node.asked[0][1] == 9
    assert ("192.0.2.1", 1) in node.asked
    assert all(port != 2 for _, port in node.asked)


async def test_a_client_serves_again_when_somebody_gets_through(caplog: pytest.LogCaptureFixture) -> None:
    node = FakeNode(False)
    await settle_mode(cast(DhtNode, node))
    node.reached = None
    await settle_mode(cast(DhtNode, node))
    assert not node.is_server
    node.reached = True
    await settle_mode(cast(DhtNode, node))
    assert node.is_server
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]


@pytest.mark.parametrize("role", Role)
def test_only_auto_asks(role: Role) -> None:
    assert role.tests_reachability is (role is Role.AUTO)


async def test_strangers_reach_a_node_on_an_open_port(tmp_path: Path) -> None:
    """On real sockets: of four nodes, two know each other before the newcomer asks."""
    states = [State.open(tmp_path / str(number)) for number in range(4)]
    try:
        async with (
            open_dht(states[0], host="127.0.0.1", server=True) as first,
            open_dht(
                states[1], host="127.0.0.2", server=True, bootstrap=[f"127.0.0.1:{first.address[1]}"]
            ) as second,
            open_dht(states[2], host="127.0.0.3", server=True, bootstrap=[f"127.0.0.2:{second.address[1]}"]),
            open_dht(
                states[3],
                host="127.0.0.4",
                server=True,
                tests_reachability=True,
                bootstrap=[f"127.0.0.1:{first.address[1]}"],
            ) as newcomer,
        ):
            assert newcomer.is_server
            assert newcomer.contacts()
    finally:
        for state in states:
            state.close()
