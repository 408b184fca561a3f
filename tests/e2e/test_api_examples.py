"""The programs in docs/api.md, as a reader would run them: each against a node in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.e2e.harness import Network, assert_same_tree, make_tree

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
PROGRAMS = dict(re.findall(r"^## ([^\n]+)\n(?:(?!^## ).)*?^```python\n(.*?)^```", PAGE, re.M | re.S))
MIB = 1 << 20


class Reader:
    """Runs programs of the page on a state directory of their own."""

    def __init__(self, net: Network, folder: Path) -> None:
        self.net = net
        self.folder = folder
        self.tree = make_tree(folder / "tree", files=20)
        for number in range(8):
            (self.tree / f"large{number}").write_bytes(os.urandom(MIB))
        archive = net.publish(self.tree, state="origin")
        self.node = net.node("origin")
        self.url = f"{archive}?peer={self.node.address}"

    def run(self, section: str, *args: object) -> list[str]:
        """What the program below a heading prints, line by line."""
        environment = os.environ | {"STATE_DIRECTORY": str(self.folder / "reader")}
        argv = [sys.executable, "-c", PROGRAMS[section], *map(str, args)]
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()


@pytest.fixture
def reader(net: Network, tmp_path: Path) -> Reader:
    return Reader(net, tmp_path)


def test_every_program_of_the_page_is_run_here() -> None:
    assert len(PROGRAMS) == PAGE.count("```python") == 8


def test_fetching(reader: Reader) -> None:
    (said,) = reader.run("Fetching", reader.url, reader.folder / "copy")
    assert said.startswith("snapshot 1: ")
    assert_same_tree(reader.tree, reader.folder / "copy")


def test_what_is_here(reader: Reader) -> None:
    reader.run("Fetching", reader.url, reader.folder / "copy")
    said = reader.run("What is here")
    assert said[0] == "a node listens at None"
    assert said[1].startswith("copy ")
    assert said[1].endswith(" complete")


def test_forgetting(reader: Reader) -> None:
    copy = reader.folder / "copy"
    reader.run("Fetching", reader.url, copy)
    assert reader.run("Forgetting", copy) == [f"forgot {bytes(copy)!r} which was a copy"]
    assert_same_tree(reader.tree, copy)


def test_stopped_half_way_there_are_old_files_and_new_ones_and_the_next_run_completes(reader: Reader) -> None:
    copy = reader.folder / "copy"
    reader.run("Fetching", reader.url, copy)
    old = {path: path.read_bytes() for path in reader.tree.glob("large*")}
    for path in old:
        path.write_bytes(os.urandom(MIB))
    reader.net.publish(reader.tree, state="origin")

    *progress, last = reader.run("Progress, and stopping half-way", reader.url, copy)
    assert last == "stopped"
    assert re.fullmatch(r"fetching: [5-9]\d%, [\d.]+ MB/s", progress[-1])
    for path, before in old.items():
        assert (copy / path.name).read_bytes() in (before, path.read_bytes())
    reader.run("Fetching", reader.url, copy)
    assert_same_tree(reader.tree, copy)


def test_pausing(reader: Reader) -> None:
    said = reader.run("Pausing, and changing the speed", reader.url, reader.folder / "copy")
    assert said[0] == "paused"
    assert_same_tree(reader.tree, reader.folder / "copy")


def test_publishing_and_checking(reader: Reader) -> None:
    mine = make_tree(reader.folder / "mine")
    (mine / "left.tmp").touch()
    os.mkfifo(mine / "pipe")
    warning, published, *differences = reader.run("Publishing and checking", mine)
    assert "pipe" in warning
    assert re.fullmatch(r"p2psync://[a-z2-7]{52} snapshot 1 ", published)
    assert differences == []
    assert reader.run("Publishing and checking", mine)[1].endswith("unchanged")


def test_looking(reader: Reader) -> None:
    said = reader.run("Looking without fetching", reader.url)
    assert f"FILE {MIB} b'large0'" in said
    total = sum(
        path.stat().st_size for path in reader.tree.rglob("*") if path.is_file() and not path.is_symlink()
    )
    assert f"all files: {total}" in said


def test_errors(reader: Reader) -> None:
    nobody = f"p2psync://{'a' * 51}q"
    (said,) = reader.run("Errors", nobody, reader.folder / "copy")
    assert said.startswith("try again later: no head of")
    (said,) = reader.run("Errors", "https://example.org/", reader.folder / "copy")
    assert said.startswith("error 1: ")
