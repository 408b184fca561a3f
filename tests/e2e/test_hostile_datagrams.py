"""100,000 hostile datagrams against a running `p2psync node`, and everybody else is served meanwhile.

What honest users do through that node is the same before and during the flood: join by it alone, announce a
head and a holder, find both. How long that took is printed, side by side (pytest -s, or -rA).
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import sys
import time
from pathlib import Path

from tests.e2e.harness import Network, Node, make_tree

from p2psync.format.url import ArchiveUrl
from p2psync_dht import DhtNode, Endpoint, Head, HolderRecord, HolderRole, Identity, holders_key

DATAGRAMS = 100_000
RATE = 8_000  # a second; twice what one node answers to everybody together
ROUNDS = 25  # in quiet, and at the least during the flood
WARM_UP = 10  # rounds before those: what is slow the first time only would make quiet look slow
NEIGHBOURS = 6
TRIES = 3
"""How often a newcomer knocks: an answer that a busy machine delays by seconds is lost for it."""


async def enter(node: DhtNode, target: tuple[str, int]) -> None:
    for _ in range(TRIES):
        if await node.join([target]):
            return
    raise AssertionError(f"{TRIES} times the node did not answer a newcomer")


async def one_round(target: tuple[str, int]) -> dict[str, float]:
    """A newcomer joins by the node alone, announces, and another newcomer finds; seconds of each step."""
    took: dict[str, float] = {}
    root = Identity.generate()
    now = int(time.time())
    head = Head.sign(root, root.public_key, epoch=0, seq=1, payload=b"", signed_at=now, fresh_until=now)
    key = holders_key(root.public_key)
    began = time.perf_counter()

    def lap(step: str) -> None:
        nonlocal began
        took[step], began = time.perf_counter() - began, time.perf_counter()

    async with await DhtNode.start(Identity.generate(), "127.0.0.1", 0, server=False) as writer:
        await enter(writer, target)
        lap("join")
        assert await writer.put_head(head.raw) > 0
        lap("announce a head")
        record = HolderRecord.sign(
            writer.identity,
            key,
            endpoints=[Endpoint(*writer.address)],
            issued=now,
            expires=now + 3600,
            role=HolderRole.PEER,
        )
        assert await writer.put_holder(record.raw) > 0
        lap("announce a holder")
    async with await DhtNode.start(Identity.generate(), "127.0.0.1", 0, server=False) as reader:
        await enter(reader, target)
        began = time.perf_counter()
        found = await reader.get_head(root.public_key)
        assert found.best is not None
        assert found.best.raw == head.raw
        lap("find a head")
        assert [one.raw for one in await reader.get_holders(key)] == [record.raw]
        lap("find holders")
    return took


def show(quiet: list[dict[str, float]], flooded: list[dict[str, float]]) -> None:
    """Medians and worst cases of both, in milliseconds."""
    print(f"\n{'milliseconds':<20}{'quiet: median':>15}{'worst':>8}{'flooded: median':>18}{'worst':>8}")
    for step in quiet[0]:
        columns = [[1000 * took[step] for took in rounds] for rounds in (quiet, flooded)]
        one, two = ((statistics.median(column), max(column)) for column in columns)
        print(f"{step:<20}{one[0]:>15.1f}{one[1]:>8.1f}{two[0]:>18.1f}{two[1]:>8.1f}")
    print(f"rounds: {len(quiet)} in quiet, {len(flooded)} during the flood")


async def find_published(target: tuple[str, int], archive: bytes) -> None:
    """Wait until a newcomer finds the head that the flooded node itself announces."""
    async with asyncio.timeout(60):
        while True:
            async with await DhtNode.start(Identity.generate(), "127.0.0.1", 0, server=False) as reader:
                await reader.join([target])
                if (await reader.get_head(archive)).best is not None:
                    return


async def flood(net: Network, node: Node, tree: Path) -> int:
    """Measure in quiet, then during a flood; how many rounds there were."""
    host, port = node.address.rsplit(":", 1)
    target = (host, int(port))
    neighbours = [await DhtNode.start(Identity.generate(), "127.0.0.1", 0) for _ in range(NEIGHBOURS)]
    for neighbour in neighbours:
        await enter(neighbour, target)
    try:
        for _ in range(WARM_UP):
            await one_round(target)
        quiet = [await one_round(target) for _ in range(ROUNDS)]
        ids = [node.node_id, *(neighbour.node_id.hex() for neighbour in neighbours)]
        words = ["-m", "tests.e2e.flooder", host, port, str(DATAGRAMS), str(RATE), *ids]
        attacker = await asyncio.create_subprocess_exec(
            sys.executable, *words, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        assert attacker.stdin is not None
        assert attacker.stdout is not None
        output = asyncio.ensure_future(attacker.stdout.read())
        try:
            url = await asyncio.to_thread(net.publish, tree, state="target")
            await find_published(target, ArchiveUrl.parse(url).archive)
            flooded: list[dict[str, float]] = []
            while len(flooded) < ROUNDS:
                flooded.append(await one_round(target))
            assert not output.done(), "the flood was over before everybody was found"
            attacker.stdin.close()
            while not output.done():
                flooded.append(await one_round(target))
            sent = json.loads(await output)
        finally:
            if attacker.returncode is None:
                attacker.kill()
            await attacker.wait()
        print(f"\n{sent['sent']:,} hostile datagrams in {sent['seconds']} s: {sent['sorts']}")
        show(quiet, flooded)
        assert sent["sent"] >= DATAGRAMS
        known = {contact.id for neighbour in neighbours for contact in neighbour.contacts()}
        assert known <= {bytes.fromhex(one) for one in ids}
        return WARM_UP + len(quiet) + len(flooded)
    finally:
        for neighbour in neighbours:
            await neighbour.close()


def test_a_flood_of_hostile_datagrams_keeps_nobody_from_the_network(net: Network) -> None:
    node = net.node("target")
    tree = make_tree(net.path / "tree", files=5, seed=random.Random(3).randrange(100))
    rounds = asyncio.run(flood(net, node, tree))
    dht = net.run("dht", "status", state="target").events[-1]["dht"]
    print(f"of them seen by the node: {dht['traffic']['datagrams_in']:,}; dropped: {dht['drops']}")
    assert node.process.poll() is None
    assert dht["traffic"]["datagrams_in"] > DATAGRAMS / 2  # the others found its socket's buffer full
    assert sum(dht["drops"].values()) > DATAGRAMS / 3
    assert {"rate", "unexpected", "network", "body"} <= dht["drops"].keys()
    # Of all ids that were claimed only those are believed that were proved.
    assert dht["tables"]["IPv4"]["contacts"] <= NEIGHBOURS
    # Each round stored one head and one holder record, the node itself one of each; the attacker none.
    for kind in ("heads", "holders"):
        assert ROUNDS <= dht["records"][kind] <= rounds + 1
    assert "Traceback" not in node.stderr
    assert len(node.stderr.splitlines()) < 200, "the log is filled by who is hostile"
    assert node.stop() == 0
