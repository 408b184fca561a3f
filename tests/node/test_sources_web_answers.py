"""What web servers say about where else to look, and when: what is followed, and what is not."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from p2psync.sources.http.head import ResponseHead
from p2psync.sources.web_answers import (
    LATER_MAX,
    LINKS_MAX,
    base_of,
    duplicates,
    elsewhere,
    is_inner,
    later,
    url_path,
)

HERE = "http://mirror.example.org/pub/a/file"


def head(**headers: str) -> ResponseHead:
    return ResponseHead(200, {name.replace("_", "-"): value for name, value in headers.items()}, 0, True)


@pytest.mark.parametrize(
    ("location", "found"),
    [
        ("https://mirror.example.org/pub/a/file", "https://mirror.example.org/pub/a/file"),
        ("/other/a/file?token=1", "http://mirror.example.org/other/a/file?token=1"),
        ("file", "http://mirror.example.org/pub/a/file"),
        ("//other.example.net/a/file#part", "http://other.example.net/a/file"),
    ],
)
def test_places_that_are_followed(location: str, found: str) -> None:
    assert elsewhere(HERE, location) == found


@pytest.mark.parametrize(
    "location",
    [
        "",
        "ftp://other.example.net/file",
        "file:///etc/passwd",
        "http://[x/",
        "http://h:99999/",
        "http://h:0/",
        "http://user@other.example.net/",
        "http://other.example.net/a b",
        "http://other.example.net/\u00e9",
        "http://other.example.net/" + "x" * 3000,
        "http://127.0.0.1/file",
        "http://[::1]/file",
        "http://10.0.0.1/file",
        "http://169.254.169.254/latest/meta-data",
        "http://[fe80::1]/file",
        "http://localhost:8080/file",
        "http://router.local/file",
    ],
)
def test_places_that_are_not_followed(location: str) -> None:
    assert elsewhere(HERE, location) is None


def test_nobody_is_led_from_tls_to_none() -> None:
    assert elsewhere("https://mirror.example.org/f", "http://mirror.example.org/f") is None


def test_within_a_private_network_others_in_it_may_be_named() -> None:
    assert elsewhere("http://10.0.0.1/f", "http://10.0.0.2/f") == "http://10.0.0.2/f"
    assert is_inner("192.168.1.1")
    assert not is_inner("mirror.example.org")
    assert not is_inner("9.9.9.9")


@pytest.mark.parametrize(
    ("link", "found"),
    [
        ("<http://two.example/x/a/file>; rel=duplicate", ["http://two.example/x/"]),
        ('<http://two.example/x/a/file>; rel="duplicate"; pri=1; geo=de', ["http://two.example/x/"]),
        ('<http://two.example/x/a/file>; pri=1; rel="alternate Duplicate"', ["http://two.example/x/"]),
        (
            "<http://two.example/a/file>; rel=duplicate, <http://three.example/a/file>;rel=duplicate",
            ["http://two.example/", "http://three.example/"],
        ),
        ("<http://two.example/x/a/file.asc>; rel=describedby", []),
        ("<http://two.example/x/a/file>", []),
        ("<http://two.example/x/another/file>; rel=duplicate", []),
        ("<http://two.example/x/a/file?q=1>; rel=duplicate", []),
        ("<http://127.0.0.1/a/file>; rel=duplicate", []),
        ("<<<>>>;;;rel=duplicate", []),
        ("", []),
    ],
)
def test_duplicates_are_trees_that_have_the_same_file(link: str, found: list[str]) -> None:
    assert list(duplicates(HERE, "a/file", head(link=link))) == found


def test_of_very_many_links_some_are_looked_at() -> None:
    link = ", ".join(f"<http://m{number}.example/a/file>; rel=duplicate" for number in range(500))
    assert len(list(duplicates(HERE, "a/file", head(link=link)))) == LINKS_MAX


def test_the_tree_of_a_file() -> None:
    assert base_of(HERE, "a/file") == "http://mirror.example.org/pub/"
    assert base_of(HERE, "pub/a/file") == "http://mirror.example.org/"
    assert base_of(HERE, "b/file") is None
    assert url_path("http://h/a b/%41/?x") == "/a%20b/%41"


NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ("5", 5.0),
        ("100000", LATER_MAX),
        ("-5", 0.0),
        ("soon", 0.0),
        ("9" * 400, 0.0),
        ("\u0665", 0.0),
        (format_datetime(datetime.fromtimestamp(NOW + 20, UTC), usegmt=True), 20.0),
        (format_datetime(datetime.fromtimestamp(NOW - 20, UTC), usegmt=True), 0.0),
        ("", 0.0),
    ],
)
def test_when_a_busy_server_wants_to_be_asked_again(told: str, seconds: float) -> None:
    assert later("it", head(retry_after=told), NOW).seconds == seconds
