"""A flash crowd: eight clients want a file at once that one origin has; everybody's line is 100 Mbit/s each
way.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from bench import wires
from bench.contestants.contestant import Contestant
from bench.contestants.ours import OursSharing
from bench.contestants.rsync import Rsync
from bench.contestants.torrent import TorrentSharing
from bench.data import assert_equal, clear
from bench.processes import Place
from bench.session import Session
from bench.work import trees
from bench.work.trees import Data

KINDS: Final[Sequence[type[Contestant]]] = (Rsync, TorrentSharing, OursSharing)
CLIENTS: Final = 8
RATE: Final = 100 * wires.MBIT
FILE: Final = 64 << 20
DEVICE: Final = "line"


def crowd(session: Session) -> None:
    data = trees.big(session, FILE)
    session.work(f"flash crowd of {CLIENTS}, {data.told}")
    if not wires.may():
        session.note("last client, of the optimum", OursSharing.name, None, "skipped: needs root")
        return
    for _ in range(session.runs):
        for kind in KINDS:
            with session.copies((CLIENTS + 1) * data.size) as copies:
                for one in session.field([kind], copies):
                    _one(session, data, one, copies)


def _one(session: Session, data: Data, one: Contestant, copies: Path) -> None:
    """One run, in a new network with a new origin: nobody knows anybody from before."""
    with ExitStack() as stack:
        origin, *hosts = _exchange(stack)
        one.hold(data.tree)
        server = one.serve(stack, data.tree, origin)
        if isinstance(one, TorrentSharing):
            one.others = [f"{host.address}:{TorrentSharing.port}" for host in hosts]
        before = wires.sent(server.running.pid, DEVICE)
        dests = [copies / f"dest{number}" for number in range(CLIENTS)]
        started = [one.start([server], dest, host) for dest, host in zip(dests, hosts, strict=True)]
        for client in started:
            stack.callback(client.stop)
        walls = [client.finish().wall for client in started]
        sent = wires.sent(server.running.pid, DEVICE) - before
    optimum = 8 * data.size / RATE
    session.note("last client, of the optimum", one.name, max(walls) / optimum)
    session.note("sent by the origin", one.name, sent / data.size)
    for dest in dests:
        assert_equal(data.tree, one.result(dest), with_times=one.keeps_times)
        clear(dest)


def _exchange(stack: ExitStack) -> list[Place]:
    """Hosts on one bridge: the origin and the clients."""
    middle = wires.Host(stack)
    middle.inside("link", "add", "bridge", "type", "bridge")
    middle.inside("link", "set", "bridge", "up")
    places = []
    for number in range(CLIENTS + 1):
        host = wires.Host(stack)
        port = f"port{number}"
        wires.wire(middle, port, host, DEVICE)
        middle.inside("link", "set", port, "master", "bridge")
        middle.limit(port, RATE)
        host.limit(DEVICE, RATE)
        address = f"10.77.0.{number + 1}"
        host.inside("address", "add", f"{address}/24", "dev", DEVICE)
        host.inside("route", "add", "default", "dev", DEVICE)
        places.append(host.at(address))
    return places
