"""Names and TLS in front of a classic server, by the programs that people have for them: dnsmasq says which
archive a host has, and stunnel is the TLS of an rsync daemon.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from tests.e2e.harness import Network, assert_same_tree, make_tree
from tests.help.certificates import certificate_of
from tests.help.places import own_host
from tests.help.rsyncd import rsync_daemon
from tests.help.waiting import until
from tests.node.wire_support import program

DNS_PORT = 5353
TLS_PORT = 8743


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Network]:
    with Network(tmp_path) as made:
        yield made


@contextmanager
def running(port: int, *command: str | Path) -> Iterator[None]:
    """A server that listens at ``port`` (TCP) of an address of this test's own."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def answers() -> bool:
        assert process.poll() is None, f"{command[0]} ended with {process.returncode}"
        with suppress(OSError), socket.create_connection((own_host(), port)):
            return True
        return False

    try:
        until(answers, f"{command[0]} listens")
        yield
    finally:
        process.kill()
        process.wait()


def test_a_host_name_leads_to_the_archive_that_dnsmasq_has_for_it(net: Network, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree", files=30)
    url = net.publish(tree, state="origin").partition("?")[0]
    node = net.node("origin")
    dnsmasq = [
        program("dnsmasq", "dnsmasq-base"),
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--no-resolv",
    ]
    dnsmasq += [
        "--no-hosts",
        "--user=root",
        "--pid-file=",
        "--bind-interfaces",
        f"--listen-address={own_host()}",
    ]
    record = f"--txt-record=_p2psync.files.example.org,{url}"
    with running(DNS_PORT, *dnsmasq, f"--port={DNS_PORT}", record):
        asked = ["--dns", f"{own_host()}:{DNS_PORT}", "--bootstrap", node.address]
        done = net.run("fetch", "files.example.org", tmp_path / "copy", *asked, state="reader")
    assert done.wait_event("origin")["archive"] == url
    assert_same_tree(tree, tmp_path / "copy")


def test_within_tls_stunnels_rsync_daemon_is_asked_and_fetched_from(net: Network, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree", files=30)
    certificate = certificate_of(own_host(), tmp_path / "certificate.pem")
    with rsync_daemon(tmp_path / "rsyncd", {"pub": tree}) as rsyncd:
        (tmp_path / "stunnel.conf").write_text(
            f"foreground = yes\npid =\n[rsync]\naccept = {own_host()}:{TLS_PORT}\n"
            f"connect = {rsyncd.address}\ncert = {certificate}\n"
        )
        with running(TLS_PORT, program("stunnel", "stunnel4"), tmp_path / "stunnel.conf"):
            source = f"rsyncs://{own_host()}:{TLS_PORT}/pub/"
            refused = net.run("fetch", source, tmp_path / "copy", state="reader", expect=None)
            assert refused.wait() != 0, "nobody vouches for its certificate"
            net.run("fetch", source, tmp_path / "copy", state="reader", RSYNC_SSL_CA_CERT=str(certificate))
    assert_same_tree(tree, tmp_path / "copy")
