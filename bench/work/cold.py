"""Fetching what is not there yet, from one source, and fetching again when nothing has changed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from bench.contestants.aria2 import Aria2
from bench.contestants.contestant import Contestant, Server
from bench.contestants.ours import Ours, OursKnown, received
from bench.contestants.rsync import Rsync
from bench.contestants.torrent import Torrent
from bench.data import assert_equal, clear
from bench.processes import Cost, cpu_of, settle
from bench.session import Session
from bench.syscalls import Counter
from bench.work import trees
from bench.work.trees import Data

EVERYBODY: Final[Sequence[type[Contestant]]] = (Rsync, Aria2, Torrent, Ours, OursKnown)
FAST: Final[Sequence[type[Contestant]]] = (Rsync, Ours, OursKnown)
"""Those that a tree of very many files is not too much for."""


def big(session: Session) -> None:
    _cold(session, trees.big(session), EVERYBODY)


def small(session: Session) -> None:
    _cold(session, trees.small(session), EVERYBODY)


def tiny(session: Session) -> None:
    _cold(session, trees.tiny(session), FAST)


def nochange(session: Session) -> None:
    """The same fetch again: DEST is compared. Bytes and system calls are counted in runs of their own."""
    data = trees.tiny(session)
    session.work(f"nothing changed, {data.told}")
    with ExitStack() as stack, session.copies(2 * data.size, 2 * data.files) as copies:
        field = session.field((Rsync, Ours), copies)
        servers = _serving(stack, field, data.tree)
        dests = {one.name: copies / f"dest-{one.name}" for one in field}
        for one in field:
            one.fetch(servers[one.name], dests[one.name])
            assert_equal(data.tree, one.result(dests[one.name]), with_times=one.keeps_times)
            one.fetch(servers[one.name], dests[one.name])  # warms caches
        for _ in range(session.runs):
            for one in field:
                cost = one.fetch(servers[one.name], dests[one.name])
                session.note("wall", one.name, cost.wall)
                session.note("CPU of the client", one.name, cost.cpu)
        for one in field:
            _count(session, one, servers[one.name], dests[one.name])


def _count(session: Session, one: Contestant, servers: Sequence[Server], dest: Path) -> None:
    counter = Counter(servers[0].running.pid)
    with counter:
        cost = one.fetch(servers, dest)
    if isinstance(one, Ours):
        session.note("received", one.name, received(cost) / 1000)
    else:
        session.note("received", one.name, _rsync_received(one.command(servers, dest)) / 1000)
    session.note("system calls of the server", one.name, counter.count, counter.remark)


def _rsync_received(command: Sequence[str]) -> int:
    told = subprocess.run([*command, "--stats"], check=True, capture_output=True, text=True).stdout
    line = next(line for line in told.splitlines() if line.startswith("Total bytes received:"))
    return int("".join(filter(str.isdecimal, line)))


def _cold(session: Session, data: Data, kinds: Sequence[type[Contestant]]) -> None:
    session.work(f"cold, {data.told}")
    with ExitStack() as stack, session.copies(data.size, data.files) as copies:
        field = session.field(kinds, copies)
        servers = _serving(stack, field, data.tree)
        dest = copies / "dest"
        for one in field:
            if isinstance(one, OursKnown):
                one.fetch(servers[one.name], dest)
                clear(dest)
        for run in range(session.runs):
            for one in field:
                one.forget()
                cost, server_cpu = charged(one, servers[one.name], dest)
                session.note("wall", one.name, cost.wall)
                if not isinstance(one, OursKnown):
                    session.note("CPU of both ends", one.name, cost.cpu + server_cpu)
                if run == 0:
                    assert_equal(data.tree, one.result(dest), with_times=one.keeps_times)
                clear(dest)


def charged(one: Contestant, servers: Sequence[Server], dest: Path) -> tuple[Cost, float]:
    """A fetch from one server, and the CPU seconds of that server meanwhile."""
    server = servers[0].running.pid
    before = cpu_of(server)
    os.sync()  # what earlier runs left to be written is not charged to this one
    cost = one.fetch(servers, dest)
    if isinstance(one, Rsync):
        settle(server)
    return cost, cpu_of(server) - before


def _serving(stack: ExitStack, field: Sequence[Contestant], tree: Path) -> dict[str, list[Server]]:
    """A server of each contestant."""
    made = {}
    for one in field:
        one.hold(tree)
        made[one.name] = [one.serve(stack, tree)]
    return made
