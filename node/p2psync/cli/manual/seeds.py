"""The manual on ``p2psync seeds ...``."""

from __future__ import annotations

from typing import Final

from p2psync.cli.manual.entry import Entry, example

_ANY: Final = {
    0: "",
    1: "",
    11: "a file, or standard output, cannot be read or written",
    12: "the list is damaged, or is of a version that this program does not know",
}

ENTRIES: Final[dict[tuple[str, ...], Entry]] = {
    ("seeds",): Entry(
        examples=(
            example(
                "Make a key, sign a list with it for 30 days, and check what was made:",
                "p2psync seeds keygen seeds-key.pem",
                "p2psync seeds sign seeds.toml --key seeds-key.pem >p2psync-seeds",
                "p2psync seeds verify ./p2psync-seeds --seeds-key KEY",
            ),
        ),
        exits={**_ANY, 5: "the list must not be believed", 10: "nobody has the list, or nobody answers"},
        see=("p2psync-node(1)",),
    ),
    ("seeds", "keygen"): Entry(
        examples=(
            example("Make a key, and print the public half for users:", "p2psync seeds keygen seeds-key.pem"),
        ),
        exits={0: "", 1: "", 11: "FILE exists already or cannot be written"},
        see=("p2psync-seeds-sign(1)",),
    ),
    ("seeds", "sign"): Entry(
        examples=(
            example(
                "Sign a list for a web server:",
                "p2psync seeds sign seeds.toml --key seeds-key.pem >p2psync-seeds",
            ),
            example(
                "Sign it for a DNS zone, as the strings of a TXT record:",
                "p2psync seeds sign seeds.toml --key seeds-key.pem --txt",
            ),
            example(
                "From cron, every Monday, on the machine that has the key; the old list stays if this fails:",
                "0 5 * * 1  cd /srv/seeds && /opt/p2psync/venv/bin/p2psync seeds sign seeds.toml "
                "--key seeds-key.pem >new && mv new p2psync-seeds",
            ),
        ),
        exits={**_ANY, 5: "FILE is a signed list that was changed after it was signed"},
        see=("p2psync-seeds-keygen(1)", "p2psync-seeds-verify(1)"),
    ),
    ("seeds", "verify"): Entry(
        examples=(
            example("See the list of a domain as the world does:", "p2psync seeds verify example.org"),
            example(
                "Check a file before it is put on a server:",
                "p2psync seeds verify ./p2psync-seeds --seeds-key KEY",
            ),
        ),
        exits={
            **_ANY,
            0: "the list may be believed",
            5: "it must not be believed: it has expired, is signed by another key, or was changed",
            10: "nobody has such a list, or nobody answers",
            20: "",
        },
        see=("p2psync-seeds-sign(1)",),
    ),
}
