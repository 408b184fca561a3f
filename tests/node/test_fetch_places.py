"""Who touches DEST in a fetch, what is set there, and what others are offered meanwhile."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import threading
from pathlib import Path
from typing import Any, cast

import pytest
from tests.node.fetch_world import BIG, TREE, Nobody, World, changed
from tests.node.simulator import content

from p2psync.events import Teller
from p2psync.fetch.engine import Host, run_fetch
from p2psync.fetch.options import Delete, FetchOptions
from p2psync.format.limits import SINGLE_CHUNK_MAX
from p2psync.format.listing import dir_entry
from p2psync.format.reserved import PARTIAL
from p2psync.format.snapshot import Snapshot
from p2psync.format.url import ArchiveUrl
from p2psync.network.protocols import Network
from p2psync.supply.jobs import Job
from p2psync.supply.share import Nothing
from p2psync.tree.stamp import Stamp

CHANGING = ("unlink", "rmdir", "rename", "replace", "link", "symlink", "mkdir", "chmod", "fchmod", "utime")
"""Calls that change a directory tree."""


def test_only_the_writer_changes_what_is_in_dest(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty thousand deletions on the event loop would stall everything else for seconds."""
    world.fetch()
    for number in range(200):
        (world.dest / f"mine {number}").write_text("goes")
    (world.dest / "deep" / "er").mkdir(parents=True)
    world.publisher.publish(changed(big=content("new", 300_000), notes=None))
    by: set[str] = set()
    for name in CHANGING:
        original = getattr(os, name)

        def call(*arguments: Any, _original: Any = original, **options: Any) -> Any:
            by.add(threading.current_thread().name)
            return _original(*arguments, **options)

        monkeypatch.setattr(os, name, call)
    host = Host(cast(Network, Nobody()), lambda _: Nothing())
    options = FetchOptions(
        ArchiveUrl(world.publisher.archive, b""),
        bytes(world.dest),
        sources=tuple(world.sources),
        share=False,
        delete=Delete.ALL,
    )
    summary = world.run(run_fetch(options, world.state, Teller(), host, writer="thread"))
    assert summary.deleted >= 200
    assert world.differs() == []
    assert by
    assert threading.main_thread().name not in by


@pytest.mark.parametrize("where", ["dest", "other"])
@pytest.mark.parametrize("what", ["root", "directories"])
def test_what_was_removed_is_not_looked_for_file_by_file(
    world: World, monkeypatch: pytest.MonkeyPatch, where: str, what: str
) -> None:
    """It would take longer than to fetch it."""
    world.publisher.publish(
        {b"d%d" % d: {b"f%d" % f: content(f"{d} {f}", 3_000) for f in range(40)} for d in range(3)}
    )
    removed = world.folder / where
    world.fetch(removed)
    for each in [removed] if what == "root" else list(removed.iterdir()):
        shutil.rmtree(each)
    looked: list[bytes] = []
    for name in ("open", "stat", "lstat"):
        original = getattr(os, name)

        def call(path: Any, *arguments: Any, _original: Any = original, **options: Any) -> Any:
            if isinstance(path, bytes) and path.startswith(bytes(removed) + b"/"):
                looked.append(path)
            return _original(path, *arguments, **options)

        monkeypatch.setattr(os, name, call)
    assert world.fetch().exit_code == 0
    assert world.differs() == []
    directories = 3 if (where, what) == ("other", "directories") else 0
    assert len(looked) == directories


def test_the_index_forgets_directories_that_are_gone_from_dest(world: World) -> None:
    world.publisher.publish({b"d": {b"e": {b"f": content("f", 3_000)}}, b"kept": {b"g": content("g", 3_000)}})
    world.fetch()
    shutil.rmtree(world.dest / "d")
    for source in world.sources.values():
        source.lacks = lambda digest: True
    assert world.fetch().missing == [b"d/e/f"]
    (tree,) = world.state.trees.all()
    assert b"d/e" not in dict(world.state.trees.directories(tree.id))
    assert world.state.trees.files_in(tree.id, b"d/e") == {}
    assert world.state.trees.files_in(tree.id, b"kept").keys() == {b"g"}


@pytest.mark.parametrize("mtime_ns", [-1, 0, -86_400_000_000_000, -1_000_000_001])
def test_a_root_dated_before_1970_gets_its_mode_and_time(world: World, mtime_ns: int) -> None:
    _dated(world, mtime_ns)
    assert world.fetch().exit_code == 0
    assert world.dest.stat().st_mtime_ns == mtime_ns
    assert stat.S_IMODE(world.dest.stat().st_mode) == 0o750
    assert (world.dest / "big").read_bytes() == BIG
    # And it is as it should be: nothing is left to do.
    assert world.fetch().changed == 0


