"""Where seed lists come from and whom they are believed: real DNS and HTTP on loopback, and attacks by
name."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web
from tests.node.seeds_servers import Zone, dns_server, txt, web_server

from p2psync.errors import FileError, NetworkError, P2psyncError, TrustError, UsageError
from p2psync.network.seeds.ask import fetch_url
from p2psync.network.seeds.book import FRESH_FOR, KNOWN_KEYS, SeedBook
from p2psync.network.seeds.find import FOLDER, JOIN_SEEDS, SOURCES_MAX, Seeds, join, some
from p2psync.network.seeds.query import Kind, SeedQuery, is_domain, parse_dns, seed_query, split
from p2psync.network.seeds.seedlist import LIST_MAX, key_text, sign, text_for_dns
from p2psync_dht import DhtNode, Identity

NOW = 1_800_000_000
DAY = 86400
KEY = Identity.from_seed(bytes(range(32)))
OTHER = Identity.from_seed(bytes(32))
URL = "https://example.org/seeds"


class Clock:
    """Unix time that a test sets. Files have the machine's time, so it begins there."""

    def __init__(self) -> None:
        import time

        self.now = time.time()

    def __call__(self) -> float:
        return self.now


def a_list(
    *seeds: str, identity: Identity = KEY, issued: float = NOW, days: int = 30, successor: bytes | None = None
) -> bytes:
    return sign(
        identity,
        seeds or ("boot.example:1",),
        issued=int(issued),
        expires=int(issued) + days * DAY,
        successor=successor,
    )


# ---- whom to believe
# ------------------------------------------------------------------------------------------


@pytest.fixture
def book(tmp_path: Path) -> SeedBook:
    return SeedBook(tmp_path / FOLDER)


def test_the_first_key_of_a_source_is_pinned_and_kept_readable(book: SeedBook, tmp_path: Path) -> None:
    query = seed_query(URL)
    assert book.pin(query) is None
    book.take(query, a_list(), NOW)
    assert book.pin(query) == KEY.public_key
    assert (tmp_path / FOLDER / KNOWN_KEYS).read_text() == f"{URL} {key_text(KEY.public_key)}\n"


def test_another_key_is_refused_and_the_message_says_what_to_do(book: SeedBook) -> None:
    query = seed_query(URL)
    book.take(query, a_list(), NOW)
    with pytest.raises(TrustError, match=r"known_keys.*--seeds-key"):
        book.take(query, a_list(identity=OTHER, issued=NOW + DAY), NOW + DAY)
    kept = book.kept(query, NOW + DAY)
    assert kept is not None
    assert kept.list.key == KEY.public_key


def test_a_successor_that_the_pinned_key_named_takes_over(book: SeedBook) -> None:
    query = seed_query(URL)
    book.take(query, a_list(successor=OTHER.public_key), NOW)
    book.take(query, a_list("new.example:1", identity=OTHER, issued=NOW + DAY), NOW + DAY)
    assert book.pin(query) == OTHER.public_key
    with pytest.raises(TrustError):
        book.take(query, a_list(issued=NOW + 2 * DAY), NOW + 2 * DAY)


def test_a_key_given_by_hand_counts_and_pins_nothing(book: SeedBook) -> None:
    query = seed_query(URL, keys=(OTHER.public_key,))
    with pytest.raises(TrustError, match="not by"):
        book.take(query, a_list(), NOW)
    book.take(query, a_list(identity=OTHER), NOW)
    assert book.pin(query) is None


def test_an_older_list_is_not_taken_back(book: SeedBook) -> None:
    query = seed_query(URL)
    book.take(query, a_list(issued=NOW), NOW)
    book.take(query, a_list(issued=NOW), NOW)
    with pytest.raises(TrustError, match="older"):
        book.take(query, a_list(issued=NOW - DAY), NOW)


def test_an_expired_list_is_not_taken(book: SeedBook) -> None:
    with pytest.raises(TrustError, match="expired on 2027-01-16"):
        book.take(seed_query(URL), a_list(days=1), NOW + 2 * DAY)


