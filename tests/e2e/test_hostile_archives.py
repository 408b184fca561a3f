"""Archives made to harm who fetches them. Their publisher signs them properly: that is all a signature says.

A clear error and an exit code; nothing outside DEST is touched; memory stays bounded.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.harness import Network
from tests.e2e.impatient import SOON, impatient
from tests.e2e.servers import Background, serving
from tests.node.simulator import MTIME, Publisher, Tree, pack_rows

from p2psync.format.ids import Ref
from p2psync.format.listing import Totals, dir_entry, encode_listing, file_entry
from p2psync.format.recipe import Recipe
from p2psync.format.snapshot import Snapshot
from p2psync.format.url import archive_text

MEMORY_MAX = 256 << 20
"""Bytes of data (setrlimit(2), RLIMIT_DATA) that a client may have."""
FORMAT = 12


def new_publisher() -> Publisher:
    return Publisher(f"hostile {time.time_ns()}", now=int(time.time()))


def url_of(publisher: Publisher) -> str:
    return f"p2psync://{archive_text(publisher.archive)}"


def row_file(publisher: Publisher, name: object, data: bytes = b"hostile") -> list[Any]:
    ref = publisher.put(data)
    return [name, 0, 0o644, MTIME, ref.size, ref.digest]


def row_link(name: object, target: bytes) -> list[Any]:
    return [name, 2, 0o777, MTIME, target]


def row_dir(publisher: Publisher, name: object, tree: Tree) -> list[Any]:
    ref, totals = publisher.add_tree(tree)
    return [name, 1, 0o755, MTIME, ref.size, ref.digest, list(totals)]


def sign_listing(publisher: Publisher, listing: bytes, totals: Totals) -> None:
    """A snapshot whose root is ``listing``, whatever that is."""
    sign_root(publisher, publisher.put(listing), totals)


def sign_root(publisher: Publisher, ref: Ref, totals: Totals) -> None:
    root = dir_entry(b"", 0o755, MTIME, ref, totals)
    publisher.sign(publisher.put(Snapshot(root, publisher.now * 10**9).encode()))


@pytest.fixture
def outside(net: Network) -> Path:
    """What stands beside DEST, and must be the same afterwards."""
    directory = net.path / "outside"
    directory.mkdir()
    (directory / "precious").write_text("precious")
    return directory


def fetch_hostile(
    net: Network, servers: Background, publisher: Publisher, *options: object, expect: int = FORMAT
) -> str:
    """Fetch from the publisher into DEST; the message of the error, or all that was warned of."""
    server = servers.enter(serving(publisher))
    dest = net.path / "outside" / "dest"
    command = net.run(
        "fetch", url_of(publisher), dest, "--source", server.address, *options, state="client", expect=expect
    )
    assert sorted(os.listdir(net.path / "outside")) in (["dest", "precious"], ["precious"])
    assert (net.path / "outside" / "precious").read_text() == "precious"
    event = command.events[-1]
    return str(event["message"]) if event["event"] == "error" else command.stderr


NAMES: dict[str, object] = {
    "parent": b"..",
    "itself": b".",
    "absolute": b"/etc/p2psync-was-here",
    "upwards": b"../precious",
    "slash within": b"a/b",
    "NUL": b"a\0b",
    "empty": b"",
    "too long": b"x" * 256,
    "text": "text",
    "number": 7,
    "nothing": None,
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_names_that_no_directory_holds_are_refused(
    net: Network, servers: Background, outside: Path, name: object
) -> None:
    publisher = new_publisher()
    rows = [row_file(publisher, name)]
    sign_listing(publisher, pack_rows(rows), Totals(files=1, bytes=7))
    message = fetch_hostile(net, servers, publisher)
    assert "name" in message
    assert not (outside / "dest").exists()


def duplicate_names(publisher: Publisher) -> list[Any]:
    return [row_file(publisher, b"same", b"one"), row_file(publisher, b"same", b"two")]


def unsorted_names(publisher: Publisher) -> list[Any]:
    return [row_file(publisher, b"b", b"one"), row_file(publisher, b"a", b"two")]


def link_and_directory(publisher: Publisher) -> list[Any]:
    """A link that leads out, and a directory of the same name to write through it."""
    return [row_link(b"way", b".."), row_dir(publisher, b"way", {b"precious": b"gone"})]


def reserved_state(publisher: Publisher) -> list[Any]:
    return [row_dir(publisher, b".p2psync", {b"head": b"hostile"})]


def reserved_partial(publisher: Publisher) -> list[Any]:
    return [row_dir(publisher, b".p2psync.partial", {b"tmp-0": b"hostile"})]


def reserved_link(publisher: Publisher) -> list[Any]:
    return [row_link(b".p2psync.partial", b"..")]


@pytest.mark.parametrize(
    "make",
    [duplicate_names, unsorted_names, link_and_directory, reserved_state, reserved_partial, reserved_link],
    ids=lambda make: make.__name__,
)
def test_listings_that_are_none_are_refused(
    net: Network, servers: Background, outside: Path, make: Callable[[Publisher], list[Any]]
) -> None:
    publisher = new_publisher()
    rows = make(publisher)
    totals = Totals(*(sum(each) for each in zip(*(_below(row) for row in rows), strict=True)))
    sign_listing(publisher, pack_rows(rows), totals)
    fetch_hostile(net, servers, publisher)
    assert not (outside / "dest").exists()


def _below(row: list[Any]) -> tuple[int, int, int, int]:
    if row[1] == 0:
        return (1, 0, 0, row[4])
    if row[1] == 2:
        return (0, 0, 1, 0)
    files, dirs, links, size = row[6]
    return (files, dirs + 1, links, size)


def test_a_link_that_becomes_a_directory_is_never_written_through(
    net: Network, servers: Background, outside: Path
) -> None:
    """First snapshot: a link out of DEST. Second: files in a directory of that name."""
    publisher = new_publisher()
    rows = [row_link(b"way", b".."), row_link(b"way2", os.fsencode(outside))]
    sign_listing(publisher, pack_rows(rows), Totals(symlinks=2))
    fetch_hostile(net, servers, publisher, expect=0)
    assert (outside / "dest" / "way").is_symlink()
    publisher.publish({b"way": {b"precious": b"gone"}, b"way2": {b"precious": b"gone"}})
    fetch_hostile(net, servers, publisher, expect=0)
    assert (outside / "dest" / "way" / "precious").read_bytes() == b"gone"
    assert not (outside / "dest" / "way").is_symlink()


def test_links_that_stand_in_dest_are_never_followed(
    net: Network, servers: Background, outside: Path
) -> None:
    dest = outside / "dest"
    dest.mkdir()
    (dest / "directory").symlink_to(outside)
    (dest / "file").symlink_to(outside / "precious")
    (dest / ".p2psync.partial").symlink_to(outside)
    publisher = new_publisher()
    publisher.publish({b"directory": {b"precious": b"gone"}, b"file": b"gone"})
    fetch_hostile(net, servers, publisher, expect=0)
    assert (dest / "directory" / "precious").read_bytes() == b"gone"
    assert (dest / "file").read_bytes() == b"gone"


def test_a_recipe_that_lies_about_the_size_is_refused(
    net: Network, servers: Background, outside: Path
) -> None:
    publisher = new_publisher()
    data = os.urandom(300_000)
    true = publisher.put(data)
    lying = Ref(true.size + 1, true.digest)
    entry = file_entry(b"lie", 0o644, MTIME, lying)
    sign_listing(publisher, encode_listing([entry]), Totals(files=1, bytes=lying.size))
    assert "describes 300000 bytes where 300001 were named" in fetch_hostile(net, servers, publisher)
    assert not (outside / "dest" / "lie").exists()


def test_chunks_that_are_longer_than_the_recipe_says_are_refused(
    net: Network, servers: Background, outside: Path
) -> None:
    """The chunk's hash is right, its length is not: the recipe's sum and the object's id still fit."""
    net.program = impatient(*SOON)
    publisher = new_publisher()
    data = os.urandom(70_000)
    recipe = Recipe.of([(publisher.put(data[:10]).digest, 69_999), (publisher.put(b"x").digest, 1)])
    ref = recipe.ref()
    publisher.recipes[ref.digest] = recipe.encode()
    publisher.objects[ref.digest] = data
    entry = file_entry(b"lie", 0o644, MTIME, ref)
    sign_listing(publisher, encode_listing([entry]), Totals(files=1, bytes=ref.size))
    fetch_hostile(net, servers, publisher, expect=23)
    assert not (outside / "dest" / "lie").exists()


