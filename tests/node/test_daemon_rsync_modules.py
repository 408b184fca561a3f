"""What an rsync daemon may show of a node: whole directories, and nothing that links lead to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2psync.daemon.losses import Loss
from p2psync.daemon.rsync_modules import Host, Modules, configuration, modules_of
from p2psync.publish.publisher import publish
from p2psync.rules.filter import Filter
from p2psync.state import State

ROOT, NEW, OLD = Host(True, (3, 2, 7)), Host(False, (3, 5, 0)), Host(False, (3, 4, 9))


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with State.open(tmp_path / "state") as opened:
        yield opened


def tree(at: Path, *, link: bool = False) -> Path:
    at.mkdir(parents=True)
    (at / "file").write_text("x")
    if link:
        (at / "link").symlink_to("file")
    return at


def shown(state: State, host: Host, losses: dict[int, Loss] | None = None) -> Modules:
    return modules_of(state, host, losses or {}, "192.0.2.1:8730")


@pytest.mark.parametrize(
    ("host", "link", "filtered", "why"),
    [
        (ROOT, True, False, None),
        (NEW, True, False, None),
        (OLD, False, False, None),
        (OLD, True, False, "3.4.9 follows symbolic links out"),
        (NEW, False, True, None),
        (NEW, True, True, "filter rules"),
        (ROOT, False, True, "filter rules"),
        (OLD, False, True, "filter rules"),
    ],
)
def test_where_links_may_lead_elsewhere_a_directory_is_not_shown(
    state: State, tmp_path: Path, host: Host, link: bool, filtered: bool, why: str | None
) -> None:
    rules = Filter.parse([b"- /secret"]) if filtered else None
    publish(state, os.fsencode(tree(tmp_path / "tree", link=link)), rules=rules)
    found = shown(state, host)
    if why is None:
        assert [module.name for module in found.shown] == ["tree"]
        assert found.refused == []
        assert (b"- /secret" in found.shown[0].rules) == filtered
    else:
        assert found.shown == []
        (sentence,) = found.refused
        assert why in sentence
        assert str(tmp_path / "tree") in sentence


def test_what_was_lost_or_is_gone_is_not_shown(state: State, tmp_path: Path) -> None:
    publish(state, os.fsencode(tree(tmp_path / "tree")))
    (known,) = state.trees.all()
    assert shown(state, NEW, {known.id: Loss(files=1)}).shown == []
    assert shown(state, NEW, {known.id: Loss(gone=True)}).shown == []
    assert len(shown(state, NEW, {known.id: Loss()}).shown) == 1
    (tmp_path / "tree").rename(tmp_path / "moved")
    assert shown(state, NEW).shown == []


def test_a_directory_with_the_state_directory_in_it_is_not_shown(tmp_path: Path) -> None:
    tree(tmp_path / "tree")
    with State.open(tmp_path / "tree/state") as state:
        publish(state, os.fsencode(tmp_path / "tree"))
        found = shown(state, ROOT)
    assert found.shown == []
    assert "private keys" in found.refused[0]


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("pub", "pub"),
        ("a b/c d", "c-d"),
        ("[x]", "x"),
        ("Global", None),
        ("ü", None),
        ("\udcff", None),
        ("end ", "end"),
        ("back\\", "back"),
        ("one%", "one"),
    ],
)
def test_names_of_modules_and_paths_stand_in_the_configuration_as_rsync_reads_them(
    state: State, tmp_path: Path, name: str, module: str | None
) -> None:
    path = tree(tmp_path / name)
    made = publish(state, os.fsencode(path))
    (found,) = shown(state, ROOT).shown
    assert found.name == module if module else len(found.name) == 52
    assert found.url.archive == made.archive
    conf = configuration([found], ROOT, b"/folder")["rsyncd.conf"].splitlines()
    assert b"path = " + os.fsencode(path) + b"/" in conf
    assert b"[" + found.name.encode() + b"]" in conf


@pytest.mark.parametrize("name", ["a\nb", "a\rb", "%HOME%"])
def test_a_path_that_would_change_the_configuration_is_not_shown(
    state: State, tmp_path: Path, name: str
) -> None:
    publish(state, os.fsencode(tree(tmp_path / name)))
    found = shown(state, ROOT)
    assert found.shown == []
    assert "cannot stand" in found.refused[0]
