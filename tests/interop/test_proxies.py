"""Fetches through the proxies that people have: squid, tinyproxy, microsocks."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.harness import Network, Node, assert_same_tree, make_tree, rsync_difference
from tests.help.certificates import certificate_of
from tests.help.places import own_host
from tests.help.rsyncd import rsync_daemon
from tests.help.waiting import until
from tests.interop.proxy_servers import microsocks_at, squid_at, tinyproxy_at
from tests.interop.web_servers import nginx_at

PORT = 3128
WEB = 8080
TLS = 8443


class World:
    """An origin, and its tree."""

    def __init__(self, net: Network, folder: Path) -> None:
        self.net = net
        self.folder = folder
        self.tree = make_tree(folder / "tree", files=60, max_size=3_000_000)
        self.url = net.publish(self.tree, state="origin").partition("?")[0]
        self.node: Node = net.node("origin")

    def fetch(self, *options: object, expect: int = 0, source: str = "", **env: str) -> str:
        """Fetch by one source, with what is said on standard error; the tree is the same then."""
        words = ["--source", source or self.node.address, *options]
        copy = self.folder / "copy"
        done = self.net.run("fetch", self.url, copy, *words, state="reader", expect=expect, **env)
        if not expect:
            assert_same_tree(self.tree, copy)
            assert done.done["received"] < 1.1 * done.done["bytes"], "nothing is sent twice"
        return done.stderr


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with Network(tmp_path) as net:
        yield World(net, tmp_path)


def test_squid_hands_requests_on_where_it_makes_no_tunnel(world: World) -> None:
    with squid_at(PORT) as squid:
        said = world.fetch(http_proxy=squid.address)
        assert said.count(f"the DHT is not asked by UDP, since the proxy http://{squid.address}") == 1
        assert f"CONNECT {world.node.address}" in squid.log and "TCP_DENIED/403" in squid.log
        assert f"POST http://{world.node.address}/p2psync/v1/batch" in squid.log


def test_a_mirror_behind_squid_hears_of_a_new_snapshot_when_it_is_published(world: World) -> None:
    """A request that is left open passes as any other; nobody reaches the mirror, and its interval is an
    hour.
    """
    with squid_at(PORT) as squid:
        copy = world.folder / "mirror"
        words = ["--source", world.node.address, "--no-share", "--proxy", f"http://{squid.address}"]
        world.net.mirror(world.url, copy, *words, state="mirror").wait_event("done")
        (world.tree / "new").write_text("new")
        world.net.publish(world.tree, state="origin")
        until((copy / "new").exists, "the mirror has the new snapshot")


def test_squid_makes_tunnels_to_the_port_of_tls_for_those_who_log_in(world: World) -> None:
    """The origin listens where only port 443 is let through."""
    made = subprocess.run(
        ["openssl", "passwd", "-apr1", "p@ss w"], check=True, capture_output=True, text=True
    )

    def login(folder: Path) -> str:
        (folder / "passwords").write_text(f"me:{made.stdout}")
        return (
            f"auth_param basic program /usr/lib/squid/basic_ncsa_auth {folder}/passwords\n"
            "acl known proxy_auth REQUIRED\nhttp_access deny !known"
        )

    mirror = world.net.node("origin-443", listen=f"{own_host()}:443")
    with squid_at(PORT, extra=login) as squid:
        refused = world.fetch(source=mirror.address, expect=10, https_proxy=f"http://{squid.address}")
        assert "wants a name and a password" in refused
        wrong = f"http://me:wrong@{squid.address}"
        refused = world.fetch(source=mirror.address, expect=10, https_proxy=wrong)
        assert "does not take the name and password" in refused and "wrong" not in refused
        right = f"http://me:p%40ss%20w@{squid.address}"
        reached = world.fetch(source=mirror.address, expect=10, https_proxy=right)
        assert "does not have this archive" in reached
        assert f"CONNECT {mirror.address} me" in squid.log


def test_tinyproxy_ends_each_connection_after_one_request(world: World) -> None:
    with tinyproxy_at(world.folder / "tinyproxy", PORT, extra="BasicAuth me secret") as proxy:
        world.fetch("--proxy", f"http://me:secret@{proxy}")


def test_microsocks_makes_connections_for_those_who_log_in(world: World) -> None:
    with microsocks_at(PORT, login=("me", "secret")) as proxy:
        refused = world.fetch(expect=10, all_proxy=f"socks5h://me:wrong@{proxy}")
        assert f"the proxy socks5h://{proxy} does not connect" in refused
        world.fetch(all_proxy=f"socks5h://me:secret@{proxy}")


def test_a_web_mirror_is_read_through_a_proxy(world: World) -> None:
    published = world.net.run("publish", world.tree, "--static", state="origin")
    assert published.events
    with nginx_at(world.folder / "nginx", world.tree, WEB) as mirror, squid_at(PORT) as squid:
        words = ["--source", mirror, "--proxy", squid.address]
        done = world.net.run("fetch", world.url, world.folder / "copy", *words, state="reader")
        assert set(done.done["sources"]) == {mirror}
        assert f"GET {mirror}" in squid.log


def test_a_node_behind_a_reverse_proxy_with_tls_is_a_node(world: World) -> None:
    file = certificate_of("mirror.test", world.folder / "both.pem", own_host())
    where = f"{own_host()}:{TLS}"
    extra = (
        f"listen {where} ssl; ssl_certificate {file}; ssl_certificate_key {file};"
        f"location / {{ proxy_pass http://{world.node.address}; }}"
    )
    with nginx_at(world.folder / "nginx", world.folder, WEB, extra=extra):
        said = world.fetch("--ca-file", file, "--no-udp", source=f"https://{where}/")
    assert said == ""


def test_rsync_is_handed_the_proxy_and_not_run_where_it_cannot_use_it(world: World) -> None:
    module = make_tree(world.folder / "module", files=5)
    with rsync_daemon(world.folder / "rsyncd", {"pub": module}) as rsyncd:
        allowed = f"ConnectPort {rsyncd.address.rpartition(':')[2]}"
        with tinyproxy_at(world.folder / "tinyproxy", PORT, extra=f"{allowed}\nBasicAuth me p.s") as proxy:
            words = [rsyncd.url("pub/"), world.folder / "copy"]
            way = f"http://me:p%2Es@{proxy}"
            done = world.net.run("fetch", *words, state="reader", http_proxy=way)
            assert done.events[-1] == {"event": "rsync", "src": rsyncd.url("pub/"), "code": 0}
            assert f"CONNECT {rsyncd.address}" in (world.folder / "tinyproxy/log").read_text()
            assert rsync_difference(module, world.folder / "copy") == ""
        before = rsyncd.connections
        refused = world.net.run("fetch", *words, "--proxy", f"socks5://{proxy}", state="other", expect=10)
        assert f"rsync cannot use the proxy socks5h://{proxy}" in refused.stderr
        assert rsyncd.connections == before, "nothing goes past it"


def test_where_the_proxy_is_down_nothing_goes_direct(world: World) -> None:
    said = world.fetch("--proxy", f"http://{own_host()}:{PORT}", expect=10)
    assert f"the proxy http://{own_host()}:{PORT} cannot be used: Connection refused" in said
    assert not (world.folder / "copy").exists()
