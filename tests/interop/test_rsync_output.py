"""What `p2psync rsync` writes, beside what the real rsync writes for the same: byte for byte, but for what
is of the connection; and what the programs that read it make of it.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.e2e.harness import Network, make_tree, need, set_mtime
from tests.help.rsyncd import rsync_daemon
from tests.interop.drop_in import DropIn, Ran

from p2psync.format.url import ArchiveUrl
from p2psync.state import State

PLAIN = "-rlpt"
OF_THE_CONNECTION = (
    (r"(?m)(sent )[\d.,]+[KM]?( bytes  received )[\d.,]+[KM]?( bytes  )[\d.,]+[KM]?", r"\1N\2N\3N"),
    (r"(?m)(speedup is )[\d.,]+", r"\1N"),
    (r"(?m)^(.*Total bytes (?:sent|received): )[\d.,]+[KM]?", r"\1N"),
    (r"(?m)^(.*(?:Literal|Matched) data: )[\d.,]+[KM]?", r"\1N"),
    (r"(?m)^(.*File list \w+(?: time)?: )[\d.,]+[KM]?", r"\1N"),
    (r"(?m)^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[\d+\]", "STAMP"),
    (r"(sent N bytes  received N bytes  total size )", r"\1"),
    (r"sent \d+ bytes  received \d+ bytes  total", "sent N bytes  received N bytes  total"),
)
"""Figures of bytes on the wire and of time, which are each run's own."""
LINES = [
    ["-v"],
    ["-i"],
    ["-vh", "--stats"],
    ["-v", "--delete-after"],
    ["-i", "--delete-after", "--stats"],
    ["--stats", "--no-h"],
    ["-q", "-v", "--stats"],
    ["--out-format=%i|%n|%L|%l|%M|%B|%f|%o", "--delete-after"],
    ["--out-format=%-20n|%8l", "-i"],
    ["-v", "--info=flist0,stats0"],
    ["--info=name,del", "--delete-after"],
    ["-v", "-8", "--no-inc-recursive"],
    ["-vhh", "--stats", "--no-motd"],
    ["-iu", "--existing", "-O"],
    ["-i", "--size-only", "--ignore-existing"],
    ["-i", "--size-only", "--max-size=5k", "--stats"],
    ["-i", "--exclude=/dir0", "--delete-excluded", "--delete-after", "--stats"],
    ["-i", "--modify-window=4", "--force"],
    ["-i", "-c"],
    ["-niv", "--delete-after", "--stats"],
    ["-nP", "--delete-after", "--info=flist0"],
]


class World(NamedTuple):
    """The same tree as an archive behind an rsync daemon, and as a plain module of it."""

    path: Path
    tree: Path
    archive: str
    plain: str
    drop_in: DropIn

    def both(self, words: list[str], change: str, locale: str = "C.UTF-8") -> list[Ran]:
        """Run a command line with the real rsync and with the drop-in, from the same state of DEST."""
        made = []
        for run, src in ((self.drop_in.real, self.plain), (self.drop_in.run, self.archive)):
            dest = self.path / "dest"
            shutil.rmtree(dest, ignore_errors=True)
            if change != "nothing there":
                shutil.copytree(self.tree, dest, symlinks=True)
                for folder, names, files in os.walk(self.tree):  # copytree(3) leaves nanoseconds of links.
                    for name in [*names, *files]:
                        at = Path(folder, name)
                        set_mtime(dest / at.relative_to(self.tree), at.lstat().st_mtime_ns)
                set_mtime(dest, self.tree.stat().st_mtime_ns)
            if change == "much changed":
                change_much(dest)
            log = self.path / "log"
            log.unlink(missing_ok=True)
            ran = run(*[word.replace("LOG", str(log)) for word in words], src, dest, LC_ALL=locale)
            said = log.read_text(errors="surrogateescape") if log.exists() else ""
            made.append(ran._replace(out=plainly(ran.out), errors=ran.errors + plainly(said)))
            assert ran.code == 0
        return made


def plainly(text: str) -> str:
    for pattern, instead in OF_THE_CONNECTION:
        text = re.sub(pattern, instead, text)
    return text


