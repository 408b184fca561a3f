"""Names that change what they are: files, directories and links that take each other's place."""

from __future__ import annotations

import os
import random
import shutil
from itertools import permutations
from pathlib import Path

import pytest
from tests.e2e.harness import Network, assert_same_tree
from tests.e2e.trees import MIB, fill, remove_tree

KINDS = ("file", "large", "directory", "empty", "link", "dangling", "nothing")


def make(path: Path, kind: str, seed: object) -> None:
    """Make ``path`` to be of a kind."""
    if kind == "file":
        fill(path, 3000, seed)
    elif kind == "large":
        fill(path, 150_000, seed)
    elif kind == "directory":
        fill(path / "below" / "deep", 500, seed)
        (path / "link").symlink_to("below")
        fill(path / "read-only" / "file", 70_000, f"{seed} more")
        (path / "read-only").chmod(0o555)
    elif kind == "empty":
        path.mkdir()
    elif kind == "link":
        path.symlink_to("/tmp")  # noqa: S108 - never followed
    elif kind == "dangling":
        path.symlink_to("nowhere")


@pytest.mark.parametrize("command", ["mirror --once", "fetch --delete"])
def test_each_kind_takes_the_place_of_each_other(net: Network, command: str) -> None:
    tree, second = net.path / "tree", net.path / "second"
    for root in (tree, second):
        root.mkdir()
    for before, after in permutations(KINDS, 2):
        make(tree / f"{before} to {after}", before, before)
        make(second / f"{before} to {after}", after, after)
    url = net.publish(tree, state="origin")
    origin = net.node("origin")
    where = [url, net.path / "copy", "--source", origin.address]
    net.run("fetch", *where, state="client")
    assert_same_tree(tree, net.path / "copy")
    remove_tree(tree)
    second.rename(tree)
    net.run("publish", tree, state="origin")
    done = net.run(*command.split(), *where, state="client")
    assert done.stderr == ""
    assert_same_tree(tree, net.path / "copy")


def test_what_a_user_has_put_into_a_directory_keeps_it_from_becoming_a_file(net: Network) -> None:
    tree = net.path / "tree"
    make(tree / "name", "directory", 1)
    fill(tree / "other", 3000, 1)
    url = net.publish(tree, state="origin")
    origin = net.node("origin")
    where = [url, net.path / "copy", "--source", origin.address]
    net.run("fetch", *where, state="client")
    (net.path / "copy" / "name" / "mine").write_text("mine")
    remove_tree(tree / "name")
    fill(tree / "name", 3000, 2)
    fill(tree / "other", 3000, 2)
    net.run("publish", tree, state="origin")
    failed = net.run("mirror", "--once", *where, state="client", expect=23)
    assert "'name': a directory that is not empty is in the way" in failed.stderr
    assert (net.path / "copy" / "name" / "mine").read_text() == "mine"
    assert (net.path / "copy" / "other").read_bytes() == (tree / "other").read_bytes()
    net.run("fetch", *where, "--delete", state="client")
    assert_same_tree(tree, net.path / "copy")


def random_tree(root: Path, chance: random.Random, content: dict[str, bytes]) -> None:
    """Some names of a small set, of any kind; files share whole contents and parts of them."""
    shutil.rmtree(root, ignore_errors=True)
    for directory in (root, root / "a", root / "b", root / "a" / "c"):
        if directory is not root and (chance.random() < 0.3 or not directory.parent.is_dir()):
            continue
        if os.path.lexists(directory):
            directory.unlink()
        directory.mkdir()
        for name in "abcdefgh":
            path = directory / name
            if os.path.lexists(path) or chance.random() < 0.4:
                continue
            if chance.random() < 0.15:
                path.symlink_to(chance.choice("abc"))
                continue
            one, other = chance.choice(list(content.values())), chance.choice(list(content.values()))
            path.write_bytes(one + other[: chance.randrange(3) * 100_000])
            path.chmod(chance.choice([0o644, 0o600, 0o755]))


@pytest.mark.parametrize("seed", range(2))
def test_a_history_of_random_snapshots_is_followed_exactly(net: Network, seed: int) -> None:
    """One client takes each snapshot, one every other, one goes without its state directory."""
    chance = random.Random(seed)
    content = {str(size): chance.randbytes(size) for size in (0, 1, 5000, 65_536, 65_537, 400_000, MIB)}
    tree = net.path / "tree"
    random_tree(tree, chance, content)
    url = net.publish(tree, state="origin")
    origin = net.node("origin")
    for turn in range(3):
        if turn:
            random_tree(tree, chance, content)
            net.run("publish", tree, state="origin")
        clients = ["each", f"stateless{turn}"] + (["other"] if turn % 2 else [])
        for state in clients:
            copy = net.path / f"copy of {state.rstrip('0123456789')}"
            net.run("fetch", url, copy, "--source", origin.address, "--delete", state=state)
            assert_same_tree(tree, copy)
