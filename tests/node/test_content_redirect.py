"""Who is sent to a mirror for a file that he asks for by its path, to which one, and who is served here."""

from __future__ import annotations

import ipaddress
import random
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from tests.node.wire_support import Served, served

from p2psync.content.redirect import MARK, Having, Redirects
from p2psync.format.mirror_list import Mirror
from p2psync.format.url import archive_text
from p2psync.publish import publish
from p2psync_dht import Endpoint

SMALLEST = 1000
CURL = {"User-Agent": "curl/8"}


def mirror(name: str, *ips: str, **options: object) -> Mirror:
    return Mirror(name.encode().ljust(32), tuple(Endpoint(ip, 8730) for ip in ips), **options)  # type: ignore[arg-type]


def tree_in(path: Path) -> Path:
    (path / "a dir").mkdir(parents=True)
    (path / "a dir" / "large").write_bytes(b"x" * SMALLEST)
    (path / "small").write_bytes(b"x" * (SMALLEST - 1))
    (path / "index.html").write_bytes(b"<p>" + b"x" * SMALLEST)
    (path / "link").symlink_to("a dir/large")
    return path


@dataclass
class Door:
    """A node that sends readers on."""

    node: Served
    redirects: Redirects
    session: aiohttp.ClientSession

    def have(self, *mirrors: Mirror) -> None:
        """These have what is shown now."""
        whole = self.node.library.browse(self.node.archive, [])
        assert whole is not None
        self.redirects.mirrors = {self.node.archive: Having(whole.entry.digest, mirrors)}

    async def ask(
        self, path: str, method: str = "GET", **headers: str
    ) -> tuple[int, str | None, aiohttp.ClientResponse]:
        sent = CURL | {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"http://{self.node.address}/{archive_text(self.node.archive)}/{path}"
        async with self.session.request(method, url, headers=sent, allow_redirects=False) as answer:
            await answer.read()
            return answer.status, answer.headers.get("Location"), answer

    async def is_sent(self, path: str = "a%20dir/large", **headers: str) -> bool:
        status, place, _ = await self.ask(path, **headers)
        assert (status == 302) == (place is not None)
        return status == 302


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    redirects = Redirects(SMALLEST, random.Random(1))
    options = {"redirects": redirects}
    async with (
        served(tmp_path, tree_in(tmp_path / "tree"), **options) as node,  # type: ignore[arg-type]
        aiohttp.ClientSession() as session,
    ):
        made = Door(node, redirects, session)
        made.have(mirror("one", "127.0.0.7"))
        yield made


async def test_a_reader_of_a_file_is_sent_to_a_mirror_for_the_very_path(door: Door) -> None:
    archive = archive_text(door.node.archive)
    for method in ("GET", "HEAD"):
        status, place, answer = await door.ask("a%20dir/large", method)
        assert (status, place) == (302, f"http://127.0.0.7:8730/{archive}/a%20dir/large?{MARK}")
        assert answer.headers["Link"] == f"<{place}>; rel=duplicate; pri=1"
        assert answer.headers["Cache-Control"] == "no-store"
    status, place, _ = await door.ask("link")
    assert place == f"http://127.0.0.7:8730/{archive}/link?{MARK}"
    assert door.node.server.counters.redirected == 3


async def test_small_files_directories_and_what_is_not_there_are_answered_here(door: Door) -> None:
    for path, status in (("small", 200), ("", 200), ("a%20dir/", 200), ("a%20dir", 301), ("nothing", 404)):
        assert (await door.ask(path))[0] == status


async def test_nobody_is_sent_on_twice(door: Door) -> None:
    assert not await door.is_sent(f"a%20dir/large?{MARK}")
    assert await door.is_sent("a%20dir/large?other=1")


async def test_p2psync_itself_and_what_does_not_say_what_it_is_are_served_here(door: Door) -> None:
    path = f"http://{door.node.address}/{archive_text(door.node.archive)}/a%20dir/large"
    skipped = ["User-Agent"]
    async with door.session.get(path, allow_redirects=False, skip_auto_headers=skipped) as answer:
        assert answer.status == 200


async def test_nobody_is_sent_from_tls_to_none(door: Door) -> None:
    assert not await door.is_sent(X_Forwarded_Proto="https")
    assert await door.is_sent(X_Forwarded_Proto="http")


async def test_who_has_the_file_already_is_told_so_here(door: Door) -> None:
    tag = f'"{door.node.entry(b"a dir/large").digest.hex()}"'
    assert (await door.ask("a%20dir/large", If_None_Match=tag))[0] == 304
    assert await door.is_sent(If_None_Match='"another"')


async def test_from_the_moment_when_something_newer_is_shown_nobody_is_sent_to_those_who_have_the_older(
    door: Door,
) -> None:
    (door.node.tree / "new").write_bytes(b"x" * SMALLEST)
    publish(door.node.state, door.node.tree)
    assert not await door.is_sent()
    assert not await door.is_sent("new")
    door.have(mirror("one", "127.0.0.7"))
    assert await door.is_sent("new")


async def test_without_a_mirror_that_has_it_everything_is_answered_here(door: Door) -> None:
    door.redirects.mirrors = {}
    assert not await door.is_sent()
    door.have(mirror("one", "127.0.0.7", parts=(b"another dir",)))
    assert not await door.is_sent()
    door.have(mirror("one", "127.0.0.7", parts=(b"a dir",)))
    assert await door.is_sent()


async def test_by_way_of_a_proxy_on_this_machine_the_reader_counts(door: Door) -> None:
    """Who is outside is not sent to an address of this machine."""
    assert not await door.is_sent(X_Forwarded_For="10.0.0.1, 8.8.8.8")
    assert await door.is_sent(X_Forwarded_For="not an address")


def places(mirrors: list[Mirror], client: str, parts: list[bytes] | None = None) -> list[str]:
    return Redirects(0, random.Random(1)).places(mirrors, parts or [b"f"], client)


@pytest.mark.parametrize(
    ("client", "reached"),
    [
        ("127.0.0.1", {"127.0.0.7", "10.0.0.7", "8.8.4.4"}),
        ("10.0.0.1", {"10.0.0.7", "8.8.4.4"}),
        ("8.8.8.8", {"8.8.4.4"}),
        ("2600::1", {"2600::7"}),
    ],
)
def test_readers_are_sent_no_further_inside_than_they_are(client: str, reached: set[str]) -> None:
    mirrors = [mirror(ip, ip) for ip in ("127.0.0.7", "10.0.0.7", "8.8.4.4", "2600::7")]
    assert {place.rpartition(":")[0].strip("[]") for place in places(mirrors, client)} == reached


def test_a_mirror_for_the_readers_network_comes_first_and_that_of_a_site_is_for_nobody_else() -> None:
    inside = (ipaddress.ip_network("8.8.8.0/24"),)
    near, campus = (
        mirror("near", "8.8.4.4", networks=inside),
        mirror("campus", "8.8.4.5", networks=inside, site=True),
    )
    others = [mirror(f"far {number}", f"9.9.9.{number}") for number in range(1, 9)]
    assert set(places([*others, near, campus], "8.8.8.8")[:2]) == {"8.8.4.4:8730", "8.8.4.5:8730"}
    assert "8.8.4.5:8730" not in places([*others, near, campus], "9.9.9.9")


def test_who_weighs_twice_as_much_is_taken_twice_as_often_and_who_weighs_nothing_never() -> None:
    mirrors = [
        mirror("a", "9.9.9.1", weight=100),
        mirror("b", "9.9.9.2", weight=200),
        mirror("c", "9.9.9.3", weight=0),
    ]
    redirects = Redirects(0, random.Random(1))
    taken = Counter(redirects.places(mirrors, [b"f"], "8.8.8.8")[0] for _ in range(3000))
    assert 1.7 < taken["9.9.9.2:8730"] / taken["9.9.9.1:8730"] < 2.3
    assert taken.keys() == {"9.9.9.1:8730", "9.9.9.2:8730"}


async def test_others_are_named_beside_but_not_without_end(door: Door) -> None:
    door.have(*(mirror(str(n), f"127.0.0.{n}") for n in range(1, 20)))
    _, _, answer = await door.ask("a%20dir/large")
    assert answer.headers["Link"].count("rel=duplicate") == 4


async def test_without_being_told_to_a_node_sends_nobody_on(door: Door) -> None:
    door.redirects.smallest = None
    assert not await door.is_sent()
