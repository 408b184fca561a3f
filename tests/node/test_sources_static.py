"""Plain web servers as complete sources: head, listings, recipes and files, without a node anywhere.

A publisher writes static files; mirrors are copies of the tree, at one moment or in the middle of their own
update, behind servers as they are.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.node.file_server import (
    FileServer,
    Twist,
    answers,
    calls_it_compressed,
    compresses,
    cuts_off,
    ignores_range,
    is_a_portal,
    leads_to,
    lies_about_lengths,
    names_duplicates,
    other_range,
    senseless_range,
    wrong_bytes,
)
from tests.node.publishing import write
from tests.node.static_world import World

from p2psync import Client
from p2psync.errors import NetworkError
from p2psync.format import pack
from p2psync.plan.delete import Delete
from p2psync.sources import static


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        made = World(tmp_path, stack)
        made.publish()
        yield made


async def test_two_mirrors_and_no_node_anywhere(world: World) -> None:
    one, two = world.serve(world.mirror("one")), world.serve(world.mirror("two"))
    done = await world.fetch(one, two)
    assert (done.exit_code, done.seq) == (0, 1)
    assert world.is_equal()
    assert one.asked_below("d")
    assert two.asked_below("d")
    assert world.said == []


def of_static_files(mirror: FileServer) -> list[str]:
    """What it was asked for of them: a URL without a path may be a node's, and is also asked as one."""
    return [path for path in mirror.asked_below("p2psync/") if not path.startswith("p2psync/v1/")]


async def test_metadata_comes_in_few_requests(world: World) -> None:
    mirror = world.serve(world.mirror("one"))
    await world.fetch(mirror)
    assert len(of_static_files(mirror)) == 2  # The head, and the pack.
    world.change()
    newer = world.serve(world.mirror("newer"))
    done = await world.fetch(newer)
    assert done.exit_code == 0
    assert world.is_equal() is False  # Nothing is deleted without --delete.
    assert len(of_static_files(newer)) == 2
    assert not newer.asked_below("d4/")


