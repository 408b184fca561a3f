"""nginx as the web server that SRC names: a mapping under .well-known, and heads in its tree, with TLS."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.harness import Network, assert_same_tree, make_tree, need, set_mtime
from tests.interop.nginx_support import Nginx


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Network]:
    with Network(tmp_path) as made:
        yield made


def test_a_mapping_under_well_known_leads_to_an_archive_and_to_whom_to_ask(
    net: Network, nginx: Nginx, tmp_path: Path
) -> None:
    tree = make_tree(tmp_path / "tree", files=10)
    url = net.publish(tree, state="origin").partition("?")[0]
    node = net.node("origin")
    mapping = nginx.root / ".well-known/p2psync"
    mapping.parent.mkdir(exist_ok=True)
    mapping.write_text(f"/pub/archive {url}?peer={node.address}\n")
    trusted = str(nginx.root.parent / "cert.pem")
    done = net.run(
        "fetch", f"{nginx.tls}/pub/archive/", tmp_path / "copy", state="reader", SSL_CERT_FILE=trusted
    )
    assert done.wait_event("origin")["named_by"] == f"{nginx.tls}/.well-known/p2psync"
    assert_same_tree(tree, tmp_path / "copy")
    listed = net.run("ls", f"{nginx.tls}/pub/archive/dir0", state="reader", SSL_CERT_FILE=trusted)
    assert listed.events[-1]["archive"] == url
    # Whose certificate is not trusted is not asked, and what is remembered is used.
    again = net.run(
        "fetch", f"{nginx.tls}/pub/archive", tmp_path / "copy", "--source", node.address, state="reader"
    )
    assert "names no archive any more" in again.wait_event("warning")["message"]
    nothing = net.run(
        "fetch",
        f"{nginx.tls}/elsewhere/",
        tmp_path / "other",
        state="reader",
        expect=10,
        SSL_CERT_FILE=trusted,
    )
    assert "names no archive" in nothing.stderr
    assert not (tmp_path / "other").exists()


def test_a_tree_that_was_published_with_static_files_needs_no_node(
    net: Network, nginx: Nginx, tmp_path: Path
) -> None:
    tree = make_tree(tmp_path / "tree", files=10)
    url = net.publish(tree, "--static", state="origin").partition("?")[0]
    subprocess.run([need("rsync"), "-a", f"{tree}/", nginx.root / "static"], check=True)
    done = net.run("fetch", f"{nginx.plain}/static/", tmp_path / "copy", state="reader")
    assert done.wait_event("origin")["archive"].startswith(f"{url}?web=")
    assert done.done["missing"] == 0
    copied = tmp_path / "copy"
    assert not (copied / "p2psync").exists()
    set_mtime(copied, 0)  # The folder of static files is made in the tree when that has been looked at.
    set_mtime(tree, 0)
    subprocess.run([need("rsync"), "-a", "--exclude=/p2psync", f"{tree}/", tmp_path / "expected"], check=True)
    assert_same_tree(tmp_path / "expected", copied)
