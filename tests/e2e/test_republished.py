"""An archive that changes while it is fetched, and again afterwards: one consistent snapshot, and only what
changed is read and sent."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from tests.e2e.harness import Network, assert_same_tree, total_size
from tests.e2e.impatient import SOON, impatient
from tests.e2e.servers import Background, proxy
from tests.e2e.trees import MIB, change_some, fill, plain_tree
from tests.help.waiting import until

PARTIAL = ".p2psync.partial"


def test_published_again_twice_while_it_is_fetched_it_ends_as_one_snapshot(net: Network) -> None:
    tree = plain_tree(net.path / "tree", small=200, large=(5 * MIB, 4 * MIB, 3 * MIB))
    url = net.publish(tree, state="origin")
    origin = net.node("origin")
    copy = net.path / "copy"
    fetching = net.spawn(
        "fetch", url, copy, "--source", origin.address, "--bwlimit", "3m", "--delete", state="client"
    )
    for turn in (1, 2):
        until(lambda: (copy / PARTIAL).is_dir() or fetching.process.poll() is not None, "it is under way")
        change_some(tree, every=3 + turn, seed=turn)
        for number in range(3):
            size = (tree / "large" / f"l{number}").stat().st_size
            fill(tree / "large" / f"l{number}", size, f"turn {turn} of {number}")
        (tree / f"new in turn {turn}").write_text("new")
        (tree / f"d0{turn}" / f"s{turn * 50 + 1:04}").unlink()
        net.run("publish", tree, state="origin")
    assert fetching.wait() == 0, fetching.stderr
    assert fetching.done["seq"] == 3
    assert "going on with the newer snapshot" in fetching.stderr
    assert_same_tree(tree, copy)


def test_what_the_only_source_has_rewritten_without_publishing_is_missing_and_named(net: Network) -> None:
    tree = plain_tree(net.path / "tree", small=50, large=(3 * MIB, 2 * MIB))
    net.program = impatient(*SOON)
    url = net.publish(tree, state="origin")
    origin = net.node("origin")
    shutil.copytree(tree, net.path / "as published", symlinks=True)
    copy = net.path / "copy"
    fetching = net.spawn("fetch", url, copy, "--source", origin.address, "--bwlimit", "1500", state="client")
    until((copy / PARTIAL).is_dir, "it is under way")
    fill(tree / "large" / "l0", 3 * MIB, "rewritten")
    fill(tree / "large" / "l1", 2 * MIB, "rewritten")
    code = fetching.wait()
    assert code == 23, fetching.stderr
    missing = [name for name in ("large/l0", "large/l1") if f"no source has {name!r}" in fetching.stderr]
    assert missing
    for path in (net.path / "as published").rglob("*"):
        name = os.fspath(path.relative_to(net.path / "as published"))
        if path.is_file() and name not in missing:
            assert (copy / name).read_bytes() == path.read_bytes()
    assert not any((copy / name).exists() for name in missing)
    # Published, the next run brings the rest.
    net.run("publish", tree, state="origin")
    net.run("fetch", url, copy, "--source", origin.address, state="client")
    assert_same_tree(tree, copy)


def test_of_one_percent_changed_only_that_is_read_and_sent(net: Network, servers: Background) -> None:
    tree = plain_tree(net.path / "tree", small=400, large=(4 * MIB, 3 * MIB))
    url = net.publish(tree, state="origin")
    way = servers.enter(proxy())
    way.target = net.node("origin", "--advertise", way.address).address
    copy = net.path / "copy"
    first = net.run("fetch", url, copy, "--source", way.address, state="client").done
    size = total_size(tree)
    assert size <= first["received"] < 1.02 * size

    changed = change_some(tree, every=100, seed="update")
    changed_size = sum(path.stat().st_size for path in changed)
    assert len(changed) == 4
    assert changed_size <= size / 100
    published = net.run("publish", tree, state="origin").events[-1]
    assert (published["seq"], published["read_bytes"]) == (2, changed_size)
    update = net.run("fetch", url, copy, "--source", way.address, state="client").done
    assert update["received"] < 0.03 * size
    assert_same_tree(tree, copy)

    way.requests.clear()
    nothing = net.run("fetch", url, copy, "--source", way.address, state="client").done
    assert nothing["received"] < 2000
    assert [line for line in way.requests if "/head" not in line] == []
    assert (nothing["files"], nothing["bytes"], nothing["seq"]) == (402, size, 2)


def test_when_nothing_changed_it_costs_one_lookup_in_the_dht(net: Network) -> None:
    tree = plain_tree(net.path / "tree", small=200)
    boot = net.node("boot")
    url = net.publish(tree, state="origin")
    net.node("origin", bootstrap=boot)
    until(
        lambda: (
            net.run(
                "fetch", url, net.path / "copy", "--bootstrap", boot.address, state="client", expect=None
            ).process.returncode
            == 0
        ),
        "the archive is found",
    )
    done = net.run("fetch", url, net.path / "copy", state="client").done
    assert done["received"] < 2000
    # The DHT's answer is held against what holders say; nobody gives more than a head.
    assert all(count < 600 for count in done["sources"].values()), done["sources"]


def rename_case(net: Network) -> tuple[str, str, Path, Path, int]:
    """A published tree whose largest directory was renamed and published again; the old tree is in DEST, with
    files of its user's own. The client's state directory is fresh.
    """
    tree = plain_tree(net.path / "tree", small=150, large=(4 * MIB, 2 * MIB))
    url = net.publish(tree, state="origin")
    copy = net.path / "copy"
    shutil.copytree(tree, copy, symlinks=True)
    (copy / "large" / "my own").write_text("mine")
    (copy / "mine").mkdir()
    (copy / "mine" / "too").write_text("mine")
    size = total_size(tree / "large")
    (tree / "large").rename(tree / "renamed")
    net.run("publish", tree, state="origin")
    return url, net.node("origin").address, tree, copy, size


@pytest.mark.parametrize("command", ["fetch", "mirror --once"])
def test_after_a_rename_the_bytes_in_dest_are_used_and_all_that_was_there_stays(
    net: Network, command: str
) -> None:
    """Even what the archive once had: this state directory has not put it there."""
    url, origin, tree, copy, size = rename_case(net)
    done = net.run(*command.split(), url, copy, "--source", origin, state="client").done
    # What is sent are the snapshot, the listings and the recipes: of the files, nothing.
    assert done["received"] < 0.01 * size
    assert done["reused"] >= total_size(tree)
    assert sorted(os.listdir(copy / "large")) == ["l0", "l1", "my own"]
    assert (copy / "mine" / "too").read_text() == "mine"
    assert done["deleted"] == 0
    shutil.rmtree(copy / "mine")
    shutil.rmtree(copy / "large")
    net.run("fetch", url, copy, "--source", origin, "--checksum", state="client")
    os.utime(copy, ns=(0, tree.stat().st_mtime_ns))
    assert_same_tree(tree, copy)


def test_after_a_rename_with_delete_all_else_goes(net: Network) -> None:
    url, origin, tree, copy, size = rename_case(net)
    done = net.run("fetch", url, copy, "--source", origin, "--delete", state="client").done
    assert done["received"] < 0.01 * size
    assert done["deleted"] == 6
    assert_same_tree(tree, copy)


def test_with_no_delete_nothing_goes(net: Network) -> None:
    url, origin, tree, copy, _ = rename_case(net)
    done = net.run("fetch", url, copy, "--source", origin, "--no-delete", state="client").done
    assert done["deleted"] == 0
    assert sorted(os.listdir(copy / "large")) == ["l0", "l1", "my own"]
    for path in (tree / "renamed").iterdir():
        assert (copy / "renamed" / path.name).read_bytes() == path.read_bytes()


def test_what_a_user_changed_at_a_path_of_the_archive_is_replaced_and_what_is_not_of_it_stays(
    net: Network,
) -> None:
    tree = plain_tree(net.path / "tree", small=60)
    url = net.publish(tree, state="origin")
    origin = net.node("origin").address
    copy = net.path / "copy"
    net.run("fetch", url, copy, "--source", origin, state="client")
    (copy / "d00" / "s0001").write_text("changed here")
    (copy / "d00" / "s0002").write_text("changed here, and removed there")
    (tree / "d00" / "s0002").unlink()
    (tree / "d00" / "s0003").unlink()
    net.run("publish", tree, state="origin")
    done = net.run("mirror", "--once", url, copy, "--source", origin, state="client").done
    assert (copy / "d00" / "s0001").read_bytes() == (tree / "d00" / "s0001").read_bytes()
    assert (copy / "d00" / "s0002").read_text() == "changed here, and removed there"
    assert not (copy / "d00" / "s0003").exists()
    assert done["deleted"] == 1
