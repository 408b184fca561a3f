"""An internet of network namespaces: hosts with public addresses, and hosts behind NATs and firewalls.

    internet.host("192.0.2.10")                         a host with a public address
    internet.host("198.51.100.9", behind_nat=True)      one behind a NAT that has this public address
    host.filter(rules)                                  nftables rules for it, on its NAT or the host itself

Real kernels, real nftables. All public hosts hang on one bridge and reach each other directly, whatever their
addresses: those are the documentation ranges of RFC 5737, which exist in these namespaces alone. A `Host` is
a `Network` (harness) whose processes run in its namespace. All of it is removed at the end, also after
failures.
"""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.harness import Network, Node, need

PORT = 8730
LISTEN = f"0.0.0.0:{PORT}"
PREFIX = "p2ps"
"""Of the names of namespaces: ``ip netns list`` shows whose they are."""
INSIDE, GATEWAY = "192.168.77.2", "192.168.77.1"
"""A private address (RFC 1918) and its NAT's."""

NAT = """
table ip nat {
  chain in { type nat hook prerouting priority dstnat; }
  chain out { type nat hook postrouting priority srcnat; oifname "public" masquerade; }
}
table inet firewall {
  chain input { type filter hook input priority filter; iifname "public" jump answers_only; }
  chain forward { type filter hook forward priority filter; iifname "public" jump answers_only; }
  chain answers_only { ct state established,related accept; ct status dnat accept; drop; }
}
"""
"""What a home router does: masquerade, let answers in, and what was forwarded; drop the rest."""
NO_UDP = """
table inet no_udp {
  chain forward { type filter hook forward priority -10; meta l4proto udp drop; }
  chain output { type filter hook output priority -10; meta l4proto udp drop; }
  chain input { type filter hook input priority -10; meta l4proto udp drop; }
}
"""


def forwarded(*protocols: str) -> str:
    """A NAT's rules that forward p2psync's port, of some protocols (tcp, udp), to the host behind it."""
    rule = f"add rule ip nat in iifname public {{}} dport {PORT} dnat to {INSIDE}\n"
    return "".join(rule.format(protocol) for protocol in protocols)


def command(*argv: str, stdin: str = "") -> str:
    """Run a program that must succeed."""
    argv = (need(argv[0]), *argv[1:])
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(argv)} ended with {done.returncode}: {done.stderr}"
    return done.stdout


class Host(Network):
    """A host; its processes share its addresses. ``public`` is where others see it."""

    def __init__(self, path: Path, namespace: str, public: str, router: str) -> None:
        super().__init__(path, namespace)
        self.public = public
        self.router = router
        """The namespace of its NAT; its own, if it has none."""

    @property
    def peer(self) -> str:
        """HOST:PORT of the node that runs here, for others."""
        return f"{self.public}:{PORT}"

    def filter(self, rules: str, *, on_router: bool = True) -> None:
        """Add nftables rules on its NAT, or on the host itself."""
        where = self.router if on_router else self.namespace
        command("ip", "netns", "exec", where, "nft", "-f", "-", stdin=rules)

    def switch_ipv6_off(self) -> None:
        """As an administrator does (sysctl)."""
        everywhere = "/proc/sys/net/ipv6/conf/*/disable_ipv6"
        inside = ["ip", "netns", "exec", self.namespace, "sh", "-c"]
        command(*inside, f"for each in {everywhere}; do echo 1 > $each; done")

    def start(self, *args: object, bootstrap: Host | None = None) -> Node:
        """Run a node here on p2psync's own port."""
        return self.node("node", *args, *self._joined(bootstrap), listen=LISTEN)

    def stand(self, url: str, directory: Path, *args: object, bootstrap: Host | None = None) -> Node:
        """Run a standing mirror here."""
        words = [*args, *self._joined(bootstrap)]
        return self.mirror(url, directory, *words, state="node", listen=LISTEN)

    def dht(self) -> dict[str, Any]:
        """What ``p2psync dht status`` says of the node here."""
        return dict(self.run("dht", "status", state="node").events[-1]["dht"])

    def _joined(self, other: Host | None) -> list[str]:
        return [] if other is None else ["--bootstrap", other.peer]


class Internet:
    """A bridge in a namespace of its own, and the hosts on it."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        """``stack`` kills what runs and takes the namespaces down, and with them their devices and rules."""
        self._path = path
        self._stack = stack
        self._mark = f"{PREFIX}-{os.getpid():x}-{secrets.token_hex(2)}"
        self._count = 0
        self._middle = self._namespace()
        self._inside(self._middle, "link", "add", "bridge", "type", "bridge")
        self._inside(self._middle, "link", "set", "bridge", "up")

    def host(self, address: str, *, behind_nat: bool = False, ipv6: str = "") -> Host:
        """A host that others see at ``address``: its own, or that of the NAT before it; and at an address of
        ``ipv6``. One of the two may be empty.
        """
        outer = self._namespace()
        port = f"port{self._count}"
        self._wire(self._middle, port, outer, "public")
        self._inside(self._middle, "link", "set", port, "master", "bridge")
        # Everybody is on this link.
        if address:
            self._inside(outer, "address", "add", f"{address}/32", "dev", "public")
            self._inside(outer, "route", "add", "default", "dev", "public")
        if ipv6:
            # Nobody else can have it, so that there is nothing to wait for (RFC 4862, section 5.4).
            self._inside(outer, "address", "add", f"{ipv6}/128", "dev", "public", "nodad")
            self._inside(outer, "-6", "route", "add", "default", "dev", "public")
        inner = self._behind(outer) if behind_nat else outer
        made = Host(self._path / (address or ipv6.replace(":", ".")), inner, address, outer)
        self._stack.callback(made.close)
        return made

    def _behind(self, outer: str) -> str:
        inner = self._namespace()
        self._wire(outer, "private", inner, "eth0")
        self._inside(outer, "address", "add", f"{GATEWAY}/24", "dev", "private")
        self._inside(inner, "address", "add", f"{INSIDE}/24", "dev", "eth0")
        self._inside(inner, "route", "add", "default", "via", GATEWAY)
        command("ip", "netns", "exec", outer, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        command("ip", "netns", "exec", outer, "nft", "-f", "-", stdin=NAT)
        return inner

    def _namespace(self) -> str:
        self._count += 1
        name = f"{self._mark}-{self._count}"
        command("ip", "netns", "add", name)
        self._stack.callback(command, "ip", "netns", "delete", name)
        self._inside(name, "link", "set", "lo", "up")
        return name

    def _wire(self, one: str, one_end: str, other: str, other_end: str) -> None:
        """A cable between two namespaces."""
        ends = ["link", "add", one_end, "type", "veth", "peer", "name", other_end, "netns", other]
        self._inside(one, *ends)
        self._inside(one, "link", "set", one_end, "up")
        self._inside(other, "link", "set", other_end, "up")

    def _inside(self, namespace: str, *words: str) -> None:
        command("ip", "-n", namespace, *words)


@contextmanager
def internet(path: Path) -> Iterator[Internet]:
    """An internet that lasts as long as the context. Skips the test unless it may make namespaces."""
    need("ip")
    need("nft")
    if os.geteuid() != 0:
        pytest.skip("making network namespaces needs root")
    with ExitStack() as stack:
        yield Internet(path, stack)
