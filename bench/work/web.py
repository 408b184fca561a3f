"""Receiving a large file from nginx: what the data path can do where the server costs little."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

from bench.contestants.aria2 import Aria2
from bench.contestants.contestant import Server
from bench.contestants.nginx import web_server
from bench.contestants.ours import Ours, last_event
from bench.data import assert_equal, clear
from bench.processes import Cost
from bench.session import Session
from bench.work import trees
from bench.work.trees import MB


def web(session: Session) -> None:
    """p2psync has its metadata from a node, and is told of nginx with ``--source``. The node's file was
    removed once it was published, so that all bytes have to come from nginx; the share that did is told.
    """
    data = trees.big(session)
    session.work(f"cold, {data.told}, from nginx")
    with ExitStack() as stack, session.copies(data.size) as copies:
        field = session.field((Aria2, Ours), copies)
        server = web_server(stack, copies, data.tree)
        origin = f"http://{server.address}/"
        sources = {}
        for one in field:
            if isinstance(one, Ours):
                one.options = ["--source", origin]
                sources[one.name] = [_metadata_only(one, data.tree, stack)]
            else:
                one.hold(data.tree)
                sources[one.name] = [server]
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


def _metadata_only(ours: Ours, tree: Path, stack: ExitStack) -> Server:
    """A node that published a tree and has lost its file since."""
    emptied = tree.with_name(f"{tree.name}-emptied")
    emptied.mkdir()
    stack.callback(clear, emptied)
    os.link(tree / "file", emptied / "file")
    status = tree.stat()
    os.utime(emptied, ns=(status.st_atime_ns, status.st_mtime_ns))
    ours.hold(emptied)
    (emptied / "file").unlink()
    return ours.serve(stack, emptied)


def _share(cost: Cost, origin: str) -> float:
    sources: dict[str, int] = last_event(cost.output)["sources"]
    mine = sum(size for name, size in sources.items() if origin.rstrip("/") in name)
    return mine / max(1, sum(sources.values()))
