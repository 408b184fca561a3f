"""The stores of the state directory: what goes in comes out, the greater head wins, bounds hold."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from p2psync.chunking import cut_object
from p2psync.errors import FileError, UsageError
from p2psync.format.head import ArchiveHead, sign_head
from p2psync.format.ids import Ref
from p2psync.format.listing import Totals, dir_entry, encode_listing, file_entry, symlink_entry
from p2psync.format.snapshot import Snapshot
from p2psync.format.url import archive_text
from p2psync.state import MAX_HOLDERS_PER_ARCHIVE, DirRow, FileRow, State
from p2psync.state.files import give
from p2psync.state.garbage import Garbage
from p2psync.state.meta import GC_GRACE
from p2psync_dht import ROLE_HEADS, Delegation, Identity

NOW = 1_800_000_000
WEIRD = (b"-rf", b"\xff\xfe", b"a\nb", b"x" * 255, b" ", b"'")


def head(root: Identity, seq: int, *, epoch: int = 0, payload: bytes = b"s") -> ArchiveHead:
    ref, _ = cut_object(payload)
    return sign_head(
        root, root.public_key, epoch=epoch, seq=seq, snapshot=ref, signed_at=NOW, fresh_until=NOW + 9
    )


def row(name: bytes, digest: bytes = b"d" * 32, size: int = 5) -> FileRow:
    return FileRow(name, size, 1, 2, 3, digest, 4)


def test_directory_is_private_and_identity_stays(tmp_path: Path) -> None:
    with State.open(tmp_path / "deep" / "state") as first:
        assert stat.S_IMODE(first.path.stat().st_mode) == 0o700
        identity = first.identity()
        assert stat.S_IMODE((first.path / "node.key").stat().st_mode) == 0o600
    with State.open(tmp_path / "deep" / "state") as second:
        assert second.identity().public_key == identity.public_key


def test_default_place_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    with State.open() as state:
        assert state.path == tmp_path / "xdg" / "p2psync"
    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path}/systemd:/elsewhere")
    with State.open() as state:
        assert state.path == tmp_path / "systemd"


def test_what_root_makes_in_the_state_directory_of_a_service_is_given_to_the_service(tmp_path: Path) -> None:
    """Where the test is not run by root, the directory is its own, and nothing is given to anybody."""
    path = tmp_path / "state"
    State.open(path).close()
    owner = 12345 if os.geteuid() == 0 else os.geteuid()
    for made in (path, *path.rglob("*")):
        os.chown(made, owner, -1)
    with State.open(path) as state:
        state.identity()
        state.keys.create_root()
        state.contacts_path.write_bytes(b"")
    found = [path, *path.rglob("*")]
    assert {"node.key", "contacts.msgpack"} < {each.name for each in found}
    assert {each.stat().st_uid for each in found} == {owner}


def test_only_files_and_folders_of_the_maker_are_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "outside").write_bytes(b"")
    state = tmp_path / "state"
    (state / "keys").mkdir(parents=True)
    (state / "file").write_bytes(b"")
    (state / "keys" / "key").write_bytes(b"")
    (state / "symbolic").symlink_to(tmp_path / "outside")
    (state / "hard").hardlink_to(tmp_path / "outside")
    os.mkfifo(state / "fifo")
    given: list[str] = []
    monkeypatch.setattr(
        os,
        "fchown",
        lambda fd, user, group: given.append(f"{os.readlink(f'/proc/self/fd/{fd}')} {user} {group}"),
    )
    fd = os.open(state, os.O_RDONLY)
    give(fd, 7, 8, maker=os.getuid() + 1)
    assert given == []
    give(fd, 7, 8, maker=os.getuid())
    os.close(fd)
    assert sorted(given) == [f"{state / name} 7 8" for name in ("file", "keys", "keys/key")]


def test_index_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    with State.open(tmp_path) as state:
        state._db.connection.execute("PRAGMA user_version = 99")
    with pytest.raises(FileError, match="newer p2psync"):
        State.open(tmp_path)


def test_damaged_index_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "index.sqlite").write_bytes(b"this is no database" * 100)
    with pytest.raises(FileError, match=r"index.sqlite is damaged .*: move it"):
        State.open(tmp_path)


def test_tree_rows_survive(state: State) -> None:
    tree = state.trees.ensure(b"/t/\xff", "publish", None)
    tree.archive = b"a" * 32
    tree.snapshot = Ref(7, b"s" * 32)
    tree.options = {"rules": [b"- *.o"], "interval": 3}
    state.trees.update(tree)
    assert state.trees.get(b"/t/\xff") == tree
    assert state.trees.by_archive(b"a" * 32) == [tree]
    with pytest.raises(UsageError, match="another archive"):
        state.trees.ensure(b"/t/\xff", "mirror", b"b" * 32)
    assert state.trees.ensure(b"/t/\xff", "mirror", None).archive == b"a" * 32
    state.trees.put_files(tree.id, b"", [row(b"f")])
    state.trees.remove(tree)
    assert state.trees.all() == []
    assert state.trees.find(b"d" * 32) == []


def test_file_rows_by_directory_and_digest(state: State) -> None:
    tree = state.trees.ensure(b"/t", "publish", None)
    rows = {name: row(name, digest=bytes([i]) * 32) for i, name in enumerate(WEIRD)}
    state.trees.put_files(tree.id, b"a/b", rows.values())
    assert state.trees.files_in(tree.id, b"a/b") == rows
    assert state.trees.files_in(tree.id, b"a") == {}
    (found,) = state.trees.find(b"\1" * 32)
    assert (found.tree_path, found.dir, found.name) == (b"/t", b"a/b", b"\xff\xfe")
    assert set(state.trees.find_many([b"\1" * 32, b"\2" * 32, b"z" * 32])) == {b"\1" * 32, b"\2" * 32}
    state.trees.drop_files(tree.id, b"a/b", WEIRD[1:])
    assert set(state.trees.files_in(tree.id, b"a/b")) == {WEIRD[0]}


def test_inode_numbers_of_64_bits_survive(state: State) -> None:
    tree = state.trees.ensure(b"/t", "publish", None)
    for number in (0, (1 << 63) - 1, 1 << 63, (1 << 64) - 1):
        state.trees.put_files(tree.id, b"", [row(b"f")._replace(ino=number)])
        assert state.trees.files_in(tree.id, b"")[b"f"].ino == number
        assert state.trees.find(b"d" * 32)[0].ino == number
        assert state.trees.find_many([b"d" * 32])[b"d" * 32].ino == number
        state.trees.put_dir(tree.id, b"d", DirRow(b"", Ref(3, b"l" * 32), Totals(), number))
        assert state.trees.dir_by_inode(tree.id, number) == b"d"


def test_dropping_a_directory_spares_its_neighbours(state: State) -> None:
    trees = state.trees
    tree = trees.ensure(b"/t", "publish", None)
    made = DirRow(b"stamp", Ref(3, b"l" * 32), Totals(1, 2, 3, 4), 7)
    for directory in (b"", b"a", b"a/b", b"a/b/c", b"a/b-x", b"a/b0", b"a/c", b"b"):
        trees.put_files(tree.id, directory, [row(b"f")])
        trees.put_dir(tree.id, directory, made)
    assert trees.dirs_in(tree.id, b"a").keys() == {b"b", b"b-x", b"b0", b"c"}
    assert trees.dirs_in(tree.id, b"").keys() == {b"a", b"b"}
    trees.drop_dir(tree.id, b"a/b")
    left = {
        d for d in (b"", b"a", b"a/b", b"a/b/c", b"a/b-x", b"a/b0", b"a/c", b"b") if trees.dir_row(tree.id, d)
    }
    assert left == {b"", b"a", b"a/b-x", b"a/b0", b"a/c", b"b"}
    assert all(bool(trees.files_in(tree.id, d)) == (d in left) for d in (b"a/b", b"a/b/c", b"a/b-x", b"a/b0"))
    assert trees.dir_row(tree.id, b"a/c") == made
    trees.put_dir(tree.id, b"x/y", made._replace(ino=8))
    assert trees.dir_by_inode(tree.id, 8) == b"x/y"
    assert trees.dir_by_inode(tree.id, 9) is None
    trees.drop_dir(tree.id, b"")
    assert trees.dir_row(tree.id, b"") is None


def test_a_failed_transaction_leaves_nothing(state: State) -> None:
    tree = state.trees.ensure(b"/t", "publish", None)
    with pytest.raises(RuntimeError), state.transaction(durable=True):
        state.trees.put_files(tree.id, b"", [row(b"f")])
        raise RuntimeError
    assert state.trees.files_in(tree.id, b"") == {}
    with state.transaction():
        state.trees.put_files(tree.id, b"", [row(b"f")])
    assert set(state.trees.files_in(tree.id, b"")) == {b"f"}


def test_greater_head_stays_and_older_is_refused(state: State) -> None:
    root = Identity.generate()
    old, new, higher = head(root, 1), head(root, 2), head(root, 1, epoch=1)
    assert state.heads.newest(root.public_key) is None
    assert state.heads.put(new, "here")
    assert not state.heads.put(old)
    assert not state.heads.put(new)
    assert state.heads.newest(root.public_key) == new
    assert state.heads.source(root.public_key) == "here"
    assert state.heads.put(higher)
    assert not state.heads.put(new)
    assert state.heads.all() == [higher]


def test_of_two_heads_with_one_place_the_greater_hash_wins_in_any_order(tmp_path: Path) -> None:
    root = Identity.generate()
    pair = [head(root, 1, payload=b"x"), head(root, 1, payload=b"y")]
    for number, order in enumerate((pair, pair[::-1])):
        with State.open(tmp_path / str(number)) as state:
            for one in order:
                state.heads.put(one)
            assert state.heads.newest(root.public_key) == max(pair, key=lambda h: h.order)


def test_holder_records_are_bounded_and_expire(state: State) -> None:
    put = state.holders.put
    assert put(b"a", b"one", node_key=b"n", issued=5, expires=100)
    assert not put(b"a", b"older", node_key=b"n", issued=4, expires=200)
    assert put(b"a", b"two", node_key=b"n", issued=6, expires=150)
    assert state.holders.for_archive(b"a", 100) == [b"two"]
    assert state.holders.for_archive(b"a", 150) == []
    with state.transaction():
        for number in range(MAX_HOLDERS_PER_ARCHIVE + 5):
            put(b"b", b"%d" % number, node_key=b"%d" % number, issued=1, expires=1000 + number)
    kept = state.holders.for_archive(b"b", 0)
    assert len(kept) == MAX_HOLDERS_PER_ARCHIVE
    assert kept[-1] == b"5"
    assert state.holders.prune(1500) == 501 - 5 + 1
    state.holders.drop(b"b", b"1600")
    assert b"1600" not in state.holders.for_archive(b"b", 0)


def keep(state: State, raw: bytes, age: int) -> Ref:
    ref, recipe = cut_object(raw)
    state.meta.put(ref, raw, now=NOW - age)
    if not ref.is_single:
        state.meta.put_recipe(ref.digest, recipe.encode(), now=NOW - age)
    return ref


def test_garbage_goes_and_what_snapshots_name_stays(state: State) -> None:
    old = GC_GRACE + 1
    archive = b"a" * 32
    big = Ref(1 << 20, b"B" * 32)
    refs = []
    listings = []
    for number in range(5):
        inner = keep(state, encode_listing([file_entry(b"f%d" % number, 0o644, number, big)]), old)
        outer = keep(
            state, encode_listing([dir_entry(b"d", 0o755, 1, inner, Totals(files=1, bytes=big.size))]), old
        )
        root = dir_entry(b"", 0o755, 1, outer, Totals(1, 1, 0, big.size))
        refs.append(keep(state, Snapshot(root, number).encode(), old))
        listings.append((inner, outer))
        state.meta.add_snapshot(archive, 0, number, refs[-1])
    state.meta.put_recipe(big.digest, b"recipe", now=NOW - old)
    state.meta.put_recipe(b"x" * 32, b"unused", now=NOW - old)
    fresh = keep(state, b"just fetched", 10)
    tree = state.trees.ensure(b"/t", "mirror", archive)
    tree.snapshot = refs[0]
    state.trees.update(tree)

    assert state.meta.gc(2, now=NOW) == 2 * 3 + 1
    for number in range(5):
        here = number in (0, 3, 4)
        assert state.meta.has(refs[number].digest) == here
        assert all(state.meta.has(listing.digest) == here for listing in listings[number])
    assert [known.seq for known in state.meta.snapshots(archive)] == [4, 3, 0]
    assert state.meta.get(fresh.digest) == b"just fetched"
    assert state.meta.get_recipe(big.digest) == b"recipe"
    assert state.meta.get_recipe(b"x" * 32) is None


def test_what_is_referred_to_while_garbage_is_collected_stays(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between marking and sweeping another writer names an old snapshot, an old listing, and puts an object
    again; nobody has to wait for the collection.
    """
    old = GC_GRACE + 1
    inner = keep(state, encode_listing([]), old)
    listing = keep(state, encode_listing([dir_entry(b"d", 0o755, 1, inner, Totals())]), old)
    snapshot = keep(state, Snapshot(dir_entry(b"", 0o755, 1, listing, Totals(dirs=1)), 1).encode(), old)
    kept = keep(state, encode_listing([symlink_entry(b"l", 1, b"t")]), old)
    again, dead = keep(state, b"again", old), keep(state, b"dead", old)
    tree = state.trees.ensure(b"/t", "mirror", b"a" * 32)

    def write() -> None:
        with State.open(state.path) as other:
            other.meta.add_snapshot(b"a" * 32, 0, 1, snapshot)
            other.trees.put_dir(tree.id, b"", DirRow(b"", kept, Totals(), 1))
            keep(other, b"again", 0)

    real = Garbage._sweep

    def sweep(garbage: Garbage, *args: Any) -> int:
        if args[1] == "objects":
            writer = threading.Thread(target=write)
            writer.start()
            writer.join()
        return real(garbage, *args)

    monkeypatch.setattr(Garbage, "_sweep", sweep)
    assert state.meta.gc(now=NOW) == 1
    assert state.meta.missing(ref.digest for ref in (inner, listing, snapshot, kept, again, dead)) == [
        dead.digest
    ]


