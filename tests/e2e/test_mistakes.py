"""A publisher's mistakes, one after the other: its mirrors lose nothing by them."""

from __future__ import annotations

import os
import shutil
import urllib.request
from pathlib import Path

from tests.e2e.ahead import ahead
from tests.e2e.harness import Network, Node, assert_same_tree, need
from tests.e2e.trees import fill
from tests.help.waiting import until

PARTIAL = ".p2psync.partial"


def contents(root: Path) -> dict[str, bytes]:
    """What is in a directory, but for what a mirror has not finished: that comes and goes meanwhile."""
    found: dict[str, bytes] = {}
    for folder, inner, names in os.walk(root):
        if PARTIAL in inner:
            inner.remove(PARTIAL)
        paths = [Path(folder, name) for name in names]
        found |= {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}
    return found


def without_privileges() -> list[str]:
    """Words before a command that has to mind modes, though root runs it."""
    less = "-dac_override,-dac_read_search"
    return [need("setpriv"), f"--bounding-set={less}", f"--inh-caps={less}"] if os.geteuid() == 0 else []


class Mirrors:
    """Two mirrors, one that stays and one for cron, and every file that they ever had."""

    def __init__(self, net: Network, url: str, origin: Node) -> None:
        self.net = net
        self.url = url
        self.folders = [net.path / "standing", net.path / "cron"]
        self.standing = net.mirror(
            url, self.folders[0], "--interval", "1", "--source", origin.address, state="standing"
        )
        self.standing.wait_event("done")
        self.held: dict[str, bytes] = {}
        self.where = ["--source", origin.address, "--source", self.standing.address]

    def update(self, *expect: int) -> None:
        """Cron comes by; one of these exit codes."""
        argv = ("--once", self.url, self.folders[1], *self.where)
        code = self.net.run("mirror", *argv, state="cron", expect=None).process.returncode
        assert code in expect

    def have(self, name: str) -> None:
        """Wait until both have a new file, and hold all that they held."""
        until((self.folders[0] / name).is_file, f"the standing mirror has {name!r}")
        assert (self.folders[1] / name).is_file()
        self.keep()

    def keep(self) -> None:
        """Both still hold all that they held, and serve it."""
        for folder in self.folders:
            now = contents(folder)
            assert self.held.items() <= now.items()
        self.held = contents(self.folders[1])
        archive = self.url.removeprefix("p2psync://")
        served = f"http://{self.standing.address}/{archive}/many/7"
        with urllib.request.urlopen(served, timeout=60) as answer:
            assert answer.read() == self.held["many/7"]


def test_at_every_step_the_mirrors_hold_every_file_that_they_held(net: Network) -> None:
    tree, disk, backup = net.path / "tree", net.path / "disk", net.path / "backup"
    for number in range(150):
        fill(tree / "many" / str(number), 100 + number, number)
    fill(tree / "private" / "deep" / "file", 70_000, "deep")
    url = net.publish(tree, state="origin")
    shutil.copytree(net.state("origin"), backup)
    origin = net.node("origin")
    mirrors = Mirrors(net, url, origin)
    mirrors.update(0)
    mirrors.keep()

    # It may not read a directory any more.
    (tree / "private").chmod(0)
    fill(tree / "first", 100, "first")
    program = net.program
    net.program = [*without_privileges(), *program]
    net.run("publish", tree, state="origin", expect=23)
    net.program = program
    mirrors.update(23)
    mirrors.have("first")
    (tree / "private").chmod(0o755)

    # Its disk is not mounted, and somebody insists on publishing what is there.
    tree.rename(disk)
    tree.mkdir()
    refused = net.run("publish", tree, state="origin", expect=None).process.returncode
    assert refused in (11, 25)
    mirrors.update(0, 23)
    mirrors.keep()
    fill(tree / "second", 100, "second")
    net.run("publish", tree, "--accept-shrink", state="origin")
    mirrors.update(25)
    until(lambda: "lacks 15" in mirrors.standing.stderr, "the standing mirror says that it does not follow")
    mirrors.keep()
    shutil.rmtree(tree)
    disk.rename(tree)
    fill(tree / "third", 100, "third")
    net.run("publish", tree, "--accept-shrink", state="origin")
    mirrors.update(0)
    mirrors.have("third")

    # Its state directory is that of weeks ago.
    origin.stop()
    shutil.rmtree(net.state("origin"))
    shutil.copytree(backup, net.state("origin"))
    fill(tree / "fourth", 100, "fourth")
    assert net.publish(tree, "--bootstrap", mirrors.standing.address, state="origin") == url
    origin = net.node("origin", bootstrap=mirrors.standing, listen=origin.address)
    mirrors.update(0)
    mirrors.have("fourth")

    # Its clock is a month ahead; then it is put right.
    fill(tree / "fifth", 100, "fifth")
    net.program = ahead(days=31)
    net.run("publish", tree, state="origin")
    net.program = program
    mirrors.update(0, 5)
    mirrors.keep()
    net.run("publish", tree, state="origin")
    mirrors.update(0)
    mirrors.have("fifth")
    for folder in mirrors.folders:
        assert_same_tree(tree, folder)
