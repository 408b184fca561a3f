"""Publishing: hashing a tree for the first time, and again when nothing has changed."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from bench.contestants.ours import Ours
from bench.contestants.torrent import Torrent
from bench.data import clear
from bench.memory import Sampler
from bench.processes import Running, need
from bench.session import Session
from bench.work import trees
from bench.work.trees import MB, Data

Start = Callable[[], Running]
READING: Final = "reading"
FINDING: Final = "find -printf"
READ_ALL: Final = 'find "$0" -type f -print0 | xargs -0 cat > /dev/null'


def publish_big(session: Session) -> None:
    _publish(session, trees.big(session))


def publish_small(session: Session) -> None:
    _publish(session, trees.small(session))


def _publish(session: Session, data: Data) -> None:
    session.work(f"publish {data.told}")
    with session.copies(data.files * 1000) as home:
        works = _hashing(session, data.tree, home)
        for _ in range(session.runs):
            for name, start in works.items():
                cost = start().finish()
                session.note("wall", name, cost.wall)
                session.note("CPU", name, cost.cpu)
        for name, start in works.items():
            if name != READING:
                running = start()
                with Sampler({name: running.pid}) as sampler:
                    running.finish()
                session.note("memory", name, sampler.pss[name] / MB, f"RSS {sampler.rss[name] / MB:,.0f} MB")


def _hashing(session: Session, tree: Path, home: Path) -> dict[str, Start]:
    """How each contestant begins, from nothing."""
    works: dict[str, Start] = {}
    if session.wants(READING):
        works[READING] = partial(Running, ["sh", "-c", READ_ALL, os.fspath(tree)], home / "reading.log")
    for torrent in session.field([Torrent], home):
        argv = torrent.making(tree, home / "made.torrent")
        works[torrent.name] = partial(Running, argv, torrent.log("make"))
    for ours in session.field([Ours], home):
        works[ours.name] = partial(_publish_anew, ours, tree, home / "state")
    return works


def _publish_anew(ours: Ours, tree: Path, state: Path) -> Running:
    clear(state)
    return _publishing(ours, tree, state)


def _publishing(ours: Ours, tree: Path, state: Path) -> Running:
    return Running(ours.words("publish", tree, state=state), ours.log("publish"), ours.environment())


def republish(session: Session) -> None:
    """Beyond start-up is what a wall time exceeds the median of a tree of one file by."""
    data, single = trees.tiny(session), trees.single(session)
    session.work(f"publish again, nothing changed, {data.told}")
    with session.copies(data.files * 1000) as home:
        works: dict[str, tuple[Start, Start]] = {}
        if session.wants(FINDING):
            works[FINDING] = _finding(data.tree, home), _finding(single.tree, home)
        for ours in session.field([Ours], home):
            works[ours.name] = _again(ours, data.tree, home), _again(ours, single.tree, home)
        walls: dict[str, list[float]] = {name: [] for name in works}
        start_ups: dict[str, list[float]] = {name: [] for name in works}
        for _ in range(session.runs):
            for name, (start, start_single) in works.items():
                walls[name].append(start().finish().wall)
                start_ups[name].append(start_single().finish().wall)
        for name, values in walls.items():
            for wall in values:
                session.note("wall", name, wall)
                session.note("beyond start-up", name, wall - statistics.median(start_ups[name]))


def _finding(tree: Path, home: Path) -> Start:
    argv = [need("find"), os.fspath(tree), "-printf", "%s %T@ %p\\n"]
    return partial(Running, argv, home / "find.log")


def _again(ours: Ours, tree: Path, home: Path) -> Start:
    """Publishing a tree that has been published, and is old enough to be believed unchanged."""
    state = home / f"state-{tree.name}"
    for _ in range(2):
        _publishing(ours, tree, state).finish()
    return partial(_publishing, ours, tree, state)
