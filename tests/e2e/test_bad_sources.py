"""Sources that are corrupted, lie, die, say nothing or are slow: the fetch completes, and nothing wrong is
written."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from tests.e2e.harness import Command, Network, Node, assert_same_tree
from tests.e2e.impatient import SOON, impatient
from tests.e2e.servers import Background, liar, proxy, silent
from tests.e2e.trees import MIB, plain_tree
from tests.help.waiting import until


def mirrored(net: Network, tree: Path, count: int = 2) -> tuple[str, list[Node]]:
    """The URL of a published tree and its mirrors; the origin is gone."""
    url = net.publish(tree, state="origin")
    origin = net.node("origin")
    made = [
        net.mirror(f"{url}?peer={origin.address}", net.path / f"m{i}", state=f"m{i}") for i in range(count)
    ]
    for mirror in made:
        mirror.wait_event("done")
    origin.kill()
    return url, made


def fetch(net: Network, url: str, sources: list[str], *options: object, state: str = "client") -> Command:
    named = [word for source in sources for word in ("--source", source)]
    return net.spawn("fetch", url, net.path / "copy", *named, *options, state=state)


def known_to(net: Network, url: str, node: Node) -> list[str]:
    """Addresses of the holders that a node tells of."""
    found = net.run("mirrors", url, "--source", node.address, state="onlooker").events
    return [end for event in found if event["event"] == "holder" for end in event["endpoints"]]


def corrupt(path: Path, *, all_of_it: bool = False) -> None:
    """Change a byte, or all, and restore the modification time, as a failing disk or its repair leaves a
    file.
    """
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(len(data)) if all_of_it else data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_files_corrupted_on_a_mirrors_disk_are_taken_from_another_mirror(net: Network) -> None:
    tree = plain_tree(net.path / "tree", small=40, large=(3 * MIB, 2 * MIB))
    url, mirrors = mirrored(net, tree)
    until(lambda: mirrors[0].address in known_to(net, url, mirrors[1]), "they know of each other")
    for path in [*(net.path / "m0").glob("d*/s*"), *(net.path / "m0").glob("large/*")]:
        corrupt(path, all_of_it=True)  # Else it serves what is right of the large ones.
    done = fetch(net, url, [mirror.address for mirror in mirrors], "--bwlimit", "3m")  # Both get their turn.
    assert done.wait() == 0, done.stderr
    assert_same_tree(tree, net.path / "copy")
    assert f"{mirrors[0].address} lacks something" in done.stderr


def test_what_is_corrupted_on_the_only_source_is_missing_and_named(net: Network) -> None:
    tree = plain_tree(net.path / "tree", small=10, large=(2 * MIB,))
    net.program = impatient(*SOON)
    url = net.publish(tree, state="origin")
    origin = net.node("origin")
    bad = ["d00/s0003", "large/l0"]
    for name in bad:
        corrupt(tree / name)
    done = fetch(net, url, [origin.address])
    assert done.wait() == 23, done.stderr
    for name in bad:
        assert f"no source has {name!r}" in done.stderr
        assert not (net.path / "copy" / name).exists()
    good = [path for path in tree.glob("*/*") if os.fspath(path.relative_to(tree)) not in bad]
    assert len(good) == 9
    for path in good:
        assert (net.path / "copy" / path.relative_to(tree)).read_bytes() == path.read_bytes()
    for name in bad:
        corrupt(tree / name)  # A second flip repairs it; publishing again sees that it is as it was.
    again = net.run("publish", tree, state="origin").events[-1]
    assert (again["seq"], again["read_bytes"]) == (1, sum((tree / name).stat().st_size for name in bad))
    done = fetch(net, url, [origin.address])
    assert done.wait() == 0, done.stderr
    assert_same_tree(tree, net.path / "copy")


@pytest.mark.parametrize("recipes", [False, True], ids=["chunks", "recipes too"])
def test_a_lying_source_is_banned_and_named(net: Network, servers: Background, recipes: bool) -> None:
    tree = plain_tree(net.path / "tree", small=120, large=(8 * MIB, 200_000))
    url, (mirror,) = mirrored(net, tree, 1)
    lying = servers.enter(liar(mirror.address, recipes=recipes))
    done = fetch(net, url, [lying.address, mirror.address], "--bwlimit", "12m")
    assert done.wait() == 0, done.stderr
    assert lying.lies
    assert_same_tree(tree, net.path / "copy")
    assert f"{lying.address} is banned for this run: it sent wrong bytes" in done.stderr


def test_where_the_only_source_lies_nothing_is_written(net: Network, servers: Background) -> None:
    tree = plain_tree(net.path / "tree", small=20, large=(1 * MIB,))
    url, (mirror,) = mirrored(net, tree, 1)
    lying = servers.enter(liar(mirror.address))
    done = fetch(net, url, [lying.address])
    assert done.wait() in (10, 23), done.stderr
    assert lying.address in done.stderr
    assert [path for path in (net.path / "copy").rglob("*") if path.is_file()] == []


def test_lies_about_content_alone_are_found_out_too(net: Network, servers: Background) -> None:
    tree = plain_tree(net.path / "tree", small=20, large=(1 * MIB,))
    url, (mirror,) = mirrored(net, tree, 1)
    # What it has seen of the archive are the true metadata; the files themselves are gone.
    net.run("fetch", url, net.path / "seen", "--source", mirror.address, state="client")
    shutil.rmtree(net.path / "seen")
    lying = servers.enter(liar(mirror.address))
    done = fetch(net, url, [lying.address, mirror.address])
    assert done.wait() == 0, done.stderr
    assert lying.lies
    assert_same_tree(tree, net.path / "copy")


def test_a_source_that_dies_in_the_middle_is_done_without(net: Network) -> None:
    tree = plain_tree(net.path / "tree", small=60, large=(6 * MIB, 6 * MIB))
    url, mirrors = mirrored(net, tree)
    fetching = fetch(net, url, [mirror.address for mirror in mirrors], "--bwlimit", "4m")
    partial = net.path / "copy" / ".p2psync.partial"
    until(lambda: partial.is_dir() and any(partial.iterdir()), "the fetch is under way")
    mirrors[0].kill()
    assert fetching.wait() == 0, fetching.stderr
    assert_same_tree(tree, net.path / "copy")
    assert mirrors[1].address in fetching.done["sources"]


def test_a_silent_source_delays_nothing(net: Network, servers: Background) -> None:
    tree = plain_tree(net.path / "tree", small=60, large=(4 * MIB,))
    url, (mirror,) = mirrored(net, tree, 1)
    mute = servers.enter(silent())
    done = fetch(net, url, [mute, mirror.address])
    assert done.wait() == 0, done.stderr
    assert_same_tree(tree, net.path / "copy")
    assert set(done.done["sources"]) == {mirror.address}


def test_a_slow_source_gets_less(net: Network, servers: Background) -> None:
    tree = plain_tree(net.path / "tree", large=(8 * MIB, 8 * MIB))
    url = net.publish(tree, state="origin")
    origin = net.node("origin")
    ways = [servers.enter(proxy(rate=rate)) for rate in (300_000, 4 * MIB)]
    for number, way in enumerate(ways):
        # Others know each mirror by the address of its proxy alone.
        source = f"{url}?peer={origin.address}"
        name = f"m{number}"
        mirror = net.mirror(source, net.path / name, "--advertise", way.address, state=name)
        way.target = mirror.address  # Only now; so whom it tells of itself first may not reach it.
        mirror.wait_event("done")
    origin.kill()
    done = fetch(net, url, [way.address for way in ways], "--no-share")
    assert done.wait() == 0, done.stderr
    assert_same_tree(tree, net.path / "copy")
    slow, brisk = (done.done["sources"][way.address] for way in ways)
    assert 0 < slow < brisk / 3
