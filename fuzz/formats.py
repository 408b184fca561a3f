"""Targets for what p2psync itself reads from strangers: objects, messages between nodes, HTTP heads, lists of
seeds, URLs. Whole streams are `streams`'.

Each takes bytes, and raises where a decoder breaks its promise: it returns what its format allows, or
refuses with the error that it documents. What it accepts it writes again in the same bytes, if there is one
way to write it. What a DHT node reads is `targets`.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from aiohttp import web

from fuzz.world import HOLDER, NOW, ROOT
from p2psync.content.pages import parse_target
from p2psync.content.request import NOT_PLAIN, parse_request
from p2psync.errors import FormatError, TrustError, UsageError
from p2psync.format import pack
from p2psync.format.attributes import Attributes, decode_attributes, encode_attributes
from p2psync.format.canonical import encode
from p2psync.format.coverage import Coverage
from p2psync.format.head import decode_head
from p2psync.format.ids import Ref, object_id
from p2psync.format.limits import CHUNK_MIN
from p2psync.format.listing import (
    Totals,
    decode_listing,
    dir_entry,
    encode_listing,
    file_entry,
    read_listing,
    symlink_entry,
)
from p2psync.format.mirror_list import (
    MIRRORS_MAX,
    PLACES_MAX,
    Mirror,
    decode_mirrors,
    encode_mirrors,
)
from p2psync.format.recipe import Recipe
from p2psync.format.snapshot import Snapshot
from p2psync.format.url import ArchiveUrl, archive_text, host_and_port, host_port
from p2psync.negotiate.mapping import choose, place, read_mapping
from p2psync.negotiate.origin import LEVELS_MAX, is_origin, parse_origin
from p2psync.network.seeds import seedlist
from p2psync.network.seeds.seedlist import DOMAIN, SEEDS_MAX, TXT_STRING_MAX, from_dns, key_text
from p2psync.network.server import Server
from p2psync.sources import packing, wire
from p2psync.sources.http.head import parse_chunk_line, parse_response_head
from p2psync.sources.web_answers import LATER_MAX, duplicates, elsewhere, later
from p2psync_dht import Endpoint, Head
from p2psync_dht.scope import pack_ip

ASKED_ABOUT: Final = 3  # digests in the question whose answer is fuzzed
DIGEST: Final = bytes(range(32))
ASKED_ROWS: Final = [(DIGEST, 0, 5), (DIGEST, 5, 300)]  # in the question whose answer is fuzzed
ROOM: Final = 1000  # bytes that a compressed answer may have
WEB: Final = "https://a.example/tree/"
PATH: Final = "d/file"  # of what was asked for there


def snapshot(data: bytes) -> None:
    """A snapshot object."""
    assert Snapshot.decode(data).encode() == data


def listing(data: bytes) -> None:
    """A directory object; once accepted, it is read in another way."""
    entries = decode_listing(data)
    assert encode_listing(entries) == data
    assert read_listing(data) == entries


def recipe(data: bytes) -> None:
    """A recipe under the hash that names it, of an object whose size the first four bytes say."""
    raw = data[4:]
    named = Ref(int.from_bytes(data[:4], "big"), object_id(raw))
    assert Recipe.decode(raw, named).encode() == raw


def attributes(data: bytes) -> None:
    """The attributes of a directory."""
    decode_attributes(data)


def archive_head(data: bytes) -> None:
    """What a node gives as the head of an archive."""
    assert decode_head(data).raw == data


def mirror_list(data: bytes) -> None:
    """A list of recommended mirrors; what is left of one without a newer writer's elements is the same."""
    mirrors = decode_mirrors(data)
    assert decode_mirrors(encode_mirrors(mirrors)) == mirrors
    assert len(mirrors) <= MIRRORS_MAX
    for mirror in mirrors:
        assert mirror.near(["192.0.2.1", "2001:db8::1"]) in (True, False)
        assert 0 < len(mirror.places) <= PLACES_MAX
        assert all(place.url or pack_ip(place.ip) for place in mirror.places)


