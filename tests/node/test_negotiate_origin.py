"""What SRC means where it is no archive, and what hosts say of the archives that they have."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2psync.errors import FileError, OriginChanged, UsageError
from p2psync.format.url import ArchiveUrl, archive_text
from p2psync.negotiate.mapping import Mapped, choose, place, read_mapping
from p2psync.negotiate.origin import LEVELS_MAX, is_origin, parse_origin
from p2psync.negotiate.pins import FOLDER, KNOWN_ARCHIVES, LOOK_AGAIN, WITHOUT, WITHOUT_MAX, Pins

ONE, OTHER = bytes(range(32)), bytes(32)
URL = f"p2psync://{archive_text(ONE)}"
OTHER_URL = f"p2psync://{archive_text(OTHER)}"
NOW = 1_800_000_000


@pytest.mark.parametrize(
    ("text", "shown", "levels", "name"),
    [
        ("rsync://h/m", "rsync://h/m", [b"m"], b""),
        ("rsync://H.Example:873/m/", "rsync://h.example/m/", [b"m"], b""),
        ("rsync://h:8873/m/a/b", "rsync://h:8873/m/a/b", [b"m", b"m/a", b"m/a/b"], b"b"),
        ("rsync://h/m//a/", "rsync://h/m/a/", [b"m", b"m/a"], b""),
        ("rsync://me@h/m/a", "rsync://me@h/m/a", [b"m", b"m/a"], b"a"),
        ("rsync://[::1]:1/m", "rsync://[::1]:1/m", [b"m"], b""),
        ("RSYNCS://h/m", "rsyncs://h/m", [b"m"], b""),
        ("h::m/a b", "rsync://h/m/a b", [b"m", b"m/a b"], b"a b"),
        ("me@h::m", "rsync://me@h/m", [b"m"], b""),
        ("[::1]::m", "rsync://[::1]/m", [b"m"], b""),
        ("rsync://h/m/a*/b", "rsync://h/m/a*/b", [b"m"], b"b"),
        ("rsync://h/m/%20", "rsync://h/m/%20", [b"m", b"m/%20"], b"%20"),
        ("https://h", "https://h/", [b""], b""),
        ("http://h:81/a%20b/c/", "http://h:81/a%20b/c/", [b"", b"a b", b"a b/c"], b""),
        ("mirror.example.org", "mirror.example.org", [b""], b""),
        ("192.0.2.1", "192.0.2.1", [b""], b""),
    ],
)
def test_a_server_is_named_as_rsync_and_browsers_name_it(
    text: str, shown: str, levels: list[bytes], name: bytes
) -> None:
    assert is_origin(text)
    origin = parse_origin(text)
    assert str(origin) == shown
    assert origin.levels() == levels
    assert origin.name == name


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("rsync://h", "names no module"),
        ("rsync://h/", "lists those"),
        ("h::", "names no module"),
        ("rsync:///m", "HOST:PORT"),
        ("rsync://h:99999/m", "below 65536"),
        ("rsync://h/m/../x", "leads elsewhere"),
        ("rsync://me:secret@h/m", "RSYNC_PASSWORD"),
        ("rsync://-oProxyCommand=x/m", "names no host"),
        ("-e@h::m", "no user's name"),
        ("rsync://a b/m", "HOST:PORT"),
        ("rsync://h/m\x1b[31m", "cannot be printed"),
        ("https://h/a?b", "without user"),
        ("https://h/a#b", "without user"),
        ("https://me@h/a", "without user"),
        ("https://h:x/", "not a URL"),
        ("https://h/%2e%2e/a", "leads elsewhere"),
        ("https://h/%00", "leads elsewhere"),
        ("https://", "names no host"),
    ],
)
def test_a_server_that_is_written_wrongly_is_refused_with_the_reason(text: str, why: str) -> None:
    assert is_origin(text)
    with pytest.raises(UsageError, match=why):
        parse_origin(text)


def test_archives_paths_and_ssh_are_no_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in (
        URL,
        URL.removeprefix("p2psync://"),
        "dir",
        "./a.b",
        "a/b.c",
        "host:path",
        "ftp://h/",
        "",
        "h:m::x/",
        "a/b::c",
    ):
        assert not is_origin(text)
    monkeypatch.chdir(tmp_path)
    assert is_origin("notes.txt")
    (tmp_path / "notes.txt").touch()
    assert not is_origin("notes.txt")


def test_only_so_many_directories_are_asked_for_a_head() -> None:
    deep = parse_origin("rsync://h/m/" + "d/" * 50)
    assert len(deep.levels()) == LEVELS_MAX


def test_a_place_has_one_name_however_it_is_written() -> None:
    names = {parse_origin(text).at(b"m/a b") for text in ("rsync://H/m/a b", "h::m/a b/", "me@h::m/a b")}
    assert names == {"rsync://h/m/a%20b"}


# What hosts say.


def test_a_mapping_has_a_line_for_each_directory_and_words_around_it_are_passed_over() -> None:
    text = f"# p2psync://no\nWelcome! Use <{URL}?peer=h:1>.\n/pub/a%20b/ {OTHER_URL}/x/\n{URL}x p2psync://\n"
    assert read_mapping(text) == [
        Mapped(None, ArchiveUrl(ONE, peers=("h:1",))),
        Mapped(b"pub/a b", ArchiveUrl(OTHER, b"x", inside=True)),
    ]


def test_the_line_nearest_to_the_path_counts() -> None:
    mapped = read_mapping(f"{URL}\n/pub {OTHER_URL}/p\n/pub/deep {URL}/d\n/other {OTHER_URL}")
    for path, archive, prefix in (
        (b"", ONE, b""),
        (b"pub", OTHER, b"pub"),
        (b"pub/x", OTHER, b"pub"),
        (b"pub/deep/er", ONE, b"pub/deep"),
        (b"public", ONE, b""),
    ):
        chosen = choose(mapped, path)
        assert chosen is not None
        assert (chosen.url.archive, chosen.prefix) == (archive, prefix)
    assert choose(read_mapping(f"/pub {URL}"), b"elsewhere") is None


def test_two_archives_for_one_directory_are_none() -> None:
    assert choose(read_mapping(f"/pub {URL}\n/pub {OTHER_URL}"), b"pub") is None
    nearer = choose(read_mapping(f"/pub {URL}\n/pub {OTHER_URL}\n/pub/a {URL}"), b"pub/a")
    assert nearer is not None
    assert nearer.prefix == b"pub/a"


def test_a_part_of_an_archive_is_named_below_what_the_line_names() -> None:
    url = ArchiveUrl(ONE, b"x")
    assert place(url, b"a/b", inside=False) == ArchiveUrl(ONE, b"x/a/b")
    assert place(url, b"", inside=True) == ArchiveUrl(ONE, b"x", inside=True)
    assert place(ArchiveUrl(ONE), b"", inside=True) == ArchiveUrl(ONE)


# What is remembered.


def test_a_server_is_held_to_the_archive_that_it_first_named(tmp_path: Path) -> None:
    pins, origin = Pins(tmp_path), parse_origin("rsync://h/m/a b/c")
    assert pins.known(origin) is None
    assert pins.hold(origin, b"m/a b", ONE, "its head")
    assert not pins.hold(origin, b"m/a b", ONE, "its head")
    assert (tmp_path / FOLDER / KNOWN_ARCHIVES).read_text() == f"rsync://h/m/a%20b {URL}\n"
    assert pins.known(origin) == (b"m/a b", ONE)
    assert pins.known(parse_origin("rsync://h/m/a b")) == (b"m/a b", ONE)
    for elsewhere in (
        "rsync://h/m",
        "rsync://h/m/a",
        "rsync://i/m/a b",
        "rsync://h:1/m/a b",
        "rsyncs://h/m/a b",
    ):
        assert pins.known(parse_origin(elsewhere)) is None
    for place_of_it in (b"m/a b", b"m", b"m/a b/c"):
        with pytest.raises(OriginChanged, match="remove the line of rsync://h/m/a%20b from") as refused:
            pins.hold(origin, place_of_it, OTHER, "its head")
    assert refused.value.exit_code == 76
    assert pins.known(origin) == (b"m/a b", ONE)


def test_a_damaged_line_is_named_and_nothing_is_overwritten(tmp_path: Path) -> None:
    pins, origin = Pins(tmp_path), parse_origin("rsync://h/m")
    known = tmp_path / FOLDER / KNOWN_ARCHIVES
    known.parent.mkdir()
    known.write_text(f"# ours\nrsync://h/m {URL[:-1]}\n")
    with pytest.raises(FileError, match="line 2"):
        pins.known(origin)
    with pytest.raises(FileError, match="line 2"):
        pins.hold(origin, b"m", ONE, "its head")
    assert known.read_text().startswith("# ours\n")


def test_a_place_without_an_archive_rests_for_a_day_and_old_places_make_room(tmp_path: Path) -> None:
    pins, origin = Pins(tmp_path), parse_origin("rsync://h/m/a")
    assert not pins.rests(origin, NOW)
    assert pins.note_without(origin, NOW)
    assert not pins.note_without(origin, NOW)
    assert pins.rests(origin, NOW + LOOK_AGAIN - 1)
    assert not pins.rests(origin, NOW + LOOK_AGAIN)
    assert not pins.rests(origin, NOW - 10)  # The clock was put back: nobody knows how long ago it was.
    assert not pins.rests(parse_origin("rsync://h/m"), NOW)
    for number in range(WITHOUT_MAX):
        pins.note_without(parse_origin(f"rsync://h/m/{number}x"), NOW + 1 + number)
    assert not pins.rests(origin, NOW)
    assert len((tmp_path / FOLDER / WITHOUT).read_text().splitlines()) == WITHOUT_MAX
