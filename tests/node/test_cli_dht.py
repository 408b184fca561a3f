"""p2psync dht: what its commands say to people and to machines, and how they fail."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from p2psync.cli.app import run
from p2psync.cli.dht.lookup import parse_subject
from p2psync.cli.dht.ping import show as show_ping
from p2psync.cli.dht.status import show_status
from p2psync.cli.output import Output
from p2psync.cli.types import Address
from p2psync.daemon.control import control_server, status_command
from p2psync.errors import TrustError, UsageError
from p2psync.format.url import archive_text
from p2psync.ui.tables import Table, show
from p2psync_dht import DhtNode, Head, Identity, head_key
from p2psync_dht.testing.loopback import loopback_network
from p2psync_dht.trace import PingReport, Pong

Dht = Callable[..., list[dict[str, Any]]]
ROOT = Identity.from_seed(bytes([200]) * 32)
URL = f"p2psync://{archive_text(ROOT.public_key)}"


def head(seq: int) -> Head:
    return Head.sign(ROOT, ROOT.public_key, epoch=0, seq=seq, payload=b"", signed_at=1, fresh_until=2)


@pytest.fixture(scope="module")
def network() -> Iterator[list[DhtNode]]:
    """Eight nodes on sockets in a thread of their own; six keep the second head, two the first."""
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, list[DhtNode]]] = Future()

    async def serve() -> None:
        async with loopback_network(8, agent="example/1") as nodes:
            for number, node in enumerate(nodes):
                node.storage.put(head(1 if number < 2 else 2).raw)
            end = asyncio.Event()
            started.set_result((asyncio.get_running_loop(), end, nodes))
            await end.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    loop, end, nodes = started.result(60)
    yield nodes
    loop.call_soon_threadsafe(end.set)
    thread.join()


def where(node: DhtNode) -> str:
    host, port = node.address
    return f"{host}:{port}"


@pytest.fixture
def dht(capsysbinary: pytest.CaptureFixture[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dht:
    """``dht("ping", ...)`` runs ``p2psync dht ping --json`` and returns its events."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def call(*argv: str, expect: int = 0) -> list[dict[str, Any]]:
        assert run(["dht", *argv, "--json", "--state", str(tmp_path / "state")]) == expect
        return [json.loads(line) for line in capsysbinary.readouterr().out.splitlines()]

    return call


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The same for people: what is on standard output."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def call(*argv: str, expect: int = 0) -> str:
        assert run(["dht", *argv, "--state", str(tmp_path / "state")]) == expect
        return capsys.readouterr().out

    return call


def test_ping_tells_all_about_a_node(dht: Dht, network: list[DhtNode]) -> None:
    *pongs, pinged = dht("ping", where(network[0]), "--count", "2")
    assert [pong["verified"] for pong in pongs] == [True, True]
    assert {name: pinged[name] for name in ("event", "address", "node", "verified", "protocol")} == {
        "event": "pinged",
        "address": where(network[0]),
        "node": network[0].node_id.hex(),
        "verified": True,
        "protocol": 1,
    }
    assert (pinged["software"], pinged["sent"], pinged["answered"]) == ("example/1", 2, 2)
    assert pinged["observed"].startswith("127.0.0.1:")
    assert 0 < pinged["rtt_min"] <= pinged["rtt_median"] <= pinged["rtt_max"]


def test_ping_resolves_names(dht: Dht, network: list[DhtNode]) -> None:
    pinged = dht("ping", f"localhost:{network[1].address[1]}", "--count", "1")[-1]
    assert pinged["node"] == network[1].node_id.hex()


def test_ping_of_nobody_is_a_network_error(dht: Dht, network: list[DhtNode]) -> None:
    pong, pinged, error = dht("ping", "127.0.0.1:9", "--count", "1", expect=10)
    assert pong["rtt"] is None
    assert (pinged["answered"], pinged["node"], pinged["verified"]) == (0, None, False)
    assert "127.0.0.1:9" in error["message"]


