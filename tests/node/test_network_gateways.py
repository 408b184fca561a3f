"""The DHT by way of others: a gateway can withhold, and not forge; and it does not do everything for
everybody.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import msgpack
import pytest
from aiohttp import web
from tests.node.seeds_servers import web_server
from tests.node.wire_support import Served, served

from p2psync.content import gateway
from p2psync.network import fallback
from p2psync.network.fallback import UdpMark, WithGateways
from p2psync.network.gateways import PATH, Gateways, encode_records, gateways_of, head_target, holders_target
from p2psync.network.server import Server
from p2psync.network.way import Way
from p2psync_dht import Endpoint, Head, HolderRecord, HolderRole, Identity, holders_key

ROOT, OTHER = Identity.generate(), Identity.generate()
ARCHIVE = ROOT.public_key
KEY = holders_key(ARCHIVE)
NOW = int(time.time())


def head(seq: int, root: Identity = ROOT) -> bytes:
    return Head.sign(
        root, root.public_key, epoch=0, seq=seq, payload=b"", signed_at=NOW, fresh_until=NOW + 60
    ).raw


def holder(key: bytes = KEY, issued: int = NOW, who: Identity = OTHER) -> bytes:
    return HolderRecord.sign(
        who,
        key,
        endpoints=[Endpoint("192.0.2.1", 8730)],
        issued=issued,
        expires=issued + 600,
        role=HolderRole.MIRROR,
    ).raw


@asynccontextmanager
async def answering(*bodies: bytes | int) -> AsyncIterator[list[Server]]:
    """Gateways that each answer whatever they are asked with a body, or with a status."""

    def answer(body: bytes | int) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def serve(_: web.Request) -> web.StreamResponse:
            return web.Response(status=body) if isinstance(body, int) else web.Response(body=body)

        return serve

    async with AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(web_server(answer(body))) for body in bodies]
        yield [Server.node(f"{url}/") for url in urls]


FORGED = bytearray(head(9))
FORGED[-1] ^= 1
LIES = [
    404,
    500,
    b"",
    b"nonsense",
    b"x" * 100_000,
    bytes(FORGED),
    head(9, root=OTHER),
]


@pytest.mark.parametrize("lie", LIES, ids=range(len(LIES)))
async def test_a_head_that_is_forged_is_none_and_who_tells_the_truth_is_believed(lie: bytes | int) -> None:
    async with answering(lie, head(2), head(3), 204) as servers:
        gateways = Gateways(servers, Way())
        found = await gateways.get_head(ARCHIVE)
        assert found is not None and found.seq == 3
        assert gateways.answered == {each.name for each in servers[1:]}
        assert await Gateways(servers[:1], Way()).get_head(ARCHIVE) is None


@pytest.mark.parametrize(
    "lie",
    [
        404,
        b"",
        b"nonsense",
        msgpack.packb({"a": 1}),
        msgpack.packb([1, "a"]),
        msgpack.packb([b"x"] * 1000),
        encode_records([b"nonsense", holder(holders_key(bytes(32))), holder(issued=NOW - 7200)]),
        encode_records([holder()[:-1] + b"x"]),
    ],
)
async def test_holders_that_are_forged_or_of_yesterday_are_none(lie: bytes | int) -> None:
    third = Identity.generate()
    honest = [encode_records([holder(issued=NOW - 5)]), encode_records([holder(), holder(who=third)])]
    async with answering(lie, *honest) as servers:
        found = await Gateways(servers, Way()).get_holders(KEY)
        assert {record.raw for record in found} == {holder(), holder(who=third)}
        assert await Gateways(servers[:1], Way()).get_holders(KEY) == []


def test_gateways_are_nodes_that_were_named() -> None:
    texts = [
        "h:1",
        "h:1",
        "boot.example",
        "https://m.example/",
        "https://m.example/tree",
        "seeds:url:x",
        "[::1]:2",
    ]
    names = [each.name for each in gateways_of(texts)]
    assert names == ["h:1", "boot.example:8730", "https://m.example/", "[::1]:2"]


class Dht:
    """A DHT in which nobody answers, or somebody does."""

    def __init__(self, contacts: int, raw: bytes | None = None) -> None:
        self.way = Way(contacts=contacts, silent=() if contacts else ("h:1 does not answer (UDP)",))
        self.reachable = bool(contacts)
        self.received = 0
        self.asked = 0
        self._raw = raw

    def observed(self, family: socket.AddressFamily) -> str | None:
        return None

    async def get_head(self, archive: bytes) -> Head | None:
        self.asked += 1
        await asyncio.sleep(0)
        return None if self._raw is None else Head.decode(self._raw)

    async def get_mirrors_head(self, archive: bytes) -> Head | None:
        return None

    async def get_holders(self, key: bytes) -> list[HolderRecord]:
        self.asked += 1
        await asyncio.sleep(0)
        return []

    async def put_head(self, raw: bytes) -> int:
        return 0

    refresh_head = put_head

    async def announce(self, raws: object) -> dict[bytes, int]:
        return {}


async def test_gateways_are_asked_where_nobody_in_the_dht_answers_and_that_is_remembered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mark = UdpMark(tmp_path)
    async with answering(head(3)) as servers:
        assert mark.age(time.time()) is None
        network = WithGateways(Dht(0), Gateways(servers, Way()), mark)
        assert network.reachable
        for _ in range(2):
            found = await network.get_head(ARCHIVE)
            assert found is not None and found.seq == 3
    assert len(caplog.records) == 1, "it is said once"
    assert "nobody in the DHT answered in " in caplog.text
    now = time.time()
    assert mark.age(now) is not None
    assert mark.age(now + 7200) is None, "not for ever"
    assert mark.age(now - 7200) is None
    mark.clear()
    assert mark.age(now) is None


async def test_who_has_met_nobody_waits_for_the_dht_no_longer_than_others_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many nodes may be remembered, and each is tried; who has met somebody waits for the answer."""
    monkeypatch.setattr(fallback, "PATIENCE", 0.05)
    answer = asyncio.Event()

    class Waiting(Dht):
        async def get_head(self, archive: bytes) -> Head | None:
            await answer.wait()
            return Head.decode(head(5))

    async with answering(head(3)) as servers:
        gateways = Gateways(servers, Way())
        found = await WithGateways(Waiting(0), gateways, UdpMark(tmp_path)).get_head(ARCHIVE)
        assert found is not None and found.seq == 3
    async with answering(404) as servers:
        for contacts in (0, 2):
            network = WithGateways(Waiting(contacts), Gateways(servers, Way()), UdpMark(tmp_path))
            asking = asyncio.ensure_future(network.get_head(ARCHIVE))
            await asyncio.wait([asking], timeout=0.3)
            assert not asking.done(), "nobody else knows: it is waited for"
            answer.set()
            found = await asking
            assert found is not None and found.seq == 5
            answer.clear()


