"""What is measured of the DHT, and what it is to reach. How it is measured is the other files' of this
folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Protocol


@dataclass(frozen=True, slots=True)
class Target:
    """One line of the report. `limit` bounds the value from below if `at_least`, else from above; None:
    the figure is only shown. `unit` and `digits` are how it is printed.
    """

    name: str
    what: str
    limit: float | None
    unit: str
    digits: int = 0
    at_least: bool = False

    def is_met(self, value: float) -> bool | None:
        if self.limit is None:
            return None
        return value >= self.limit if self.at_least else value <= self.limit

    def text(self, value: float) -> str:
        return f"{value:,.{self.digits}f} {self.unit}".strip()

    def bound(self) -> str:
        if self.limit is None:
            return "–"
        return f"{'≥' if self.at_least else '≤'} {self.limit:,.{self.digits}f} {self.unit}".strip()


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value, or None where there is none, for the reason in `detail`. `nodes` and `count`: how
    many nodes there were, and how many operations the value is made of; 0: does not apply.
    """

    value: float | None
    detail: str = ""
    nodes: int = 0
    count: int = 0


class Note(Protocol):
    """How a measurement hands in a figure, by the name of its target."""

    def __call__(
        self, name: str, value: float | None, detail: str = "", *, nodes: int = 0, count: int = 0
    ) -> None: ...


def _found(name: str, what: str, limit: float) -> Target:
    return Target(name, what, limit, "%", 2, at_least=True)


