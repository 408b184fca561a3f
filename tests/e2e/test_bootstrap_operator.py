"""A bootstrap operator's day, with real processes: bootstrap nodes die and return, clients find the
network by cache, by DNS and by signed lists; curl scrapes what Prometheus would.
"""

from __future__ import annotations

import asyncio
import functools
import http.server
import json
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.e2e.harness import PROGRAM, Network, Node, assert_same_tree, make_tree, need
from tests.help.places import own_host
from tests.help.waiting import until
from tests.node.seeds_servers import Zone, dns_server, txt

from p2psync.network.seeds.seedlist import text_for_dns

METRICS = ("--metrics", "127.0.0.1:0")


def bootstrap_node(net: Network, name: str, *args: object, listen: str = "127.0.0.1:0") -> Node:
    return net.node(name, "--role", "bootstrap", *METRICS, *args, listen=listen)


def curl(node: Node, path: str) -> tuple[int, str]:
    """Status and body of a page of a node's monitor."""
    url = f"http://{node.wait_event('ready')['metrics']}{path}"
    done = subprocess.run(
        [need("curl"), "-s", "-w", "\n%{http_code}", url], capture_output=True, check=True, text=True
    )
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


def samples(node: Node) -> dict[str, float]:
    """What a node exports, by name and labels, read by the reference parser."""
    status, body = curl(node, "/metrics")
    assert status == 200
    return {
        name + "".join(f",{key}={value}" for key, value in sorted(labels.items())): value
        for family in text_string_to_metric_families(body)
        for name, labels, value in ((s.name, s.labels, s.value) for s in family.samples)
    }


