"""What others are told of what a user has fetched: nothing but what is offered, whatever they ask by name."""

from __future__ import annotations

import asyncio
import http.client
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.node.wire_support import Served, served

from p2psync.client import Client
from p2psync.content.library import StateLibrary
from p2psync.content.server import ContentServer
from p2psync.daemon.mirrors import register
from p2psync.fetch.options import FetchOptions
from p2psync.format.listing import Entry, Kind
from p2psync.format.url import ArchiveUrl, archive_text
from p2psync.publish import publish
from p2psync.sources import wire
from p2psync.state import State

LARGE = 300_000
"""Bytes of a file that has a recipe."""


class Names(NamedTuple):
    """What somebody may ask for by name who has an archive: an answer tells who else has it."""

    archive: bytes
    objects: dict[str, bytes]
    recipe: bytes


def names(of: Served, archive: bytes) -> Names:
    found = of.library.browse(archive, ())
    assert found is not None and found.directory is not None
    entries: dict[bytes, Entry] = {entry.name: entry for entry in found.directory.piece(0)}
    (inner,) = (entry for entry in entries.values() if entry.kind is Kind.DIR)
    (tree,) = of.state.trees.by_archive(archive)
    assert tree.snapshot is not None
    return Names(
        archive,
        {
            "snapshot": tree.snapshot.digest,
            "root": found.entry.digest,
            "directory": inner.digest,
            "file": entries[b"small"].digest,
            "large file": entries[b"large"].digest,
        },
        entries[b"large"].digest,
    )


class Asked(NamedTuple):
    """What a server said."""

    given: list[str]
    """The objects that it gave."""
    told: bool
    """Whether it said in any other way that it has something of the archive."""