TARGETS: Final = (
    _found("dead found", "40 % of the nodes killed at once: heads found", 99.9),
    Target("dead first p95", "… p95 until the first record", 0.45, "s", 2),
    Target("dead quorum p95", "… p95 of a quorum read", 0.7, "s", 2),
    Target("dead miss p95", "… p95 of a read of what is not there", 1.5, "s", 2),
    Target("hit p95", "none dead: p95 until the first record", 0.3, "s", 2),
    Target("hit datagrams", "… datagrams of a hit", 18, "", 1),
    Target("quorum datagrams", "… datagrams of a quorum read", None, "", 1),
    Target("miss datagrams", "… datagrams of a miss", 55, "", 1),
    Target("put p95", "put: p95", 1.4, "s", 2),
    Target("put datagrams", "… datagrams", 120, "", 1),
    Target("join datagrams", "join: datagrams, in and out", 150, "", 1),
    Target("sweep datagrams", "announcing 10,000 keys in a sweep: datagrams sent a key", 3, "", 2),
    Target("sweep found", "… of a sample of the keys, the record found", None, "%", 0, at_least=True),
    Target("holder bytes", "size of a holder record", 250, "bytes"),
    Target("head bytes", "size of a head with its delegation", 450, "bytes"),
    Target("stores", "decode, verify and store a record, one core", 5_000, "/s", 0, at_least=True),
    Target("refreshes", "an identical refresh, one core", 500_000, "/s", 0, at_least=True),
    Target("memory of records", "memory for 100,000 records", 30, "MB", 1),
    Target("memory of a node", "memory of an idle node with a full table", 40, "KB", 1),
    Target("new contact", "a new contact with 100,000 records stored", 100, "µs"),
    Target("new contact stores", "… stores sent because of it", 0, ""),
    Target("hostile errors", "100,000 hostile datagrams: exceptions that nobody caught", 0, ""),
    Target("hostile taken", "… contacts and records taken in unverified", 0, ""),
    _found("hostile alive", "… lookups through the node afterwards that succeed", 100),
    _found("liars 20 older", "20 % colluding liars who tell an older head: right answers", 99.9),
    _found("liars 20 none", "… who deny the head", 99.9),
    _found("liars 20 invented", "… who tell an older head and invent contacts near the key", 99.9),
    _found("liars 40 older", "40 % colluding liars who tell an older head: right answers", 97),
    _found("liars 40 none", "… who deny the head", 97),
    _found("liars 40 invented", "… who tell an older head and invent contacts near the key", 97),
    Target(
        "remembering", "clients that join among 40 % liars, but met nodes before: right answers", None, "%", 2
    ),
    Target("newcomers", "… that know one honest node and nobody else", None, "%", 2),
    _found("sybils", "64 chosen ids of one /24 around a key, denying the head: right answers", 99),
    _found(
        "crowd 40 none",
        "40 chosen ids around a key, each in a /24 of its own, denying the head: right answers",
        99,
    ),
    _found("crowd 40 older", "… who tell an older head", 99),
    _found(
        "crowd 80 none",
        "80 chosen ids around a key, each in a /24 of its own, denying the head: right answers",
        97,
    ),
    _found("crowd 80 older", "… who tell an older head", 97),
    *(
        Target(
            f"table {where}",
            f"half as many attackers press into tables, from {text}: share of these",
            None,
            "%",
        )
        for where, text in (
            ("apart", "networks of their own"),
            ("one /24", "one /24"),
            ("one IPv6 /64", "one /64 of IPv6"),
            ("one IPv6 /48", "one /48"),
            ("one IPv6 /32", "one /32"),
        )
    ),
    *(
        Target(
            f"table {where} right",
            f"… {text}: right answers of the nodes with these tables",
            97,
            "%",
            1,
            at_least=True,
        )
        for where, text in (("apart", "networks of their own"), ("one IPv6 /32", "one /32"))
    ),
    _found(
        "silent 0", "as many nodes as there are honest ones fall silent together: heads found at once", 99.9
    ),
    Target("silent 30 dead", "… share of the tables that is dead after 30 minutes", 1, "%", 1),
    _found(
        "bootstrap client 1:3",
        "clients that join by one honest address and three of liars: right answers",
        97,
    ),
    _found("bootstrap server 1:3", "… servers", 97),
    _found(
        "bootstrap client 1:7",
        "clients that join by one honest address and seven of liars: right answers",
        80,
    ),
    _found("bootstrap server 1:7", "… servers", 80),
    _found("own id surrounded", "nodes round whose own ids 40 others have chosen theirs: right answers", 99),
    Target(
        "named one host",
        "a fifth of the nodes names one host in every answer: datagrams to it, a read",
        4,
        "",
        1,
    ),
    Target("named one /24", "… hosts of one /24", 4, "", 1),
    Target("named many hosts", "… hosts in as many networks: datagrams to all of them, a read", None, "", 1),
    _found("churn", "24 h, half of the nodes replaced every 2 h: heads found", 99.9),
    _found(
        "day heads", "… and as many fakes that join and fall silent, a fifth liars: newest heads found", 99.9
    ),
    _found(
        "day holders",
        "… one of 3 honest holders among the first 24 of those found, liars' 10 an hour each",
        90,
    ),
    Target("day dead", "… contacts in tables that are not there", None, "%", 1),
    _found("sockets found", "200 real sockets on loopback, 40 % closed at once: heads found", 100),
    Target("sockets p95", "… p95 of a quorum read (all nodes in one process)", None, "s", 3),
)


class Results:
    """The figures of ours and of the package so far, kept in a JSON file if there is a path: a row that
    was measured is not lost when a later one is interrupted.
    """

    SIDES = ("ours", "package")

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self.figures: dict[str, dict[str, Figure]] = {side: {} for side in self.SIDES}
        if path is not None and path.exists():
            for side, figures in json.loads(path.read_text()).items():
                self.figures[side] = {name: Figure(**fields) for name, fields in figures.items()}

    def note(self, side: str, name: str, figure: Figure) -> None:
        self.figures[side][name] = figure
        if self._path is not None:
            content = {
                side: {name: asdict(one) for name, one in figures.items()}
                for side, figures in self.figures.items()
            }
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fresh = self._path.with_suffix(".new")
            fresh.write_text(json.dumps(content, indent=1))
            os.replace(fresh, self._path)

    def not_met(self) -> Iterable[Target]:
        """The targets measured and missed."""
        for target in TARGETS:
            figure = self.figures["ours"].get(target.name)
            if figure is not None and figure.value is not None and target.is_met(figure.value) is False:
                yield target


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` of the values lie."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]
