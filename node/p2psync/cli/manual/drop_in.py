"""The manual on `p2psync rsync`."""

from __future__ import annotations

from typing import Final

from p2psync.cli.manual.archives import ORIGINS, PARTIAL, TRANSFER
from p2psync.cli.manual.entry import Entry, example
from p2psync.rsync.exit_codes import INSTEAD

ENTRIES: Final[dict[tuple[str, ...], Entry]] = {
    ("rsync",): Entry(
        examples=(
            example(
                "What a script has, with one word before it:",
                "p2psync rsync -a --delete --timeout=600 rsync://archive.example.org/pub/ /srv/pub/",
            ),
            example(
                "Take rsync's place in all scripts whose PATH begins with /usr/local/bin:",
                "ln -s '/opt/p2psync/venv/bin/p2psync' /usr/local/bin/rsync",
            ),
            example(
                "Join the network by a node of it, and see why rsync is run where it is:",
                "P2PSYNC_RSYNC_BOOTSTRAP=bootstrap.example.org:8730 P2PSYNC_RSYNC_VERBOSE=1 \\",
                "    p2psync rsync -a rsync://archive.example.org/pub/ /srv/pub/",
            ),
        ),
        exits={
            **{code: text for code, text in TRANSFER.items() if code not in INSTEAD},
            0: "DEST equals the newest snapshot. Where rsync is run, this and all others are its own",
            11: f"{TRANSFER[11]}; or another p2psync is at work on the same directory",
            12: "what came is damaged or hostile, and no other source had better; or it was refused for "
            "trust: a signature is wrong, the head is older than what is known here, or the server names "
            "another archive than when it was first asked",
        },
        files=(PARTIAL, ORIGINS),
        environment=(
            (
                "RSYNC_CONNECT_PROG, RSYNC_ICONV, RSYNC_PASSWORD, RSYNC_PORT, RSYNC_PROXY",
                "with any of them set, rsync is run",
            ),
        ),
        sections=(
            (
                "WHEN RSYNC IS RUN",
                (
                    "P2P needs -r, -l, -p and -t, or -a, with one directory of one server's module as SRC "
                    "and a directory here as DEST. rsync is run for everything else, for options that P2P "
                    "does not have, where root asks for owners or groups (-o, -g, -a), for a DEST that is "
                    "published from here, and where the server names no archive; then it is not asked again "
                    "for a day. Which options P2P has, and where they differ, is in docs/rsync.md.",
                    "Where an archive was found, rsync is not run in its place: if nobody who has the "
                    "archive can be reached, it ends with 10.",
                ),
            ),
        ),
        see=("p2psync-fetch(1)", "p2psync-mirror(1)", "rsync(1)"),
    ),
}
