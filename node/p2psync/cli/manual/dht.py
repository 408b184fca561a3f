"""The manual on ``p2psync dht ...``."""

from __future__ import annotations

from typing import Final

from p2psync.cli.manual.entry import Entry, example

_LOOKING: Final = {0: "", 1: "", 10: "no node of the network answered", 11: "", 20: ""}

ENTRIES: Final[dict[tuple[str, ...], Entry]] = {
    ("dht",): Entry(
        examples=(
            example("Is a node there?", "p2psync dht ping bootstrap.example.org:8730"),
            example("What does the node of this machine see?", "p2psync dht status"),
        ),
        exits={
            **_LOOKING,
            5: "whoever answers a ping did not prove its id",
            12: "the running node gave an answer that cannot be read",
            30: "the running node did not answer in time",
        },
        see=("p2psync-node(1)",),
    ),
    ("dht", "ping"): Entry(
        examples=(
            example("Ping a node five times:", "p2psync dht ping bootstrap.example.org:8730"),
            example(
                "Ping it once, and say nothing but by the exit code:",
                "p2psync dht ping --count 1 192.0.2.1:8730 >/dev/null 2>&1",
            ),
        ),
        exits={
            **_LOOKING,
            0: "the node answered and proved its id",
            5: "somebody answers there, but without proof of an id: another program or network, or somebody "
            "on the way",
            10: "nobody answered: the node is down, is a client, or UDP does not pass",
        },
        see=("p2psync-dht-status(1)",),
    ),
    ("dht", "lookup"): Entry(
        examples=(
            example("Where are the copies of the head of an archive?", "p2psync dht lookup p2psync://ID"),
            example("Who is announced as holding it?", "p2psync dht lookup --holders p2psync://ID"),
        ),
        exits={**_LOOKING, 0: "the lookup ended, whether it found anything or not"},
        see=("p2psync-mirrors(1)", "p2psync-dht-crawl(1)"),
    ),
    ("dht", "status"): Entry(
        examples=(
            example("Ask the node of this user:", "p2psync dht status"),
            example(
                "Ask that of a service, as root:",
                "/opt/p2psync/venv/bin/p2psync dht status --state /var/lib/p2psync-bootstrap",
            ),
            example(
                "Print the number of its contacts:",
                "p2psync dht status --json | jq '[.dht.tables[].contacts] | add'",
            ),
        ),
        exits={
            0: "",
            1: "",
            10: "no node runs on the state directory",
            11: "the socket of the node, or standard output, cannot be used",
            12: "the node gave an answer that cannot be read; perhaps it is of another version",
            30: "the node did not answer in time",
        },
        files=(("control.sock", "in the state directory: where the running node answers"),),
        see=("p2psync-node(1)",),
    ),
    ("dht", "crawl"): Entry(
        examples=(
            example("Measure the network that this machine knows:", "p2psync dht crawl"),
            example(
                "Measure a small one thoroughly and gently:",
                "p2psync dht crawl --bootstrap bootstrap.example.org:8730 --limit 500 --rate 20",
            ),
        ),
        exits=_LOOKING,
        see=("p2psync-dht-lookup(1)",),
    ),
}
