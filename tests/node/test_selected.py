"""A part of an archive, by filter rules: what is fetched, looked into, noted and checked of it. What rules
mean is judged by rsync (tests/interop/test_selecting_rsync.py).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path

import pytest
from tests.node.fetch_world import TREE, World, changed
from tests.node.simulator import MTIME, Publisher, Tree, content

from p2psync.errors import UsageError
from p2psync.fetch.options import Delete
from p2psync.fetch.put import chosen_of
from p2psync.fetch.verified import verify
from p2psync.format.ids import Ref
from p2psync.format.listing import Entry, decode_listing
from p2psync.format.snapshot import Snapshot
from p2psync.inventory.holdings import list_holdings
from p2psync.plan.selected import Selecting
from p2psync.rules.filter import Filter
from p2psync.rules.names import Names, read_names
from p2psync.rules.selection import Selection
from p2psync.state import State
from p2psync.state.meta import GC_GRACE

WIDE: Tree = {b"%03d" % n: {b"file": b"%d" % n, b"deep": {b"x": b"%d x" % n}} for n in range(100)}


NEWS: Tree = {b"007": {b"file": b"new"}, b"new": {b"x": b"left out"}}


def names(dest: Path) -> set[str]:
    return {str(path.relative_to(dest)) for path in dest.rglob("*")}


def rules(*texts: bytes) -> tuple[bytes, ...]:
    return tuple(Filter.parse(texts).texts())


# What surprises.


@pytest.mark.parametrize(
    ("texts", "left"),
    [
        ((b"+ /notes/**", b"- *"), set()),
        ((b"+ /notes/***", b"- *"), {"notes", "notes/a", "notes/b"}),
        ((b"- **/a",), {"notes", "notes/b", "pool", "big", "link"}),
        ((b"- b\\ig*", b"- /pool/"), {"notes", "notes/a", "notes/b", "link"}),
        ((b"+ */", b"+ a", b"- *"), {"notes", "notes/a", "pool"}),
        ((b"R .~tmp~", b"- /pool/**", b"- big"), {"notes", "notes/a", "notes/b", "pool", "link"}),
    ],
)
def test_rules_that_surprise_do_so_as_in_rsync(
    world: World, texts: tuple[bytes, ...], left: set[str]
) -> None:
    assert world.fetch(filters=rules(*texts)).exit_code == 0
    found = names(world.dest)
    assert {name for name in found if not name.startswith("pool/")} == left
    assert any(name.startswith("pool/") for name in found) == (texts == (b"- **/a",))


def test_a_file_or_directory_that_rules_leave_out_itself_is_not_fetched(world: World) -> None:
    world.dest.mkdir()
    for path, rule in ((b"big", b"- big"), (b"notes", b"- /notes/"), (b"notes", b"- *")):
        summary = world.fetch(path=path, filters=rules(rule))
        assert (summary.exit_code, summary.files, names(world.dest)) == (0, 0, set())
    # What is in it has no name above it.
    assert world.fetch(path=b"notes/", filters=rules(b"- /notes/", b"- b")).files == 1
    assert names(world.dest) == {"a"}


# What is looked into.


def test_listings_are_got_of_directories_alone_that_take_part(world: World) -> None:
    world.publisher.publish(WIDE)
    summary = world.fetch(filters=rules(b"+ /007/***", b"- *"))
    assert names(world.dest) == {"007", "007/file", "007/deep", "007/deep/x"}
    assert (summary.files, summary.exit_code) == (2, 0)
    asked = {digest for source in world.sources.values() for digest in source.asked}
    metadata = asked & world.publisher.objects.keys()
    # The snapshot, the root, two directories, and two files.
    assert len(metadata) <= 6


class Counted:
    """Listings of a state directory, and how many of them were read."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.read = 0

    async def load(self, refs: Iterable[Ref], predecessors: dict[Ref, Ref] | None = None) -> list[Ref]:
        return []

    def listing(self, ref: Ref) -> list[Entry]:
        self.read += 1
        raw = self._state.meta.get(ref.digest)
        assert raw is not None
        return decode_listing(raw)


