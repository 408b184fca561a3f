"""Four sources behind links of 50 Mbit/s each: all alike, one slow, one that goes silent, one that lies."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import wires
from bench.contestants.aria2 import Aria2
from bench.contestants.contestant import Contestant, Server
from bench.contestants.ours import Ours
from bench.contestants.rsync import Rsync
from bench.contestants.torrent import Torrent
from bench.data import assert_equal, clear
from bench.liar import false_copy
from bench.processes import Place, need
from bench.session import Session
from bench.work import trees
from bench.work.trees import MB, Data

KINDS: Final[Sequence[type[Contestant]]] = (Rsync, Aria2, Torrent, Ours)
SOURCES: Final = 4
LAST: Final = SOURCES - 1
"""The one that is slow, silent or a liar."""
RATE: Final = 50 * wires.MBIT
SLOW: Final = 5 * wires.MBIT
SILENT_AFTER: Final = 2.0
"""Seconds until the silent one stops."""
FILE: Final = 256 << 20
DEVICE: Final = "wire"


@dataclass(frozen=True, slots=True)
class Case:
    last_rate: int = RATE
    is_silent: bool = False
    is_lying: bool = False

    def line(self, wall: float) -> float:
        """Bits that the links of honest sources could have carried in so many seconds."""
        alive = 0.0 if self.is_lying else min(wall, SILENT_AFTER) if self.is_silent else wall
        return LAST * RATE * wall + self.last_rate * alive


def equal(session: Session) -> None:
    _links(session, Case(), f"{SOURCES} links of 50 Mbit/s")


def slow(session: Session) -> None:
    _links(session, Case(last_rate=SLOW), "… one of 5 Mbit/s")


def silent(session: Session) -> None:
    _links(session, Case(is_silent=True), "… one silent after 2 s")


def lying(session: Session) -> None:
    _links(session, Case(is_lying=True), "… one with wrong bytes")


def _links(session: Session, case: Case, told: str) -> None:
    data = trees.big(session, FILE)
    session.work(f"{told}, {data.told}")
    if not wires.may():
        session.note("share of the line rate", Ours.name, None, "skipped: needs root")
        return
    for kind in KINDS:
        with ExitStack() as stack, session.copies((SOURCES + 1) * data.size) as copies:
            for one in session.field([kind], copies):
                _one(session, case, data, one, stack, copies)


def _one(session: Session, case: Case, data: Data, one: Contestant, stack: ExitStack, copies: Path) -> None:
    """All runs of a contestant. The sources and the last one's state are fresh in each."""
    held = [_copy(data.tree, copies / f"held{number}") for number in range(LAST)]
    with ExitStack() as lies:
        if case.is_lying:
            false = lies.enter_context(false_copy(data.tree, data.size, copies / f"held{LAST}"))
            held.append(false.tree)
        else:
            held.append(_copy(data.tree, copies / f"held{LAST}"))
        for tree in held:
            one.hold(tree)
        if case.is_lying:
            false.spoil()
        client, hosts = _star(stack, case)
        dest = copies / "dest"
        for run in range(session.runs):
            with ExitStack() as serving:
                servers = [one.serve(serving, tree, place) for tree, place in zip(held, hosts, strict=True)]
                one.forget()
                _measure(session, case, data, one, servers, client, dest)
            if run == 0:
                assert_equal(data.tree, one.result(dest), with_times=one.keeps_times)
            clear(dest)


def _measure(
    session: Session,
    case: Case,
    data: Data,
    one: Contestant,
    servers: Sequence[Server],
    client: Place,
    dest: Path,
) -> None:
    last = servers[LAST].running
    sent_before = wires.sent(last.pid, DEVICE)
    running = one.start(servers, dest, client)
    silencing = threading.Timer(SILENT_AFTER, last.freeze)
    if case.is_silent:
        silencing.start()
    try:
        wall = running.finish().wall
    finally:
        silencing.cancel()
    session.note("share of the line rate", one.name, 100 * 8 * data.size / case.line(wall))
    if case.is_lying:
        session.note("sent by the liar", one.name, (wires.sent(last.pid, DEVICE) - sent_before) / MB)


def _star(stack: ExitStack, case: Case) -> tuple[Place, list[Place]]:
    """A client with a link to each source."""
    client = wires.Host(stack)
    places = []
    for number in range(SOURCES):
        host = wires.Host(stack)
        wires.wire(host, DEVICE, client, f"{DEVICE}{number}")
        host.inside("address", "add", f"10.77.{number}.2/24", "dev", DEVICE)
        host.inside("route", "add", "default", "via", f"10.77.{number}.1")
        client.inside("address", "add", f"10.77.{number}.1/24", "dev", f"{DEVICE}{number}")
        host.limit(DEVICE, case.last_rate if number == LAST else RATE)
        places.append(host.at(f"10.77.{number}.2"))
    return client.at("10.77.0.1"), places


def _copy(tree: Path, folder: Path) -> Path:
    """A copy under the same name, with all times."""
    folder.mkdir()
    subprocess.run([need("cp"), "-a", tree, folder], check=True)
    return folder / tree.name
