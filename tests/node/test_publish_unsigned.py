"""Publishing where the key lives on a machine without the files: what is passed on, and what is believed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.node.publishing import NOW, write

from p2psync.cli.armor import HEAD, UNSIGNED, armor, unarmor
from p2psync.errors import FormatError, TrustError, UsageError
from p2psync.events import Teller, Warned
from p2psync.format.canonical import encode
from p2psync.format.head import decode_head
from p2psync.format.ids import Ref, chunk_id
from p2psync.format.unsigned import Unsigned
from p2psync.publish import publish
from p2psync.publish.unsigned import complete, prepare, sign
from p2psync.state import State


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[State]:
    with State.open(tmp_path / "vault") as made:
        yield made


@pytest.fixture
def archive(vault: State, tree: Path) -> bytes:
    write(tree / "sub" / "file", b"one")
    return vault.keys.create_root()


def test_a_snapshot_goes_there_and_comes_back_as_a_head(
    state: State, vault: State, tree: Path, archive: bytes
) -> None:
    made = prepare(state, tree, archive=archive, now=NOW)
    assert (made.files, made.changed) == (1, True)
    assert state.heads.newest(archive) is None
    head = sign(vault, Unsigned.decode(made.request.encode()), now=NOW + 5)
    assert (head.epoch, head.seq, head.signed_at) == (0, 1, NOW + 5)
    done = complete(state, tree, head.raw, now=NOW + 10)
    assert done.head == state.heads.newest(archive) == head
    assert done.snapshot.root.totals.files == 1
    assert state.keys.archives() == []
    write(tree / "sub" / "file", b"second")
    second = sign(vault, prepare(state, tree, now=NOW + 20).request, now=NOW + 30)
    assert complete(state, tree, second.raw, now=NOW + 40).head.seq == 2


def test_static_files_stay_as_they_are_until_the_head_is_back(
    state: State, vault: State, tree: Path, archive: bytes
) -> None:
    first = sign(vault, prepare(state, tree, archive=archive, static=True, now=NOW).request, now=NOW)
    assert not (tree / "p2psync" / "head").exists()
    complete(state, tree, first.raw, now=NOW)
    assert decode_head((tree / "p2psync" / "head").read_bytes()) == first
    write(tree / "new", b"new")
    second = sign(vault, prepare(state, tree, now=NOW + 1).request, now=NOW + 1)
    assert decode_head((tree / "p2psync" / "head").read_bytes()) == first
    complete(state, tree, second.raw, now=NOW + 1)
    assert decode_head((tree / "p2psync" / "head").read_bytes()) == second
    assert complete(state, tree, second.raw, now=NOW + 2).head == second  # Once more does no harm.


def test_what_nothing_changed_in_can_be_signed_again(
    state: State, vault: State, tree: Path, archive: bytes
) -> None:
    first = sign(vault, prepare(state, tree, archive=archive, now=NOW).request, now=NOW)
    complete(state, tree, first.raw, now=NOW)
    made = prepare(state, tree, now=NOW + 1000)
    assert not made.changed
    again = complete(state, tree, sign(vault, made.request, now=NOW + 1000).raw, now=NOW + 1000)
    assert (again.head.seq, again.head.snapshot) == (2, first.snapshot)


def test_the_first_time_it_has_to_be_said_which_archive_it_is(state: State, tree: Path) -> None:
    with pytest.raises(UsageError, match="--archive"):
        prepare(state, tree, now=NOW)


def test_only_a_head_of_the_last_snapshot_is_taken(
    state: State, vault: State, tree: Path, archive: bytes
) -> None:
    old = sign(vault, prepare(state, tree, archive=archive, now=NOW).request, now=NOW)
    write(tree / "new", b"new")
    made = prepare(state, tree, now=NOW + 1)
    with pytest.raises(UsageError, match="not of the snapshot"):
        complete(state, tree, old.raw, now=NOW + 2)
    assert state.heads.newest(archive) is None
    other = vault.keys.create_root()
    stranger = sign(vault, made.request._replace(archive=other), now=NOW + 2)
    with pytest.raises(UsageError, match="another archive"):
        complete(state, tree, stranger.raw, now=NOW + 2)
    with pytest.raises(FormatError):
        complete(state, tree, b"no head", now=NOW + 2)


def test_a_head_that_is_older_than_what_is_known_is_refused(
    state: State, vault: State, tree: Path, archive: bytes
) -> None:
    made = prepare(state, tree, archive=archive, now=NOW)
    first = sign(vault, made.request, now=NOW)
    state.heads.put(
        sign(vault, made.request._replace(snapshot=Ref(3, chunk_id(b"abc"))), now=NOW), "elsewhere"
    )
    with pytest.raises(TrustError, match="older than head 2"):
        complete(state, tree, first.raw, now=NOW)


def test_a_head_from_the_future_is_refused(state: State, vault: State, tree: Path, archive: bytes) -> None:
    head = sign(vault, prepare(state, tree, archive=archive, now=NOW).request, now=NOW + 10_000)
    with pytest.raises(TrustError, match="clock"):
        complete(state, tree, head.raw, now=NOW)


def test_whoever_signs_gives_each_head_a_number_of_its_own(
    state: State, vault: State, tree: Path, archive: bytes
) -> None:
    request = prepare(state, tree, archive=archive, now=NOW).request
    said: list[str] = []
    tell = Teller(lambda event: said.append(event.text) if isinstance(event, Warned) else None)
    assert sign(vault, request, now=NOW, tell=tell).seq == 1
    assert said == []
    assert sign(vault, request, now=NOW, tell=tell).seq == 2
    assert len(said) == 1
    assert sign(vault, request._replace(last=(0, 9)), now=NOW, tell=tell).seq == 10


def test_who_has_no_key_signs_nothing(state: State, tree: Path, archive: bytes) -> None:
    with pytest.raises(UsageError, match="no key"):
        sign(state, prepare(state, tree, archive=archive, now=NOW).request, now=NOW)


def test_a_machine_that_has_the_key_can_go_on_by_itself(vault: State, tree: Path, archive: bytes) -> None:
    prepare(vault, tree, archive=archive, now=NOW)
    assert publish(vault, tree, now=NOW + 1).head.seq == 1


FIELDS = Unsigned(bytes(32), Ref(3, chunk_id(b"abc")), (1, 2), 60)


def test_what_is_to_be_signed_survives_the_way() -> None:
    assert Unsigned.decode(FIELDS.encode()) == FIELDS
    assert unarmor(b"mail\n" + armor(FIELDS.encode(), UNSIGNED) + b"more", UNSIGNED) == FIELDS.encode()
    assert unarmor(armor(b"x", HEAD), UNSIGNED) is None
    with pytest.raises(UsageError, match="unsigned head is damaged"):
        unarmor(armor(FIELDS.encode(), UNSIGNED)[:-20], UNSIGNED)


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"v": True},
        {"archive": bytes(31)},
        {"snapshot": [0, b""]},
        {"snapshot": [1 << 20, bytes(32)]},
        {"last": [0]},
        {"last": [-1, 0]},
        {"fresh": 1 << 40},
        {"more": bytes(500)},
    ],
)
def test_what_is_damaged_is_not_signed(change: dict[str, object]) -> None:
    value = {"v": 1, "archive": bytes(32), "snapshot": [3, bytes(32)], "last": [0, 0], "fresh": 1} | change
    with pytest.raises(FormatError):
        Unsigned.decode(encode(value))


def test_three_commands_in_one_line(tmp_path: Path, tree: Path) -> None:
    write(tree / "file", b"content")
    program = [sys.executable, "-m", "p2psync"]

    def run(*words: str, data: bytes = b"") -> bytes:
        done = subprocess.run([*program, *words], input=data, stdout=subprocess.PIPE, check=True)
        return done.stdout

    here, there = ["--state", str(tmp_path / "here")], ["--state", str(tmp_path / "there")]
    url = run("key", "new", *there).split()[0].decode()
    request = run("publish", "--unsigned", "--static", str(tree), "--archive", url, *here)
    head = run("key", "sign", *there, data=request)
    assert run("publish", "--head", "-", str(tree), *here, data=head).decode().strip() == url
    assert (tree / "p2psync" / "head").exists()