def test_a_listing_that_is_larger_than_its_reference_is_refused(
    net: Network, servers: Background, outside: Path
) -> None:
    publisher = new_publisher()
    raw = encode_listing([file_entry(b"file", 0o644, MTIME, publisher.put(b"hostile"))])
    true = publisher.put(raw)
    sign_root(publisher, Ref(true.size - 1, true.digest), Totals(files=1, bytes=7))
    fetch_hostile(net, servers, publisher, expect=23)
    assert not (outside / "dest").exists()


def test_totals_that_do_not_add_up_are_refused(net: Network, servers: Background, outside: Path) -> None:
    publisher = new_publisher()
    raw = encode_listing([file_entry(b"file", 0o644, MTIME, publisher.put(b"hostile"))])
    sign_listing(publisher, raw, Totals(files=1, bytes=8))
    assert "does not hold as much" in fetch_hostile(net, servers, publisher)


def test_endless_nesting_is_refused(net: Network, servers: Background, outside: Path) -> None:
    publisher = new_publisher()
    inner, totals = publisher.put(encode_listing([])), Totals()
    for depth in range(600):
        entry = dir_entry(b"d", 0o755, MTIME, inner, totals)
        inner, totals = publisher.put(encode_listing([entry])), Totals(dirs=depth + 1)
    sign_root(publisher, inner, totals)
    assert "nests directories deeper" in fetch_hostile(net, servers, publisher)
    assert not (outside / "dest").exists()


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "hidden"])
def test_a_directory_bomb_costs_little(
    net: Network, servers: Background, outside: Path, declared: bool
) -> None:
    """Four objects that mean a thousand million directories, with or without saying so."""
    publisher = new_publisher()
    bomb = publisher.directory_bomb(3, 1000)
    if declared:
        publisher.sign(bomb)
    else:
        root = Snapshot.decode(publisher.objects[bomb.digest]).root
        sign_root(publisher, root.ref, Totals(dirs=1000))
    server = servers.enter(serving(publisher))
    # No disk has room for what is declared, and that is said first.
    source = ["--source", server.address, "--no-check-space"]
    command = net.spawn("fetch", url_of(publisher), outside / "dest", *source, state="client")
    resource.prlimit(command.process.pid, resource.RLIMIT_DATA, (MEMORY_MAX, MEMORY_MAX))
    assert command.wait() == FORMAT, command.stderr
    assert server.asked < 10
    assert not (outside / "dest").exists()


def test_a_huge_listing_is_refused_before_it_is_fetched(
    net: Network, servers: Background, outside: Path
) -> None:
    publisher = new_publisher()
    recipe = Recipe.of([(os.urandom(32), 4 << 20) for _ in range(80)])
    publisher.recipes[recipe.ref().digest] = recipe.encode()
    ref = recipe.ref()
    row = [b"huge", 1, 0o755, MTIME, ref.size, ref.digest, [1, 0, 0, 7]]
    sign_listing(publisher, pack_rows([row]), Totals(files=1, dirs=1, bytes=7))
    assert "the size of a directory object" in fetch_hostile(net, servers, publisher)