async def test_a_pack_of_many_rows_and_large_listings_is_read_in_stretches(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(static, "FIRST_BYTES", 300)
    monkeypatch.setattr(static, "ROWS_BYTES", 400)
    for number in range(2500):
        write(world.tree / "many" / f"a rather long name of a file {number:05}", b"")
    world.publish()
    mirror = world.serve(world.mirror("one"))
    assert (await world.fetch(mirror)).exit_code == 0
    assert world.is_equal()
    assert len(mirror.asked_below("p2psync/")) < 30


async def test_the_folder_with_a_dot_is_found_too(world: World) -> None:
    root = world.mirror("one")
    (root / "p2psync").rename(root / ".p2psync")
    assert (await world.fetch(world.serve(root))).exit_code == 0
    assert world.is_equal()


async def test_a_mirror_without_the_folder_gives_files_to_one_that_has_it(world: World) -> None:
    plain = world.mirror("plain")
    shutil.rmtree(plain / "p2psync")
    files, both = world.serve(plain), world.serve(world.mirror("one"))
    assert (await world.fetch(files, both)).exit_code == 0
    assert world.is_equal()
    assert files.asked_below("d")


async def test_a_folder_that_lies_elsewhere_is_named_beside_the_tree(world: World) -> None:
    root = world.mirror("one")
    (root / "p2psync").rename(world.path / "elsewhere")
    tree, folder = world.serve(root), world.serve(world.path / "elsewhere")
    assert (await world.fetch(tree, folder)).exit_code == 0
    assert world.is_equal()
    assert world.said == []
    assert not folder.asked_below("d")


async def test_the_folder_of_another_archive_is_no_head_of_this_one(world: World) -> None:
    mirror = world.serve(world.mirror("one"))
    world.archive = bytes(32)
    with pytest.raises(NetworkError, match="no static files of this archive"):
        await world.fetch(mirror)


async def test_looking_and_listing_need_no_node_either(world: World) -> None:
    mirror = world.serve(world.mirror("one"))
    async with Client(world.path / "state") as client:
        found = await client.list(client.url_of(world.archive), recursive=True, sources=[mirror.url])
    assert len([entry for entry in found.entries if entry.kind == 0]) == 43


# Mirrors that are behind, or in the middle of their own update.


async def test_a_stale_mirror_serves_what_has_not_changed(world: World) -> None:
    stale = world.serve(world.mirror("stale"))
    world.change()
    current = world.serve(world.mirror("current"))
    assert (await world.fetch(stale, current)).exit_code == 0
    assert world.is_equal()
    assert stale.asked_below("d4/")


async def test_a_stale_mirror_alone_gives_the_snapshot_that_it_has(world: World) -> None:
    stale = world.mirror("stale")
    world.change()
    done = await world.fetch(world.serve(stale))
    assert (done.exit_code, done.seq) == (0, 1)
    assert world.is_equal(tree=stale)


async def test_what_was_accepted_once_is_not_taken_back_by_a_stale_mirror(world: World) -> None:
    stale = world.serve(world.mirror("stale"))
    world.change()
    await world.fetch(world.serve(world.mirror("current")))
    done = await world.fetch(stale)
    assert done.seq == 2
    assert any("older head" in text for text in world.said)


def new_head_old_objects(world: World, name: str) -> Path:
    """rsync goes by name: head comes before packs, and what is in d… has not come either."""
    root = world.mirror(name)
    world.change()
    shutil.copy(world.tree / "p2psync" / "head", root / "p2psync" / "head")
    return root


def old_head_new_objects(world: World, name: str) -> Path:
    """Another tool goes the other way, and has removed what is not needed any more."""
    old = (world.tree / "p2psync" / "head").read_bytes()
    listed = (world.tree / "p2psync" / "heads" / "list").read_bytes()
    world.change()
    root = world.mirror(name)
    (root / "p2psync" / "head").write_bytes(old)
    (root / "p2psync" / "heads" / "list").write_bytes(listed)
    return root


async def test_a_new_head_whose_objects_have_not_come_leads_to_the_snapshot_before(world: World) -> None:
    root = new_head_old_objects(world, "updating")
    mirror = world.serve(root)
    done = await world.fetch(mirror)
    assert (done.exit_code, done.seq) == (0, 1)
    assert world.is_equal(tree=root)
    assert any("a mirror may be just being updated" in text for text in world.said)
    # Once it is there, the newest one is taken.
    shutil.copytree(world.tree, root, dirs_exist_ok=True)
    done = await world.fetch(mirror, delete=Delete.ALL)
    assert (done.exit_code, done.seq) == (0, 2)
    assert world.is_equal()


async def test_an_old_head_with_new_objects_gives_what_is_there(world: World) -> None:
    root = old_head_new_objects(world, "updating")
    current = world.serve(world.mirror("current"))
    assert (await world.fetch(world.serve(root), current)).exit_code == 0
    assert world.is_equal()


async def test_two_that_are_caught_in_their_update_make_one_whole(world: World) -> None:
    """One has the head of the newest snapshot and nothing else of it, the other one all but the head."""
    one = world.mirror("one")
    old = (world.tree / "p2psync" / "head").read_bytes()
    world.change()
    shutil.copy(world.tree / "p2psync" / "head", one / "p2psync" / "head")
    two = world.mirror("two")
    (two / "p2psync" / "head").write_bytes(old)
    done = await world.fetch(world.serve(one), world.serve(two))
    assert (done.exit_code, done.seq) == (0, 2)
    assert world.is_equal()


# Servers as they are.

BAD: dict[str, Twist] = {
    "other range": other_range,
    "senseless range": senseless_range,
    "lies about lengths": lies_about_lengths,
    "cuts off": cuts_off,
    "wrong bytes": wrong_bytes,
    "compresses": compresses,
    "portal": is_a_portal,
    "403": answers(403),
    "404": answers(404),
    "416": answers(416),
    "429": answers(429, Retry_After="1"),
    "500": answers(500),
    "503": answers(503),
    "leads to itself": answers(302, Location="/there/there"),
    "leads nowhere": answers(302),
    "leads to no URL": answers(302, Location="http://[x/"),
}


@pytest.mark.parametrize("twist", BAD.values(), ids=BAD.keys())
async def test_whatever_one_server_does_the_other_one_makes_it_whole(world: World, twist: Twist) -> None:
    bad, good = world.serve(world.mirror("bad"), twist), world.serve(world.mirror("good"))
    done = await world.fetch(bad, good)
    assert done.exit_code == 0
    assert world.is_equal()


@pytest.mark.parametrize("twist", [ignores_range, calls_it_compressed], ids=lambda twist: twist.__name__)
async def test_what_can_be_worked_around_is(world: World, twist: Twist) -> None:
    done = await world.fetch(world.serve(world.mirror("one"), twist))
    assert done.exit_code == 0
    assert world.is_equal()
    assert world.said == []


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_server_that_sends_its_readers_elsewhere_is_followed(world: World, status: int) -> None:
    there = world.serve(world.mirror("there"))
    here = world.serve(world.path, leads_to(lambda: there.url, status))
    done = await world.fetch(here)
    assert done.exit_code == 0
    assert world.is_equal()
    assert not here.asked_below("d")  # Where it leads to is known from the head.


async def test_who_sends_away_for_files_alone_names_a_further_source(world: World) -> None:
    root = world.mirror("there")
    there = world.serve(root)

    def twist(reply: Any) -> None:
        if not reply.path.startswith("p2psync/"):
            leads_to(lambda: there.url)(reply)

    done = await world.fetch(world.serve(world.mirror("here"), twist))
    assert done.exit_code == 0
    assert world.is_equal()
    assert there.asked_below("d")


async def test_a_busy_server_is_asked_again_when_it_says(world: World) -> None:
    busy = 2

    def twist(reply: Any) -> None:
        nonlocal busy
        if reply.path.startswith("d") and busy:
            busy -= 1
            answers(429, Retry_After="1")(reply)

    done = await world.fetch(world.serve(world.mirror("one"), twist))
    assert done.exit_code == 0
    assert world.is_equal()


async def test_a_portal_is_called_one(world: World) -> None:
    with pytest.raises(NetworkError):
        await world.fetch(world.serve(world.mirror("one"), is_a_portal))
    assert any("portal" in text for text in world.said)


async def test_mirrors_that_a_server_names_are_asked_too_and_none_twice(world: World) -> None:
    """Each names the other one, and itself; one of them has lost its files meanwhile."""
    servers: list[FileServer] = []
    twist = names_duplicates(lambda: servers[0].url, lambda: servers[1].url)

    def lost(reply: Any) -> None:
        twist(reply)
        if reply.path.startswith("d"):
            answers(404)(reply)

    servers.append(world.serve(world.mirror("one"), lost))
    servers.append(world.serve(world.mirror("two"), twist))
    done = await world.fetch(servers[0])
    assert done.exit_code == 0
    assert world.is_equal()
    assert servers[1].asked_below("d")
    assert len(done.sources) == 2


async def test_damaged_packs_are_not_believed(world: World) -> None:
    """A byte of each object is wrong: nothing is taken, and another mirror has it."""
    root = world.mirror("damaged")
    for path in (root / "p2psync" / "packs").iterdir():
        raw = bytearray(path.read_bytes())
        begin = pack.decode_header(bytes(raw)).data
        raw[begin + 5 :: 40] = bytes(byte ^ 1 for byte in raw[begin + 5 :: 40])
        path.write_bytes(raw)
    assert (await world.fetch(world.serve(root), world.serve(world.mirror("good")))).exit_code == 0
    assert world.is_equal()


async def test_rows_that_name_one_object_again_and_again_are_not_all_read(world: World) -> None:
    """Each listing is said to be at fifty places more, a megabyte long at each."""
    root = world.mirror("hostile")
    for path in (root / "p2psync" / "packs").iterdir():
        raw = path.read_bytes()
        header = pack.decode_header(raw)
        rows = raw[header.begin : header.data]
        more = [
            pack.encode_row(digest, 1 << 20, recipe=False)
            for digest, word in pack.ROW.iter_unpack(rows)
            if word < pack.RECIPE_BIT
        ] * 50
        made = pack.encode_header(header.rows + len(more), header.packs) + rows + b"".join(more)
        with path.open("wb") as file:
            file.write(made + raw[header.data :])
            file.truncate(len(made) + len(raw) + len(more) * (1 << 20))
    done = await world.fetch(world.serve(root))
    assert done.exit_code == 0
    assert world.is_equal()
    assert sum(done.sources.values()) < 2_000_000