@contextmanager
def dns(zone: Zone) -> Iterator[str]:
    """A DNS server in a thread of its own; its HOST:PORT."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = dns_server(zone)
    try:
        yield asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(10)
    finally:
        asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "tree", files=10, max_size=50_000)


def test_a_bootstrap_node_serves_the_dht_and_nothing_else(net: Network, tree: Path) -> None:
    boot = bootstrap_node(net, "boot")
    url = net.publish(tree, state="origin")
    net.node("origin", bootstrap=boot)
    net.run("fetch", url, net.path / "copy", "--bootstrap", boot.address, state="client")
    assert_same_tree(tree, net.path / "copy")
    host, port = boot.address.split(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), 5).close()
    assert boot.stop() == 0


def test_a_bootstrap_node_says_that_it_serves_no_archives_of_its_own(net: Network, tree: Path) -> None:
    net.publish(tree, state="boot")
    boot = bootstrap_node(net, "boot")
    assert "serves and updates none of the archives" in boot.wait_event("warning")["message"]


def test_curl_scrapes_metrics_and_health_of_a_network_at_work(net: Network, tree: Path) -> None:
    boot = bootstrap_node(net, "boot")
    url = net.publish(tree, state="origin")
    net.publish(make_tree(tree.parent / "unasked", files=3, max_size=1000), state="origin")
    origin = net.node("origin", *METRICS, bootstrap=boot)
    mirror = net.mirror(url, net.path / "mirror", *METRICS, state="mirror", bootstrap=boot)
    mirror.wait_event("done")
    archive = url.removeprefix("p2psync://").partition("?")[0]

    until(lambda: samples(boot)["p2psync_dht_records,kind=head"] == 2, "both heads are in the DHT")
    until(lambda: samples(origin)[f"p2psync_archive_holders,archive={archive}"] >= 2, "the mirror is known")

    seen = samples(boot)
    assert seen["p2psync_healthy"] == 1
    assert seen["p2psync_dht_contacts"] == 2
    assert seen["p2psync_dht_stores_accepted_total"] >= 1
    assert seen["p2psync_dht_datagrams_total,direction=in"] > 5
    assert not any(name.startswith(("p2psync_content", "p2psync_archive")) for name in seen)

    seen = samples(origin)
    assert seen["p2psync_archives"] == 2
    assert seen["p2psync_announced_timestamp_seconds"] > seen["p2psync_start_time_seconds"] - 1
    assert seen["p2psync_content_bytes_total,way=object"] + seen["p2psync_content_bytes_total,way=batch"] > 0
    assert seen["p2psync_dht_lookup_duration_seconds_count,kind=put_head,result=ok"] >= 1
    assert {name for name in seen if name.startswith("p2psync_archive_bytes_total")} == {
        f"p2psync_archive_bytes_total,archive={archive},way={way}"
        for way in ("object", "batch", "packed", "tree")
    }
    served = sum(
        seen[f"p2psync_archive_bytes_total,archive={archive},way={way}"]
        for way in ("object", "batch", "packed")
    )
    files = [path for path in tree.rglob("*") if path.is_file() and not path.is_symlink()]
    assert served >= sum(path.stat().st_size for path in files)

    seen = samples(mirror)
    label = f"archive={archive},path={net.path / 'mirror'}"
    assert seen[f"p2psync_mirror_behind,{label}"] == 0
    assert seen[f"p2psync_mirror_failures,{label}"] == 0
    assert seen[f"p2psync_mirror_updated_timestamp_seconds,{label}"] >= seen["p2psync_start_time_seconds"]

    status, body = curl(origin, "/health")
    health = json.loads(body)
    assert status == 200
    assert health["ok"] is True
    assert (health["node"], health["role"], health["archives"]) == (origin.node_id, "auto", 2)
    assert health["last_announcement"] is not None
    assert curl(origin, "/")[0] == 404
    assert curl(origin, "/info")[0] == 404


def test_a_bootstrap_node_is_killed_under_load_and_returns_as_the_same(net: Network, tree: Path) -> None:
    boot = bootstrap_node(net, "boot", listen=f"{own_host()}:0")  # where its port waits for its return
    url = net.publish(tree, state="origin")
    origin = net.node("origin", bootstrap=boot)
    mirrors = [net.mirror(url, net.path / f"mirror{i}", state=f"mirror{i}", bootstrap=boot) for i in range(3)]
    for mirror in mirrors:
        mirror.wait_event("done")

    # Load: clients that come and go without a pause, by the bootstrap node alone.
    stop = threading.Event()
    codes: list[int] = []

    def come_and_go() -> None:
        while not stop.is_set():
            command = net.spawn("mirrors", url, "--bootstrap", boot.address, state=f"passer{len(codes)}")
            codes.append(command.wait())

    load = threading.Thread(target=come_and_go)
    load.start()
    try:
        until(lambda: len(codes) >= 2, "clients come and go")
        contacts = net.state("boot") / "contacts.msgpack"
        until(contacts.exists, "the bootstrap node notes its contacts")
        boot.kill()
        origin.kill()
        before = len(codes)
        until(lambda: len(codes) > before + 1, "clients find the bootstrap node dead")
        again = bootstrap_node(net, "boot", listen=boot.address)
        assert again.node_id == boot.node_id
        before = len(codes)
        until(lambda: 0 in codes[before + 1 :], "clients find the network by the node that returned")
    finally:
        stop.set()
        load.join()

    # It needed nobody's help: it remembered its contacts.
    until(lambda: samples(again)["p2psync_dht_contacts"] >= 1, "the bootstrap node has company again")
    net.run("fetch", url, net.path / "copy", "--bootstrap", again.address, state="newcomer")
    assert_same_tree(tree, net.path / "copy")


def test_a_client_with_only_its_cache_joins(net: Network, tree: Path) -> None:
    boot = bootstrap_node(net, "boot")
    url = net.publish(tree, state="origin")
    net.node("origin", bootstrap=boot)
    net.run("mirrors", url, "--bootstrap", boot.address, state="client")
    boot.kill()
    net.run("fetch", url.partition("?")[0], net.path / "copy", state="client")
    assert_same_tree(tree, net.path / "copy")


def test_a_client_with_only_a_dns_seed_name_joins(net: Network, tree: Path) -> None:
    boot = bootstrap_node(net, "boot")
    url = net.publish(tree, state="origin").partition("?")[0]
    net.node("origin", bootstrap=boot)
    port = boot.address.split(":")[1]
    zone = Zone(
        {
            ("_p2psync._udp.seeds.test", "SRV"): [f"0 0 {port} boot.seeds.test."],
            ("boot.seeds.test", "A"): ["127.0.0.1"],
        }
    )
    with dns(zone) as server:
        net.run("fetch", url, net.path / "by-seeds", "--seeds", "seeds.test", "--dns", server, state="one")
        # A bootstrap host without a port, and the resolver from the environment.
        net.run(
            "fetch", url, net.path / "by-srv", "--bootstrap", "seeds.test", state="two", P2PSYNC_DNS=server
        )
    assert_same_tree(tree, net.path / "by-seeds")
    assert_same_tree(tree, net.path / "by-srv")
    # From now on both need neither DNS nor the bootstrap node.
    boot.kill()
    net.run("fetch", url, net.path / "again", state="one")
    assert_same_tree(tree, net.path / "again")


def test_an_operator_signs_a_list_and_clients_join_by_it(net: Network, tree: Path) -> None:
    boot = bootstrap_node(net, "boot")
    url = net.publish(tree, state="origin").partition("?")[0]
    net.node("origin", bootstrap=boot)
    key = net.run("seeds", "keygen", net.path / "key.pem", state="operator").events[0]["key"]
    (net.path / "mine.toml").write_text(f'seeds = ["127.0.0.1:9", "{boot.address}"]\n')
    words = ("sign", net.path / "mine.toml", "--key", net.path / "key.pem")
    signed = net.run("seeds", *words, state="operator").events[0]["list"].encode()
    (net.path / "signed.toml").write_bytes(signed)

    checked = net.run(
        "seeds", "verify", net.path / "signed.toml", "--seeds-key", key, state="operator"
    ).events[0]
    assert checked["seeds"] == ["127.0.0.1:9", boot.address]
    again = ("fetch", url, net.path / "copy", "--seeds", net.path / "signed.toml", "--seeds-key")
    net.run(*map(str, again), key, state="client")
    assert_same_tree(tree, net.path / "copy")

    # Signed by somebody else: exit code 5, and the sentence names both keys.
    other = net.run("seeds", "keygen", net.path / "other.pem", state="operator").events[0]["key"]
    refused = net.run(*map(str, again), other, state="stranger", expect=5)
    assert key in refused.stderr
    assert other in refused.stderr
    refused = net.run(
        "seeds", "verify", net.path / "signed.toml", "--seeds-key", other, state="operator", expect=5
    )

    # The same list in DNS; a node pins its key, and exports when it expires.
    zone = Zone({("_p2psync-seeds.seeds.test", "TXT"): [txt(text_for_dns(signed))]})
    with dns(zone) as server:
        node = net.node("by-dns", *METRICS, "--seeds", "seeds.test", "--dns", server)
        assert samples(node)["p2psync_dht_contacts"] >= 1
        assert samples(node)["p2psync_seeds_expiry_timestamp_seconds,source=seeds.test"] == checked["expires"]
    assert key in (net.state("by-dns") / "seeds" / "known_keys").read_text()


def test_a_list_at_the_well_known_place_of_a_web_server(net: Network) -> None:
    """HTTPS with a certificate that the client's system trusts; the key is pinned on first use."""
    boot = bootstrap_node(net, "boot")
    key, certificate = net.path / "tls.key", net.path / "tls.pem"
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    extra: list[str | Path] = ["-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate]
    subprocess.run([need("openssl"), *words.split(), *extra], check=True, capture_output=True)
    (net.path / "mine.toml").write_text(f'seeds = ["{boot.address}"]\n')
    signer = net.run("seeds", "keygen", net.path / "key.pem", state="operator").events[0]["key"]
    signing = net.run(
        "seeds", "sign", net.path / "mine.toml", "--key", net.path / "key.pem", state="operator"
    )

    folder = net.path / "www" / ".well-known"
    folder.mkdir(parents=True)
    (folder / "p2psync-seeds").write_text(signing.events[0]["list"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(net.path / "www"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"https://localhost:{server.server_port}/.well-known/p2psync-seeds"
            trusting = {"SSL_CERT_FILE": str(certificate)}
            found = net.run("seeds", "verify", url, state="operator", expect=0, **trusting).events[0]
            assert (found["key"], found["seeds"]) == (signer, [boot.address])
            net.run("seeds", "verify", url, state="operator", expect=10)
            words_of_node = ["--listen", "127.0.0.1:0", "--seeds", url]
            node = net.spawn("node", *words_of_node, state="node", env=trusting)
            node.wait_event("ready")
            until(lambda: samples(boot)["p2psync_dht_contacts"] == 1, "the node has joined by the list")
        finally:
            server.shutdown()
            thread.join()
    assert f"{url} {signer}" in (net.state("node") / "seeds" / "known_keys").read_text()


def test_lines_for_the_journal_begin_with_their_priority(net: Network) -> None:
    """systemd names the journal's socket by device and inode; here a pipe plays it."""
    script = 'exec 2>&1; JOURNAL_STREAM=$(stat -L -c %d:%i /dev/stderr) exec "$@"'
    argv = ["sh", "-c", script, "sh", *PROGRAM, "fetch", "p2psync://nonsense", "x"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.fullmatch(r"<3>p2psync: invalid value .*\n", done.stdout)
    plain = subprocess.run(
        [*PROGRAM, "fetch", "p2psync://x", "x"], capture_output=True, text=True, check=False
    )
    assert plain.stderr.startswith("p2psync: ")