def test_putting_an_object_again_keeps_it_from_being_collected(state: State) -> None:
    ref = keep(state, b"object", GC_GRACE + 10)
    keep(state, b"object", 0)
    assert state.meta.gc(now=NOW) == 0
    assert state.meta.missing([ref.digest, b"y" * 32, b"y" * 32]) == [b"y" * 32]


def test_keys_root_and_signing_apart(state: State) -> None:
    keys = state.keys
    archive = keys.create_root()
    root = keys.root(archive)
    assert root is not None and root.public_key == archive
    path = keys.folder / f"{archive_text(archive)}.root.pem"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")
    signer = keys.signing(archive)
    assert signer is not None and signer[0].public_key == archive and signer[1] is None

    signing = keys.create_signing(archive)
    assert keys.create_signing(archive).public_key == signing.public_key
    given = Delegation.sign(root, signing.public_key, epoch=3, roles=ROLE_HEADS, not_before=0, not_after=NOW)
    keys.add_delegation(given)
    pem = keys.export_root(archive)
    keys.remove_root(archive)
    assert keys.root(archive) is None
    signer = keys.signing(archive)
    assert signer is not None and signer[0].public_key == signing.public_key and signer[1] == given
    assert keys.archives() == [archive]
    assert keys.info(archive) == (archive, False, signing.public_key, given)
    assert keys.import_root(pem) == archive
    assert keys.info(archive).has_root
    assert not [name for name in os.listdir(keys.folder) if name.startswith(".")]


def test_keys_that_do_not_fit_are_refused(state: State) -> None:
    archive = state.keys.create_root()
    with pytest.raises(UsageError, match="PEM"):
        state.keys.import_root(b"hello")
    other = Identity.generate()
    stray = Delegation.sign(other, other.public_key, epoch=0, roles=1, not_before=0, not_after=1)
    with pytest.raises(UsageError, match="signing key that is not on this machine"):
        state.keys.add_delegation(stray)
    second = state.keys.create_root()
    folder = state.keys.folder
    os.replace(folder / f"{archive_text(second)}.root.pem", folder / f"{archive_text(archive)}.root.pem")
    with pytest.raises(FileError, match="another archive"):
        state.keys.root(archive)
    assert state.keys.signing(second) is None


def test_a_number_of_a_tree_that_was_forgotten_is_never_used_again(state: State) -> None:
    first = state.trees.ensure(b"/first", "mirror", None)
    last = state.trees.ensure(b"/last", "mirror", None)
    state.trees.remove(last)
    state.trees.remove(first)
    new = state.trees.ensure(b"/new", "mirror", None)
    assert new.id > last.id
    assert state.trees.ensure(b"/newer", "mirror", None).id > new.id
