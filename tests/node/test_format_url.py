"""URLs of archives: one spelling of each id, no way out of the archive, hints that can do no harm."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.node.format_strategies import names
from tests.node.simulator import identity

from p2psync.errors import P2psyncError, UsageError
from p2psync.format.limits import NAME_MAX, PATH_MAX
from p2psync.format.url import (
    HINTS_MAX,
    ArchiveUrl,
    archive_text,
    check_path,
    host_and_port,
    host_port,
    parse_archive_text,
)

ARCHIVE = identity("url").public_key
TEXT = archive_text(ARCHIVE)
BASE = f"p2psync://{TEXT}"

hosts = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,20}[a-z0-9])?", fullmatch=True) | st.ip_addresses(v=6).map(
    lambda address: f"[{address}]"
)
peers = st.builds(lambda host, port: f"{host}:{port}", hosts, st.integers(0, 65535))
webs = st.builds(
    lambda scheme, host, tail: f"{scheme}://{host}/{tail}",
    st.sampled_from(["http", "https"]),
    hosts,
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=30),
)
paths = st.lists(names, max_size=5).map(b"/".join).filter(lambda path: len(path) <= PATH_MAX)
urls = st.builds(
    ArchiveUrl,
    st.binary(min_size=32, max_size=32),
    paths,
    st.lists(peers, max_size=4).map(tuple),
    st.lists(webs, max_size=4).map(tuple),
    st.just(False),
).flatmap(lambda url: st.sampled_from([url, url.inner]))


def refused(text: str, match: str | None = None) -> None:
    with pytest.raises(UsageError, match=match):
        ArchiveUrl.parse(text)


@given(urls)
def test_a_url_reads_back_and_prints_the_same(url: ArchiveUrl) -> None:
    text = str(url)
    assert text.isascii()
    assert text.isprintable()
    assert ArchiveUrl.parse(text) == url
    assert str(ArchiveUrl.parse(text)) == text


@given(st.binary(min_size=32, max_size=32))
def test_an_id_reads_back(archive: bytes) -> None:
    text = archive_text(archive)
    assert len(text) == 52
    assert parse_archive_text(text) == archive


# Ids


@pytest.mark.parametrize(
    "text",
    [
        "",
        TEXT[:-1],
        TEXT + "a",
        TEXT.upper(),
        TEXT[:1].upper() + TEXT[1:] if TEXT[0].isalpha() else TEXT[:-2] + "A" + TEXT[-1],
        "1" + TEXT[1:],
        "8" + TEXT[1:],
        TEXT[:-1] + "=",
        TEXT[:-4] + "====",
        "ı" + TEXT[1:],
        "ß" + TEXT[1:],
        " " + TEXT[1:],
        "\n" + TEXT[1:],
        "é" * 52,
        "\udcff" * 52,
    ],
)
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not an archive id"):
        parse_archive_text(text)


def test_the_four_bits_that_mean_nothing_must_be_zero() -> None:
    """52 characters are 260 bits for 256: sixteen spellings of each id, of which one is right."""
    alphabet = "abcdefghijklmnopqrstuvwxyz234567"
    accepted = []
    for last in alphabet:
        try:
            parse_archive_text(TEXT[:-1] + last)
        except UsageError:
            continue
        accepted.append(last)
    assert accepted == ["a", "q"]


# Paths


@pytest.mark.parametrize(
    "path",
    [
        "/..",
        "/../etc",
        "/a/../../b",
        "/.",
        "/a/./b",
        "/a//b",
        "/%2e%2e",
        "/%2E%2e/x",
        "/a%2F..%2Fb",
        "/a%00",
        "/%00",
    ],
)
def test_a_path_that_leads_elsewhere_is_refused(path: str) -> None:
    refused(BASE + path, "not a path inside an archive")


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("", b""),
        ("/", b""),
        ("/a/", b"a"),
        ("/a%20b", b"a b"),
        ("/%FF", b"\xff"),
        ("/é", "é".encode()),
        ("/..a/a..", b"..a/a.."),
        ("/a+b;c=d", b"a+b;c=d"),
        ("/%25", b"%"),
        ("/100%", b"100%"),
    ],
)
def test_a_path_means_its_bytes(path: str, meant: bytes) -> None:
    assert ArchiveUrl.parse(BASE + path).path == meant


def test_paths_and_names_are_bounded_at_their_limits() -> None:
    check_path(b"x" * NAME_MAX)
    check_path(b"x/" * (PATH_MAX // 2) + b"x")
    for path in (b"x" * (NAME_MAX + 1), b"x/" * (PATH_MAX // 2) + b"xx"):
        with pytest.raises(UsageError):
            check_path(path)


@pytest.mark.parametrize(
    ("path", "inside", "name"),
    [("", False, b""), ("/", False, b""), ("/a", False, b"a"), ("/a/b", False, b"b"), ("/a/b/", True, b"")],
)
def test_a_slash_at_the_end_means_what_is_inside_as_in_rsync(path: str, inside: bool, name: bytes) -> None:
    url = ArchiveUrl.parse(BASE + path)
    assert (url.inside, url.name) == (inside, name)
    assert url.inner.name == b""
    assert str(url) == BASE + path.rstrip("/") + "/" * inside


# What is no such URL


@pytest.mark.parametrize(
    "text",
    [
        "",
        "p2psync:",
        "p2psync://",
        "p2psync:///path",
        f"http://{TEXT}",
        f"p2psync:{TEXT}",
        TEXT,
        f"p2psync://user@{TEXT}",
        f"p2psync://{TEXT}:80",
        f"p2psync://[{TEXT}]",
        "p2psync://[::1",
        BASE + "#fragment",
        BASE + "?peer",
        BASE + "?peer=h:1&web",
        f"p2psync://{TEXT.upper()}",
        "p2psync://" + TEXT[:26] + "\n" + TEXT[26:],
        "p2psync://" + TEXT[:26] + "\t" + TEXT[26:],
        BASE + "/a\nb",
        BASE + "/\udcff",
        BASE + "\0",
    ],
)
def test_what_is_no_url_of_an_archive_is_refused(text: str) -> None:
    refused(text)


@given(st.text(max_size=80) | st.text(max_size=40).map(lambda tail: BASE + tail))
def test_any_text_is_a_url_or_a_usage_error(text: str) -> None:
    try:
        url = ArchiveUrl.parse(text)
    except P2psyncError as error:
        assert isinstance(error, UsageError)
        return
    assert ArchiveUrl.parse(str(url)) == url


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TEXT, f"p2psync:// is missing before the id; write p2psync://{TEXT}"),
        (f"{TEXT}/a/b?peer=h:1", f"write 'p2psync://{TEXT}/a/b?peer=h:1'"),
        (
            f"{TEXT}?peer=h:1&web=http://i/it's",
            f"""write 'p2psync://{TEXT}?peer=h:1&web=http://i/it'"'"'s'""",
        ),
        (f"p2sync://{TEXT}?peer=h:1", f"did you mean 'p2psync://{TEXT}?peer=h:1'?"),
        (f"p2psync:{TEXT}/x", f"write p2psync://{TEXT}/x"),
        (f"p2psync:/{TEXT}", f"write p2psync://{TEXT}"),
        (f"p2sync://{TEXT}", f"did you mean p2psync://{TEXT}?"),
        (f"P2PSYNK://{TEXT}", f"did you mean p2psync://{TEXT}?"),
        ("https://example.org/pub", "--source"),
        ("http://example.org", "--source"),
        ("rsync://example.org/pub", "ask rsync servers"),
        ("example.org::pub/x", "ask rsync servers"),
        ("user@example.org:pub", "ssh"),
        ("file:///srv/x", "cp or rsync"),
        ("ftp://example.org/x", "publish prints"),
        ("magnet:?xt=urn:btih:x", "publish prints"),
        ("example.org", "host name alone"),
        ("./here", "SRC comes before DEST"),
        ("", "empty"),
        (BASE[:-1], "it has 51 characters, and an id has 52"),
        (BASE + "a", "it has 53 characters"),
        (f"p2psync://{TEXT.upper()}", f"lower case: {TEXT}"),
        (BASE[:-1] + "z", "ends in a or q, and this one in 'z'"),
        (BASE[:-9] + "1" + BASE[-8:], "'1' is in none"),
        (BASE[:-9] + "0" + BASE[-8:], "o perhaps"),
        ("p2psync://mirror.example.org/x", "host names"),
        (f"{BASE}:8730", "?peer=HOST:PORT"),
        (f"p2psync://me@{TEXT}", "?peer=HOST:PORT"),
        ("p2psync://", "it is empty"),
        (f"{BASE}/a#b", "%23"),
        (f"{BASE}/a#", "%23"),
        (f"{BASE}/wh?at", "%3F"),
        (f"{BASE}?per=h:1", "did you mean peer=HOST:PORT?"),
        (f"{BASE}?Peer=h:1", "did you mean peer=HOST:PORT?"),
        (f"{BASE}?wbe=http://h/", "did you mean web=URL?"),
        (f"{BASE}?source=h:1", "did you mean peer=HOST:PORT?"),
        (f"{BASE}?bootstrap=h:1", "did you mean peer=HOST:PORT?"),
        (f"{BASE}?mirror=http://h/", "did you mean web=URL?"),
        (f"{BASE}?peer", "HOST:PORT"),
        (f"{BASE}?peer=h", "of the hint peer=h: 'h' is not HOST:PORT"),
    ],
)
def test_what_was_probably_meant_is_said(text: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        ArchiveUrl.parse(text)
    assert said in str(refused.value)


def test_what_is_refused_is_repeated_only_as_far_as_it_can_be_read() -> None:
    for text in (
        "x" * 100_000,
        "p2psync://" + "a" * 100_000,
        "p2psinc://" + "a" * 100_000,
        BASE + "#" * 9_999,
    ):
        with pytest.raises(UsageError) as refused:
            ArchiveUrl.parse(text)
        assert len(str(refused.value)) < 600


# Hints


@pytest.mark.parametrize(
    "hint",
    [
        "peer=host",
        "peer=:1",
        "peer=host:65536",
        "peer=host:-1",
        "peer=host:x",
        "peer=host:٣",
        "peer=host:" + "9" * 5000,
        "peer=::1:80",
        "peer=a%20b:80",
        "peer=a%0d%0ab:80",
        "peer=a/b:80",
        "peer=user@host:80",
        "web=ftp://x/",
        "web=mirror.example",
        "web=file:///etc/passwd",
        "web=http://x/%0d%0aHost:%20y",
        "web=http://x/%20y",
        "web=http://x/%00",
        "web=http://x/é",
    ],
)
def test_a_hint_that_cannot_be_used_or_would_smuggle_is_refused(hint: str) -> None:
    refused(f"{BASE}?{hint}")


def test_hints_are_bounded_at_their_limit() -> None:
    for kind, value in (("peer", "h:1"), ("web", "http://h/")):
        full = BASE + "?" + "&".join([f"{kind}={value}"] * HINTS_MAX)
        url = ArchiveUrl.parse(full)
        assert len(url.peers) + len(url.webs) == HINTS_MAX
        refused(f"{full}&{kind}={value}", "hints")
    refused(BASE + "?" + "&".join(["x=y"] * (4 * HINTS_MAX + 1)))


def test_hints_of_newer_writers_are_passed_over() -> None:
    assert ArchiveUrl.parse(BASE + "/p?later=1&peer=h:1") == ArchiveUrl(ARCHIVE, b"p", ("h:1",))


@pytest.mark.parametrize(
    ("text", "default", "found"),
    [
        ("host:80", None, ("host", 80)),
        ("192.0.2.1:0", None, ("192.0.2.1", 0)),
        ("[::1]:65535", None, ("::1", 65535)),
        ("host", 8730, ("host", 8730)),
        ("[::1]", 8730, ("::1", 8730)),
        ("[::1]:5", 8730, ("::1", 5)),
        ("host:5", 8730, ("host", 5)),
        ("[::ffff:192.0.2.1]:5", None, ("192.0.2.1", 5)),
        ("[0:0::FFFF:c000:201]", 8730, ("192.0.2.1", 8730)),
        ("[fe80::1%eth0]:5", None, ("fe80::1%eth0", 5)),
    ],
)
def test_host_and_port(text: str, default: int | None, found: tuple[str, int]) -> None:
    assert host_and_port(text, default) == found


@pytest.mark.parametrize(
    "text", ["", ":", ":1", "::1", "[]:1", "[::1", "a:b:1", "h:", "h:+1", "h: 1", "h:1 ", "[[a]]:1"]
)
def test_what_is_no_host_and_port_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        host_and_port(text)


@pytest.mark.parametrize("host", ["127.0.0.1", "2001:db8::1", "::", "mirror.example.org"])
def test_an_address_is_written_as_it_is_read(host: str) -> None:
    assert host_and_port(host_port(host, 8730)) == (host, 8730)
    assert (":" in host) == host_port(host, 1).startswith("[")