def test_a_kept_list_is_checked_again_when_it_is_read(book: SeedBook, tmp_path: Path) -> None:
    query = seed_query(URL)
    book.take(query, a_list(), NOW)
    (kept,) = (tmp_path / FOLDER).glob("*.toml")
    kept.write_bytes(kept.read_bytes().replace(b"boot", b"evil"))
    assert book.kept(query, NOW) is None


def test_a_damaged_list_of_keys_names_file_and_line(book: SeedBook, tmp_path: Path) -> None:
    book.take(seed_query(URL), a_list(), NOW)
    (tmp_path / FOLDER / KNOWN_KEYS).write_text("# mine\nexample.org nonsense\n")
    with pytest.raises(FileError, match="known_keys, line 2"):
        book.pin(seed_query(URL))


# ---- what may be asked
# ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        ("seeds.toml", Kind.FILE, "seeds.toml"),
        ("./seeds", Kind.FILE, "./seeds"),
        ("https://a.example/x", Kind.URL, "https://a.example/x"),
        ("Example.ORG.", Kind.DOMAIN, "example.org"),
    ],
)
def test_a_text_names_a_file_a_url_or_a_domain(text: str, kind: Kind, name: str) -> None:
    query = seed_query(text, (KEY.public_key,), "127.0.0.1:53")
    assert (query.kind, query.name) == (kind, name)
    assert SeedQuery.parse(str(query)) == query
    assert split(["a:1", str(query), "b:2"]) == (["a:1", "b:2"], [query])


@pytest.mark.parametrize(
    "text",
    ["", "localhost", "1.2.3.4", "::1", "a..b", "-a.b", "a b.c", "ftp://a/b", "https://", "https://u@a/", "http://a/x",
     "https://a:b/", "https://a/\n", "https://a/ b", "https://a/" + "x" * 3000, "x" * 300 + ".org"],
)  # fmt: skip
def test_what_is_no_source_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        seed_query(text)


def test_plain_http_needs_a_key_since_anybody_on_the_way_could_sign() -> None:
    with pytest.raises(UsageError, match="--seeds-key"):
        seed_query("http://a.example/x")
    assert seed_query("http://a.example/x", (KEY.public_key,)).kind is Kind.URL


def test_dns_servers_are_addresses() -> None:
    assert parse_dns("127.0.0.1") == "127.0.0.1:53"
    assert parse_dns("[::1]:99") == "[::1]:99"
    with pytest.raises(UsageError, match="IP address"):
        parse_dns("dns.example")
    assert is_domain("a.b")


# ---- the web
# --------------------------------------------------------------------------------------------------

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def answering(body: bytes, status: int = 200, **headers: str) -> Answer:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, body=body, headers=headers)

    return answer


async def test_a_list_from_a_web_server(tmp_path: Path) -> None:
    clock = Clock()
    raw = a_list("boot.example:7", issued=clock.now)
    async with web_server(answering(raw)) as url:
        seeds = Seeds(tmp_path, [seed_query(url + "/x", (KEY.public_key,))], clock=clock)
        assert await seeds.find() == ["boot.example:7"]
        assert seeds.expiries() == {url + "/x": int(clock.now) + 30 * DAY}
    # The server is gone; the list is kept, at first because it is fresh, then for want of a better one.
    assert await seeds.find() == ["boot.example:7"]
    assert seeds.remembered
    clock.now += FRESH_FOR + 1
    assert await seeds.find() == ["boot.example:7"]
    assert not seeds.remembered
    clock.now += 60 * DAY
    assert await seeds.find() == ["boot.example:7"]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (answering(b"x" * (LIST_MAX * 4)), "more than"),
        (answering(b"", 404), "answers 404"),
        (answering(b"<html>"), "not signed"),
        (answering(b"", 302, Location="http://example.org/"), "not https://"),
        (answering(b"", 302, Location="file:///etc/passwd"), "not https://"),
        (answering(b"", 302), "not https://"),
        (answering(b"", 301, Location="https://a b/"), "not an https:// URL"),
    ],
)
async def test_hostile_web_servers(answer: Answer, message: str, tmp_path: Path) -> None:
    async with web_server(answer) as url:
        book = SeedBook(tmp_path)
        with pytest.raises(P2psyncError, match=message):
            book.take(seed_query(URL), await fetch_url(url + "/x"), NOW)