def change_much(dest: Path) -> None:
    """Every kind of difference, and every kind of name that is in nobody's way."""
    (dest / "file0").write_bytes(b"another size, and another time")
    for name in ("file1", "link", "dir0"):
        set_mtime(dest / name, 10**18 + 3 * 10**9)
    (dest / "file2").chmod(0o700)
    (dest / "dir0").chmod(0o700)
    (dest / "dangling").unlink()
    (dest / "dangling").symlink_to("elsewhere")
    (dest / "file3").unlink()
    (dest / "file3").symlink_to("file4")
    shutil.rmtree(dest / "empty directory")
    (dest / "gone/a/b").mkdir(parents=True)
    for name in ("gone/a/1", "gone/a/b/2", "gone/3", "more"):
        (dest / name).touch()
    (dest / "gone/link").symlink_to("..")
    set_mtime(dest, 10**18)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    path = tmp_path_factory.mktemp("output")
    with Network(path) as net:
        tree = path / "tree"
        tree.mkdir()
        for at in range(5):
            (tree / f"file{at}").write_bytes(b"x" * 10 ** (at + 1))
            set_mtime(tree / f"file{at}", (10**9 + at) * 10**9)
        make_tree(tree / "dir0", files=6, max_size=3000)
        for folder in ("dir0-x", "dir0.y", "empty directory", "dir1"):
            (tree / folder).mkdir()
            (tree / folder / "ü").symlink_to("../file0")
        (tree / "link").symlink_to("file0")
        (tree / "dangling").symlink_to("/nowhere")
        for folder, names, files in os.walk(tree, topdown=False):
            for name in [*names, *files]:
                at_name = Path(folder, name)
                set_mtime(at_name, at_name.lstat().st_mtime_ns // 10**9 * 10**9 - 10**10)
        set_mtime(tree, 12 * 10**17)
        url = net.publish(tree, state="origin")
        with State.open(net.state("origin")) as opened:
            head = opened.heads.newest(ArchiveUrl.parse(url).archive)
        assert head is not None
        node = net.node("origin")
        named = path / "named"
        (named / "p2psync").mkdir(parents=True)
        (named / "p2psync/head").write_bytes(head.raw)
        with rsync_daemon(path / "rsyncd", {"pub": named, "plain": tree}) as rsyncd:
            drop_in = DropIn(path, node.address)
            yield World(path, tree, rsyncd.url("pub/"), rsyncd.url("plain/"), drop_in)


@pytest.mark.parametrize(
    ("change", "lines"), [("nothing there", LINES[:4]), ("much changed", LINES), ("nothing new", LINES[:2])]
)
def test_lines_are_those_of_rsync(world: World, change: str, lines: list[list[str]]) -> None:
    for words in lines:
        real, ours = world.both([PLAIN, *words], change)
        assert ours.out.splitlines() == real.out.splitlines(), words
        assert ours == real, words


def test_links_that_lead_out_are_named_as_rsync_names_them(world: World) -> None:
    real, ours = world.both([PLAIN, "-v", "--safe-links", "--delete-after", "--stats"], "much changed")
    said = [sorted(ran.out.splitlines()) for ran in (real, ours)]
    assert said[0] == said[1]
    assert 'ignoring unsafe symlink "dangling" -> "/nowhere"' in said[1]


def test_the_log_file_has_the_lines_of_rsyncs(world: World) -> None:
    for words in (["--log-file=LOG"], ["-v", "--log-file=LOG"], ["-qi", "--stats", "--log-file=LOG"]):
        real, ours = world.both([PLAIN, "--delete-after", *words], "much changed")
        assert sorted(ours.errors.splitlines()) == sorted(real.errors.splitlines())
        assert ours.out == real.out


def test_names_are_shown_as_the_locale_has_them(world: World) -> None:
    for words, utf8 in (("-i", False), ("-v8", True)):
        real, ours = world.both([PLAIN, words], "nothing there", "C")
        assert ours == real
        assert ("\\#303\\#274" in ours.out, "ü" in ours.out) == (not utf8, utf8)


def test_a_directory_without_a_slash_is_named_in_every_line(world: World) -> None:
    src = (world.plain + "dir0", world.archive + "dir0")
    ran = []
    for program, at in zip(((need("rsync"),), ()), src, strict=True):
        shutil.rmtree(world.path / "dest", ignore_errors=True)
        ran.append(world.drop_in.run(PLAIN, "-i", at, world.path / "dest", program=program, LC_ALL="C"))
    assert ran[0] == ran[1]


def test_progress_has_a_line_for_each_file_and_one_for_all(world: World) -> None:
    for words, pattern in (
        (
            ["-P", "--delete-before"],
            r"\r *[\d,]+ 100% +[\d.]+[kMG]B/s +\d:\d\d:\d\d \(xfr#\d+, to-chk=\d+/\d+\)\n",
        ),
        (
            ["--info=progress2"],
            r"\r *[\d,]+ +\d+% +[\d.]+[kMG]B/s +\d:\d\d:\d\d \(xfr#\d+, to-chk=0/\d+\)\n\Z",
        ),
    ):
        real, ours = world.both([PLAIN, *words], "nothing there")
        for ran in (real, ours):
            assert len(re.findall(pattern, ran.out)) == (1 if "info" in words[0] else 19)
        names = [sorted(filter(_is_name, re.split("[\r\n]", ran.out))) for ran in (real, ours)]
        assert names[0] == names[1]
        assert ("receiving file list ... 36 files to consider\n" in ours.out) == ("-P" in words)


def _is_name(line: str) -> bool:
    """Whether a line is none of the list or of progress, in whose midst rsync's own may be drawn over."""
    return not re.search(r"^\s*$|^ +[\d,]+ +\d+% |files\.\.\.|files to consider$", line)
