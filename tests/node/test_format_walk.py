"""Paths and links within an archive lead where the kernel leads, and never out."""

from __future__ import annotations

import os
import tempfile
from operator import itemgetter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2psync.format.ids import EMPTY
from p2psync.format.listing import NO_TOTALS, Entry, Kind, dir_entry, file_entry, symlink_entry
from p2psync.format.walk import LINKS_MAX, LeadsNowhere, NotThere, walk

Tree = dict[str, "Tree | str | None"]
"""Directories; files (None); links (their targets)."""

TREE: Tree = {
    "pool": {"a": {"file": None}, "up": "..", "here": "."},
    "dists": {"stable": {"main": {"Packages": None}}, "bookworm": "stable", "deb": "bookworm/main/"},
    "top": "pool/a",
    "file": None,
    "to-file": "file",
    "absolute": "/etc",
    "out": "../x",
    "deep-out": "pool/../../x",
    "dangling": "nothing",
    "loop": "loop",
    "round": "about",
    "about": "round",
}


def entry(name: str, what: Tree | str | None) -> Entry:
    raw = name.encode()
    if isinstance(what, dict):
        return dir_entry(raw, 0o755, 0, EMPTY, NO_TOTALS)
    return file_entry(raw, 0o644, 0, EMPTY) if what is None else symlink_entry(raw, 0, what.encode())


class Listings:
    """The listings of a tree. Directories are told apart by the entries that stand for them."""

    def __init__(self, tree: Tree) -> None:
        self.root = entry("", tree)
        self._inside: dict[int, list[Entry]] = {}
        self._keep(self.root, tree)

    def _keep(self, directory: Entry, tree: Tree) -> None:
        self._inside[id(directory)] = [
            entry(name, what) for name, what in sorted(tree.items(), key=itemgetter(0))
        ]
        for each in self._inside[id(directory)]:
            what = tree[each.name.decode()]
            if isinstance(what, dict):
                self._keep(each, what)

    def __call__(self, directory: Entry) -> list[Entry]:
        return self._inside[id(directory)]


def lead(path: str, *, follow_last: bool = True, tree: Tree = TREE) -> Entry:
    listings = Listings(tree)
    return walk(listings.root, path.encode(), listings, follow_last=follow_last)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("", b""),
        ("dists/bookworm", b"stable"),
        ("dists/bookworm/main/Packages", b"Packages"),
        ("dists/deb/Packages", b"Packages"),
        ("top/file", b"file"),
        ("to-file", b"file"),
        ("pool/up/pool/here/a/file", b"file"),
        ("pool/up", b""),
    ],
)
def test_links_are_followed(path: str, name: bytes) -> None:
    assert lead(path).name == name


def test_the_last_link_is_followed_if_that_is_wanted() -> None:
    assert lead("dists/bookworm", follow_last=False).kind is Kind.SYMLINK
    assert lead("dists/deb/Packages", follow_last=False).kind is Kind.FILE


@pytest.mark.parametrize("path", ["nothing", "file/x", "dangling", "to-file/x", "dists/bookworm/x"])
def test_what_is_not_there(path: str) -> None:
    with pytest.raises(NotThere):
        lead(path)


@pytest.mark.parametrize("path", ["absolute", "absolute/passwd", "out", "deep-out", "loop", "round/x"])
def test_what_leads_nowhere(path: str) -> None:
    with pytest.raises(LeadsNowhere):
        lead(path)


def test_a_chain_has_a_bound() -> None:
    chain: Tree = {str(number): str(number + 1) for number in range(50)} | {"50": None}
    assert lead(str(50 - LINKS_MAX), tree=chain).name == b"50"
    with pytest.raises(LeadsNowhere):
        lead(str(49 - LINKS_MAX), tree=chain)


names = st.sampled_from(["a", "b", "c"])
targets = (
    st.lists(st.sampled_from(["a", "b", "c", "..", ".", ""]), min_size=1, max_size=5)
    .map("/".join)
    .filter(bool)
)
trees = st.recursive(
    st.none() | targets, lambda inner: st.dictionaries(names, inner, max_size=3), max_leaves=12
)


@settings(max_examples=150)
@given(st.dictionaries(names, trees, max_size=3), st.lists(names, max_size=5))
def test_any_tree_leads_as_a_file_system_does(tree: Tree, parts: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "root")
        put(root, tree)
        try:
            status = os.stat(root.joinpath(*parts))
        except OSError:
            status = None
        try:
            found = lead("/".join(parts), tree=tree)
        except NotThere:
            assert status is None
        except LeadsNowhere:
            return  # the kernel goes out of the tree there, and may come back
        else:
            assert status is not None
            assert (found.kind is Kind.DIR) == os.path.isdir(root.joinpath(*parts))


def put(path: Path, what: Tree | str | None) -> None:
    if isinstance(what, dict):
        path.mkdir()
        for name, inner in what.items():
            put(path / name, inner)
    elif what is None:
        path.touch()
    else:
        path.symlink_to(what)
