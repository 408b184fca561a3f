"""What a comparison of DEST with a snapshot finds to do, and what it leaves alone."""

from __future__ import annotations

import asyncio
import io
import os
import stat
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
from tests.help.held import turns
from tests.node.simulator import MTIME, Link, Publisher, Tree, content, pack_rows
from tests.node.swarm_sim import Arena, SimSource, virtual

from p2psync.errors import FormatError
from p2psync.format.ids import Ref
from p2psync.format.listing import Totals, add_totals, dir_entry, encode_listing, file_entry
from p2psync.format.snapshot import Snapshot
from p2psync.plan import files
from p2psync.plan.changes import DirWork, Plan
from p2psync.plan.compare import Comparison
from p2psync.tree.beneath import Beneath
from p2psync.tree.reading import hash_file

Run = Callable[[Coroutine[Any, Any, Any]], Any]
TREE: Tree = {
    b"file": b"content",
    b"large": content("large", 100_000),
    b"empty": b"",
    b"link": Link(b"file"),
    b"dir": {b"inner": b"inner", b"deep": {b"est": b"deepest"}},
}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    return virtual(monkeypatch)


@pytest.fixture
def arena(tmp_path: Path, run: Run) -> Iterator[Arena]:
    """TREE is published and in DEST, and the index has been told nothing of it yet."""
    publisher = Publisher()
    publisher.publish(TREE)
    made = Arena(tmp_path, publisher)
    made.know_metadata()
    lay(made.dest, TREE)
    yield made
    made.close()


def lay(place: Path, tree: Tree) -> None:
    """Put a tree on disk as it is published."""
    place.mkdir(exist_ok=True)
    place.chmod(0o755)
    for raw, value in tree.items():
        path = place / raw.decode()
        if isinstance(value, Link):
            path.symlink_to(value.target.decode())
        elif isinstance(value, bytes):
            path.write_bytes(value)
            path.chmod(0o644)
        else:
            lay(path, value)
        os.utime(path, ns=(MTIME, MTIME), follow_symlinks=False)
    os.utime(place, ns=(MTIME, MTIME))


def names(arena: Arena, work: DirWork, positions: Any) -> list[bytes]:
    entries = arena.manifest.listing(work.listing)
    return [entries[position].name for position in positions]


def one(plan: Plan) -> DirWork:
    (work,) = plan.dirs
    return work


def retouch(place: Path) -> None:
    os.utime(place, ns=(MTIME, MTIME))


def hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the files that are read."""
    sizes: list[int] = []
    real = hash_file

    def noting(fd: int, size: int) -> tuple[Ref, bytes | None]:
        sizes.append(size)
        return real(fd, size)

    monkeypatch.setattr(files, "hash_file", noting)
    return sizes


def test_nothing_to_do(arena: Arena, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = hashed(monkeypatch)
    plan = run(arena.plan())
    assert plan.dirs == []
    assert (plan.kept_bytes, plan.files) == (7 + 100_000 + 5 + 7, 0)
    assert sizes == []  # size and time were enough
    assert set(arena.state.trees.files_in(arena.tree.id, b"")) == {b"file", b"large", b"empty"}


def test_a_missing_dest_needs_everything(arena: Arena, run: Run) -> None:
    async def compared() -> Plan:
        snapshot = await arena.manifest.snapshot(arena.publisher.head.snapshot)
        return await Comparison(arena.state, arena.manifest, arena.tree, None, arena.tell).run(
            snapshot.root, None
        )

    plan = run(compared())
    assert [work.path for work in plan.dirs] == [b"", b"dir", b"dir/deep"]
    assert not any(work.exists for work in plan.dirs)
    assert plan.files == 5


def test_a_changed_size_or_time_is_fetched(arena: Arena, run: Run) -> None:
    (arena.dest / "file").write_bytes(b"longer than it was")
    (arena.dest / "large").touch()
    retouch(arena.dest)
    work = one(run(arena.plan()))
    assert names(arena, work, work.content) == [b"file", b"large"]
    assert names(arena, work, work.replaced) == [b"file", b"large"]
    assert not work.retouch


def test_a_touched_file_that_the_index_knows_is_hashed_and_kept(
    arena: Arena, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(arena.plan())
    sizes = hashed(monkeypatch)
    (arena.dest / "large").touch()
    work = one(run(arena.plan()))
    assert sizes == [100_000]
    assert names(arena, work, work.metadata) == [b"large"]
    assert not work.content
    os.utime(arena.dest / "large", ns=(MTIME, MTIME))
    sizes.clear()
    run(arena.plan())
    run(arena.plan())
    assert sizes == [100_000]  # once after the time was set, and not again


def test_a_file_changed_behind_its_time_is_noticed_once_it_is_known(arena: Arena, run: Run) -> None:
    run(arena.plan())
    (arena.dest / "file").write_bytes(b"CONTENT")
    os.utime(arena.dest / "file", ns=(MTIME, MTIME))
    work = one(run(arena.plan()))
    assert names(arena, work, work.content) == [b"file"]


def test_checksum_finds_what_size_and_time_hide(arena: Arena, run: Run) -> None:
    (arena.dest / "file").write_bytes(b"CONTENT")
    os.utime(arena.dest / "file", ns=(MTIME, MTIME))
    assert run(arena.plan()).dirs == []
    work = one(run(arena.plan(checksum=True)))
    assert names(arena, work, work.content) == [b"file"]


def test_a_mirror_reads_what_it_has_not_seen(arena: Arena, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = hashed(monkeypatch)
    (arena.dest / "file").write_bytes(b"CONTENT")
    os.utime(arena.dest / "file", ns=(MTIME, MTIME))
    work = one(run(arena.plan(verify_unknown=True)))
    assert names(arena, work, work.content) == [b"file"]
    assert sorted(sizes) == [5, 7, 7, 100_000]


def test_modes_links_and_directories(arena: Arena, run: Run) -> None:
    (arena.dest / "file").chmod(0o600)
    (arena.dest / "link").unlink()
    (arena.dest / "link").symlink_to("elsewhere")
    (arena.dest / "dir").chmod(0o700)
    retouch(arena.dest)
    root, inner = run(arena.plan()).dirs
    assert names(arena, root, root.metadata) == [b"file"]
    assert names(arena, root, root.symlinks) == [b"link"]
    assert (inner.path, inner.retouch, inner.changes) == (b"dir", True, False)


def test_other_types_in_the_way(arena: Arena, run: Run) -> None:
    for name in ("file", "link"):
        (arena.dest / name).unlink()
        (arena.dest / name).mkdir()
    (arena.dest / "large").unlink()
    os.mkfifo(arena.dest / "large")
    (arena.dest / "empty").unlink()
    (arena.dest / "empty").symlink_to("file")
    (arena.dest / "dir").rename(arena.dest / "was")
    (arena.dest / "dir").symlink_to("was")
    plan = run(arena.plan())
    root = plan.dirs[0]
    assert root.conflicts == [b"file", b"link"]
    assert names(arena, root, root.content) == [b"empty", b"file", b"large"]
    assert not root.replaced
    assert root.extraneous == [b"was"]
    assert [(work.path, work.exists) for work in plan.dirs[1:]] == [(b"dir", False), (b"dir/deep", False)]


def test_extraneous_names_of_any_bytes(arena: Arena, run: Run) -> None:
    odd = [b"-rf", b"caf\xe9", b"new\nline", b"z" * 255]
    for name in odd:
        Path(os.fsdecode(os.path.join(bytes(arena.dest), name))).write_text("x")
    (arena.dest / ".p2psync.partial").mkdir()
    assert one(run(arena.plan())).extraneous == sorted(odd)


def test_a_file_that_vanishes_meanwhile_stops_nothing(
    arena: Arena, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Gone:
        """An entry of a directory whose file was removed since it was read."""

        name = "ghost"

        def stat(self, *, follow_symlinks: bool) -> os.stat_result:
            raise FileNotFoundError

    class Haunted:
        def __init__(self, fd: int) -> None:
            self._real = scandir(fd)

        def __enter__(self) -> Iterator[Any]:
            return iter([Gone(), *self._real])

        def __exit__(self, *_: object) -> None:
            self._real.close()

    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", Haunted)
    assert run(arena.plan()).dirs == []


def test_a_file_that_cannot_be_read_is_made_anew(
    arena: Arena, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(fd: int, size: int) -> tuple[Ref, bytes | None]:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(files, "hash_file", broken)
    work = run(arena.plan(checksum=True)).dirs[0]
    assert names(arena, work, work.content) == [b"file", b"large"]
    assert [place.name for place in arena.state.trees.find(b"")] == [b"empty"]


def test_equal_subtrees_are_read_once(tmp_path: Path, run: Run) -> None:
    """A directory object that stands in many places is fetched once."""
    same: Tree = {b"%d" % n: b"%d" % n for n in range(10)}
    publisher = Publisher()
    publisher.publish({b"d%02d" % n: {b"same": same} for n in range(40)})
    arena = Arena(tmp_path, publisher)
    source = SimSource("only", publisher)
    arena.join(source)
    try:
        plan = run(arena.plan())
        assert plan.files == 400
        assert len(source.asked) == len(set(source.asked)) == 4  # snapshot, root, d.., same
    finally:
        arena.close()


def test_a_listing_that_nobody_has_is_named_and_the_rest_is_planned(arena: Arena, run: Run) -> None:
    arena.publisher.publish({**TREE, b"dir": {b"new": b"new"}})
    lost = next(e for p, e, _ in arena.publisher.read(arena.publisher.head) if p == b"/dir").ref
    arena.join(SimSource("without", arena.publisher, lacks=lambda digest: digest == lost.digest))
    (arena.dest / "file").unlink()
    plan = run(arena.plan())
    assert plan.unread == [b"dir"]
    assert [work.path for work in plan.dirs] == [b""]


class TestHostileManifests:
    """Whatever its publisher signs, a manifest is refused before anything is done in DEST."""

    def publish(self, arena: Arena, listing: Ref, totals: Totals) -> None:
        snapshot = Snapshot(dir_entry(b"", 0o755, MTIME, listing, totals), MTIME)
        arena.publisher.sign(arena.publisher.put(snapshot.encode()))
        arena.join(SimSource("honest", arena.publisher))

    @pytest.mark.parametrize("name", [b"..", b".", b"", b"a/b", b"/etc", b"nul\0", b"x" * 256])
    def test_names(self, arena: Arena, run: Run, name: bytes) -> None:
        good = encode_listing([file_entry(b"NAME", 0o644, MTIME, Ref(1, b"d" * 32))])
        rows = list(msgpack.Unpacker(io.BytesIO(good), strict_map_key=False))[1:]
        rows[0] = [name if field == b"NAME" else field for field in rows[0]]
        self.publish(arena, arena.publisher.put(pack_rows(rows)), Totals(1, 0, 0, 1))
        with pytest.raises(FormatError):
            run(arena.plan())

    def test_a_bomb_of_directories_that_lies_about_its_size(self, arena: Arena, run: Run) -> None:
        bomb = arena.publisher.directory_bomb(depth=5, width=50)
        root = Snapshot.decode(arena.publisher.objects[bomb.digest]).root
        self.publish(arena, root.ref, Totals(0, 50, 0, 0))
        with pytest.raises(FormatError, match="hold as much"):
            run(arena.plan())

    def test_a_bomb_of_directories_that_says_what_it_is(self, arena: Arena, run: Run) -> None:
        arena.publisher.sign(arena.publisher.directory_bomb(depth=5, width=50))
        arena.join(SimSource("honest", arena.publisher))
        with pytest.raises(FormatError, match="directories"):
            run(arena.plan())

    def test_a_chain_deeper_than_any_tree(self, arena: Arena, run: Run) -> None:
        arena.publisher.sign(arena.publisher.directory_bomb(depth=600, width=1))
        arena.join(SimSource("honest", arena.publisher))
        with pytest.raises(FormatError, match="deep"):
            run(arena.plan())

    def test_a_folder_of_ours_at_the_root(self, arena: Arena, run: Run) -> None:
        arena.publisher.publish({b".p2psync.partial": {b"f": b"x"}})
        arena.join(SimSource("honest", arena.publisher))
        with pytest.raises(FormatError, match="keeps for itself"):
            run(arena.plan())


def test_the_plan_of_a_large_tree_is_small(tmp_path: Path, run: Run) -> None:
    """200,000 files that are all missing."""
    publisher = Publisher()
    files = [file_entry(b"%06d" % n, 0o644, MTIME, Ref(1 + n, b"%032d" % n)) for n in range(2000)]
    inner = publisher.put(encode_listing(files))
    below = add_totals(entry.below for entry in files)
    dirs = [dir_entry(b"d%03d" % n, 0o755, MTIME, inner, below) for n in range(100)]
    totals = add_totals(entry.below for entry in dirs)
    root = dir_entry(b"", 0o755, MTIME, publisher.put(encode_listing(dirs)), totals)
    publisher.sign(publisher.put(Snapshot(root, MTIME).encode()))
    arena = Arena(tmp_path, publisher)
    arena.state.meta.put_many((Ref(len(raw), digest), raw) for digest, raw in publisher.objects.items())
    try:
        plan = run(arena.plan())
        size = sum(sys.getsizeof(work) for work in plan.dirs) + sys.getsizeof(plan.dirs)
        for work in plan.dirs:
            size += sum(sys.getsizeof(getattr(work, name)) for name in DirWork.__slots__)
        assert plan.files == 200_000
        assert size < 2 << 20
        # All directories have one listing, of which nothing is kept a hundred times.
        parts = [getattr(work, name) for work in plan.dirs for name in DirWork.__slots__]
        kept = {id(each): sys.getsizeof(each) for each in [*parts, plan.contents]}
        assert sum(kept.values()) < 100 << 10
    finally:
        arena.close()


def test_a_dest_that_is_a_link_is_worked_in_where_it_leads(arena: Arena, run: Run, tmp_path: Path) -> None:
    (tmp_path / "by").symlink_to(arena.dest)
    beneath = Beneath(bytes(tmp_path / "by"))
    assert stat.S_ISDIR(os.fstat(beneath.dir(b"dir/deep")).st_mode)
    beneath.close()


@pytest.mark.parametrize("times", [1, 2])
async def test_when_it_is_stopped_its_thread_ends_before_dest_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """In real time, with a real thread."""
    publisher = Publisher()
    publisher.publish({b"%02d" % n: b"%d" % n for n in range(50)})
    arena = Arena(tmp_path, publisher)
    arena.know_metadata()
    lay(arena.dest, {b"%02d" % n: b"%d" % n for n in range(50)})
    reading, go_on = threading.Event(), threading.Event()
    read: list[int] = []

    def slow(fd: int, size: int) -> tuple[Ref, bytes | None]:
        read.append(size)
        reading.set()
        go_on.wait(10)
        os.fstat(fd)
        return hash_file(fd, size)

    monkeypatch.setattr(files, "hash_file", slow)
    task = asyncio.ensure_future(arena.plan(checksum=True))
    await asyncio.to_thread(reading.wait, 10)
    for _ in range(times):
        task.cancel()
        await turns()
        assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(read) <= 2
    arena.close()
