"""From classic rsync to P2P, against a real rsync daemon: what is fetched, from whom, and what the daemon
sends.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.harness import Network, assert_same_tree, make_tree, need, set_mtime
from tests.help.rsyncd import rsync_daemon

from p2psync.format.url import ArchiveUrl
from p2psync.negotiate.pins import FOLDER, KNOWN_ARCHIVES, LOOK_AGAIN, WITHOUT
from p2psync.state import State

PROBE_MAX = 5_000
"""Bytes that a daemon sends where the archive is fetched by P2P."""


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Network]:
    with Network(tmp_path) as made:
        yield made


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "tree", files=30)


def put_head(net: Network, state: str, url: str, tree: Path, folder: str = "p2psync") -> None:
    """Put the head of what is published where static publishing does."""
    with State.open(net.state(state)) as opened:
        head = opened.heads.newest(ArchiveUrl.parse(url).archive)
    assert head is not None
    before = tree.stat().st_mtime_ns
    (tree / folder).mkdir(exist_ok=True)
    (tree / folder / "head").write_bytes(head.raw)
    set_mtime(tree, before)


@pytest.fixture
def published(net: Network, tree: Path, tmp_path: Path) -> tuple[str, str, Path]:
    """A tree that a node serves: its URL, the node's address, and a copy of it with the head, as an rsync
    server has it."""
    url = net.publish(tree, state="origin")
    node = net.node("origin")
    copy = tmp_path / "served"
    subprocess.run([need("rsync"), "-a", f"{tree}/", copy], check=True)
    put_head(net, "origin", url, copy)
    return url.partition("?")[0], node.address, copy


def test_a_module_with_a_head_is_fetched_by_p2p_and_the_daemon_sends_next_to_nothing(
    net: Network, tree: Path, published: tuple[str, str, Path], tmp_path: Path
) -> None:
    url, node, copy = published
    with rsync_daemon(tmp_path / "rsyncd", {"pub": copy}) as rsyncd:
        done = net.run("fetch", rsyncd.url("pub"), tmp_path / "copy", "--bootstrap", node, state="reader")
        origin = done.wait_event("origin")
        assert (origin["archive"], origin["first"]) == (url, True)
        assert done.done["sources"] == {node: done.done["sources"][node]}
        assert rsyncd.connections == 1
    assert rsyncd.sent < PROBE_MAX
    assert_same_tree(tree, tmp_path / "copy")
    assert (net.state("reader") / FOLDER / KNOWN_ARCHIVES).read_text() == (
        f"rsync://{rsyncd.address}/pub {url}\n"
    )


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_directory_of_the_module_becomes_what_rsync_would_make_of_it(
    net: Network, published: tuple[str, str, Path], tmp_path: Path, slash: str
) -> None:
    _, node, copy = published
    with rsync_daemon(tmp_path / "rsyncd", {"pub": copy.parent}) as rsyncd:
        for inner in (copy.name, f"{copy.name}/dir0"):
            src = rsyncd.url(f"pub/{inner}{slash}")
            at = inner.replace("/", "-")
            expected, made = tmp_path / f"{at}-by-rsync", tmp_path / f"{at}-by-p2p"
            subprocess.run(
                [need("rsync"), "-a", "--exclude=/*/p2psync", "--exclude=/p2psync", src, expected], check=True
            )
            net.run("fetch", src, made, "--source", node, state="reader")
            assert os.listdir(made) == os.listdir(expected) or slash
            name = "" if slash else Path(inner).name
            assert_same_tree(expected / name, made / name)
    assert_known_once(net)


def assert_known_once(net: Network) -> None:
    """Both places belong to one archive, which is remembered once."""
    assert len((net.state("reader") / FOLDER / KNOWN_ARCHIVES).read_text().splitlines()) == 1


def test_without_an_archive_the_real_rsync_fetches_and_is_not_preceded_by_questions_again(
    net: Network, tree: Path, tmp_path: Path
) -> None:
    with rsync_daemon(tmp_path / "rsyncd", {"pub": tree}) as rsyncd:
        first = net.run("fetch", rsyncd.url("pub/"), tmp_path / "copy", state="reader")
        assert first.wait_event("origin")["archive"] is None
        assert first.wait_event("rsync")["code"] == 0
        assert_same_tree(tree, tmp_path / "copy")
        asked = rsyncd.connections - 1
        assert asked >= 1
        again = net.run("fetch", rsyncd.url("pub/"), tmp_path / "copy", state="reader")
        assert not again.wait_event("origin")["asked"]
        assert rsyncd.connections == asked + 2
        # A day later it is looked for once more.
        remembered = net.state("reader") / FOLDER / WITHOUT
        place, until = remembered.read_text().split()
        remembered.write_text(f"{place} {int(until) - LOOK_AGAIN}\n")
        assert net.run("fetch", rsyncd.url("pub/"), tmp_path / "copy", state="reader").wait_event("origin")[
            "asked"
        ]


def test_rsync_gets_the_options_and_its_exit_code_is_passed_on(net: Network, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree", files=4, odd_names=False)
    setuid = tree / "setuid"
    setuid.touch()
    setuid.chmod(0o6755)
    copy = tmp_path / "copy"
    for name in ("gone", "gone too", "kept"):
        (copy / name).mkdir(parents=True)
    options = ["--delete", "--max-delete", "1", "--protect", "kept", "--bwlimit", "100m", "--checksum"]
    with rsync_daemon(tmp_path / "rsyncd", {"pub": tree}) as rsyncd:
        src = rsyncd.url("pub")
        net.run("fetch", src, copy, *options, state="reader", expect=25)
        assert len([name for name in ("gone", "gone too") if (copy / name).exists()]) == 1
        assert (copy / "kept").exists()
        assert (copy / "setuid").stat().st_mode & 0o7777 == 0o755
        net.run("fetch", src, copy, "--special-bits", state="reader")
        assert (copy / "setuid").stat().st_mode & 0o7777 == 0o6755
        net.run("fetch", rsyncd.url("none"), copy, state="reader", expect=5)
        refused = net.run("fetch", src, copy, "--max-total", "1g", state="reader", expect=1)
        assert "--max-total" in refused.stderr


def test_the_state_directory_and_what_is_published_are_safe_from_rsync_too(
    net: Network, tree: Path, tmp_path: Path
) -> None:
    net.publish(tree, state="reader")
    with rsync_daemon(tmp_path / "rsyncd", {"pub": tree}) as rsyncd:
        refused = net.run("fetch", rsyncd.url("pub"), tree, state="reader", expect=1)
        assert "published from here" in refused.stderr
        above = net.state("reader").parent
        net.run("fetch", rsyncd.url("pub"), above, "--delete", state="reader")
        assert (net.state("reader") / "keys").is_dir()
        net.run("fetch", rsyncd.url("pub"), net.state("reader"), state="reader", expect=1)


def test_a_server_that_names_another_archive_is_refused_until_its_line_is_removed(
    net: Network, published: tuple[str, str, Path], tmp_path: Path
) -> None:
    url, node, copy = published
    other = make_tree(tmp_path / "other", files=3)
    other_url = net.publish(other, state="origin").partition("?")[0]
    with rsync_daemon(tmp_path / "rsyncd", {"pub": copy}) as rsyncd:
        src = rsyncd.url("pub")
        net.run("fetch", src, tmp_path / "copy", "--source", node, state="reader")
        put_head(net, "origin", other_url, copy)
        refused = net.run("fetch", src, tmp_path / "copy", "--source", node, state="reader", expect=76)
        known = net.state("reader") / FOLDER / KNOWN_ARCHIVES
        for said in (url, other_url, src, str(known)):
            assert said in refused.stderr
        assert_same_tree(net.path / "tree", tmp_path / "copy")
        # What rsync would send is not fetched either, and deeper heads are no way round.
        nested = copy / "dir0"
        put_head(net, "origin", url, copy)
        put_head(net, "origin", other_url, nested)
        net.run("fetch", f"{src}/dir0/", tmp_path / "part", "--source", node, state="reader", expect=76)
        assert not (tmp_path / "part").exists()
        known.unlink()
        net.run("fetch", f"{src}/dir0/", tmp_path / "part", "--source", node, state="reader")
    assert_same_tree(other, tmp_path / "part")


def test_a_server_that_is_gone_or_says_nothing_any_more_leaves_its_archive_known(
    net: Network, tree: Path, published: tuple[str, str, Path], tmp_path: Path
) -> None:
    _, node, copy = published
    with rsync_daemon(tmp_path / "rsyncd", {"pub": copy}) as rsyncd:
        src = rsyncd.url("pub")
        net.run("fetch", src, tmp_path / "copy", "--source", node, state="reader")
        (copy / "p2psync/head").unlink()
        silent = net.run("fetch", src, tmp_path / "second", "--source", node, state="reader")
    gone = net.run("fetch", src, tmp_path / "third", "--source", node, state="reader")
    for command, copied in ((silent, "second"), (gone, "third")):
        assert "names no archive any more" in command.wait_event("warning")["message"]
        assert_same_tree(tree, tmp_path / copied)


def test_a_mirror_may_be_made_of_such_a_server(
    net: Network, tree: Path, published: tuple[str, str, Path], tmp_path: Path
) -> None:
    url, node, copy = published
    with rsync_daemon(tmp_path / "rsyncd", {"pub": copy, "plain": tree}) as rsyncd:
        net.run("mirror", "--once", rsyncd.url("pub"), tmp_path / "copy", "--source", node, state="mirror")
        assert_same_tree(tree, tmp_path / "copy")
        listed = net.run("list", state="mirror").events[0]
        assert listed["archive"] == url
        refused = net.run("mirror", rsyncd.url("plain"), tmp_path / "other", state="mirror", expect=10)
        assert "names no archive" in refused.stderr
        net.run("mirror", "--once", rsyncd.url("plain"), tmp_path / "other", state="mirror")
    assert_same_tree(tree, tmp_path / "other")


def test_links_and_large_files_in_place_of_a_head_are_none(net: Network, tree: Path, tmp_path: Path) -> None:
    url = net.publish(tree, state="origin")
    real = tmp_path / "real"
    real.mkdir()
    put_head(net, "origin", url, real)
    served = tmp_path / "served"
    served.mkdir()
    (served / "p2psync").symlink_to(real / "p2psync")
    (served / ".p2psync").mkdir()
    (served / ".p2psync/head").write_bytes(os.urandom(1 << 20))
    with rsync_daemon(tmp_path / "rsyncd", {"pub": served}) as rsyncd:
        done = net.run("fetch", rsyncd.url("pub"), tmp_path / "copy", state="reader")
        assert done.wait_event("origin")["archive"] is None


def test_no_rsync_here_is_one_sentence(net: Network, tmp_path: Path) -> None:
    nothing = tmp_path / "bin"
    nothing.mkdir()
    done = net.run(
        "fetch", "rsync://127.0.0.1:1/pub", tmp_path / "copy", state="reader", expect=1, PATH=str(nothing)
    )
    assert "install rsync" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("part", ["", "/sub/", "/sub", "/sub/small"])
def test_what_no_source_has_comes_from_the_daemon_as_a_last_resort_if_it_is_right(
    net: Network, tmp_path: Path, part: str
) -> None:
    tree = tmp_path / "tree"
    (tree / "sub/deep").mkdir(parents=True)
    contents = {
        "sub/small": b"small",
        "sub/deep/large": os.urandom(3_000_000),
        "kept": b"kept",
        "sub/bad": b"right",
    }
    for name, content in contents.items():
        (tree / name).write_bytes(content)
    url = net.publish(tree, state="origin")
    copy = tmp_path / "served"
    subprocess.run([need("rsync"), "-a", f"{tree}/", copy], check=True)
    put_head(net, "origin", url, copy)
    for name in contents.keys() - {"kept"}:
        (tree / name).unlink()
    bad = part in ("", "/sub/")
    (copy / "sub/bad").write_bytes(b"wrong" if bad else b"right")
    node = net.node("origin")
    with rsync_daemon(tmp_path / "rsyncd", {"pub": copy}) as rsyncd:
        src = rsyncd.url(f"pub{part}")
        done = net.run(
            "fetch",
            src,
            f"{tmp_path}/copy/",
            "--source",
            node.address,
            state="reader",
            expect=23 if bad else 0,
        )
        assert rsyncd.connections == 2
    assert "is asked for" in done.stderr
    at = {"/sub/small": "sub/", "/sub/": "sub/"}.get(part, "")
    for name, content in contents.items():
        made = tmp_path / "copy" / name.removeprefix(at)
        wanted = (name.startswith("sub/") and part in ("/sub", "/sub/")) or not part or name == "sub/small"
        if name == "sub/bad" and bad:
            assert not made.exists()
        else:
            assert (made.read_bytes() if made.exists() else None) == (content if wanted else None), name


@pytest.mark.parametrize("part", ["", "dir1/"])
def test_an_rsync_server_alone_is_enough_if_its_tree_has_static_files(
    net: Network, tree: Path, tmp_path: Path, part: str
) -> None:
    (tree / "dir1").mkdir(exist_ok=True)
    (tree / "dir1" / "more").write_bytes(b"of a part" * 30_000)
    set_mtime(tree / "dir1", 10**18 + 1)
    set_mtime(tree, 10**18 + 2)
    copy = tmp_path / "served"
    net.publish(tree, f"--static={tmp_path / 'static'}", state="origin")
    subprocess.run([need("rsync"), "-a", f"{tree}/", copy], check=True)
    subprocess.run([need("rsync"), "-a", f"{tmp_path / 'static'}/", copy / "p2psync"], check=True)
    with rsync_daemon(tmp_path / "rsyncd", {"pub": copy}) as rsyncd:
        done = net.run("fetch", rsyncd.url(f"pub/{part}"), tmp_path / "copy", state="reader")
        done.wait_event("done")
        assert done.done["missing"] == 0
        assert_same_tree(tree / part, tmp_path / "copy")


def test_static_files_that_an_rsync_server_made_up_lead_nowhere(
    net: Network, published: tuple[str, str, Path], tmp_path: Path
) -> None:
    _, _, copy = published
    (copy / "p2psync" / "packs").mkdir()
    (copy / "p2psync" / "packs" / ("0" * 64)).write_bytes(b"p2psync\x01" + b"\xff" * 5_000)
    (copy / "p2psync" / "heads").symlink_to("/etc")
    with rsync_daemon(tmp_path / "rsyncd", {"pub": copy}) as rsyncd:
        net.run("fetch", rsyncd.url("pub"), tmp_path / "copy", state="reader", expect=23)
    assert not any((tmp_path / "copy").glob("*"))
