"""Prometheus metrics of a node: counters that exist anyway, read when somebody asks, and the times of
lookups.

docs/operators.md lists every name. Labels come from the program or from the operator, never from the network.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, get_args

from prometheus_client import CollectorRegistry, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from p2psync import __version__
from p2psync.content.counters import Way
from p2psync.daemon.health import Vitals
from p2psync.errors import show_path
from p2psync.format.url import archive_text

if TYPE_CHECKING:
    from p2psync.state.trees import Tree

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS: Final = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0)
"""Seconds. Lookups take 0.1 to 0.5 in health, and give up within 10."""
ARCHIVES_MAX: Final = 500
"""Archives with time series of their own: a node with more shows the totals of all, and the series of
these."""

_DHT_COUNTERS: Final = {
    "queries_sent": "Queries sent, without retransmissions.",
    "queries_answered": "Queries that were answered in order.",
    "retransmissions": "Queries sent a second time.",
    "timeouts": "Queries that nobody answered.",
    "requests_served": "Requests of other nodes that were answered.",
    "stores_accepted": "Records that other nodes stored here.",
}
_CONTENT_COUNTERS: Final = {
    "requests": "HTTP requests answered.",
    "objects": "Objects sent by their id.",
    "files": "Files sent out of the browsable tree.",
    "batches": "Batches answered.",
    "rows": "Rows of batches.",
    "missed": "Objects and rows that were asked for and are not here.",
    "refused": "Requests refused as malformed or too large.",
    "redirected": "Readers of files who were sent to a mirror.",
}


class Metrics:
    """A node's metrics, in a registry of their own."""

    def __init__(self, vitals: Vitals) -> None:
        # Beside each histogram, the library would export when it was made: the node's start says it.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has no types for it
        self.registry = CollectorRegistry(auto_describe=False)
        self._lookups = Histogram(
            "p2psync_dht_lookup_duration_seconds",
            "Lookups of this node by kind, and whether they found, stored or (probe) reached anything.",
            ("kind", "result"),
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.registry.register(_NodeCollector(vitals))

    def lookup(self, kind: str, found: bool, seconds: float) -> None:
        """Note a lookup that has ended."""
        self._lookups.labels(kind, "ok" if found else "nothing").observe(seconds)

    def page(self) -> bytes:
        """The exposition text. Raises FileError."""
        return generate_latest(self.registry)


class _NodeCollector:
    """Reads what the parts of a node count."""

    def __init__(self, vitals: Vitals) -> None:
        self._vitals = vitals

    def describe(self) -> Iterable[Metric]:
        """Nothing is read when the registry is made."""
        return ()

    def collect(self) -> Iterator[Metric]:
        yield from _process()
        yield from self._node()
        yield from self._dht()
        yield from self._content()
        if self._vitals.announcer is not None:
            yield from self._archives()
            yield from self._damage()
            yield from self._mirrors()

    def _node(self) -> Iterator[Metric]:
        vitals = self._vitals
        info = GaugeMetricFamily(
            "p2psync_node_info", "Always 1; who this node is.", labels=("node", "role", "version")
        )
        info.add_metric((vitals.dht.node_id.hex(), str(vitals.options.role), __version__), 1)
        yield info
        yield _gauge("p2psync_start_time_seconds", "When the node started, in Unix time.", vitals.started)
        contacts = vitals.look()
        yield _gauge("p2psync_healthy", "1 while /health answers 200.", int(vitals.ok))
        yield _gauge("p2psync_dht_contacts", "Contacts in the routing tables.", contacts)
        yield _gauge("p2psync_dht_alone_seconds", "Time without any contact; 0 in company.", vitals.alone)
        expiry = GaugeMetricFamily(
            "p2psync_seeds_expiry_timestamp_seconds",
            "When the seed list kept of a source expires, in Unix time.",
            labels=("source",),
        )
        for source, expires in vitals.seeds.expiries().items():
            expiry.add_metric((source,), expires)
        yield expiry

    def _dht(self) -> Iterator[Metric]:
        dht = self._vitals.dht
        counters = dht.counters
        by_family = GaugeMetricFamily(
            "p2psync_dht_table_contacts", "Contacts in the routing table of a family.", labels=("family",)
        )
        for family, name in ((socket.AF_INET, "ipv4"), (socket.AF_INET6, "ipv6")):
            by_family.add_metric((name,), len(dht.protocol.tables[family]))
        yield by_family
        records = GaugeMetricFamily(
            "p2psync_dht_records", "Records stored for the network.", labels=("kind",)
        )
        held = dht.storage.counts()
        records.add_metric(("head",), held["heads"])
        records.add_metric(("holder",), held["holders"])
        yield records
        for unit, what in (("datagrams", "Datagrams"), ("bytes", "Bytes of UDP payload")):
            both = CounterMetricFamily(f"p2psync_dht_{unit}", f"{what} by direction.", labels=("direction",))
            both.add_metric(("in",), getattr(counters, f"{unit}_in"))
            both.add_metric(("out",), getattr(counters, f"{unit}_out"))
            yield both
        for name, text in _DHT_COUNTERS.items():
            yield _counter(f"p2psync_dht_{name}", text, getattr(counters, name))
        drops = CounterMetricFamily("p2psync_dht_drops", "Datagrams dropped, by reason.", labels=("reason",))
        for reason, number in sorted(counters.drops.items()):
            drops.add_metric((reason,), number)
        yield drops
        events = CounterMetricFamily("p2psync_dht_events", "Other events, by name.", labels=("event",))
        for event, number in sorted(counters.events.items()):
            events.add_metric((event,), number)
        yield events

    def _content(self) -> Iterator[Metric]:
        server = self._vitals.server
        if server is None:
            return
        counters = server.counters
        for name, text in _CONTENT_COUNTERS.items():
            yield _counter(f"p2psync_content_{name}", text, getattr(counters, name))
        yield _counter(
            "p2psync_content_connections_refused",
            "Connections refused because there were too many.",
            server.connections_refused,
        )
        yield _gauge("p2psync_content_waiting", "Requests that wait for a newer head.", server.subscribers)
        sent = CounterMetricFamily("p2psync_content_bytes", "Bytes of content sent, by way.", labels=("way",))
        for way in get_args(Way):
            sent.add_metric((way,), counters.bytes_by(way))
        yield sent
        by_archive = CounterMetricFamily(
            "p2psync_archive_bytes",
            "Bytes of content sent out of the tree of an archive, by way.",
            labels=("archive", "way"),
        )
        served = sorted({archive for _, archive in counters.sent if archive is not None})[:ARCHIVES_MAX]
        for archive in served:
            for way in get_args(Way):
                by_archive.add_metric((archive_text(archive), way), counters.sent.get((way, archive), 0))
        yield by_archive

    def _archives(self) -> Iterator[Metric]:
        vitals = self._vitals
        archives = sorted(vitals.archives())
        yield _gauge("p2psync_archives", "Archives published or mirrored here.", len(archives))
        if vitals.announcer is not None and vitals.announcer.last_announced is not None:
            yield _gauge(
                "p2psync_announced_timestamp_seconds",
                "When another node last took a head or holder record of ours, in Unix time.",
                vitals.announcer.last_announced,
            )
        label = ("archive",)
        signed = GaugeMetricFamily(
            "p2psync_archive_head_signed_timestamp_seconds",
            "When the newest known head of an archive was signed, in Unix time.",
            labels=label,
        )
        fresh = GaugeMetricFamily(
            "p2psync_archive_fresh_until_timestamp_seconds",
            "Until when its publisher vouches for it, in Unix time.",
            labels=label,
        )
        ended = GaugeMetricFamily(
            "p2psync_archive_ended_timestamp_seconds",
            "Since when its publisher has ended it, in Unix time.",
            labels=label,
        )
        holders = GaugeMetricFamily(
            "p2psync_archive_holders", "Holders of an archive that were reached.", labels=label
        )
        company = GaugeMetricFamily(
            "p2psync_other_holders",
            "Other holders of all archives: present, silent when told something last, withdrawn, unproved.",
            labels=("state",),
        )
        for state, number in vitals.company._asdict().items():
            company.add_metric((state,), number)
        now = time.time()
        for archive in archives[:ARCHIVES_MAX]:
            name = (archive_text(archive),)
            holders.add_metric(name, vitals.state.holders.count(archive, now))
            head = vitals.state.heads.newest(archive)
            if head is not None:
                signed.add_metric(name, head.signed_at)
                fresh.add_metric(name, head.fresh_until)
            if head is not None and head.ended is not None:
                ended.add_metric(name, head.ended)
        yield from (signed, fresh, ended, holders, company)
        checked = GaugeMetricFamily(
            "p2psync_checked_mirrors",
            "Mirrors of an archive published here that were checked: listed, failing, dropped.",
            labels=("archive", "state"),
        )
        for archive, counts in [*vitals.checked().items()][:ARCHIVES_MAX]:
            for state, number in counts._asdict().items():
                checked.add_metric((archive_text(archive), state), number)
        yield checked

    def _damage(self) -> Iterator[Metric]:
        labels = ("archive", "path")
        files = GaugeMetricFamily(
            "p2psync_tree_lost_files",
            "Files of an archive that a published or mirrored directory no longer has as published.",
            labels=labels,
        )
        gone = GaugeMetricFamily(
            "p2psync_tree_gone",
            "1 while nothing of an archive is in a published or mirrored directory.",
            labels=labels,
        )
        losses = self._vitals.losses()
        trees = [tree for tree in self._vitals.state.trees.all() if tree.role != "fetch" and tree.archive]
        for tree in trees[:ARCHIVES_MAX]:
            loss = losses.get(tree.id)
            files.add_metric(_names(tree), 0 if loss is None else loss.files)
            gone.add_metric(_names(tree), int(loss is not None and loss.gone))
        yield from (files, gone)

    def _mirrors(self) -> Iterator[Metric]:
        vitals = self._vitals
        mirrors = vitals.mirrors
        if mirrors is None:
            return
        labels = ("archive", "path")
        updated = GaugeMetricFamily(
            "p2psync_mirror_updated_timestamp_seconds",
            "When a mirror was last found or made up to date by this process, in Unix time.",
            labels=labels,
        )
        failures = GaugeMetricFamily(
            "p2psync_mirror_failures", "Updates of a mirror that failed in a row.", labels=labels
        )
        behind = GaugeMetricFamily(
            "p2psync_mirror_behind", "1 while a newer head than a mirror's is known.", labels=labels
        )
        held_back = GaugeMetricFamily(
            "p2psync_mirror_held_back",
            "1 while a mirror stays as it is, since the newest snapshot lacks most of it.",
            labels=labels,
        )
        refused = {tree.id for tree in mirrors.held_back()}
        trees = [tree for tree in vitals.state.trees.all() if tree.role == "mirror" and tree.archive]
        for tree in trees[:ARCHIVES_MAX]:
            name = _names(tree)
            if tree.id in mirrors.updated:
                updated.add_metric(name, mirrors.updated[tree.id])
            failures.add_metric(name, mirrors.failures(tree))
            behind.add_metric(name, int(self._behind(tree)))
            held_back.add_metric(name, int(tree.id in refused))
        yield from (updated, failures, behind, held_back)

    def _behind(self, tree: Tree) -> bool:
        head = None if tree.archive is None else self._vitals.state.heads.newest(tree.archive)
        return head is not None and (head.epoch, head.seq) > (tree.epoch, tree.seq)


def _names(tree: Tree) -> tuple[str, str]:
    """The labels of a directory: its archive and its path."""
    return archive_text(tree.archive or b""), show_path(tree.path)


def _process() -> Iterator[Metric]:
    """The usual metrics of a process, from what a unit with ProcSubset=pid still sees (proc(5)).

    The library's collector shows none of them there: it needs the time of boot, from /proc/stat.
    """
    used = os.times()
    yield _counter("process_cpu_seconds", "User and system CPU time.", used.user + used.system)
    with contextlib.suppress(OSError, ValueError, IndexError):  # Not Linux: then without.
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        size = pages * os.sysconf("SC_PAGE_SIZE")
        yield _gauge("process_resident_memory_bytes", "Resident memory.", size)
        yield _gauge("process_open_fds", "Open file descriptors.", len(os.listdir("/proc/self/fd")))


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


def _counter(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(name, text, value=value)
