"""What each run costs, however little there is to do: start-up, a tiny fetch, one that trusts DEST."""

from __future__ import annotations

import statistics
from contextlib import ExitStack

from bench.contestants.contestant import Contestant
from bench.contestants.ours import PROGRAM, Ours
from bench.contestants.rsync import Rsync
from bench.data import assert_equal, clear
from bench.session import Session
from bench.work import trees

KINDS: tuple[type[Contestant], ...] = (Rsync, Ours)


def fixed(session: Session) -> None:
    data = trees.single(session)
    session.work(f"cold, {data.told}", full=True)
    with ExitStack() as stack, session.copies(data.size) as copies:
        dest = copies / "dest"
        for one in (field := session.field(KINDS, copies)):
            one.hold(data.tree)
        servers = {one.name: [one.serve(stack, data.tree)] for one in field}
        for _ in range(session.runs):
            for one in field:
                one.forget()
                session.note("wall", one.name, one.fetch(servers[one.name], dest).wall)
                assert_equal(data.tree, one.result(dest), with_times=one.keeps_times)
                clear(dest)


def help_text(session: Session) -> None:
    session.work("p2psync --help", full=True)
    with session.copies(0) as home:
        for ours in session.field([Ours], home):
            for _ in range(session.runs):
                session.note("CPU", ours.name, ours.run([*PROGRAM, "--help"], "help").cpu * 1000)


def trusted(session: Session) -> None:
    """DEST is not read at all; start-up is the median of the same with a tree of one file."""
    data, single = trees.tiny(session), trees.single(session)
    session.work(f"head unchanged, --no-check-dest, {data.told}")
    with ExitStack() as stack, session.copies(data.size, data.files) as copies:
        walls: list[list[float]] = []
        for one in (data, single):
            for ours in session.field([Ours], copies / one.tree.name):
                ours.hold(one.tree)
                servers = [ours.serve(stack, one.tree)]
                dest = copies / f"dest-{one.tree.name}"
                ours.fetch(servers, dest)
                ours.options = ["--no-check-dest"]
                walls.append([ours.fetch(servers, dest).wall for _ in range(session.runs)])
        for wall in walls[0] if walls else []:
            session.note("wall", Ours.name, wall)
            session.note("beyond start-up", Ours.name, wall - statistics.median(walls[1]))