def test_what_has_not_changed_since_is_not_looked_into_again(state: State) -> None:
    publisher = Publisher()
    selection = Selection(Filter.parse([b"- x", b"- /042/"]), prune=True)

    def choose(tree: Tree, before: tuple[Entry, Entry] | None) -> tuple[Entry, Entry, int]:
        publisher.publish(tree)
        root = Snapshot.decode(publisher.objects[publisher.head.snapshot.digest]).root
        state.meta.put_many([(publisher.put(raw), raw) for raw in list(publisher.objects.values())])
        listings = Counted(state)
        made = asyncio.run(Selecting(state, listings, selection, publisher.archive).run(root, before))
        assert made is not None
        return root, made, listings.read

    root, made, read = choose(WIDE, None)
    assert made.totals.files == 99
    assert read >= 200
    again, same, few = choose({**WIDE, **NEWS}, (root, made))
    assert same.totals.files == 99
    assert few < 12
    assert choose({**WIDE, **NEWS}, None)[:2] == (again, same)


# What is noted.


def test_a_mirror_of_a_part_claims_no_snapshot_and_one_whose_rules_leave_nothing_out_does(
    world: World,
) -> None:
    path = os.fsencode(world.dest)
    world.fetch(filters=rules(b"- .~tmp~", b"P notes"), mirror=True)
    tree = world.state.trees.get(path)
    assert tree is not None
    assert tree.snapshot == world.publisher.head.snapshot
    world.fetch(filters=rules(b"- /pool/"), mirror=True)
    tree = world.state.trees.get(path)
    assert tree is not None
    assert (tree.snapshot, tree.seq) == (None, world.publisher.head.seq)
    assert "pool/000.deb" in names(world.dest), "what rules leave out is protected by them"


def test_what_is_held_of_a_part_is_that_part(world: World) -> None:
    world.fetch(filters=rules(b"- /pool/"))
    (held,) = list_holdings(world.state, None)
    assert (held.files, held.filtered, held.complete) == (3, True, True)
    world.fetch(filters=rules(b"- .~tmp~"))
    (held,) = list_holdings(world.state, None)
    assert (held.files, held.filtered) == (103, False)


def test_other_rules_are_another_part_though_nothing_is_looked_at(world: World) -> None:
    few = rules(b"- /pool/")
    assert world.fetch(filters=few).files == 3
    assert world.fetch(filters=few, check_dest=False).files == 3
    assert world.fetch(filters=rules(b"- /pool/01*", b"- big"), check_dest=False).changed == 90
    assert world.fetch(check_dest=False).changed == 10
    assert world.differs() == []


def test_a_second_run_asks_nobody_for_anything(world: World) -> None:
    few = rules(b"- /pool/0*", b"- b")
    world.fetch(filters=few)
    for source in world.sources.values():
        source.asked.clear()
    summary = world.fetch(filters=few)
    assert (summary.changed, summary.reused) == (0, summary.bytes)
    assert [source.asked for source in world.sources.values()] == [[], []]


def test_a_part_is_verified_as_the_part_that_it_is(world: World) -> None:
    world.fetch(filters=rules(b"- /pool/", b"- *.log"))
    (world.dest / "mine.log").write_text("left out, so it is nobody's business")
    os.utime(world.dest, ns=(MTIME, MTIME))
    found: list[object] = []
    verify(world.state, world.dest, None, None, found=found.append)
    assert found == []
    (world.dest / "notes" / "a").unlink()
    verify(world.state, world.dest, None, None, found=found.append)
    assert len(found) >= 1


def test_listings_of_a_part_are_kept_while_it_is_there(world: World) -> None:
    world.fetch(filters=rules(b"- /pool/0*"))
    (world.dest / "pool" / "mine").write_text("so the directory has no stamp")
    tree = world.state.trees.get(os.fsencode(world.dest))
    assert tree is not None
    chosen = chosen_of(tree)
    assert chosen is not None
    world.state.trees.drop_dir(tree.id, b"")
    world.state.meta.gc(now=4_000_000_000 + GC_GRACE)
    kept = world.state.meta.get(chosen.root.digest)
    assert kept is not None
    assert all(world.state.meta.has(entry.digest) for entry in decode_listing(kept) if entry.name == b"pool")


