"""Behind a firewall that lets through a proxy and nothing else, or port 443 and nothing else: real squid,
microsocks, nginx and nftables, between namespaces of the kernel. What is tried beside the way is counted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.harness import assert_same_tree, make_tree
from tests.e2e.namespaces import NO_UDP, Host, Internet, command, internet
from tests.help.certificates import certificate_of
from tests.help.waiting import until
from tests.interop.proxy_servers import microsocks_at, squid_at

ORIGIN, PROXY, READER = "192.0.2.10", "198.51.100.10", "203.0.113.10"
NAME = "origin.test"
"""A name that the proxy alone knows."""
SQUID, OPENS, SOCKS = 3128, 3129, 1080

CAGE = """
table inet cage {{
  counter past {{ }}
  chain output {{
    type filter hook output priority 0; policy accept;
    oif lo accept
    {allowed} accept
    meta l4proto {{ tcp, udp }} counter name past drop
  }}
}}
"""
"""A reader's firewall, at his own machine so that it sees what is tried: all but one way is dropped, and
counted.
"""


class World:
    """An origin that serves within TLS at port 443, a proxy's host, and a reader in a cage."""

    def __init__(self, net: Internet, folder: Path) -> None:
        self.folder = folder
        self.tree = make_tree(folder / "tree", files=30, max_size=1_000_000)
        self.copy = folder / "copy"
        self.origin, self.proxy, self.reader = (net.host(address) for address in (ORIGIN, PROXY, READER))
        self.certificate = certificate_of(NAME, folder / "both.pem", ORIGIN)
        words = ["--tls-cert", self.certificate, "--tls-listen", "0.0.0.0:443"]
        self.origin.start("--role", "server", *words)
        self.url = self.origin.publish(self.tree, state="node").partition("?")[0]

    def is_known_at(self, host: Host) -> bool:
        """Whether who joins by a host finds the origin in the DHT."""
        found = host.run("mirrors", self.url, "--bootstrap", host.peer, state="somebody", expect=None).events
        return any(event["event"] == "holder" for event in found)

    def cage(self, allowed: str) -> None:
        """From now on the reader gets out by this way alone."""
        self.reader.filter(CAGE.format(allowed=allowed))

    @property
    def past(self) -> int:
        """Packets that the reader has sent past that way."""
        raw = command("ip", "netns", "exec", self.reader.namespace, "nft", "-j", "list", "counters")
        counters = [each["counter"] for each in json.loads(raw)["nftables"] if "counter" in each]
        return int(counters[0]["packets"])

    def fetch(self, *words: object, state: str = "reader", expect: int = 0, **env: str) -> Any:
        arguments = [self.url, self.copy, "--ca-file", self.certificate, *words]
        done = self.reader.run("fetch", *arguments, state=state, expect=expect, **env)
        if not expect:
            assert_same_tree(self.tree, self.copy)
        return done


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Internet]:
    with internet(tmp_path) as made:
        yield made


@pytest.fixture
def world(net: Internet, tmp_path: Path) -> World:
    return World(net, tmp_path)


def within(host: Host) -> list[str]:
    return ["ip", "netns", "exec", host.namespace]


def hosts(folder: Path) -> str:
    """Lines for squid that has a name from a file."""
    (folder / "hosts").write_text(f"{ORIGIN} {NAME}\n")
    return f"hosts_file {folder}/hosts"


def test_a_fetch_gets_through_a_proxy_and_with_the_proxy_down_nothing_goes_past_it(world: World) -> None:
    world.cage(f"ip daddr {PROXY} tcp dport {SQUID}")
    source = f"https://{NAME}/"
    with squid_at(SQUID, host=PROXY, within=within(world.proxy), extra=hosts) as squid:
        done = world.fetch("--source", source, https_proxy=f"http://{squid.address}")
        assert source in done.done["sources"]
        tunnels = [line for line in squid.log.splitlines() if f" CONNECT {NAME}:443 " in line]
        assert tunnels and all("/200 " in line for line in tunnels)
    assert world.past == 0
    down = f"http://{PROXY}:{SQUID}"
    done = world.fetch("--source", source, state="stranger", https_proxy=down, expect=10)
    assert f"the proxy http://{PROXY}:{SQUID} cannot be used" in done.stderr
    assert world.past == 0