def ask(address: tuple[str, int], of: Names) -> Asked:
    connection = http.client.HTTPConnection(*address)

    def status(method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read()

    text = archive_text(of.archive)
    given = [
        what
        for what, digest in of.objects.items()
        if status("GET", f"{wire.PREFIX}/object/{digest.hex()}")[0] == 200
    ]
    digests = list(of.objects.values())
    _, have = status("POST", wire.HAVE_PATH, wire.encode_have(digests))
    rows = [(digest, 0, 1) for digest in digests]
    _, batch = status("POST", wire.BATCH_PATH, wire.encode_batch(rows))
    told = [
        status("GET", f"{wire.PREFIX}/recipe/{of.recipe.hex()}")[0] == 200,
        any(wire.decode_have_answer(have, len(digests))),
        batch != wire.ROW_LENGTH.pack(wire.NOT_HERE) * len(digests),
        status("GET", f"{wire.PREFIX}/archive/{text}/head")[0] == 200,
        status("GET", f"/{text}/")[0] == 200,
        text.encode() in status("GET", "/")[1],
        of.archive in wire.decode_info(status("GET", wire.INFO_PATH)[1]).archives,
    ]
    connection.close()
    assert not any(told) or all(told), told
    return Asked(given, all(told))


ALL = Asked(["snapshot", "root", "directory", "file", "large file"], True)
NOTHING = Asked([], False)


@asynccontextmanager
async def serving(state: State, archive: bytes | None = None) -> AsyncIterator[tuple[str, int]]:
    library = StateLibrary(state, archive=archive)
    server = await ContentServer.start(library, "127.0.0.1", 0, node_key=state.identity().public_key)
    try:
        yield server.address[:2]
    finally:
        await server.close()
        library.close()


class Case(NamedTuple):
    """A client, and two archives that a server has."""

    client: Client
    server: str
    first: Names
    second: Names
    folder: Path

    async def take(self, of: Names, *, mirror: bool = False, share: bool | None = None) -> None:
        """Fetch or mirror one of them into a directory of its own."""
        into = self.folder / archive_text(of.archive)
        call = self.client.mirror if mirror else self.client.fetch
        url = ArchiveUrl(of.archive)
        await call(url, into, sources=[self.server], share=share, listen=("127.0.0.1", 0))

    async def node_says(self, of: Names) -> Asked:
        async with serving(self.client.state) as address:
            return await asyncio.to_thread(ask, address, of)


def tree(at: Path, name: str) -> Path:
    (at / "inner").mkdir(parents=True)
    (at / "small").write_text(f"only in {name}")
    (at / "large").write_bytes(os.urandom(LARGE))
    (at / "inner" / "file").write_text(f"of {name}")
    (at / "empty").write_text("")
    return at


@pytest.fixture
async def case(tmp_path: Path) -> AsyncIterator[Case]:
    async with served(tmp_path, tree(tmp_path / "first", "the first")) as origin:
        second = publish(origin.state, tree(tmp_path / "second", "the second")).archive
        async with Client(tmp_path / "state") as client:
            yield Case(client, origin.address, names(origin, origin.archive), names(origin, second), tmp_path)


async def test_a_fetch_offers_its_own_archive_and_none_that_was_fetched_before(case: Case) -> None:
    await case.take(case.first)
    await case.take(case.second)
    async with serving(case.client.state, case.second.archive) as address:
        assert await asyncio.to_thread(ask, address, case.second) == ALL
        assert await asyncio.to_thread(ask, address, case.first) == NOTHING


async def test_a_fetch_offers_no_mirror_of_another_archive(case: Case) -> None:
    await case.take(case.first, mirror=True)
    await case.take(case.second)
    async with serving(case.client.state, case.second.archive) as address:
        assert await asyncio.to_thread(ask, address, case.first) == NOTHING


async def test_a_node_offers_mirrors_and_neither_files_nor_metadata_of_what_was_fetched(case: Case) -> None:
    await case.take(case.first)
    await case.take(case.second, mirror=True)
    assert await case.node_says(case.second) == ALL
    assert await case.node_says(case.first) == NOTHING


async def test_a_mirror_that_is_not_shared_is_not_served_by_a_later_node(case: Case) -> None:
    await case.take(case.first, mirror=True, share=False)
    assert await case.node_says(case.first) == NOTHING


async def test_who_does_not_say_whether_to_share_does_as_the_last_time(case: Case) -> None:
    await case.take(case.first, mirror=True, share=False)
    await case.take(case.first, mirror=True)
    assert await case.node_says(case.first) == NOTHING
    await case.take(case.first, mirror=True, share=True)
    assert await case.node_says(case.first) == ALL
    await case.take(case.first, mirror=True)
    assert await case.node_says(case.first) == ALL


async def test_what_was_fetched_for_oneself_is_served_in_whole_once_it_is_mirrored(case: Case) -> None:
    await case.take(case.first, share=False)
    await case.take(case.first, mirror=True, share=True)
    assert await case.node_says(case.first) == ALL


async def test_another_directory_of_an_archive_is_shared_as_the_first_one(case: Case) -> None:
    await case.take(case.first, share=False)
    state = case.client.state
    made = register(state, FetchOptions(ArchiveUrl(case.first.archive), bytes(case.folder / "another")))
    assert made.id not in state.offers.public()


async def test_a_copy_for_oneself_takes_no_mirror_of_the_same_archive_from_others(case: Case) -> None:
    await case.take(case.first, mirror=True)
    await case.client.fetch(
        ArchiveUrl(case.first.archive), case.folder / "copy", sources=[case.server], share=False
    )
    assert await case.node_says(case.first) == ALL


async def test_a_metadata_object_that_two_archives_have_goes_with_the_one_that_is_offered(case: Case) -> None:
    state = case.client.state
    await case.take(case.first)
    await case.take(case.second, mirror=True)
    shared = case.first.objects["directory"]
    assert not state.offers.offers(shared)
    state.offers.note(case.second.archive, [shared])
    assert state.offers.offers(shared)


async def test_forgetting_a_directory_forgets_that_it_was_not_shared(case: Case) -> None:
    await case.take(case.first, mirror=True, share=False)
    state = case.client.state
    (known,) = state.trees.by_archive(case.first.archive)
    state.trees.remove(known)
    assert not state.offers.is_withheld(case.first.archive)


async def test_listing_an_archive_tells_nobody_that_it_was_looked_at(case: Case) -> None:
    await case.client.list(ArchiveUrl(case.first.archive), sources=[case.server])
    assert await case.node_says(case.first) == NOTHING