def static_files(data: bytes) -> None:
    """The list of heads that a web server has, or the beginning of a pack; the first byte says which."""
    raw = data[1:]
    if data[:1] > b"\x7f":
        places = pack.decode_list(raw)
        assert pack.decode_list(pack.encode_list(places)) == places
        return
    header = pack.decode_header(raw)
    assert len(header.packs) <= pack.PACKS_MAX
    index = pack.Index(header)
    index.add(raw[header.begin : header.data])
    at = header.data
    for row in range(index.known):
        begin, length = index.place(row)
        assert (begin, 0 < length <= pack.LENGTH_MAX) == (at, True)
        at += length
    assert index.size == at
    assert all(row < index.known for row in index.rows_of(DIGEST, recipe=False))


def message(data: bytes) -> None:
    """Bodies of requests and answers between nodes; the first byte says which."""
    if not data:
        return
    kinds: tuple[Callable[[bytes], Any], ...] = (
        wire.decode_batch,
        wire.decode_have,
        lambda raw: wire.decode_have_answer(raw, ASKED_ABOUT),
        wire.decode_recipes,
        lambda raw: wire.decode_recipes_answer(raw, ASKED_ABOUT),
        wire.decode_holders,
        wire.decode_info,
        lambda raw: wire.decode_blocks_answer(raw, ASKED_ROWS),
        lambda raw: wire.decode_packed_answer(raw, ASKED_ROWS),
        lambda raw: packing.unpack(raw, ROOM, "it"),
        wire.decode_mirrors,
    )
    kinds[data[0] % len(kinds)](data[1:])


def http_request(data: bytes) -> None:
    """The head of a request, and its target as the path of a page."""
    made = parse_request(data)
    if made is not NOT_PLAIN:
        assert made.target.isprintable()
    archive, parts, _slash = parse_target(data.decode("utf-8", "surrogateescape"))
    assert len(archive) == len(ROOT.public_key)
    assert not any(part in (b"", b".", b"..") or b"/" in part or b"\0" in part for part in parts)


def http_response(data: bytes) -> None:
    """The head of an answer, or a line before a chunk."""
    if data[:1] == b"\0":
        assert parse_chunk_line(data[1:]) >= 0
        return
    made = parse_response_head(data[1:], bodiless=data[:1] == b"\1")
    assert made.length is None or made.length >= 0


def coverage(data: bytes) -> None:
    """What a holder record says that its node has; further fields are a later version's."""
    made = Coverage.decode(data)
    assert Coverage.decode(made.encode()) == made


def seed_list(data: bytes) -> None:
    """A list of seeds, from a web server or a TXT record; a signature that is right is put below it where the
    first byte says so, since a fuzzer cannot make one.
    """
    raw = data[1:]
    if data[:1] > b"\x7f":
        raw = from_dns([raw[at : at + TXT_STRING_MAX] for at in range(0, len(raw), TXT_STRING_MAX)])
    if data[:1] and data[0] & 1:
        body = raw if raw.endswith(b"\n") else raw + b"\n"
        signature = base64.b64encode(ROOT.sign(body, domain=DOMAIN)).decode().rstrip("=")
        raw = body + f"#signature {key_text(ROOT.public_key)} {signature}\n".encode()
    made = seedlist.decode(raw, now=NOW, unsigned=not data[:1] or not data[0] & 2)
    assert 0 < len(made.seeds) <= SEEDS_MAX
    for text in made.seeds:
        assert host_port(*host_and_port(text)) == text
        assert text.isascii() and text.isprintable()
    assert made.key in (None, ROOT.public_key)
    assert made.key is None or made.expires is not None


def web_answer(data: bytes) -> None:
    """Where the answer of a web server leads: to another place, to mirrors, to a later time."""
    head = parse_response_head(data, bodiless=True)
    found = elsewhere(f"{WEB}{PATH}", head.headers.get("location", ""))
    if found is not None:
        assert found.startswith("https://") and found.isascii() and found.isprintable()
        assert Server.web(found.partition("?")[0]).tls
    for base in duplicates(f"{WEB}{PATH}", PATH, head):
        assert base.endswith("/")
        assert Server.web(base).tls
    assert 0 <= later("host", head, NOW).seconds <= LATER_MAX


