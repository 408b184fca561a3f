"""A running node beside commands on the same state directory, and what a browser or curl gets from it."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import threading
import time
from functools import partial
from pathlib import Path
from urllib.parse import quote, urlsplit

from tests.e2e.harness import Network, Node, assert_same_tree, need
from tests.e2e.trees import MIB, change_some, fill, odd_tree, plain_tree
from tests.help.waiting import until

from p2psync.state import State


def curl(*arguments: str) -> bytes:
    """What curl writes to its standard output."""
    done = subprocess.run([need("curl"), "-sS", *arguments], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def status(*arguments: str) -> int:
    return int(curl("-o", os.devnull, "-w", "%{http_code}", *arguments))


def mirrored(net: Network, tree: Path) -> tuple[str, Node]:
    """The URL of a published tree and a mirror of it; the origin is gone."""
    url = net.publish(tree, state="origin")
    origin = net.node("origin")
    mirror = net.mirror(f"{url}?peer={origin.address}", net.path / "mirror", state="mirror")
    mirror.wait_event("done")
    origin.kill()
    return url, mirror


def test_nodes_at_rest_keep_no_disk_busy_and_what_happens_on_it_is_noticed(net: Network) -> None:
    tree = plain_tree(net.path / "tree", small=20, large=(MIB,))
    url = net.publish(tree, state="origin")
    origin = net.node("origin")
    mirror = net.mirror(f"{url}?peer={origin.address}", net.path / "mirror", state="mirror")
    mirror.wait_event("done")
    both = ("--source", mirror.address, "--source", origin.address)
    net.run("fetch", url, net.path / "copy", *both, state="client")
    for node, place in ((origin, tree), (mirror, net.path / "mirror")):
        until(partial(is_free, node, place), "its disk could be unmounted")
    shutil.copytree(tree, net.path / "restored")
    shutil.rmtree(tree)
    (net.path / "restored").rename(tree)
    (tree / "large" / "l0").write_bytes(b"other")
    # What the origin has lost is taken from the mirror.
    net.run("fetch", url, net.path / "again", "--source", origin.address, state="another")
    assert_same_tree(net.path / "mirror", net.path / "again")
    until(lambda: "has other bytes" in origin.stderr or "is shorter" in origin.stderr, "the origin says so")


def is_free(node: Node, place: Path) -> bool:
    """Whether a node has nothing open in a directory."""
    folder = Path(f"/proc/{node.process.pid}/fd")
    found = [os.readlink(each) for each in folder.iterdir() if os.path.lexists(each)]
    return not any(each == str(place) or each.startswith(f"{place}/") for each in found)


def test_curl_reads_files_of_a_mirror_by_their_paths(net: Network) -> None:
    tree = odd_tree(net.path / "tree", small=20, large=(2 * MIB,))
    url, mirror = mirrored(net, tree)
    base = f"http://{mirror.address}/{urlsplit(url).netloc}"

    def get(name: bytes, *options: str) -> bytes:
        return curl("--path-as-is", *options, f"{base}/{quote(name)}")

    for path in (tree / "large" / "l0", tree / "d00" / "s0007", *(tree / "odd" / "names").iterdir()):
        if path.is_file():
            name = os.fsencode(path.relative_to(tree))
            assert get(name) == path.read_bytes(), name
    large = (tree / "large" / "l0").read_bytes()
    assert get(b"large/l0", "-r", "1000-1999") == large[1000:2000]
    assert get(b"large/l0", "-r", "-5") == large[-5:]
    assert status("-r", "5000000-", f"{base}/large/l0") == 416
    assert status(f"{base}/large/none") == 404
    assert status("--path-as-is", f"{base}/../../etc/passwd") == 404
    assert status("--path-as-is", f"{base}/%2e%2e/%2e%2e/etc/passwd") == 404
    assert status(f"{base}/odd/absolute") == 404
    # Resumed, as wget -c and curl -C do.
    part = net.path / "part"
    part.write_bytes(large[:700_000])
    curl("-C", "-", "-o", os.fspath(part), f"{base}/large/l0")
    assert part.read_bytes() == large


def test_what_is_browsed_is_linked_page_by_page(net: Network) -> None:
    tree = plain_tree(net.path / "tree", small=60)
    url, mirror = mirrored(net, tree)
    archive = urlsplit(url).netloc
    assert archive.encode() in curl(f"http://{mirror.address}/")
    root = curl(f"http://{mirror.address}/{archive}/")
    assert b'href="./d00/"' in root
    assert b'href="./s0003"' in curl(f"http://{mirror.address}/{archive}/d00/")
    assert status(f"http://{mirror.address}/{archive}") in (301, 302, 307, 308)


def test_what_a_manifest_does_not_name_is_never_served(net: Network) -> None:
    tree = plain_tree(net.path / "tree", small=5)
    url, mirror = mirrored(net, tree)
    (net.path / "mirror" / "private").write_text("private")
    (net.path / "mirror" / "d00" / "way").symlink_to("/etc")
    base = f"http://{mirror.address}/{urlsplit(url).netloc}"
    for name in ("private", "d00/way", "d00/way/passwd", ".p2psync.partial", "../state/mirror/node.key"):
        assert status("--path-as-is", f"{base}/{name}") == 404, name


def test_a_mirror_made_once_beside_a_running_node_is_served_by_it(net: Network) -> None:
    tree = plain_tree(net.path / "tree", small=40, large=(MIB,))
    url = net.publish(tree, state="origin")
    origin = net.node("origin")
    beside = net.node("beside")
    net.run("mirror", url, net.path / "mirror", "--once", "--source", origin.address, state="beside")
    origin.kill()
    until(
        lambda: (
            net.run(
                "fetch", url, net.path / "copy", "--source", beside.address, state="client", expect=None
            ).process.returncode
            == 0
        ),
        "the node serves the mirror",
    )
    assert_same_tree(tree, net.path / "copy")


def test_a_standing_mirror_beside_a_running_node_leaves_the_work_to_it(net: Network) -> None:
    tree = plain_tree(net.path / "tree", small=10)
    url = net.publish(tree, state="origin")
    origin = net.node("origin")
    beside = net.node("beside")
    command = net.run("mirror", url, net.path / "mirror", "--source", origin.address, state="beside")
    assert command.done["seq"] == 1
    change_some(tree, every=2, seed="update")
    net.run("publish", tree, state="origin")
    until(
        lambda: same(tree, net.path / "mirror"),
        "the node has updated the mirror: it was told of the new head",
    )
    net.run("fetch", url, net.path / "copy", "--source", beside.address, state="client")


def same(tree: Path, copy: Path) -> bool:
    from p2psync.demo.compare import differences

    return differences(os.fsencode(tree), os.fsencode(copy)) == []


def test_what_is_published_while_a_node_runs_is_served_and_announced_by_it(net: Network) -> None:
    boot = net.node("boot")
    node = net.node("origin", bootstrap=boot)
    tree = plain_tree(net.path / "tree", small=20)
    url = net.publish(tree, state="origin")

    def fetched(seq: int) -> bool:
        done = net.run(
            "fetch", url, net.path / "copy", "--bootstrap", boot.address, state="client", expect=None
        )
        return done.process.returncode == 0 and done.done["seq"] == seq

    until(lambda: fetched(1), "the first snapshot is announced")
    assert_same_tree(tree, net.path / "copy")
    change_some(tree, every=3, seed="second")
    assert net.publish(tree, state="origin") == url
    until(lambda: fetched(2), "the second snapshot is announced")
    assert_same_tree(tree, net.path / "copy")
    assert node.process.poll() is None


def test_two_publishers_and_a_mirror_on_one_state_directory_do_not_harm_each_other(net: Network) -> None:
    other = plain_tree(net.path / "other", small=100, seed="other")
    other_url = net.publish(other, state="elsewhere")
    elsewhere = net.node("elsewhere")
    trees = [plain_tree(net.path / f"tree{i}", small=150, large=(MIB,), seed=i) for i in (1, 2)]
    node = net.node("shared")
    running = [net.spawn("publish", tree, state="shared") for tree in trees]
    source = ["--source", elsewhere.address]
    running.append(net.spawn("mirror", other_url, net.path / "mirror", "--once", *source, state="shared"))
    for command in running:
        assert command.wait() == 0, command.stderr
    urls = [command.events[-1]["archive"] for command in running]
    elsewhere.kill()
    for number, (url, tree) in enumerate(zip(urls, [*trees, other], strict=True)):
        net.run("fetch", url, net.path / f"copy{number}", "--source", node.address, state=f"client{number}")
        assert_same_tree(tree, net.path / f"copy{number}")
    assert node.stop() == 0


def test_of_two_publishers_of_one_tree_one_is_told_to_wait(net: Network) -> None:
    tree = plain_tree(net.path / "tree", small=300, large=(8 * MIB,))
    running = [net.spawn("publish", tree, state="shared") for _ in range(3)]
    codes = sorted(command.wait() for command in running)
    assert codes[0] == 0
    assert set(codes) <= {0, 75}
    done = [command.events[-1] for command in running if command.events[-1]["event"] == "published"]
    assert len({event["archive"] for event in done}) == 1
    net.run("verify", tree, state="shared")


def test_a_killed_node_serves_again_when_it_is_started_again(net: Network) -> None:
    tree = plain_tree(net.path / "tree", small=40, large=(MIB,))
    url, mirror = mirrored(net, tree)
    address = mirror.address
    mirror.kill()
    again = net.node("mirror", listen=address)
    assert (again.address, again.node_id) == (address, mirror.node_id)
    net.run("fetch", url, net.path / "copy", "--source", address, state="client")
    assert_same_tree(tree, net.path / "copy")
    assert again.stop() == 0


def test_a_second_node_on_one_state_directory_is_refused(net: Network) -> None:
    first = net.node("shared")
    second = net.run("node", "--listen", "127.0.0.1:0", state="shared", expect=75)
    assert str(first.process.pid) in second.events[-1]["message"]


def test_who_looks_whether_a_node_runs_keeps_none_from_starting(net: Network) -> None:
    net.publish(plain_tree(net.path / "tree", small=1), state="shared")
    stop = threading.Event()

    def look() -> None:
        with State.open(net.state("shared")) as state:
            while not stop.wait(0.0001):
                state.node_runs()

    lookers = [threading.Thread(target=look) for _ in range(3)]
    for looker in lookers:
        looker.start()
    try:
        for _ in range(3):
            assert net.node("shared").stop() == 0
    finally:
        stop.set()
        for looker in lookers:
            looker.join()


def test_a_publisher_that_is_killed_leaves_the_old_snapshot_or_the_new_one(net: Network) -> None:
    tree = plain_tree(net.path / "tree", small=200, large=(20 * MIB,))
    url = net.publish(tree, state="origin")
    origin = net.node("origin")
    chance = random.Random(3)
    for turn in range(4):
        change_some(tree, every=2, seed=turn)
        fill(tree / "large" / "l0", 20 * MIB, turn)
        publishing = net.spawn("publish", tree, state="origin")
        time.sleep(chance.uniform(0.3, 0.9))
        publishing.kill()
    before = net.run("ls", url, "--source", origin.address, state="looker")
    assert before.events[-1]["event"] != "error"
    last = net.run("publish", tree, state="origin").events[-1]
    net.run("verify", tree, state="origin")
    done = net.run("fetch", url, net.path / "copy", "--source", origin.address, state="client").done
    assert done["seq"] == last["seq"]
    assert_same_tree(tree, net.path / "copy")


def test_a_mirror_whose_origin_never_answers_says_so_and_ends(net: Network) -> None:
    tree = plain_tree(net.path / "tree", small=2)
    url = net.publish(tree, state="origin")
    shutil.rmtree(tree)
    failed = net.run("mirror", url, net.path / "mirror", "--listen", "127.0.0.1:0", state="mirror", expect=10)
    assert failed.events[-1]["event"] == "error"
