"""Verifying what is not a whole archive: a part of one, single files, an interrupted fetch, what rules
leave out. What is not there by choice is not missed, and what has yet to come is told apart from what is
damaged.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.node.fetch_world import BIG, World, changed
from tests.node.simulator import Link

from p2psync.cli.verify_cmd import describe
from p2psync.errors import PartialError, UsageError
from p2psync.fetch.options import Delete
from p2psync.fetch.verified import Verified, verify
from p2psync.fetch.verify import Difference
from p2psync.format.url import ArchiveUrl
from p2psync.publish import publish
from p2psync.rules.filter import Filter


def told(done: Verified) -> set[tuple[bytes, str]]:
    return {(found.path, str(found.difference)) for found in done.differences}


def damage(path: Path) -> None:
    """Other bytes, of the same size and time."""
    found = path.stat()
    data = path.read_bytes()
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def src(world: World, path: bytes = b"") -> ArchiveUrl:
    return ArchiveUrl(world.publisher.archive, path.rstrip(b"/"), inside=path.endswith(b"/"))


@pytest.mark.parametrize(("path", "place"), [(b"pool", "pool"), (b"pool/", "")])
def test_a_copy_of_a_part_is_held_against_that_part(world: World, path: bytes, place: str) -> None:
    world.fetch(path=path)
    done = verify(world.state, world.dest / place)
    assert (done.archive, done.path, done.seq, done.files) == (world.publisher.archive, b"pool", 1, 100)
    assert done.complete and not done.differences
    damage(world.dest / place / "007.deb")
    (world.dest / place / "008.deb").unlink()
    wrong = verify(world.state, world.dest / place)
    assert {(b"007.deb", "content"), (b"008.deb", "missing")} <= told(wrong)
    assert (wrong.damaged, wrong.missing) == (1, 1)


def test_dest_itself_may_be_named_where_a_directory_was_put_into_it(world: World) -> None:
    world.fetch(path=b"pool")
    done = verify(world.state, world.dest)
    assert (done.archive, done.path, done.seq, done.files) == (world.publisher.archive, b"pool", 1, 100)
    (world.dest / "mine").touch()
    damage(world.dest / "pool" / "007.deb")
    assert told(verify(world.state, world.dest)) == {(b"pool/007.deb", "content")}
    world.fetch(path=b"notes")
    both = verify(world.state, world.dest)
    assert (both.files, both.path, both.seq) == (102, b"", 1)


def test_within_a_copy_a_directory_or_a_file_may_be_named(world: World) -> None:
    world.fetch()
    damage(world.dest / "pool" / "007.deb")
    pool = verify(world.state, world.dest / "pool")
    assert (told(pool), pool.path, pool.files) == ({(b"007.deb", "content")}, b"pool", 100)
    one = verify(world.state, world.dest / "pool" / "007.deb")
    assert (told(one), one.path, one.files) == ({(b"007.deb", "content")}, b"pool/007.deb", 1)
    assert not verify(world.state, world.dest / "notes").differences
    assert not verify(world.state, world.dest / "link").differences, "the link itself"
    (world.dest / "notes" / "a").unlink()
    assert told(verify(world.state, world.dest / "notes" / "a")) == {(b"a", "missing")}
    (world.dest / "mine").write_text("x")
    assert told(verify(world.state, world.dest / "mine")) == {(b"mine", "extra")}
    with pytest.raises(UsageError, match="there is no"):
        verify(world.state, world.folder / "nowhere")


def test_a_link_to_a_copy_leads_to_it(world: World) -> None:
    world.fetch()
    way = world.folder / "way"
    way.symlink_to(world.dest)
    assert verify(world.state, way).files == 103


def test_a_single_file_is_known_by_the_name_that_it_got(world: World) -> None:
    world.dest.mkdir()
    (world.dest / "other").write_text("not ours")
    world.fetch(world.dest, b"notes/a")
    world.fetch(world.dest / "mine", b"big")
    one = verify(world.state, world.dest / "mine")
    assert (one.path, one.seq, one.bytes, one.differences) == (b"big", 1, len(BIG), [])
    both = verify(world.state, world.dest)
    assert (both.files, both.differences, both.archive) == (2, [], world.publisher.archive)
    damage(world.dest / "mine")
    assert told(verify(world.state, world.dest)) == {(b"mine", "content")}
    assert told(verify(world.state, world.dest / "mine")) == {(b"mine", "content")}
    (world.dest / "a").unlink()
    assert told(verify(world.state, world.dest / "a")) == {(b"a", "missing")}
    with pytest.raises(UsageError, match="not known to hold"):
        verify(world.state, world.dest / "other")


def test_a_single_link_is_held_against_its_target(world: World) -> None:
    world.dest.mkdir()
    world.fetch(world.dest, b"link")
    assert not verify(world.state, world.dest / "link").differences
    stood = (world.dest / "link").lstat().st_mtime_ns
    (world.dest / "link").unlink()
    (world.dest / "link").symlink_to("elsewhere")
    os.utime(world.dest / "link", ns=(stood, stood), follow_symlinks=False)
    assert told(verify(world.state, world.dest / "link")) == {(b"link", "content")}


def test_a_whole_fetch_takes_the_place_of_single_files_in_the_directory(world: World) -> None:
    world.dest.mkdir()
    world.fetch(world.dest / "pool", b"notes/a")
    (world.dest / "pool").unlink()
    world.fetch()
    assert not verify(world.state, world.dest).differences


def test_an_unfinished_fetch_is_told_apart_from_damage(world: World) -> None:
    gone = world.publisher.put(BIG).digest
    for source in world.sources.values():
        source.lacks = lambda digest: digest == gone
    assert world.fetch().exit_code == 23
    done = verify(world.state, world.dest)
    assert (told(done), done.complete, done.missing, done.damaged) == ({(b"big", "missing")}, False, 1, 0)
    damage(world.dest / "notes" / "a")
    assert verify(world.state, world.dest).damaged == 1


def test_what_is_being_fetched_is_told_apart_from_what_was_given_up(world: World) -> None:
    gone = world.publisher.put(BIG).digest
    for source in world.sources.values():
        source.lacks = lambda digest: digest == gone
    world.fetch()
    assert not verify(world.state, world.dest).at_work
    with world.state.lock_place(os.fsencode(world.dest)):
        done = verify(world.state, world.dest / "notes")
        assert (done.at_work, done.complete) == (True, False)
        assert describe(done, 1.0)[-1].startswith("somebody is at work there now")
    assert describe(verify(world.state, world.dest), 1.0)[-1].startswith("NOT complete")


def test_what_an_update_did_not_come_to_is_outdated_and_not_damaged(world: World) -> None:
    world.fetch()
    new = os.urandom(400_000)
    world.publisher.publish(changed(big=new))
    gone = world.publisher.put(new).digest
    for source in world.sources.values():
        source.lacks = lambda digest: digest == gone
    assert world.fetch(delete=Delete.ALL).exit_code == 23
    done = verify(world.state, world.dest)
    assert told(done) == {(b"big", "outdated")}
    assert (done.seq, done.complete, done.missing, done.damaged) == (2, False, 1, 0)
    assert told(verify(world.state, world.dest / "big")) == {(b"big", "outdated")}
    damage(world.dest / "big")
    assert told(verify(world.state, world.dest)) >= {(b"big", "content")}
    for source in world.sources.values():
        source.lacks = lambda digest: False
    assert world.fetch(checksum=True).exit_code == 0
    assert verify(world.state, world.dest)[1:5] == (2, 103, done.bytes, [])


def test_the_same_of_a_part_that_lies_in_dest(world: World) -> None:
    world.publisher.publish({b"d": {b"big": BIG, b"link": Link(b"old")}})
    world.fetch(path=b"d")
    new = os.urandom(400_000)
    world.publisher.publish({b"d": {b"big": new, b"link": Link(b"old")}})
    gone = world.publisher.put(new).digest
    for source in world.sources.values():
        source.lacks = lambda digest: digest == gone
    assert world.fetch(path=b"d").exit_code == 23
    assert told(verify(world.state, world.dest)) == {(b"d/big", "outdated")}


def test_a_single_file_that_did_not_come_is_known_to_be_missing(world: World) -> None:
    gone = world.publisher.put(BIG).digest
    for source in world.sources.values():
        source.lacks = lambda digest: digest == gone
    world.dest.mkdir()
    assert world.fetch(world.dest / "mine", b"big").exit_code == 23
    done = verify(world.state, world.dest / "mine")
    assert (told(done), done.complete) == ({(b"mine", "missing")}, False)


def test_src_says_what_it_says_to_fetch(world: World) -> None:
    world.fetch()
    state, dest = world.state, world.dest
    assert not verify(state, dest, src(world)).differences
    assert not verify(state, dest, src(world, b"pool")).differences
    assert not verify(state, dest / "pool", src(world, b"pool/")).differences
    assert not verify(state, dest, src(world, b"big")).differences
    assert not verify(state, dest / "big", src(world, b"big")).differences
    assert {
        found.difference for found in verify(state, dest / "big", src(world, b"notes/a")).differences
    } >= {Difference.CONTENT}
    with pytest.raises(PartialError, match="no directory of the archive"):
        verify(state, dest, src(world, b"big/"))
    with pytest.raises(PartialError, match="has no 'nosuch'"):
        verify(state, dest, src(world, b"nosuch"))
    with pytest.raises(UsageError, match="fetch or list it first"):
        verify(state, dest, ArchiveUrl(bytes(32)))


def test_what_rules_leave_out_is_counted_and_not_missed(world: World) -> None:
    world.fetch()
    for path in (world.dest / "pool").iterdir():
        path.unlink()
    rules = Filter.parse([b"- /pool/", b"- *.tmp"])
    done = verify(world.state, world.dest, rules=rules)
    assert (done.differences, done.files, done.left_out.files) == ([], 3, 100)
    assert not verify(world.state, world.dest / "notes", rules=rules).differences


def test_a_published_directory_forgets_what_was_fetched_into_it_before(world: World) -> None:
    world.dest.mkdir()
    world.fetch(world.dest / "a", b"notes/a")
    (world.dest / "a").write_text("written since")
    publish(world.state, world.dest)
    assert not verify(world.state, world.dest).differences
    assert not verify(world.state, world.dest / "a").differences


def test_a_newer_head_of_the_same_snapshot_reaches_a_mirror_that_is_not_looked_at(world: World) -> None:
    world.fetch(mirror=True)
    world.publisher.sign(world.publisher.head.snapshot)
    world.fetch(mirror=True, check_dest=False)
    tree = world.state.trees.get(os.fsencode(world.dest))
    assert tree is not None
    assert (tree.seq, tree.snapshot) == (2, world.publisher.head.snapshot)
