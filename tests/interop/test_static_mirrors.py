"""An origin with static publishing, mirrors made by rsync behind nginx and Apache, and no node anywhere."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.interop.web_servers import apache_at, nginx_at
from tests.node.file_server import lies_about_lengths
from tests.node.static_world import World
from tests.node.wire_support import program

NGINX, OTHER, APACHE = 8081, 8082, 8083
"""Ports at an address of the test's own."""


class Mirrors(World):
    """Mirrors as rsync makes them, and servers in front of them."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        super().__init__(path, stack)
        self._servers = stack
        self.publish()

    def rsync(self, name: str, *options: str) -> Path:
        """Make the mirror, or bring it up to date."""
        rsync = program("rsync", "rsync")
        subprocess.run(
            [rsync, "-a", "--delete", *options, f"{self.tree}/", f"{self.path / name}/"], check=True
        )
        return self.path / name

    def nginx(self, root: Path, port: int, extra: str = "") -> str:
        return self._servers.enter_context(nginx_at(self.path / f"nginx-{port}", root, port, extra))

    def apache(self, root: Path, extra: str = "") -> str:
        return self._servers.enter_context(apache_at(self.path / "apache", root, APACHE, extra))

    def sent(self, port: int) -> int:
        """Bytes of bodies that an nginx has sent, by its log."""
        lines = (self.path / f"nginx-{port}" / "log").read_text().splitlines()
        return sum(int(line.split('" ')[1].split()[1]) for line in lines)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Mirrors]:
    tmp_path.chmod(0o755)  # Their workers may be other users.
    for parent in tmp_path.parents[:2]:
        if parent.name.startswith("pytest-"):
            parent.chmod(0o755)
    with ExitStack() as stack:
        yield Mirrors(tmp_path, stack)


async def test_two_mirrors_complete_a_fetch_together(world: Mirrors) -> None:
    urls = [world.nginx(world.rsync(name), port) for name, port in (("one", NGINX), ("two", OTHER))]
    done = await world.fetch(*urls)
    assert (done.exit_code, done.seq) == (0, 1)
    assert world.is_equal()
    assert world.said == []
    assert min(world.sent(NGINX), world.sent(OTHER)) > 0


async def test_a_stale_one_and_one_that_lies_about_lengths_harm_nothing(world: Mirrors) -> None:
    stale = world.nginx(world.rsync("stale"), NGINX)
    world.change()
    liar = world.serve(world.rsync("liar"), lies_about_lengths)
    good = world.nginx(world.rsync("good"), OTHER)
    done = await world.fetch(stale, liar, good)
    assert (done.exit_code, done.seq) == (0, 2)
    assert world.is_equal()


@pytest.mark.parametrize("first", ["head", "packs"])
async def test_one_that_is_caught_in_its_update_does_no_harm(world: Mirrors, first: str) -> None:
    """rsync was stopped when it had brought the new head and nothing else of the snapshot, or all but the
    head.
    """
    root = world.rsync("updating")
    world.change()
    some = ["--include=/p2psync/", "--include=/p2psync/head", "--exclude=*"]
    world.rsync("updating", *(some if first == "head" else ["--exclude=/p2psync/head"]))
    updating = world.nginx(root, NGINX)
    good = world.nginx(world.rsync("good"), OTHER)
    done = await world.fetch(updating, good)
    assert (done.exit_code, done.seq) == (0, 2)
    assert world.is_equal()


async def test_apache_alone_with_its_encodings(world: Mirrors) -> None:
    """Files ending in .gz are said to be compressed, and are sent as they are."""
    done = await world.fetch(world.apache(world.rsync("one"), "AddEncoding x-gzip .gz"))
    assert (done.exit_code, done.seq) == (0, 1)
    assert world.is_equal()


async def test_apache_that_compresses_whatever_is_asked_for(world: Mirrors) -> None:
    """Nothing of it is of use, and another mirror has it all."""
    extra = "SetEnvIf Request_URI . force-gzip=1\nSetOutputFilter DEFLATE"
    done = await world.fetch(world.apache(world.rsync("one"), extra), world.nginx(world.rsync("two"), NGINX))
    assert (done.exit_code, done.seq) == (0, 1)
    assert world.is_equal()


async def test_a_redirector_and_a_link_to_a_duplicate(world: Mirrors) -> None:
    """Apache sends its readers to one mirror, which names another one and has lost its large file."""
    root = world.rsync("two")
    (root / "large").unlink()
    other = world.nginx(world.rsync("three"), OTHER)
    here = world.nginx(
        root, NGINX, f'add_header Link "<{other}$uri>; rel=duplicate";'.replace("/$uri", "$uri")
    )
    there = world.apache(world.rsync("one"), f"RedirectMatch 302 ^/(.*)$ {here}$1")
    done = await world.fetch(there)
    assert done.exit_code == 0
    assert world.is_equal()


async def test_a_server_without_ranges_is_enough(world: Mirrors) -> None:
    done = await world.fetch(world.nginx(world.rsync("one"), NGINX, "max_ranges 0;"))
    assert done.exit_code == 0
    assert world.is_equal()


async def test_names_that_begin_with_a_dot_are_denied_and_nobody_needs_them(world: Mirrors) -> None:
    hardened = "location ~ /\\. { return 403; }"
    done = await world.fetch(world.nginx(world.rsync("one"), NGINX, hardened))
    assert done.exit_code == 0
    assert world.is_equal()
