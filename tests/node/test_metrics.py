"""Metrics as an interface: what a node exports is what the guide lists, and what rules and dashboard ask
for."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.e2e.harness import need
from tests.node.simulator import Publisher

from p2psync.checks import Counts
from p2psync.content.library import StateLibrary
from p2psync.content.server import ContentServer
from p2psync.daemon.announce import Announcer
from p2psync.daemon.health import ALONE_MAX, Vitals
from p2psync.daemon.losses import Loss
from p2psync.daemon.metered import MeteredDht
from p2psync.daemon.metrics import Metrics
from p2psync.daemon.mirrors import Mirrors
from p2psync.daemon.monitor import monitoring
from p2psync.daemon.options import NodeOptions, Role
from p2psync.daemon.supervisor import Supervisor
from p2psync.errors import DeleteLimitError, FileError, NetworkError
from p2psync.fetch.engine import Host
from p2psync.format.url import archive_text
from p2psync.network.over_dht import DhtNetwork
from p2psync.network.seeds.find import Seeds
from p2psync.network.seeds.query import seed_query
from p2psync.network.seeds.seedlist import sign
from p2psync.publish import publish
from p2psync.state import State
from p2psync_dht import Identity

ROOT = Path(__file__).parents[2]
KIT = ROOT / "bootstrap"
NAME = re.compile(r"\b(?:p2psync|process)_[a-z_0-9]+\b")
KEY = Identity.from_seed(bytes(range(32)))


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def vitals(tmp_path: Path) -> AsyncIterator[Vitals]:
    """A node with one of everything: an archive, a mirror that fails, a seed list, traffic."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_bytes(b"x" * 1000)
    with State.open(tmp_path / "state") as state:
        published = publish(state, bytes(tmp_path / "tree"))
        mirror = state.trees.ensure(b"/srv/mirror \xff", "mirror", published.archive)
        dht = await MeteredDht.start(state.identity(), "127.0.0.1", 0)
        library = StateLibrary(state)
        server = await ContentServer.start(library, "127.0.0.1", 0, node_key=state.identity().public_key)
        async with dht:
            network = DhtNetwork(dht)
            announcer = Announcer(
                state, state.identity(), network, network.observed, server.address, None, lambda _: None
            )
            announcer.last_announced = time.time()
            mirrors = Mirrors(state, Host(network, lambda _: None), bwlimit=None, warn=print, detail=print)  # type: ignore[arg-type,return-value]  # not run
            mirrors.note_updated(mirror)
            seeds = Seeds(state.path, [seed_query("https://seeds.example/x")])
            now = int(time.time())
            seeds._book.take(
                seeds.queries[0], sign(KEY, ["a.example:1"], issued=now, expires=now + 86400), now
            )
            dht.counters.drops["network"] += 3
            dht.counters.events["bad_reply"] += 1
            server.counters.add("tree", published.archive, 1000)
            options = NodeOptions(("127.0.0.1", 0), ("127.0.0.1:9",), role=Role.SERVER)
            yield Vitals(
                options,
                state,
                dht,
                seeds,
                server,
                announcer,
                mirrors,
                lambda: {published.archive: Counts(3, 2, 1)},
                clock=Clock(),
            )
        await server.close()
        library.close()


def exported(metrics: Metrics) -> dict[str, Any]:
    """Family name, as PromQL has it -> family."""
    made = {}
    for family in text_string_to_metric_families(metrics.page().decode()):
        made[family.name + ("_total" if family.type == "counter" else "")] = family
    return made


def families_of(names: Iterable[str]) -> set[str]:
    """What families the names in an expression belong to: histograms have three names each."""
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}


@pytest.fixture
def metrics(vitals: Vitals) -> Metrics:
    made = Metrics(vitals)
    made.lookup("probe", True, 0.2)
    return made


def mirror_of_an_ended_archive(vitals: Vitals) -> Publisher:
    publisher = Publisher("ended")
    publisher.publish({b"f": b"x"})
    vitals.state.heads.put(publisher.end(), "test")
    vitals.state.trees.ensure(b"/srv/ended", "mirror", publisher.archive)
    return publisher


async def test_the_guide_lists_what_is_exported_with_type_and_labels(
    vitals: Vitals, metrics: Metrics
) -> None:
    mirror_of_an_ended_archive(vitals)
    rows = re.findall(
        r"^\| `((?:p2psync|process)_\w+)` \| (\w+) \| ?([\w, ]*?) ?\|",
        (ROOT / "docs/operators.md").read_text(),
        re.M,
    )
    listed = {
        name: (kind, {label.strip() for label in labels.split(",")} - {""}) for name, kind, labels in rows
    }
    found = {
        name: (family.type, {label for s in family.samples for label in s.labels} - {"le"})
        for name, family in exported(metrics).items()
    }
    assert listed == found