def _dated(world: World, mtime_ns: int) -> None:
    """Let the newest snapshot's root have another mode and time."""
    publisher = world.publisher
    raw = publisher.objects[publisher.head.snapshot.digest]
    root = Snapshot.decode(raw).root
    dated = dir_entry(b"", 0o750, mtime_ns, root.ref, root.totals)
    ref = publisher.put(Snapshot(dated, publisher.now * 10**9, ()).encode())
    publisher.sign(ref)


def test_a_single_file_leaves_the_directory_that_it_goes_to_as_it_is(world: World) -> None:
    world.dest.mkdir()
    world.dest.chmod(0o711)
    world.fetch(path=b"big")
    assert (world.dest / "big").read_bytes() == BIG
    assert stat.S_IMODE(world.dest.stat().st_mode) == 0o711


def test_web_mirrors_are_asked_for_the_path_in_the_archive(world: World) -> None:
    """Whatever part of it is fetched, and whatever it is called here."""
    for source in world.sources.values():
        source.web = source.name == "b"
        source.lacks = (lambda _: True) if source.name == "a" else (lambda _: False)
    pool = cast(dict[bytes, bytes], TREE[b"pool"])
    digests = {world.publisher.put(data).digest for data in pool.values()} | {world.publisher.put(BIG).digest}
    world.sources["a"].lacks = lambda digest: digest in digests and digest not in world.publisher.recipes
    web = world.sources["b"]
    world.fetch(path=b"pool/")
    asked = {path for path in web.paths if path is not None}
    small = {name for name, data in pool.items() if len(data) <= SINGLE_CHUNK_MAX}
    assert {b"pool/" + name for name in small} <= asked <= {b"pool/" + name for name in pool}
    web.paths.clear()
    world.fresh_state()
    world.fetch(world.folder / "renamed", path=b"pool/042.deb")
    assert set(web.paths) == {b"pool/042.deb"}
    assert (world.folder / "renamed").read_bytes() == pool[b"042.deb"]


class Spy:
    """A share that remembers what it was told, and what the index knew then."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.told: list[tuple[str, bool]] = []

    def _note(self, what: str, job: Job) -> None:
        known = bool(self._world.state.trees.find(job.digest))
        self.told.append((what, known))

    def offer(self, job: Job) -> None:
        self._note("offered", job)

    def complete(self, job: Job, path: bytes, stamp: tuple[int, int, int, int]) -> None:
        assert Stamp.of((self._world.dest / os.fsdecode(path)).stat()) == stamp
        self._note("complete", job)

    def withdraw(self, job: Job) -> None:
        self._note("withdrawn", job)


def test_a_whole_file_is_offered_until_the_index_knows_it(world: World) -> None:
    """A swarm must not lose what it has."""
    big = content("large", 9 << 20)
    world.publisher.publish({b"large": big})
    spy = Spy(world)
    host = Host(cast(Network, Nobody()), lambda _: spy)
    options = FetchOptions(
        ArchiveUrl(world.publisher.archive, b""), bytes(world.dest), sources=("a", "b"), share=True
    )
    world.run(run_fetch(options, world.state, Teller(), host, writer="inline"))
    assert (world.dest / "large").read_bytes() == big
    assert spy.told == [("offered", False), ("complete", False), ("withdrawn", True)]


def test_what_was_replaced_is_not_kept_where_one_path_fails_at_every_run(world: World) -> None:
    world.fetch()
    for turn in range(3):
        world.publisher.publish(changed(big=content(f"big {turn}", 400_000), stuck=b"stuck"))
        (world.dest / "stuck").mkdir(exist_ok=True)
        (world.dest / "stuck" / "mine").write_text("stays")
        assert world.fetch().exit_code == 23
        assert (world.dest / "big").read_bytes() == content(f"big {turn}", 400_000)
        folder = world.dest / os.fsdecode(PARTIAL)
        assert not folder.exists() or not os.listdir(folder)
    assert Path(world.dest / "stuck" / "mine").read_text() == "stays"


def test_a_file_larger_than_the_file_system_can_hold_is_named_and_the_others_come(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """4 GiB on vfat: what of it is below that can be written, which makes no file of it."""
    limit = 9_000_000
    write_at, new = os.pwrite, content("film", 12_000_000)

    def pwrite(fd: int, data: bytes, offset: int) -> int:
        if offset + len(data) > limit:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        return write_at(fd, data, offset)

    world.publisher.publish(changed(film=new))
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", pwrite)
        summary = world.fetch()
    assert summary.failed == [f"'film': {os.strerror(errno.EFBIG)}"]
    assert summary.exit_code
    assert world.differs() == [b"/film"]
    assert world.fetch().exit_code == 0
    assert world.differs() == []
