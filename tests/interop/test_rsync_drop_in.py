"""`p2psync rsync` in the place of rsync, against a real rsync daemon: what goes by P2P, what is the real
rsync's, and what scripts see of it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.e2e.harness import Network, assert_same_tree, make_tree, need, rsync_difference, set_mtime
from tests.help.rsyncd import Rsyncd, rsync_daemon
from tests.interop.drop_in import DropIn

from p2psync.format.url import ArchiveUrl
from p2psync.state import State

PROBE_MAX = 5_000
"""Bytes that a daemon sends where the archive is fetched by P2P."""
PLAIN = ("-rlpt", "--no-motd")
"""What goes by P2P for root too."""


class World(NamedTuple):
    """An archive that a node serves, and an rsync daemon that has it with its head, and another tree."""

    rsyncd: Rsyncd
    tree: Path
    drop_in: DropIn
    path: Path

    def ask(self, *words: object) -> tuple[int, bool]:
        """Run the drop-in; its code, and whether it went by P2P."""
        before = self.rsyncd.sent
        ran = self.drop_in.run(*words)
        return ran.code, self.rsyncd.sent - before < PROBE_MAX


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with Network(tmp_path) as net:
        tree = make_tree(tmp_path / "tree", files=30)
        url = net.publish(tree, state="origin")
        with State.open(net.state("origin")) as opened:
            head = opened.heads.newest(ArchiveUrl.parse(url).archive)
        assert head is not None
        before = tree.stat().st_mtime_ns
        node = net.node("origin")
        copy = tmp_path / "served"
        shutil.copytree(tree, copy, symlinks=True)
        (copy / "p2psync").mkdir()
        (copy / "p2psync/head").write_bytes(head.raw)
        set_mtime(copy, before)
        other = make_tree(tmp_path / "plain", files=5, seed=2)
        with rsync_daemon(tmp_path / "rsyncd", {"pub": copy, "plain": other}, motd="hello\n") as rsyncd:
            yield World(rsyncd, tree, DropIn(tmp_path, node.address), tmp_path)


def test_a_pull_of_an_archive_goes_by_p2p_and_says_nothing(world: World) -> None:
    copy = world.path / "copy"
    before = world.rsyncd.sent
    ran = world.drop_in.run(*PLAIN, "--delete", world.rsyncd.url("pub/"), copy)
    assert ran == (0, "", "")
    assert world.rsyncd.sent - before < PROBE_MAX
    assert rsync_difference(world.path / "served", copy) == ""
    # Once more, with something that is not the archive's: it goes, since it is asked for.
    (copy / "mine").touch()
    assert world.ask(*PLAIN, world.rsyncd.url("pub/"), copy) == (0, True)
    assert (copy / "mine").exists()
    assert world.ask(*PLAIN, "--delete-after", world.rsyncd.url("pub/"), copy) == (0, True)
    assert not (copy / "mine").exists()


def test_what_is_no_pull_of_an_archive_is_the_real_rsyncs_word_for_word(world: World) -> None:
    url = world.rsyncd.url
    for number, words in enumerate(
        [
            ["-rlpt", "-v", url("plain/"), "DEST/"],
            ["-rlpt", "--itemize-changes", "--fsync", url("pub/dir0/"), "DEST"],
            ["-rlpt", f"{world.tree}/", "DEST/"],
            ["-rlpt", url("none/"), "DEST/"],
            ["--list-only", url("")],
            ["-r", "--no-such-option", url("pub/"), "DEST"],
            ["-rlpt", url("pub/"), "DEST/below/below"],
            ["-rlpt", f"{world.tree}/", url("pub/")],
            ["--version"],
            ["-h"],
            [],
        ]
    ):
        made = []
        for run, where in ((world.drop_in.real, "real"), (world.drop_in.run, "ours")):
            dest = world.path / f"{where}{number}"
            ran = run(*[word.replace("DEST", str(dest)) for word in words])
            # Figures of time, and the port of the client, are of each run.
            said = "".join(line for line in ran.out.splitlines(keepends=True) if not line.startswith("sent "))
            made.append((ran.code, said.replace(str(dest), "DEST"), ran.errors.replace(str(dest), "DEST")))
        assert made[0] == made[1], words
        if (world.path / f"real{number}").exists():
            assert rsync_difference(world.path / f"real{number}", world.path / f"ours{number}") == ""


def test_filter_rules_choose_and_protect_as_with_rsync(world: World) -> None:
    (world.path / "patterns").write_text("# What stays out\n*5\n; and\nempty*\n")
    (world.path / "merged").write_text("- /dir0/sub/file1*\nP kept*\n")
    twin = world.path / "twin"
    shutil.copytree(world.path / "served", twin, symlinks=True)
    set_mtime(twin, world.tree.stat().st_mtime_ns)
    with rsync_daemon(world.path / "twin-rsyncd", {"pub": twin}) as rsyncd:
        for number, (path, words) in enumerate(
            [
                ("pub/", ["--exclude=*1", "--include=file2", "--exclude=file*", "--delete"]),
                ("pub/", ["-f", "+ /dir0/", "--filter=- *", "--delete-excluded"]),
                ("pub/dir0", ["--exclude=/dir0/sub/file2", "-m", "--delete-after"]),
                ("pub/", [f"--exclude-from={world.path / 'patterns'}", "--delete"]),
                ("pub/", [f"--filter=. {world.path / 'merged'}", "--filter=R .~tmp~", "--delete"]),
            ]
        ):
            made: list[Path] = []
            for src, run in ((rsyncd, world.drop_in.real), (world.rsyncd, world.drop_in.run)):
                dest = world.path / f"filtered-{number}-{len(made)}"
                for name in ("kept", "file1", "gone", ".~tmp~/x", "dir0/gone1"):
                    (dest / name).parent.mkdir(parents=True, exist_ok=True)
                    (dest / name).touch()
                    set_mtime(dest / name, 10**18)
                for folder in (dest / "dir0", dest / ".~tmp~", dest):
                    set_mtime(folder, 10**18)
                before = world.rsyncd.sent
                assert run(*PLAIN, *words, src.url(path), dest).code == 0
                assert world.rsyncd.sent - before < PROBE_MAX
                made.append(dest)
            assert rsync_difference(*made) == "", words


def test_rules_that_can_be_read_only_once_are_rsyncs_to_read(world: World) -> None:
    for number, words in enumerate(
        (["--exclude-from=-"], ["--exclude-from=/dev/stdin"], ["--filter=merge -"], ["--filter=: .rules"])
    ):
        ran = world.drop_in.run(
            *PLAIN, *words, world.rsyncd.url("pub/"), world.path / f"c{number}", P2PSYNC_RSYNC_VERBOSE="1"
        )
        assert ran.code == 0
        assert "rsync is run" in ran.errors


def test_the_static_files_beside_an_archive_come_too_and_once(world: World) -> None:
    copy = world.path / "copy"
    words = [*PLAIN, "--delete", world.rsyncd.url("pub/"), copy]
    assert world.ask(*words) == (0, True)
    head = world.path / "served/p2psync/head"
    assert (copy / "p2psync/head").read_bytes() == head.read_bytes()
    asked = world.rsyncd.connections
    assert world.ask(*words) == (0, True)
    assert world.rsyncd.connections == asked + 1
    # As they are on the server, for whoever copies from here; and not for whoever wants none.
    (copy / "p2psync/head").write_bytes(b"another")
    (copy / "p2psync/old").touch()
    assert world.ask(*words) == (0, True)
    assert rsync_difference(world.path / "served", copy) == ""
    assert world.ask(*PLAIN, "--exclude=/p2psync", world.rsyncd.url("pub/"), world.path / "without") == (
        0,
        True,
    )
    assert not (world.path / "without/p2psync").exists()
    assert world.ask(*PLAIN, world.rsyncd.url("pub/dir0"), world.path / "part") == (0, True)
    assert os.listdir(world.path / "part") == ["dir0"]


def test_hard_links_are_by_p2p_where_there_are_none_and_else_rsyncs(world: World) -> None:
    assert world.ask(*PLAIN, "-Hv", world.rsyncd.url("pub/"), world.path / "copy") == (0, True)
    tree = world.path / "tree"
    os.link(tree / "empty", tree / "second")
    os.link(world.path / "served/empty", world.path / "served/second")
    with Network(world.path) as net:
        net.publish(tree, state="origin")
        words = [*PLAIN, "-H", "-v", world.rsyncd.url("pub/"), world.path / "linked"]
        ran = world.drop_in.run(*words, P2PSYNC_RSYNC_VERBOSE="1")
        assert ran.code == 0
        assert "rsync is run: the archive has hard links" in ran.errors
        assert ran.out.count("receiving incremental file list") == 1
        inodes = {(world.path / "linked" / name).stat().st_ino for name in ("empty", "second")}
        assert len(inodes) == 1


def test_a_path_that_the_archive_does_not_have_ends_as_with_rsync(world: World) -> None:
    words = [*PLAIN, world.rsyncd.url("pub/none/"), world.path / "copy"]
    assert world.drop_in.run(*words).code == world.drop_in.real(*words).code == 23


def test_directories_of_an_archive_land_where_rsync_puts_them(world: World) -> None:
    for number, (path, names) in enumerate(
        [("pub/dir0", ["dir0"]), ("pub/dir0/", ["sub"]), ("pub", sorted(os.listdir(world.path / "served")))]
    ):
        code, by_p2p = world.ask(*PLAIN, world.rsyncd.url(path), world.path / f"copy{number}")
        assert (code, by_p2p) == (0, True)
        assert sorted(os.listdir(world.path / f"copy{number}")) == names


def test_a_link_named_rsync_takes_its_place_and_finds_the_real_one(world: World) -> None:
    bin_ = world.path / "bin"
    bin_.mkdir()
    script = world.path / "p2psync"
    script.write_text(f"#!{sys.executable}\nfrom p2psync.cli import main\nmain()\n")
    script.chmod(0o755)
    (bin_ / "rsync").symlink_to(script)
    wrapper = world.path / "wrapper"
    wrapper.mkdir()
    (wrapper / "rsync").write_text(f'#!/bin/sh\n{script} rsync "$@"\n')
    (wrapper / "rsync").chmod(0o755)
    for number, folder in enumerate((bin_, wrapper)):
        path = f"{folder}{os.pathsep}{os.environ['PATH']}"
        program = (os.fspath(folder / "rsync"),)
        before = world.rsyncd.sent
        copy = world.path / f"copy{number}"
        ran = world.drop_in.run(*PLAIN, world.rsyncd.url("pub/"), copy, program=program, PATH=path)
        assert ran == (0, "", "")
        assert world.rsyncd.sent - before < PROBE_MAX
        assert rsync_difference(world.path / "served", copy) == ""
        told = world.drop_in.run("--help", program=program, PATH=path)
        assert told.out == world.drop_in.real("--help").out or folder is wrapper
        assert world.drop_in.run("--version", program=program, PATH=path) == world.drop_in.real("--version")
        # It is the real one too that is run for what no archive has.
        ran = world.drop_in.run(
            *PLAIN, world.rsyncd.url("plain/"), world.path / f"plain{number}", program=program, PATH=path
        )
        assert ran.code == 0
        assert_same_tree(world.path / "plain", world.path / f"plain{number}")
        # Where there is none, that is one sentence.
        ran = world.drop_in.run("--version", program=program, PATH=f"{folder}{os.pathsep}{wrapper}")
        assert ran.code == 1
        assert "install it" in ran.errors
        assert ran.errors.count("\n") == 1


def test_a_program_that_leads_back_to_p2psync_ends_with_a_sentence(world: World) -> None:
    odd = world.path / "odd"
    odd.write_text('#!/bin/sh\nexec "$PROGRAM" -m "$NAME" rsync "$@"\n')
    odd.chmod(0o755)
    ran = world.drop_in.run(
        "--version", P2PSYNC_RSYNC_PROGRAM=os.fspath(odd), PROGRAM=sys.executable, NAME="p2psync"
    )
    assert ran.code == 1
    assert "leads back to p2psync" in ran.errors


def test_a_server_that_names_another_archive_ends_with_a_code_that_scripts_do_not_retry(
    world: World,
) -> None:
    url = world.rsyncd.url("pub/")
    assert world.ask(*PLAIN, url, world.path / "copy") == (0, True)
    known = world.drop_in.state / "origins/known_archives"
    place = known.read_text().split()[0]
    known.write_text(f"{place} p2psync://{'a' * 52}\n")
    ran = world.drop_in.run(*PLAIN, url, world.path / "copy")
    assert ran.code == 12
    assert "another archive than before" in ran.errors
    assert ran.out == ""


def test_where_nobody_has_the_archive_rsync_is_not_believed_in_its_place(world: World) -> None:
    alone = DropIn(world.path / "alone")
    ran = alone.run(*PLAIN, world.rsyncd.url("pub/"), world.path / "copy")
    assert ran.code == 23
    assert not (world.path / "copy").exists()


def test_a_run_that_is_stopped_ends_with_20_and_says_so_in_the_log(world: World, tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "p2psync", "rsync", *PLAIN, "-v", "--bwlimit=1", f"--log-file={log}"),
            *(world.rsyncd.url("pub/"), os.fspath(world.path / "copy")),
        ],
        env=world.drop_in.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"receiving incremental file list\n"
    process.terminate()
    process.communicate()
    assert process.returncode == 20
    assert "rsync error: received SIGINT, SIGTERM, or SIGHUP (code 20)" in log.read_text(errors="replace")


def test_a_state_directory_that_cannot_be_used_stops_no_script(world: World) -> None:
    (world.path / "file").touch()
    ran = world.drop_in.run(
        *PLAIN,
        world.rsyncd.url("plain/"),
        world.path / "copy",
        P2PSYNC_RSYNC_STATE=os.fspath(world.path / "file" / "state"),
    )
    assert ran.code == 0
    assert "rsync is run" in ran.errors
    assert_same_tree(world.path / "plain", world.path / "copy")


def test_why_rsync_is_run_is_told_to_whoever_asks(world: World) -> None:
    ran = world.drop_in.run(
        *PLAIN, "--fsync", world.rsyncd.url("pub/"), world.path / "copy", P2PSYNC_RSYNC_VERBOSE="1"
    )
    assert ran.code == 0
    assert "rsync is run: --fsync is left to it" in ran.errors
    assert need("rsync")