def test_a_proxy_that_opens_tls_is_trusted_by_its_own_certificate(world: World) -> None:
    """squid makes a certificate for each server that it leads to; what it sees is verified as ever."""
    authority = world.folder / "authority.pem"
    words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=proxy"]
    key, made = authority.with_suffix(".key"), authority.with_suffix(".crt")
    command(
        "openssl",
        *words,
        "-addext",
        "basicConstraints=critical,CA:TRUE",
        "-keyout",
        f"{key}",
        "-out",
        f"{made}",
    )
    authority.write_bytes(key.read_bytes() + made.read_bytes())

    def opens_tls(folder: Path) -> str:
        for name, source in (("authority.pem", authority), ("origin.pem", world.certificate)):
            (folder / name).write_bytes(source.read_bytes())
            (folder / name).chmod(0o644)
        certificates = folder / "certificates"
        command("/usr/lib/squid/security_file_certgen", "-c", "-s", f"{certificates}", "-M", "4MB")
        command("chown", "-R", "proxy", f"{certificates}")
        return (
            f"{hosts(folder)}\n"
            f"http_port {PROXY}:{OPENS} ssl-bump generate-host-certificates=on cert={folder}/authority.pem\n"
            f"sslcrtd_program /usr/lib/squid/security_file_certgen -s {certificates} -M 4MB\n"
            f"tls_outgoing_options cafile={folder}/origin.pem\nssl_bump bump all"
        )

    source = f"https://{NAME}/"
    world.cage(f"ip daddr {PROXY} tcp dport {OPENS}")
    with squid_at(SQUID, host=PROXY, within=within(world.proxy), extra=opens_tls) as squid:
        way = f"http://{PROXY}:{OPENS}"
        refused = world.fetch("--source", source, state="stranger", https_proxy=way, expect=10)
        assert "TLS failed: " in refused.stderr and "certificate" in refused.stderr
        trusted = ["--source", source, "--ca-file", made]
        done = world.reader.run("fetch", world.url, world.copy, *trusted, state="reader", https_proxy=way)
        assert_same_tree(world.tree, world.copy)
        assert source in done.done["sources"]
        assert f"POST {source}p2psync/v1/batch" in squid.log
    assert world.past == 0


def test_the_same_by_socks(world: World) -> None:
    world.cage(f"ip daddr {PROXY} tcp dport {SOCKS}")
    source = f"https://{ORIGIN}/"
    with microsocks_at(SOCKS, host=PROXY, within=within(world.proxy)) as proxy:
        done = world.fetch("--source", source, all_proxy=f"socks5h://{proxy}")
        assert source in done.done["sources"]
        # And by a node that stays: nothing that it does by itself goes another way.
        words = ["--source", source, "--ca-file", world.certificate, "--proxy", f"socks5://{proxy}"]
        mirror = world.reader.stand(world.url, world.folder / "mirror", *words, "--interval", "1")
        mirror.wait_event("done")
        mirror.wait_event("resting")
        mirror.stop()
        assert_same_tree(world.tree, world.folder / "mirror")
    assert world.past == 0


def test_port_443_alone_is_enough(world: World) -> None:
    world.cage("tcp dport 443")
    done = world.fetch("--source", f"https://{ORIGIN}/", "--no-udp")
    assert set(done.done["sources"]) == {f"https://{ORIGIN}/"}


BLOCKED = "UDP does not seem to pass: nobody in the DHT answered in "


def test_without_udp_the_dht_is_asked_by_way_of_a_node(world: World, net: Internet) -> None:
    """By one that has nothing of the archive itself, and is given as an address to join by."""
    other = net.host("198.51.100.20")
    other.start("--role", "server", bootstrap=world.origin)
    until(lambda: world.is_known_at(other), "the archive is announced")
    world.reader.filter(NO_UDP)
    words = ["--bootstrap", other.peer]
    first = world.fetch(*words)
    seconds = re.search(rf"{BLOCKED}(\d+\.\d) seconds; it is asked by way of {other.peer}", first.stderr)
    assert seconds is not None
    print(f"gave up on UDP after {seconds[1]} s")
    assert set(first.done["sources"]) == {world.origin.peer}
    state = world.reader.state("reader")
    (state / "index.sqlite").unlink()  # Nobody is known any more but by way of the node.
    assert BLOCKED not in world.fetch(*words).stderr, "it is remembered, and not waited for again"
    (state / "index.sqlite").unlink()
    assert BLOCKED in world.fetch(*words, "--udp").stderr, "it is tried where that is asked for"


def test_by_a_proxy_too_the_dht_is_asked_by_way_of_a_node(world: World, net: Internet) -> None:
    other = net.host("198.51.100.20")
    certificate = certificate_of("other.test", world.folder / "other.pem", other.public)
    other.start(
        "--role", "server", "--tls-cert", certificate, "--tls-listen", "0.0.0.0:443", bootstrap=world.origin
    )
    until(lambda: world.is_known_at(other), "the archive is announced")
    world.cage(f"ip daddr {PROXY} tcp dport {SOCKS}")
    with microsocks_at(SOCKS, host=PROXY, within=within(world.proxy)) as proxy:
        words = [
            "--source",
            f"https://{other.public}/",
            "--ca-file",
            certificate,
            "--proxy",
            f"socks5://{proxy}",
        ]
        done = world.reader.run("fetch", world.url, world.copy, *words, state="reader")
    assert_same_tree(world.tree, world.copy)
    assert world.origin.peer in done.done["sources"]
    assert world.past == 0