async def test_a_web_server_that_is_silent_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2psync.network.seeds.ask.ASK_TIMEOUT", 0.2)

    async def silent(_: web.Request) -> web.Response:
        await asyncio.sleep(60)
        raise AssertionError

    async with web_server(silent) as url:
        with pytest.raises(NetworkError, match="did not answer"):
            await fetch_url(url)


async def test_https_is_verified(tmp_path: Path) -> None:
    """A certificate that nobody vouches for is no https:// server."""
    key, certificate = tmp_path / "k.pem", tmp_path / "c.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
        "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
         "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise AssertionError("no request may come")

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(NetworkError, match="certificate"):
            await fetch_url(f"https://localhost:{port}/x")
    finally:
        server.close()


# ---- DNS
# ------------------------------------------------------------------------------------------------------

SRV = ("_p2psync._udp.example.test", "SRV")
TXT = ("_p2psync-seeds.example.test", "TXT")


async def found(tmp_path: Path, zone: Zone, clock: Clock, *keys: bytes) -> list[str]:
    async with dns_server(zone) as server:
        return await Seeds(tmp_path, [seed_query("example.test", keys, server)], clock=clock).find(fresh=True)


async def test_srv_records_name_seeds(tmp_path: Path) -> None:
    zone = Zone(
        {
            SRV: ["20 0 99 far.example.test.", "10 0 7 near.example.test.", "10 0 7 gone.example.test."],
            ("near.example.test", "A"): ["192.0.2.1", "192.0.2.2"],
            ("far.example.test", "AAAA"): ["2001:db8::1"],
        }
    )
    seeds = await found(tmp_path, zone, Clock())
    assert sorted(seeds[:2]) == ["192.0.2.1:7", "192.0.2.2:7"]
    assert seeds[2:] == ["[2001:db8::1]:99"], "by priority"
    assert not (tmp_path / FOLDER).exists(), "what nobody signed is not remembered"


async def test_srv_that_says_there_is_no_such_service(tmp_path: Path) -> None:
    assert await found(tmp_path, Zone({SRV: ["0 0 0 ."]}), Clock()) == []


async def test_a_signed_list_in_dns_wins_over_srv(tmp_path: Path) -> None:
    clock = Clock()
    raw = a_list("boot.example:5", issued=clock.now)
    zone = Zone(
        {
            TXT: ['"v=spf1 -all"', txt(text_for_dns(raw))],
            SRV: ["0 0 7 near.example.test."],
            ("near.example.test", "A"): ["192.0.2.1"],
        }
    )
    assert await found(tmp_path, zone, clock) == ["boot.example:5"]


async def test_who_has_signed_once_is_not_believed_unsigned(tmp_path: Path) -> None:
    """An attacker on the way drops the signed list and adds SRV records of his own."""
    clock = Clock()
    assert await found(tmp_path, Zone({TXT: [txt(text_for_dns(a_list(issued=clock.now)))]}), clock)
    attack = Zone({SRV: ["0 0 7 evil.example.test."], ("evil.example.test", "A"): ["203.0.113.1"]})
    assert await found(tmp_path, attack, clock) == ["boot.example:1"]


async def test_a_list_of_another_key_is_refused_and_the_old_one_used(tmp_path: Path) -> None:
    clock = Clock()
    assert await found(tmp_path, Zone({TXT: [txt(text_for_dns(a_list(issued=clock.now)))]}), clock)
    forged = a_list("evil.example:1", identity=OTHER, issued=clock.now)
    assert await found(tmp_path, Zone({TXT: [txt(text_for_dns(forged))]}), clock) == ["boot.example:1"]


async def test_only_forged_lists_are_an_error_and_not_a_missing_network(tmp_path: Path) -> None:
    clock = Clock()
    forged = a_list("evil.example:1", identity=OTHER, issued=clock.now)
    with pytest.raises(TrustError):
        await found(tmp_path, Zone({TXT: [txt(text_for_dns(forged))]}), clock, KEY.public_key)