@pytest.mark.parametrize("address", ["host.invalid:1", "127.0.0.1:0"])
def test_ping_of_an_impossible_address_is_explained(dht: Dht, address: str) -> None:
    assert dht("ping", address, "--count", "1", expect=10)[-1]["event"] == "error"


def test_an_id_that_is_not_proved_is_an_error_of_trust(capsys: pytest.CaptureFixture[str]) -> None:
    address = Address("192.0.2.1", 8730)
    unproved = Pong(rtt=0.01, bad=True, node_id=bytes(20), observed=("192.0.2.2", 1))
    with pytest.raises(TrustError, match="did not prove its id"):
        show_ping(Output(), address, PingReport(address, (unproved,)))
    assert "00" * 20 in capsys.readouterr().out
    with pytest.raises(TrustError, match="no node of this network"):
        show_ping(Output(), address, PingReport(address, (Pong(bad=True),)))


@pytest.mark.parametrize("count", ["0", "1001", "x"])
def test_pings_are_bounded(dht: Dht, count: str) -> None:
    assert dht("ping", "127.0.0.1:9", "--count", count, expect=1)[-1]["event"] == "error"


def test_lookup_shows_every_node_and_every_copy(dht: Dht, network: list[DhtNode]) -> None:
    *asked, looked_up = dht("lookup", URL, "--bootstrap", where(network[0]))
    assert {step["event"] for step in asked} == {"asked"}
    assert {step["node"] for step in asked} == {node.node_id.hex() for node in network}
    assert {step["outcome"] for step in asked} == {"answered"}
    assert all(step["hop"] == 1 or step["from"] for step in asked)
    assert looked_up["copies"] == [{"epoch": 0, "seq": 2, "nodes": 6}, {"epoch": 0, "seq": 1, "nodes": 2}]
    assert (looked_up["epoch"], looked_up["seq"], looked_up["archive"]) == (0, 2, URL)
    assert (looked_up["asked"], looked_up["answered"], looked_up["silent"]) == (8, 8, 0)
    assert looked_up["key"] == head_key(ROOT.public_key).hex()
    assert looked_up["datagrams_out"] >= 8


@pytest.mark.parametrize("subject", [archive_text(ROOT.public_key), head_key(ROOT.public_key).hex()])
def test_an_archives_id_and_the_key_itself_do_as_well(dht: Dht, network: list[DhtNode], subject: str) -> None:
    assert dht("lookup", subject, "--bootstrap", where(network[0]))[-1]["seq"] == 2


def test_what_nobody_holds_is_found_nowhere(dht: Dht, network: list[DhtNode]) -> None:
    looked_up = dht("lookup", "00" * 20, "--holders", "--bootstrap", where(network[0]))[-1]
    assert (looked_up["copies"], looked_up["seq"], looked_up["holders"]) == ([], None, 0)
    assert (looked_up["want"], looked_up["archive"]) == ("holders", None)


def test_lookup_remembers_whom_it_met(dht: Dht, network: list[DhtNode]) -> None:
    dht("lookup", URL, "--bootstrap", where(network[0]))
    assert dht("lookup", URL)[-1]["seq"] == 2


def test_the_hints_of_a_url_are_nodes_to_join_by(dht: Dht, network: list[DhtNode]) -> None:
    assert dht("lookup", f"{URL}/some/path?peer={where(network[3])}")[-1]["seq"] == 2


def test_without_any_node_the_remedy_is_named(dht: Dht) -> None:
    for words in (["lookup", URL], ["crawl"]):
        (error,) = dht(*words, expect=10)
        assert "--bootstrap" in error["message"]


@pytest.mark.parametrize("text", ["zz" * 20, "abc", "p2psync://abc", ""])
def test_what_is_neither_key_nor_archive_is_refused(dht: Dht, text: str) -> None:
    with pytest.raises(UsageError):
        parse_subject(text)
    assert dht("lookup", text, expect=1)[-1]["event"] == "error"


def test_crawl_counts_the_network(dht: Dht, network: list[DhtNode]) -> None:
    *found, crawled = dht("crawl", "--rate", "1000", "--bootstrap", where(network[0]))
    assert {one["node"] for one in found} == {node.node_id.hex() for node in network}
    assert (crawled["family"], crawled["nodes"], crawled["complete"]) == ("IPv4", 8, True)
    assert (crawled["estimate"], crawled["reachable"]) == (8, 1.0)
    assert crawled["software"] == {"example/1": 8}


