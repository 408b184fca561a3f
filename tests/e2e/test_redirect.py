"""An origin that sends plain downloads to its mirrors: curl and apt get what they ask for, nearly all of it
from them, as long as there are any that have it.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import urllib.request
from pathlib import Path

import pytest
from tests.e2e.harness import Network, Node, need
from tests.e2e.impatient import impatient
from tests.e2e.test_nominations import IMPATIENT
from tests.e2e.trees import MIB, fill, plain_tree
from tests.help.waiting import until

REDIRECT = ("--mirrors-redirect", "1", "--metrics", "127.0.0.1:0")
FROM_MIRRORS = 0.95


@pytest.fixture
def patient(net: Network) -> Network:
    """Checks each fifth of a second."""
    net.program = impatient(*IMPATIENT, "p2psync.daemon.redirecting.LOOK=0.2")
    net.forks = False
    return net


def place(url: str, node: Node) -> str:
    return f"http://{node.address}/{url.removeprefix('p2psync://')}"


def sent(node: Node) -> float:
    """Bytes of files that a node has sent by their paths."""
    with urllib.request.urlopen(f"http://{node.events[0]['metrics']}/metrics", timeout=30) as answer:
        found = re.findall(
            r'^p2psync_content_bytes_total\{way="tree"\} (.*)$', answer.read().decode(), re.MULTILINE
        )
    return float(found[0])


def curl(*words: str | Path) -> subprocess.CompletedProcess[bytes]:
    argv = [need("curl"), "--silent", "--show-error", "--fail", "--noproxy", "*", *words]
    return subprocess.run(argv, capture_output=True, check=False)


def leads_to(url: str) -> str:
    """HOST:PORT that curl is sent to for a file; the same if it is not."""
    done = curl("--head", "--location", "--output", "/dev/null", "--write-out", "%{url_effective}", url)
    return done.stdout.decode().split("/")[2]


def network(net: Network, tree: Path) -> tuple[str, Node, list[Node]]:
    """A published tree, its origin and two mirrors, to both of which readers are sent."""
    url = net.publish(tree, state="origin")
    origin = net.node("origin", *REDIRECT)
    mirrors = [
        net.mirror(f"{url}?peer={origin.address}", net.path / name, "--metrics", "127.0.0.1:0", state=name)
        for name in ("first", "second")
    ]
    for mirror in mirrors:
        mirror.wait_event("done")
    return url, origin, mirrors


def test_curl_gets_nearly_all_from_mirrors_and_what_is_new_as_soon_as_they_have_it(patient: Network) -> None:
    net = patient
    tree = plain_tree(net.path / "tree", small=10, large=(MIB,) * 20)
    url, origin, mirrors = network(net, tree)
    where = place(url, origin)
    seen: set[str] = set()

    def both() -> bool:
        seen.add(leads_to(f"{where}/large/l0"))
        return {mirror.address for mirror in mirrors} <= seen

    until(both, "readers are sent to both mirrors")
    before = sent(origin)
    copy = net.path / "copy"
    copy.mkdir()
    for number in range(20):
        assert curl("--location", "--output", copy / f"l{number}", f"{where}/large/l{number}").returncode == 0
        assert (copy / f"l{number}").read_bytes() == (tree / "large" / f"l{number}").read_bytes()
    assert sent(origin) - before <= (1 - FROM_MIRRORS) * 20 * MIB
    assert all(sent(mirror) > 0 for mirror in mirrors)
    new = fill(tree / "new", 100_000, "new")
    net.publish(tree, state="origin")
    # At no moment is anybody sent to where it is not.
    answers: list[bytes] = []

    def from_a_mirror() -> bool:
        done = curl("--location", "--write-out", "\n%{url_effective}", f"{where}/new")
        content, _, effective = done.stdout.rpartition(b"\n")
        answers.append(content)
        return effective.split(b"/")[2] != origin.address.encode()

    until(from_a_mirror, "readers of what is new are sent to mirrors too")
    assert set(answers) == {new.read_bytes()}


def test_nobody_is_sent_to_a_mirror_that_is_gone_for_long(patient: Network) -> None:
    net = patient
    url, origin, mirrors = network(net, plain_tree(net.path / "tree", large=(10_000,)))
    where = f"{place(url, origin)}/large/l0"
    until(lambda: leads_to(where) != origin.address, "readers are sent on")
    for mirror in mirrors:
        mirror.kill()
    until(lambda: leads_to(where) == origin.address, "the origin answers itself")


def package(folder: Path, name: str, size: int) -> None:
    """A Debian package with a file of random bytes."""
    root = folder.parent / f"root of {name}"
    fill(root / "opt" / name, size, name)
    control = root / "DEBIAN" / "control"
    control.parent.mkdir(mode=0o755)
    control.write_text(
        f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: nobody <n@example.org>\n"
        f"Description: {name}\n"
    )
    root.chmod(0o755)
    subprocess.run(
        [need("dpkg-deb"), "--build", root, folder / f"{name}_1_all.deb"], check=True, capture_output=True
    )


def flat_repository(folder: Path, names: list[str]) -> Path:
    """What dpkg-scanpackages would write."""
    folder.mkdir()
    paragraphs = []
    for name in names:
        package(folder, name, 200_000)
        made = folder / f"{name}_1_all.deb"
        raw = made.read_bytes()
        paragraphs.append(
            f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: n <n@example.org>\nFilename: "
            f"./{made.name}\nSize: {len(raw)}\nSHA256: {hashlib.sha256(raw).hexdigest()}\n"
            f"Description: {name}\n"
        )
    (folder / "Packages").write_text("".join(f"{paragraph}\n" for paragraph in paragraphs))
    return folder


def apt_get(net: Network, source: str, *words: str) -> str:
    """Run apt-get with everything of its own in the test's directory; what it said."""
    root = net.path / "apt"
    for folder in ("state/lists/partial", "cache/archives/partial", "etc/apt.conf.d", "etc/preferences.d"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "sources.list").write_text(f"deb [trusted=yes] {source} ./\n")
    (root / "status").touch()
    settings = {
        "Dir::State": root / "state",
        "Dir::State::status": root / "status",
        "Dir::Cache": root / "cache",
        "Dir::Etc": root / "etc",
        "Dir::Etc::sourcelist": root / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "APT::Sandbox::User": "",
        "Acquire::http::Proxy": "DIRECT",
        "Acquire::Languages": "none",
    }
    options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    argv = [need("apt-get"), *options, *words]
    done = subprocess.run(argv, cwd=root, capture_output=True, check=False, env=os.environ | {"LC_ALL": "C"})
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    return done.stdout.decode()


def test_apt_updates_and_downloads_from_a_node_and_by_it_from_its_mirrors(patient: Network) -> None:
    net = patient
    repository = flat_repository(net.path / "repository", ["one", "two"])
    url, origin, _ = network(net, repository)
    where = place(url, origin)
    until(lambda: leads_to(f"{where}/Packages") != origin.address, "readers are sent on")
    before = sent(origin)
    apt_get(net, where, "update")
    apt_get(net, where, "download", "one", "two")
    for name in ("one", "two"):
        made = f"{name}_1_all.deb"
        assert (net.path / "apt" / made).read_bytes() == (repository / made).read_bytes()
    assert sent(origin) == before
    assert "Hit:" in apt_get(net, where, "update")  # Nothing is fetched again.