async def test_dns_answers_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2psync.network.seeds.ask.ASK_TIMEOUT", 0.5)
    for raw in (b"", b"\xff" * 10, b"\x81\x80" + b"\x00\x01" * 200):
        assert await found(tmp_path, Zone(raw=raw), Clock()) == []


# ---- files and several sources
# --------------------------------------------------------------------------------


async def test_a_file_may_be_unsigned_since_its_user_wrote_it(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text('seeds = ["a.example:1"]\n')
    assert await Seeds(tmp_path, [seed_query(str(file))]).find() == ["a.example:1"]
    with pytest.raises(TrustError):
        await Seeds(tmp_path, [seed_query(str(file), (KEY.public_key,))]).find()


async def test_a_dead_source_does_not_hold_up_a_living_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    given_up = False

    async def silent(_: web.Request) -> web.Response:
        nonlocal given_up
        try:
            await asyncio.sleep(3600)
        finally:
            given_up = True
        raise AssertionError

    async with web_server(silent) as dead, web_server(answering(a_list(issued=clock.now))) as alive:
        queries = [seed_query(f"{url}/x", (KEY.public_key,)) for url in (dead, alive)]
        queries.append(seed_query(str(tmp_path / "none.toml")))
        seeds = Seeds(tmp_path, queries, clock=clock)
        assert await seeds.find() == ["boot.example:1"]
        assert not given_up
        await seeds.find(fresh=True)
    assert [record.message for record in caplog.records if "none.toml" in record.message] == [
        f"seeds of {tmp_path}/none.toml: cannot read the seed list {tmp_path}/none.toml: "
        "No such file or directory"
    ], "said once, however often it is asked"


@pytest.mark.parametrize(
    "crowd",
    [
        [f"198.51.100.{number}:8730" for number in range(1, 127)],
        [f"198.51.{number}.1:8730" for number in range(126)],
        [f"[2001:db8:{number:x}::1]:8730" for number in range(126)],
        [f"victim.example.net:{port}" for port in range(1, 127)],
        [f"n{number}.attacker.example:8730" for number in range(126)],
        [f"10.0.{number}.1:8730" for number in range(126)],
    ],
)
def test_a_seed_list_full_of_one_network_keeps_nobody_else_out(crowd: list[str]) -> None:
    honest = ["192.0.2.1:8730", "boot.example.org:8730"]
    for _ in range(20):
        asked = some([*crowd, *honest])
        assert len(asked) == JOIN_SEEDS
        assert {("192.0.2.1", 8730), ("boot.example.org", 8730)} <= set(asked)


def test_sources_are_bounded(tmp_path: Path) -> None:
    queries = [seed_query(f"s{i}.example") for i in range(100)]
    assert len(Seeds(tmp_path, queries).queries) == SOURCES_MAX


# ---- joining
# --------------------------------------------------------------------------------------------------


async def node(network: str = "127.0.0.1") -> DhtNode:
    return await DhtNode.start(Identity.generate(), network, 0)


async def test_seeds_are_asked_only_when_what_is_known_leads_nowhere(tmp_path: Path) -> None:
    zone = Zone()
    async with dns_server(zone) as server, await node() as known, await node() as ours:
        seeds = Seeds(tmp_path, [seed_query("example.test", (), server)])
        assert await join(ours, [known.address], seeds) == 1
        assert zone.asked == []


async def test_seeds_that_are_remembered_but_dead_are_asked_for_anew(tmp_path: Path) -> None:
    clock = Clock()
    file = tmp_path / "dead"
    file.write_text("")
    async with await node() as living, await node() as ours:
        host, port = living.address
        lists = [a_list("127.0.0.1:9", issued=clock.now - 60), a_list(f"{host}:{port}", issued=clock.now)]

        async def answer(_: web.Request) -> web.Response:
            return web.Response(body=lists.pop(0))

        async with web_server(answer) as url:
            seeds = Seeds(tmp_path, [seed_query(f"{url}/x", (KEY.public_key,))], clock=clock)
            await seeds.find()
            assert await join(ours, [], seeds) == 1
            assert lists == []
