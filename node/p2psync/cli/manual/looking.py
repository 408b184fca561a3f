"""The manual on looking at archives and at what is here: list, ls, mirrors and verify."""

from __future__ import annotations

from typing import Final

from p2psync.cli.manual.archives import ANY, ASKING
from p2psync.cli.manual.entry import Entry, example

ENTRIES: Final[dict[tuple[str, ...], Entry]] = {
    ("ls",): Entry(
        examples=(
            example("List the top of an archive:", "p2psync ls p2psync://ID"),
            example(
                "List everything below one directory, asking one holder:",
                "p2psync ls --recursive 'p2psync://ID/releases?peer=mirror.example.org:8730'",
            ),
            example(
                "Print the names of all files, one a line, for a program:",
                "p2psync ls --recursive --json p2psync://ID |",
                '  jq -r \'select(.event == "entry" and .type == "file") | .path\'',
            ),
        ),
        exits={
            **ANY,
            **ASKING,
            0: "listed",
            23: "the archive has no such path, or no source has its listing",
        },
        see=("p2psync-fetch(1)", "p2psync-mirrors(1)"),
    ),
    ("doctor",): Entry(
        examples=(
            example(
                "Find out why an archive is not reached:",
                "p2psync doctor p2psync://ID --bootstrap bootstrap.example.org:8730",
            ),
            example(
                "The same of a server that people fetch from by rsync:",
                "p2psync doctor archive.example.org::pub",
            ),
            example("Whether the network can be joined from here:", "p2psync doctor"),
        ),
        exits={
            **ANY,
            0: "the archive was found, and somebody who may have it was reached; without SRC, the network",
            10: "it was not. The lines say what was tried and what may help",
        },
        see=("p2psync-mirrors(1)", "p2psync-dht-ping(1)", "p2psync-dht-status(1)"),
    ),
    ("mirrors",): Entry(
        examples=(
            example("Show who holds an archive:", "p2psync mirrors p2psync://ID"),
            example(
                "Ask one holder whom it knows, without a network that was joined before:",
                "p2psync mirrors p2psync://ID --source mirror.example.org:8730",
            ),
            example(
                "Count the complete ones:",
                "p2psync mirrors --json p2psync://ID |",
                "  jq -n '[inputs | select(.event == \"holder\" and .complete)] | length'",
            ),
            example(
                "Where the archive is published, name the mirrors that were dropped, and why:",
                "p2psync mirrors --json p2psync://ID |",
                "  jq -r 'select(.check.dropped) | .endpoints[0] + \": \" + .check.reason'",
            ),
        ),
        exits={
            **ANY,
            0: "shown; also where nobody is known to hold the archive",
            10: "nobody who could be asked answers",
        },
        see=("p2psync-ls(1)", "p2psync-dht-lookup(1)"),
    ),
    ("list",): Entry(
        examples=(
            example("Show what is here:", "p2psync list"),
            example("Show what the node of a service has, as root:", "p2psync list --state /var/lib/p2psync"),
            example(
                "Print the directories that are not complete, for a program:",
                "p2psync list --json |",
                "  jq -r 'select(.event == \"holding\" and .complete == false) | .directory'",
            ),
        ),
        exits={**ANY, 0: "shown; also where nothing is here"},
        see=("p2psync-verify(1)", "p2psync-mirrors(1)", "p2psync-node(1)"),
    ),
    ("verify",): Entry(
        examples=(
            example("Read every file of a copy and compare it with its snapshot:", "p2psync verify ./copy"),
            example("Check a part of it, or a single file:", "p2psync verify ./copy/pool/main"),
            example("Compare sizes and times alone, which takes seconds:", "p2psync verify --quick ./copy"),
            example(
                "Check files that came by other means, after `p2psync ls` has asked for the newest listings:",
                "p2psync ls --recursive p2psync://ID/pool/ > /dev/null",
                "p2psync verify p2psync://ID/pool/ /media/disk/pool",
            ),
            example(
                "From cron, on the first of each month; what differs is mailed:",
                "0 4 1 * *  /opt/p2psync/venv/bin/p2psync verify /srv/mirror",
            ),
        ),
        exits={
            **ANY,
            0: "equal",
            1: "wrong command line or configuration; or nothing is known here of the directory or the "
            "archive",
            23: "something differs; each path is listed",
        },
        see=("p2psync-fetch(1)", "p2psync-mirror(1)"),
    ),
}
