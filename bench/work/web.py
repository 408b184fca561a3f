"""Receiving a large file from nginx: what the data path can do where the server costs little."""

from __future__ import annotations

from contextlib import ExitStack

from bench.contestants.aria2 import Aria2
from bench.contestants.nginx import web_server
from bench.contestants.ours import Ours, last_event
from bench.data import assert_equal, clear
from bench.processes import Cost
from bench.session import Session
from bench.work import trees
from bench.work.trees import MB


def web(session: Session) -> None:
    """p2psync has its metadata from a node, and is told of nginx with ``--source``. A node serves bytes as
    well, so the share that nginx sent is told.
    """
    data = trees.big(session)
    session.work(f"cold, {data.told}, from nginx")
    with ExitStack() as stack, session.copies(data.size) as copies:
        field = session.field((Aria2, Ours), copies)
        server = web_server(stack, copies, data.tree)
        origin = f"http://{server.address}/"
        sources = {}
        for one in field:
            one.hold(data.tree)
            sources[one.name] = [server]
            if isinstance(one, Ours):
                one.options = ["--source", origin]
                sources[one.name] = [one.serve(stack, data.tree)]
        for run in range(session.runs):
            for one in field:
                one.forget()
                dest = copies / "dest"
                cost = one.fetch(sources[one.name], dest)
                session.note("received", one.name, data.size / MB / cost.wall)
                if isinstance(one, Ours):
                    session.note("share that nginx sent", one.name, 100 * _share(cost, origin))
                if run == 0:
                    assert_equal(data.tree, one.result(dest), with_times=one.keeps_times)
                clear(dest)


def _share(cost: Cost, origin: str) -> float:
    sources: dict[str, int] = last_event(cost.output)["sources"]
    mine = sum(size for name, size in sources.items() if origin.rstrip("/") in name)
    return mine / max(1, sum(sources.values()))