def url(data: bytes) -> None:
    """An archive's URL, or an address with a port."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        host, port = host_and_port(text, 8730)
    except UsageError:
        made = ArchiveUrl.parse(text)
        assert ArchiveUrl.parse(str(made)) == made
    else:
        assert host_and_port(host_port(host, port)) == (host, port)


def server_name(data: bytes) -> None:
    """A server of another kind, as SRC names it."""
    text = data.decode("utf-8", "surrogateescape")
    if not is_origin(text):
        raise UsageError("it names no server")
    origin = parse_origin(text)
    assert parse_origin(str(origin)) == origin
    assert len(origin.levels()) <= LEVELS_MAX
    for level in origin.levels():
        assert not origin.at(level).split()[1:]


def host_words(data: bytes) -> None:
    """What a host says of its archives, and the path that is asked for, behind a NUL."""
    text, _, path = data.partition(b"\0")
    mapped = read_mapping(text.decode("utf-8", "replace"))
    path = path.strip(b"/")
    for root in (b"", path.partition(b"/")[0]):
        found = choose(mapped, path, root)
        if found is not None:
            prefix = found.prefix or b""
            assert not prefix or path == prefix or path.startswith(prefix + b"/")
            part = place(found.url, path[len(prefix) :].strip(b"/"), inside=True)
            assert part.archive == found.url.archive
            assert part.path.startswith(found.url.path)


FORMATS: Final[dict[str, Callable[[bytes], None]]] = {
    one.__name__: one
    for one in (
        snapshot,
        listing,
        recipe,
        attributes,
        archive_head,
        mirror_list,
        static_files,
        message,
        http_request,
        http_response,
        coverage,
        seed_list,
        web_answer,
        url,
        server_name,
        host_words,
    )
}
REFUSALS: Final = (FormatError, TrustError, UsageError, web.HTTPNotFound)
"""What a decoder may say to bytes that are not what it reads."""


def check(name: str, data: bytes) -> None:
    """Run a target; refusing is keeping the promise."""
    try:
        FORMATS[name](data)
    except REFUSALS:
        return


TARGETS: Final = {name: partial(check, name) for name in FORMATS}


def seeds(name: str) -> list[bytes]:
    """A few inputs that a target accepts, or nearly."""
    return _SEEDS[name]()


def _listing() -> bytes:
    link = symlink_entry(b"c", 1, b"a")
    folder = dir_entry(b"b", 0o755, 1, Ref(60, DIGEST), Totals(1, 1))
    return encode_listing([file_entry(b"a", 0o644, 1, Ref(5, DIGEST)), folder, link])


def _snapshot() -> bytes:
    return Snapshot(dir_entry(b"", 0o755, 1, Ref(60, DIGEST), Totals(1, 1)), 1).encode()


def _recipe() -> bytes:
    length = max(CHUNK_MIN, 1 << 16)
    made = Recipe(1, 2 * (DIGEST + length.to_bytes(4, "big"))).encode()
    return (2 * length).to_bytes(4, "big") + made


def _head() -> bytes:
    payload = encode([60, DIGEST])
    root = ROOT.public_key
    return Head.sign(ROOT, root, epoch=0, seq=1, payload=payload, signed_at=NOW, fresh_until=NOW + 60).raw


def _mirror_list() -> bytes:
    networks = (ipaddress.ip_network("192.0.2.0/24"), ipaddress.ip_network("2001:db8::/32"))
    places = (Endpoint("192.0.2.1", 8730), Endpoint("2001:db8::1", 8730))
    node = Mirror(ROOT.public_key, places, 7, (b"a", b"b"), NOW, 9, networks, True)
    return encode_mirrors([node, Mirror(b"", (Endpoint(url="https://a.example/b"),))])


def _static_files() -> list[bytes]:
    rows = pack.encode_row(DIGEST, 5, recipe=False) + pack.encode_row(DIGEST, 9, recipe=True)
    return [b"\0" + pack.encode_header(2, [DIGEST]) + rows, b"\x80" + pack.encode_list([(0, 7), (1, 1)])]


def _messages() -> list[bytes]:
    bodies = (
        wire.encode_batch([(DIGEST, 0, 5), (DIGEST, 5, 7)]),
        wire.encode_have([DIGEST] * ASKED_ABOUT),
        wire.encode_have_answer([True, False, b"\x05"]),
        wire.encode_recipes([DIGEST]),
        wire.encode_recipes_answer([_recipe()[4:], None, b"1"]),
        wire.encode_holders([HOLDER.raw]),
        wire.encode_info(wire.Info("0" * 40, ROOT.public_key, "1", (ROOT.public_key,))),
        wire.encode_blocks_answer([[(b"012345", 5)], None]),
        b"\0\0\0\5hello\xff\xff\xff\xff",
        packing.pack(b"hello"),
        wire.encode_mirrors(_head(), _mirror_list()),
    )
    return [bytes([number]) + body for number, body in enumerate(bodies)]


def _requests() -> list[bytes]:
    page = f"/{archive_text(ROOT.public_key)}/a%20b/c?x#y"
    return [f"GET {page} HTTP/1.1\r\nHost: a\r\nRange: bytes=1-2".encode(), page.encode()]


def _responses() -> list[bytes]:
    heads = (
        "200 OK\r\nContent-Length: 5",
        "206 Partial Content\r\nContent-Range: bytes 1-2/9\r\nTransfer-Encoding: chunked",
        "404 Not Found\r\nConnection: close\r\nContent-Length: 0",
    )
    return [b"\x002a;b=c", *(b"\x02HTTP/1.1 " + head.encode() for head in heads)]


def _seed_lists() -> list[bytes]:
    made = seedlist.sign(ROOT, ["a.example:1", "[::1]:8730"], issued=NOW, expires=NOW + 60, successor=DIGEST)
    in_dns = "".join(seedlist.text_for_dns(made)).encode()
    return [b"\0" + made, b"\x80" + in_dns, b"\1" + made.rpartition(b"#")[0], b'\0seeds = ["a"]']


def _web_answers() -> list[bytes]:
    heads = (
        f"302 Found\r\nLocation: https://b.example/x/{PATH}",
        "307 x\r\nLocation: //[::1]:1/y?z#a",
        f'200 OK\r\nLink: <https://c.example/{PATH}>; rel="a duplicate"; pri=1, <../d/{PATH}>; rel=duplicate',
        "503 x\r\nRetry-After: Fri, 31 Dec 2027 23:59:59 GMT",
        "429 x\r\nRetry-After: 12",
    )
    return [b"HTTP/1.1 " + head.encode() for head in heads]


def _urls() -> list[bytes]:
    full = f"p2psync://{archive_text(ROOT.public_key)}/a/?peer=[::1]:8730&web=https://a.example/b"
    return [full.encode(), b"origin.example.org:8730", b"[::ffff:10.0.0.1]:1"]


def _server_names() -> list[bytes]:
    return [
        b"rsync://me@h:8873/module/a/b/",
        b"me@[::1]::module/a b",
        b"rsyncs://h.example/module",
        b"https://h:81/a%20b/c/",
        b"mirror.example.org",
    ]


def _host_words() -> list[bytes]:
    full = f"p2psync://{archive_text(ROOT.public_key)}/a?peer=[::1]:8730"
    words = [f"/pub/a%20b {full}\n# no\n{full}", f"Welcome! Use <{full}>.", f"/m {full}\n/m/x {full}x"]
    return [word.encode() + b"\0pub/a b/c" for word in words]


_SEEDS: Final[dict[str, Callable[[], list[bytes]]]] = {
    "snapshot": lambda: [_snapshot()],
    "listing": lambda: [_listing()],
    "recipe": lambda: [_recipe()],
    "attributes": lambda: [encode_attributes([Attributes(b"a", {"x": 1}, Ref(60, DIGEST))])],
    "archive_head": lambda: [_head()],
    "mirror_list": lambda: [_mirror_list()],
    "static_files": _static_files,
    "message": _messages,
    "http_request": _requests,
    "http_response": _responses,
    "coverage": lambda: [Coverage(True, 0, 7).encode()],
    "seed_list": _seed_lists,
    "web_answer": _web_answers,
    "url": _urls,
    "server_name": _server_names,
    "host_words": _host_words,
}