# What is deleted.


def test_what_rules_leave_out_stays_unless_it_is_asked_for(world: World) -> None:
    world.fetch()
    summary = world.fetch(filters=rules(b"- /pool/"), delete=Delete.ALL)
    assert (summary.deleted, len(names(world.dest))) == (0, 106)
    summary = world.fetch(filters=(b"-s /pool/",), delete=Delete.ALL)
    assert (summary.deleted, names(world.dest)) == (101, {"notes", "notes/a", "notes/b", "big", "link"})


def test_what_is_left_out_was_not_lost_by_its_publisher(world: World) -> None:
    world.publisher.publish({**TREE, b"more": {b"%d" % n: b"%d" % n for n in range(200)}})
    world.fetch(mirror=True, delete=Delete.ALL)
    world.publisher.publish(changed(more={b"%d" % n: b"%d" % n for n in range(200)}, big=content("new", 10)))
    summary = world.fetch(mirror=True, delete=Delete.ALL, filters=(b"-s /more/",))
    assert summary.deleted == 201


def test_names_are_protected_from_where_dest_begins(world: World) -> None:
    world.dest.mkdir()
    for below in (b"notes", b"notes/"):
        place = world.dest / "notes" if below == b"notes" else world.dest
        place.mkdir(exist_ok=True)
        (place / "mine").write_text("mine")
        (place / "theirs").write_text("theirs")
        world.fetch(path=below, delete=Delete.ALL, protect=("/mine", "/notes"))
        assert names(place) - {"notes/a", "notes/b", "notes/mine", "notes"} == {"a", "b", "mine"}


# A list of names.


def test_of_a_list_only_what_leads_to_it_is_looked_into(world: World) -> None:
    world.publisher.publish(WIDE)
    summary = world.fetch(names=(b"007/deep/x", b"042/", b"099"))
    assert names(world.dest) == {"007", "007/deep", "007/deep/x", "042", "042/file", "042/deep", "099"}
    assert (summary.files, summary.exit_code) == (2, 0)
    asked = {digest for source in world.sources.values() for digest in source.asked}
    # The snapshot, the root, 007, its deep, 042, and two files.
    assert len(asked & world.publisher.objects.keys()) <= 7
    assert world.fetch(names=(b"007/deep/x", b"042/", b"099")).changed == 0
    assert world.fetch(names=(b"007",), recursive=True).changed == 1


def test_beside_what_is_listed_nothing_is_deleted(world: World) -> None:
    world.fetch()
    (world.dest / "notes" / "mine").write_text("mine")
    (world.dest / "mine").write_text("mine")
    assert world.fetch(names=(b"notes/a",), delete=Delete.ALL).deleted == 0
    assert world.fetch(names=(b"notes",), delete=Delete.ALL).deleted == 0
    assert world.fetch(names=(b"notes/",), delete=Delete.ALL).deleted == 1
    assert (world.dest / "mine").exists()
    found: list[object] = []
    verify(world.state, world.dest, None, None, found=found.append)
    assert found == []


def test_what_is_listed_and_is_not_there_is_told_each_time(world: World) -> None:
    for _ in range(2):
        summary = world.fetch(names=(b"notes/a", b"nothing", b"big/x"))
        assert summary.exit_code == 23
        assert summary.failed == [
            "'big/x': the archive has no such name",
            "'nothing': the archive has no such name",
        ]
        assert names(world.dest) == {"notes", "notes/a"}


@pytest.mark.parametrize(
    ("text", "nul", "listed"),
    [
        (b"a\n\n# b\n; c\r\nd e\n", False, [b"a", b"d e"]),
        (b"a\nb\0# c\0\0", True, [b"a\nb"]),
        (b"", False, []),
    ],
)
def test_lists_are_read_as_rsync_reads_them(text: bytes, nul: bool, listed: list[bytes]) -> None:
    assert read_names(text, nul=nul) == listed


def test_lists_have_an_end_and_no_name_that_leads_elsewhere() -> None:
    with pytest.raises(UsageError, match="which no path has"):
        read_names(b"a" * 5000)
    with pytest.raises(UsageError, match="elsewhere"):
        Names([b"a/./b"])
