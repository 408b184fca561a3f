"""p2psync demo: a network of real processes survives its origin, and the demo tells when it did not."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from tests.e2e.harness import PROGRAM, Network, assert_same_tree, make_tree

from p2psync.demo.compare import count_files, differences


def processes_of(directory: Path) -> list[str]:
    """Command lines of running processes that name a directory."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                words = (process / "cmdline").read_bytes()
            except OSError:  # It ended meanwhile.
                continue
            if os.fsencode(directory) in words:
                found.append(words.replace(b"\0", b" ").decode(errors="replace"))
    return found


def test_the_demo_ends_well_and_leaves_no_process(net: Network, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree", files=60)
    work = tmp_path / "work"
    demo = net.run("demo", "--tree", tree, "--keep", work, "--mirrors", 2, state="unused")
    last = demo.events[-1]
    assert (last["event"], last["differences"]) == ("demo", [])
    assert last["files"] == count_files(os.fsencode(tree))[0]
    steps = " ".join(event["message"] for event in demo.events if event["event"] == "step")
    assert "kill -9" in steps
    assert_same_tree(tree, work / "copy")
    assert processes_of(work) == []


def test_for_people_it_tells_each_step_and_who_sent_what(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree", files=10, odd_names=False)
    done = subprocess.run(
        [*PROGRAM, "demo", "--tree", tree, "--mirrors", "2"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert sum(line.startswith("- ") for line in lines) >= 8
    assert any(line.split()[:1] == ["mirror-1"] for line in lines)
    assert lines[-1].startswith("Equal: all 11 files")


def test_the_demo_refuses_to_work_where_something_is(net: Network, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "mine").touch()
    demo = net.run("demo", "--keep", tmp_path / "work", state="unused", expect=1)
    assert "not empty" in demo.events[-1]["message"]


def test_a_process_that_fails_ends_the_demo_with_its_words(net: Network, tmp_path: Path) -> None:
    (tmp_path / "work" / "state").mkdir(parents=True)
    (tmp_path / "tree").mkdir()
    unwritable = tmp_path / "work" / "missing" / "directory"
    unwritable.parent.touch()
    demo = net.run("demo", "--tree", tmp_path / "tree", "--keep", unwritable, state="unused", expect=11)
    assert demo.events[-1]["event"] == "error"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("echo more >> a", "a: other content"),
        ("echo XX > a; touch -r dir a", "a: "),
        ("chmod 600 a", "a: mode 644 became 600"),
        ("touch a", "a: time "),
        ("rm a", "a: missing"),
        ("touch new", "new: should not be there"),
        ("ln -sfn elsewhere link", "link: "),
        ("rm -r dir; touch dir", "dir: a directory became a file"),
        ("rm dir/inner; ln -s a dir/inner", "dir/inner: a file became a symlink"),
        ("chmod 700 .", ".: mode 755 became 700"),
    ],
)
def test_the_comparison_sees_every_difference(tmp_path: Path, change: str, told: str) -> None:
    left = tmp_path / "left"
    (left / "dir").mkdir(parents=True)
    (left / "a").write_text("AA\n")
    (left / "dir" / "inner").write_text("B\n")
    (left / "link").symlink_to("a")
    for path in (left, left / "a"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    right = tmp_path / "right"
    subprocess.run(["cp", "-a", left, right], check=True)
    assert differences(os.fsencode(left), os.fsencode(right)) == []
    subprocess.run(["sh", "-c", change], cwd=right, check=True)
    found = differences(os.fsencode(left), os.fsencode(right))
    assert any(line.startswith(told) for line in found), found


def test_the_comparison_skips_what_it_is_told_to(tmp_path: Path) -> None:
    for side in ("left", "right"):
        (tmp_path / side).mkdir()
    (tmp_path / "left" / "cache").mkdir()
    for side in ("left", "right"):
        os.utime(tmp_path / side, ns=(0, 0))
    left, right = os.fsencode(tmp_path / "left"), os.fsencode(tmp_path / "right")
    assert differences(left, right) == ["cache: missing"]
    assert differences(left, right, frozenset([b"cache"])) == []