async def test_gateways_are_not_asked_where_the_dht_answers_and_silence_of_all_is_no_sign(
    tmp_path: Path,
) -> None:
    mark = UdpMark(tmp_path)
    async with answering(head(3)) as servers:
        network = WithGateways(Dht(2), Gateways(servers, Way()), mark)
        assert await network.get_head(ARCHIVE) is None
        assert await network.get_holders(KEY) == []
    async with answering(404) as servers:
        network = WithGateways(Dht(0), Gateways(servers, Way()), mark)
        assert await network.get_head(ARCHIVE) is None
    assert mark.age(time.time()) is None


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"at": "x", "from": 1}', b'{"at": NaN}', b"\xff" * 5000]
)
def test_a_damaged_note_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "udp-blocked").write_bytes(content)
    assert UdpMark(tmp_path).age(time.time()) is None


# The other side.


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Served]:
    (tmp_path / "t").mkdir()
    async with served(tmp_path, tmp_path / "t") as made:
        yield made


async def asked(node: Served, *targets: str) -> list[tuple[int, bytes]]:
    async with aiohttp.ClientSession() as session:

        async def one(target: str) -> tuple[int, bytes]:
            async with session.get(f"http://{node.address}{target}") as answer:
                return answer.status, await answer.read()

        return list(await asyncio.gather(*map(one, targets)))


async def test_a_node_asks_the_dht_for_others_and_keeps_the_answer_for_a_while(node: Served) -> None:
    assert await asked(node, head_target(ARCHIVE)) == [(404, b"this node does not ask the DHT for others\n")]
    dht = Dht(0, head(3))
    node.server.open_gateway(dht)
    assert (await asked(node, head_target(ARCHIVE)))[0][0] == 404, "it has met nobody itself"
    dht.way = Way(contacts=1)
    for _ in range(3):
        assert await asked(node, head_target(ARCHIVE)) == [(200, head(3))]
        assert await asked(node, holders_target(KEY)) == [(204, b"")]
    assert dht.asked == 2
    found = await Gateways([Server.node(node.address)], Way()).get_head(ARCHIVE)
    assert found is not None and found.raw == head(3)
    wrong = [
        f"{PATH}/head/x",
        f"{PATH}/holders/{KEY.hex().upper()}",
        f"{PATH}/holders/00",
        f"{PATH}/holders/%00",
    ]
    assert {status for status, _ in await asked(node, *wrong)} == {404}


async def test_a_client_has_no_more_than_its_share_of_look_ups(
    node: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(Dht):
        async def get_holders(self, key: bytes) -> list[HolderRecord]:
            self.asked += 1
            await asyncio.sleep(3600)
            return []

    monkeypatch.setattr(gateway, "LOOKUP_SECONDS", 0.2)
    slow = Slow(1)
    node.server.open_gateway(slow)
    came = await asked(node, *(holders_target(bytes([index] * 20)) for index in range(20)))
    assert {status for status, _ in came} == {503}
    assert sum(b"too many" in body for _, body in came) == 18
    assert slow.asked == gateway.LOOKUPS_PER_CLIENT
    assert {body for _, body in await asked(node, holders_target(KEY))} == {
        b"the DHT did not answer in time\n"
    }


async def test_what_is_kept_is_bounded(node: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "KEPT_MAX", 3)
    dht = Dht(1)
    node.server.open_gateway(dht)
    targets = [holders_target(bytes([index] * 20)) for index in range(5)]
    for target in [*targets, targets[4], targets[0]]:
        assert await asked(node, target) == [(204, b"")]
    assert dht.asked == 6
