"""A DEST that is the state directory, or has it inside: the keys in it outlive every fetch."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.e2e.harness import Network, rsync_difference
from tests.e2e.trees import fill


def origin(net: Network) -> tuple[Path, list[object]]:
    """A published tree, and what a client says to fetch it."""
    tree = net.path / "tree"
    for name in ("one", "a/two"):
        fill(tree / name, 100_000, name)
    url = net.publish(tree, state="origin")
    return tree, [url, "--source", net.node("origin").address]


@pytest.mark.parametrize("words", [["fetch"], ["mirror", "--once"], ["mirror"]], ids=" ".join)
def test_the_state_directory_is_refused_as_dest(net: Network, words: list[str]) -> None:
    tree, where = origin(net)
    net.run("fetch", *where, net.path / "copy", state="client")
    state = net.state("client")
    key = (state / "node.key").read_bytes()
    for dest in (state, state / "keys", state / "new"):
        failed = net.run(*words, *where, dest, "--delete", state="client", expect=1)
        assert "is, or lies in, the state directory" in failed.events[-1]["message"]
        assert (state / "node.key").read_bytes() == key
        assert not (state / "one").exists() and not (state / "new").exists()
    net.run("fetch", *where, net.path / "copy", state="client")
    assert rsync_difference(tree, net.path / "copy") == ""


@pytest.mark.parametrize("inside", [".state", "a/state", "b/c/state"])
@pytest.mark.parametrize("words", [["fetch"], ["mirror", "--once"]], ids=" ".join)
def test_a_state_directory_inside_dest_is_spared(net: Network, inside: str, words: list[str]) -> None:
    tree, where = origin(net)
    copy = net.path / "copy"
    state = copy / inside
    state.mkdir(parents=True)
    net.state("client").symlink_to(state)
    (copy / "extra").mkdir()
    (state.parent / "extra").touch()
    net.run(*words, *where, copy, "--delete", state="client")
    key = (state / "node.key").read_bytes()
    fill(tree / "one", 5000, "newer")
    net.run("publish", tree, state="origin")
    net.run(*words, *where, copy, "--delete", state="client")
    assert (state / "node.key").read_bytes() == key
    assert {"index.sqlite", "keys", "locks"} <= set(os.listdir(state))
    # As rsync's --delete leaves it, but for the state directory and what it lies in.
    left = [line.split()[1].rstrip("/") for line in rsync_difference(tree, copy).splitlines()]
    kept = f"{inside}/"
    assert [n for n in left if not f"{n}/".startswith(kept) and not kept.startswith(f"{n}/")] == []
    (tree / inside).parent.mkdir(parents=True, exist_ok=True)
    fill(tree / inside, 100, "in the way")
    net.run("publish", tree, state="origin")
    failed = net.run(*words, *where, copy, "--delete", state="client", expect=1)
    message = failed.events[-1]["message"]
    assert repr(inside) in message and str(state) in message
    assert (state / "node.key").read_bytes() == key