def test_crawl_keeps_to_its_limit(dht: Dht, network: list[DhtNode]) -> None:
    crawled = dht("crawl", "--limit", "3", "--rate", "1000", "--bootstrap", where(network[0]))[-1]
    assert (crawled["nodes"], crawled["complete"]) == (3, False)


def test_people_get_tables(say: Any, network: list[DhtNode]) -> None:
    path = say("lookup", URL, "--bootstrap", where(network[0]))
    assert path.splitlines()[0] == f"key {head_key(ROOT.public_key).hex()}"
    assert "HOP  BITS  NODE" in path
    assert path.count("head (0, 2)") == 6
    assert "6 of (epoch 0, sequence number 2), 2 of (epoch 0, sequence number 1)" in path
    assert "no node gave a head" in say("lookup", "00" * 20)
    assert "0 holders found" in say("lookup", "00" * 20, "--holders")
    assert "example/1" in say("crawl", "--rate", "1000")
    assert "it sees us at 127.0.0.1:" in say("ping", where(network[0]), "--count", "1")


def test_status_without_a_node_makes_no_state_directory(dht: Dht, tmp_path: Path) -> None:
    (error,) = dht("status", expect=10)
    assert "no node runs" in error["message"]
    assert not (tmp_path / "state").exists()


@pytest.fixture
def standing(network: list[DhtNode], tmp_path: Path) -> Iterator[DhtNode]:
    """A node of the network with a control socket at the state directory that the commands use."""
    (tmp_path / "state").mkdir()
    end = threading.Event()
    ready = threading.Event()

    async def serve() -> None:
        async with control_server(
            tmp_path / "state", {"status": status_command(network[2], where(network[2]))}
        ):
            ready.set()
            await asyncio.to_thread(end.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(60)
    yield network[2]
    end.set()
    thread.join()


def test_status_of_the_running_node(dht: Dht, standing: DhtNode) -> None:
    (status,) = dht("status")
    assert (status["event"], status["listen"]) == ("status", where(standing))
    assert status["dht"]["node"] == standing.node_id.hex()
    assert status["dht"]["records"] == {"heads": 1, "holders": 0, "holder_keys": 0}
    assert status["dht"]["tables"]["IPv4"]["contacts"] == 7


def test_status_for_people(say: Any, standing: DhtNode) -> None:
    standing.counters.drops["truncated"] += 3
    said = say("status")
    assert said.startswith(f"node {standing.node_id.hex()} (server)")
    assert "IPv4: 7 contacts" in said
    assert "keeps 1 head" in said
    assert "truncated" in said


def test_the_running_node_is_somebody_to_join_by(dht: Dht, standing: DhtNode) -> None:
    assert dht("lookup", URL)[-1]["seq"] == 2


def test_a_status_of_another_version_is_refused_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    answers: list[dict[str, Any]] = [{}, {"dht": 1}, {"dht": {"records": {}, "traffic": {}}}]
    for answer in answers:
        with pytest.raises((KeyError, TypeError)):
            show_status(Output(), answer)


def test_tables_show_strangers_words_as_text(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = Table("title", ("A", "NUMBER"), [("[bold]x\x1b[2J", "7"), ("y", "1,000")], right=frozenset({1}))
    show(table)
    plain = capsys.readouterr().out
    assert [line.split() for line in plain.splitlines()] == [
        ["title"],
        ["A", "NUMBER"],
        ["[bold]x\\#033[2J", "7"],
        ["y", "1,000"],
    ]
    assert len({len(line) for line in plain.splitlines()[1:]}) == 1  # flush right
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    show(table)
    drawn = capsys.readouterr().out
    assert "[bold]x\\#033[2J" in drawn
    assert "\x1b[2J" not in drawn


def test_an_empty_table_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    show(Table("title", ("A",)))
    assert capsys.readouterr().out == ""
