"""How much memory publishing, serving and fetching take at their peak, for a huge file and for very many
files.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from bench.contestants.contestant import Contestant, Server
from bench.contestants.ours import Ours
from bench.contestants.rsync import Rsync
from bench.data import assert_equal
from bench.memory import Sampler
from bench.processes import Running
from bench.session import Session
from bench.work import trees
from bench.work.trees import GIB, MB, TINY_FILES, Data

KINDS: Final[Sequence[type[Contestant]]] = (Rsync, Ours)
FILE: Final = 4 * GIB
LARGE_FILE: Final = 20 * GIB
LARGE_COUNT: Final = 1_000_000


def memory_file(session: Session) -> None:
    _memory(session, trees.big(session, LARGE_FILE if session.options.large else FILE))


def memory_files(session: Session) -> None:
    _memory(session, trees.tiny(session, LARGE_COUNT if session.options.large else TINY_FILES))


def _memory(session: Session, data: Data) -> None:
    session.work(data.told, full=session.options.large and session.options.scale == 1)
    for kind in KINDS:
        with ExitStack() as stack, session.copies(data.size, data.files) as copies:
            for one in session.field([kind], copies):
                _one(session, one, data, stack, copies / "dest")
    session.drop_tree(data.tree.name)


def _one(session: Session, one: Contestant, data: Data, stack: ExitStack, dest: Path) -> None:
    if isinstance(one, Ours):
        state = one.home / "published"
        publishing = Running(
            one.words("publish", data.tree, state=state), one.log("publish"), one.environment()
        )
        with Sampler({"publisher": publishing.pid}) as sampler:
            publishing.finish()
        _note(session, one, sampler, {"publisher": "publisher"})
    one.hold(data.tree)
    servers = [one.serve(stack, data.tree)]
    _fetch(session, one, servers, dest, {"server": "server", "client": "client"})
    assert_equal(data.tree, dest, with_times=one.keeps_times)
    _fetch(session, one, servers, dest, {"client": "client, nothing changed"})


def _fetch(
    session: Session, one: Contestant, servers: Sequence[Server], dest: Path, noted: dict[str, str]
) -> None:
    client = one.start(servers, dest)
    with Sampler({"server": servers[0].running.pid, "client": client.pid}) as sampler:
        client.finish()
    _note(session, one, sampler, noted)


def _note(session: Session, one: Contestant, sampler: Sampler, noted: dict[str, str]) -> None:
    for group, side in noted.items():
        remark = f"RSS {sampler.rss[group] / MB:,.0f} MB"
        session.note(f"memory of the {side}", one.name, sampler.pss[group] / MB, remark)