async def test_every_metric_is_explained_and_named_by_convention(metrics: Metrics) -> None:
    for name, family in exported(metrics).items():
        assert family.documentation.endswith("."), name
        assert re.fullmatch(r"(p2psync|process)_[a-z0-9_]+", name)
        assert (family.type == "counter") == name.endswith("_total")
        assert not name.endswith(("_ms", "_milliseconds", "_kb", "_mb")), "base units"


async def test_alert_rules_and_dashboard_ask_only_for_metrics_that_exist(metrics: Metrics) -> None:
    rules = set(
        NAME.findall("\n".join(re.findall(r"expr: (.*(?:\n {10}.*)*)", (KIT / "alerts.yml").read_text())))
    )
    dashboard = json.loads((KIT / "grafana-dashboard.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    shown = {name for text in expressions for name in NAME.findall(text)}
    assert len(rules) > 10
    assert families_of(rules) <= set(exported(metrics))
    assert families_of(shown) == set(exported(metrics))


def test_the_dashboard_is_whole() -> None:
    dashboard = json.loads((KIT / "grafana-dashboard.json").read_text())
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)
    assert all(panel["fieldConfig"]["defaults"]["unit"] for panel in panels)


def test_reasons_in_the_guide_are_reasons_of_the_program() -> None:
    abuse = (ROOT / "docs/operators.md").read_text().partition("## What abuse looks like")[2]
    rows = re.findall(r"^\| `drops` .*", abuse, re.M)
    named = {word for row in rows for word in re.findall(r"`(\w+)`", row)} - {"drops"}
    source = "".join(path.read_text() for path in (ROOT / "dht/p2psync_dht").glob("*.py"))
    assert named
    assert named <= set(re.findall(r'(?:WireError|drop)\(\s*"(\w+)"', source))


def test_every_alert_is_in_the_guide() -> None:
    guide = (ROOT / "docs/operators.md").read_text()
    names = re.findall(r"alert: (\w+)", (KIT / "alerts.yml").read_text())
    assert len(names) == len(set(names))
    for name in names:
        assert name in guide


@pytest.mark.parametrize("words", [["check", "rules", "alerts.yml"], ["test", "rules", "alerts.test.yml"]])
def test_promtool_accepts_the_rules_and_their_tests_pass(words: list[str]) -> None:
    done = subprocess.run([need("promtool"), *words], cwd=KIT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


async def test_names_that_are_not_utf8_do_not_break_the_page(metrics: Metrics) -> None:
    (mirror,) = exported(metrics)["p2psync_mirror_failures"].samples
    assert mirror.labels["path"] == "/srv/mirror \\#377"


async def test_a_mirror_that_does_not_follow_the_newest_snapshot_shows_in_metrics_health_and_status(
    vitals: Vitals, metrics: Metrics
) -> None:
    (mirror,) = (tree for tree in vitals.state.trees.all() if tree.role == "mirror")
    assert [sample.value for sample in exported(metrics)["p2psync_mirror_held_back"].samples] == [0]
    assert vitals.report()["held_back"] == []
    assert vitals.mirrors is not None and mirror.archive is not None
    vitals.mirrors.note_refused(mirror, DeleteLimitError("it lacks everything"))
    assert [sample.value for sample in exported(metrics)["p2psync_mirror_held_back"].samples] == [1]
    assert vitals.report()["held_back"] == [archive_text(mirror.archive)]
    assert "1 archive held back" in vitals.status()


async def test_an_archive_that_was_ended_shows_in_metrics_health_and_status(
    vitals: Vitals, metrics: Metrics
) -> None:
    assert exported(metrics)["p2psync_archive_ended_timestamp_seconds"].samples == []
    assert vitals.report()["ended"] == []
    publisher = mirror_of_an_ended_archive(vitals)
    (sample,) = exported(metrics)["p2psync_archive_ended_timestamp_seconds"].samples
    assert (sample.labels["archive"], sample.value) == (archive_text(publisher.archive), publisher.now)
    assert vitals.report()["ended"] == [archive_text(publisher.archive)]
    assert "1 archive ended by the publisher" in vitals.status()


async def test_a_directory_that_lost_files_or_is_gone_shows_in_metrics_health_and_status(
    vitals: Vitals, metrics: Metrics
) -> None:
    trees = [tree for tree in vitals.state.trees.all() if tree.role != "fetch"]
    assert [sample.value for sample in exported(metrics)["p2psync_tree_lost_files"].samples] == [0, 0]
    assert vitals.report()["damaged"] == []
    losses = {trees[0].id: Loss(files=3, size=1000, first=b"a"), trees[1].id: Loss(gone=True)}
    vitals.losses = lambda: losses
    assert [sample.value for sample in exported(metrics)["p2psync_tree_lost_files"].samples] == [3, 0]
    assert [sample.value for sample in exported(metrics)["p2psync_tree_gone"].samples] == [0, 1]
    first, second = vitals.report()["damaged"]
    assert (first["files"], first["bytes"], first["gone"], second["gone"]) == (3, 1000, False, True)
    assert "has lost 3 files" in vitals.status()
    assert "has nothing of its archive" in vitals.status()


async def test_the_probe_is_timed_and_tells_whether_anybody_answered(vitals: Vitals) -> None:
    assert isinstance(vitals.dht, MeteredDht)
    metrics = Metrics(vitals)
    vitals.dht.listener = metrics.lookup
    assert await vitals.dht.probe() is False
    (count,) = [
        s
        for s in exported(metrics)["p2psync_dht_lookup_duration_seconds"].samples
        if s.name.endswith("_count")
    ]
    assert (count.labels, count.value) == ({"kind": "probe", "result": "nothing"}, 1)


# ---- health
# ---------------------------------------------------------------------------------------------------


async def test_a_node_is_ill_when_it_is_alone_for_too_long(vitals: Vitals) -> None:
    assert isinstance(vitals.clock, Clock)
    assert vitals.report()["ok"] is True
    vitals.clock.now += ALONE_MAX
    report = vitals.report()
    assert (report["ok"], report["contacts"], report["alone_seconds"]) == (False, 0, ALONE_MAX)
    assert "nobody has answered for 15 minutes" in vitals.status()


async def test_the_first_node_of_a_network_is_not_ill_for_want_of_others(vitals: Vitals) -> None:
    assert isinstance(vitals.clock, Clock)
    alone = Vitals(NodeOptions(("", 0)), vitals.state, vitals.dht, vitals.seeds, clock=vitals.clock)
    vitals.clock.now += 10 * ALONE_MAX
    assert alone.ok


async def test_company_that_is_lost_is_missed(vitals: Vitals) -> None:
    clock = Clock()
    alone = Vitals(NodeOptions(("", 0)), vitals.state, vitals.dht, vitals.seeds, clock=clock)
    async with await MeteredDht.start(Identity.generate(), "127.0.0.1", 0) as other:
        await vitals.dht.join([other.address])
        clock.now += 10 * ALONE_MAX
        assert alone.look() == 1
        assert alone.alone == 0
    for contact in vitals.dht.contacts():
        vitals.dht.protocol.tables[contact.family].remove_contact(contact)
    alone.look()
    clock.now += ALONE_MAX
    assert not alone.ok


async def get(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await response.text()


async def test_the_monitor_answers_two_pages(vitals: Vitals) -> None:
    assert isinstance(vitals.clock, Clock)
    async with monitoring(vitals, ("127.0.0.1", 0)) as where:
        status, page = await get(f"http://{where}/metrics")
        assert status == 200
        assert "p2psync_healthy 1.0" in page
        assert (await get(f"http://{where}/health"))[0] == 200
        vitals.clock.now += ALONE_MAX
        status, body = await get(f"http://{where}/health")
        assert (status, json.loads(body)["ok"]) == (503, False)
        assert (await get(f"http://{where}/p2psync/v1/info"))[0] == 404
        host, port = where.split(":")
        with pytest.raises(NetworkError, match="--metrics"):
            async with monitoring(vitals, (host, int(port))):
                raise AssertionError


async def test_a_page_whose_name_was_bound_to_this_machine_reads_no_metrics(vitals: Vitals) -> None:
    async with monitoring(vitals, ("127.0.0.1", 0)) as where, aiohttp.ClientSession() as session:
        for path in ("/metrics", "/health"):
            async with session.get(f"http://{where}{path}", headers={"Host": "evil.example"}) as answer:
                assert answer.status == 421


async def test_an_index_that_cannot_be_read_is_an_answer_and_not_the_end(
    vitals: Vitals, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise FileError("the index cannot be read or written")

    monkeypatch.setattr(vitals.state, "trees", SimpleNamespace(all=broken))
    async with monitoring(vitals, ("127.0.0.1", 0)) as where:
        assert (await get(f"http://{where}/metrics"))[0] == 500
        status, body = await get(f"http://{where}/health")
        assert (status, json.loads(body)["ok"]) == (503, False)
    assert "cannot be read" in vitals.status()


def test_without_a_service_manager_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    said: list[str] = []
    quiet = Supervisor(said.append)
    quiet.ready("x")
    quiet.alive()
    quiet.stopping()
    assert quiet.beat is None
    assert said == []
