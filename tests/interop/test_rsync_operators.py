"""What operators of mirrors have in their scripts, run by the real rsync, by `p2psync rsync` where a server
has no archive, and where it has: the same tree, the same exit code, the same figures for who reads them.

A few in every run, all of them with TEST_LONG=1 (make test-long). Root runs them as nobody, as
mirrors do.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.e2e.harness import Network, make_tree, need, rsync_difference, set_mtime
from tests.help.rsyncd import rsync_daemon
from tests.interop.drop_in import DropIn, Ran
from tests.interop.operators import LINES, QUICK

from p2psync.format.url import ArchiveUrl
from p2psync.state import State

NOBODY = 65534
PARSED = (
    r"^Total file size: ([0-9\.,]+[KMGTP]?) bytes",
    r"^Number of files: (.*)$",
    r"^Number of created files: (.*)$",
    r"^Number of deleted files: (.*)$",
    r"^Number of regular files transferred: (.*)$",
    r"^Total transferred file size: (.*) bytes$",
    r"^total size is ([0-9,.]+[KMGT]?)",
    r"^([<>ch.*][fdLDS]\S{9} .*)$",
    r"^\*deleting   (.*)$",
    r"^deleting (.*)$",
)
"""What programs look for in the output or the log."""
CHOSEN = range(len(LINES)) if os.environ.get("TEST_LONG") else QUICK


class World(NamedTuple):
    """A tree behind an rsync daemon, as an archive of p2psync and without."""

    path: Path
    archive: str
    plain: str
    drop_in: DropIn


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    # Whoever runs the commands must get there, which pytest's folders do not let everybody.
    with tempfile.TemporaryDirectory(prefix="p2psync-operators-") as folder:
        path = Path(folder)
        path.chmod(0o755)
        tree = make_tree(path / "tree", files=25, max_size=20_000)
        for name in ("Packages", "Release", "v2.1/x", "edge/armhf/y", "v3.1/y"):
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).touch()
        for at in [tree, *tree.rglob("*")]:
            if not at.is_symlink():
                at.chmod(0o755 if at.is_dir() else 0o644)
            set_mtime(at, at.lstat().st_mtime_ns // 10**9 * 10**9)
        with Network(path) as net:
            url = net.publish(tree, state="origin")
            with State.open(net.state("origin")) as opened:
                head = opened.heads.newest(ArchiveUrl.parse(url).archive)
            assert head is not None
            node = net.node("origin")
            served = path / "served"
            need("rsync")
            shutil.copytree(tree, served, symlinks=True)
            for at in tree.rglob("*"):
                set_mtime(served / at.relative_to(tree), at.lstat().st_mtime_ns)
            (served / "p2psync").mkdir()
            (served / "p2psync/head").write_bytes(head.raw)
            os.utime(served / "p2psync/head", (10**9, 10**9))
            os.utime(served / "p2psync", (10**9, 10**9))
            set_mtime(served, tree.stat().st_mtime_ns)
            twin = path / "twin"
            shutil.copytree(tree, twin, symlinks=True)
            for at in tree.rglob("*"):
                set_mtime(twin / at.relative_to(tree), at.lstat().st_mtime_ns)
            set_mtime(twin, tree.stat().st_mtime_ns)
            modules = {"pub": served, "plain": twin}
            with rsync_daemon(path / "rsyncd", modules) as rsyncd:
                for name in ("run", "here", "state-of"):
                    (path / name).mkdir()
                    if os.geteuid() == 0:
                        os.chown(path / name, NOBODY, NOBODY)
                drop_in = DropIn(path / "state-of", node.address)
                yield World(path, rsyncd.url("pub/"), rsyncd.url("plain/"), drop_in)


def run(world: World, words: str, src: str, dest: Path, *program: str) -> tuple[Ran, str]:
    """Run a line with a DEST that has some of the tree and something else; what it said, with its log."""
    here = world.path / "here"
    for name, text in (("excluded", "*.md5\n/dir1\n"), ("list", "file1\ndir0\nPackages\n"), ("log", "")):
        (here / name).write_text(text)
        (here / name).chmod(0o644)
        if os.geteuid() == 0:
            os.chown(here / name, NOBODY, NOBODY)
    shutil.rmtree(dest, ignore_errors=True)
    shutil.copytree(world.path / "tree/dir0", dest / "dir0", symlinks=True)
    for name in ("gone/a/b", ".~tmp~/left", "more"):
        (dest / name).parent.mkdir(parents=True, exist_ok=True)
        (dest / name).touch()
    for at in [dest, *dest.rglob("*")]:
        set_mtime(at, 10**18)
        if os.geteuid() == 0:
            os.chown(at, NOBODY, NOBODY, follow_symlinks=False)
    port = re.search(r":(\d+)/", src)
    assert port is not None
    argv = [word.replace("_", " ").replace("HERE", str(here)) for word in words.split()]
    argv = [word.replace("PORT", port[1]) for word in argv if word != "host"]
    if "host" in words.split():
        src = src.replace("rsync://", "").replace(f":{port[1]}/", "::")
    ran = world.drop_in.run(
        *argv, src, dest, program=program, as_nobody=True, LC_ALL="C.UTF-8", P2PSYNC_RSYNC_VERBOSE="1"
    )
    return ran, ran.out + re.sub(r"(?m)^\S+ \S+ \[\d+\] ", "", (here / "log").read_text(errors="replace"))


def parsed(text: str) -> list[list[str]]:
    return [sorted(re.findall(f"(?m){pattern}", text)) for pattern in PARSED]


@pytest.mark.parametrize("number", CHOSEN, ids=lambda number: LINES[number][0])
def test_a_line_does_the_same_with_and_without_p2p(world: World, number: int) -> None:
    words = LINES[number][1]
    dest = world.path / "run" / "dest"
    kept: list[Path] = []
    outcomes: list[tuple[int, list[list[str]]]] = []
    errors: list[str] = []
    for src, program in ((world.plain, (need("rsync"),)), (world.plain, ()), (world.archive, ())):
        ran, said = run(world, words, src, dest, *program)
        # Whether by P2P or not, the folder of the static files is where the server has it.
        shutil.rmtree(dest / "p2psync", ignore_errors=True)
        outcomes.append((ran.code, parsed(said)))
        errors.append(ran.errors)
        kept.append(world.path / "run" / f"kept{len(kept)}")
        shutil.rmtree(kept[-1], ignore_errors=True)
        dest.rename(kept[-1])
    real, without, by_p2p = outcomes
    assert without == real, errors
    assert by_p2p[0] == real[0], errors
    for other in kept[1:]:
        assert without_times(rsync_difference(kept[0], other), all_of_them="-O" in words.split()) == ""
    if "rsync is run" not in ran.errors:  # The folder is in no figure.
        assert by_p2p == real


def without_times(difference: str, *, all_of_them: bool) -> str:
    """Without the times of directories that something was put aside in, or of all directories."""
    ours = r"(?m)^\.d\.\.t\.{6} " + (r".*/\n" if all_of_them else r"(\./|\.~tmp~/)\n")
    return re.sub(ours, "", difference)
