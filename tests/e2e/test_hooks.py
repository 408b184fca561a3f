"""Commands before and after updates, run by real processes: `mirror --once`, a standing mirror, and a node
that updates the mirrors that others made.
"""

from __future__ import annotations

import json
from pathlib import Path

from tests.e2e.harness import Network, assert_same_tree
from tests.e2e.trees import fill, plain_tree
from tests.help.waiting import until

NOTE = """#!/bin/sh
echo "$P2PSYNC_HOOK $P2PSYNC_SEQ $P2PSYNC_RESULT $P2PSYNC_DIR" >> "$1"
"""


def note(net: Network) -> tuple[Path, Path]:
    """A program that notes what it hears, and where it does."""
    program = net.path / "note"
    program.write_text(NOTE)
    program.chmod(0o755)
    return program, net.path / "noted"


def noted(at: Path) -> list[str]:
    return at.read_text().splitlines() if at.exists() else []


def test_a_mirror_made_once_is_updated_between_commands(net: Network) -> None:
    tree = plain_tree(net.path / "tree", small=5)
    url = net.publish(tree, state="origin")
    origin = net.node("origin")
    program, log = note(net)
    config = net.path / "p2psync.toml"
    words = json.dumps([str(program), str(log)])
    config.write_text(f"[hooks]\nbefore = {words}\nafter = {words}\nfailed = {words}\n")
    copy = net.path / "copy"
    once = [f"{url}?peer={origin.address}", copy, "--once", "--config", config]
    net.run("mirror", *once, state="m")
    assert noted(log) == [f"before 0  {copy}", f"after 1 changed {copy}"]
    net.run("mirror", *once, state="m")
    assert noted(log)[2:] == [f"before 1  {copy}", f"after 1 unchanged {copy}"]
    fill(tree / "new", 100, "new")
    net.publish(tree, state="origin")
    refused = net.run(
        "mirror", *once, "--hooks-before", "sh -c 'echo the disk is away; exit 3'", state="m", expect=14
    )
    assert "the disk is away" in refused.events[-1]["message"]
    assert noted(log)[4:] == []
    assert not (copy / "new").exists()
    origin.kill()
    net.run("mirror", f"{url}?peer={origin.address}", net.path / "other", *once[2:], state="n", expect=10)
    assert noted(log)[4:] == [f"before 0  {net.path / 'other'}", f"failed 0 failed {net.path / 'other'}"]


def test_a_standing_mirror_and_a_node_run_the_commands_of_their_own_configuration(net: Network) -> None:
    tree = plain_tree(net.path / "tree", small=5)
    url = net.publish(tree, state="origin")
    origin = net.node("origin")
    program, log = note(net)
    copy = net.path / "copy"
    hooks = [f"--hooks-{name}={program} {log}" for name in ("before", "after", "failed")]
    mirror = net.mirror(f"{url}?peer={origin.address}", copy, *hooks, state="m")
    mirror.wait_event("done")
    assert noted(log) == [f"before 0  {copy}", f"after 1 changed {copy}"]
    fill(tree / "new", 100, "new")
    net.publish(tree, state="origin")
    until(
        lambda: noted(log)[2:] == [f"before 1  {copy}", f"after 2 changed {copy}"],
        "it is updated between them",
    )
    mirror.stop()
    log.unlink()
    node = net.node("m", "--hooks-before=false", f"--hooks-failed={program} {log}")
    fill(tree / "new", 100, "newer")
    net.publish(tree, state="origin")
    until(lambda: "was not updated: the command of the hook 'before'" in node.stderr, "the node says so")
    assert noted(log) == []
    assert_same_tree(tree / "d00", copy / "d00")
