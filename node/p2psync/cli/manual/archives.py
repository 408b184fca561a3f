"""The manual on what is done with archives: publish, fetch, mirror, serve, end and forget."""

from __future__ import annotations

from typing import Final

from p2psync.cli.manual.entry import Entry, example

ANY: Final = {0: "", 1: "", 11: "", 20: ""}
"""Of every command that works."""
ASKING: Final = {
    5: "no head may be believed: its signature is wrong, it is older than what is known here, or it is not "
    "fresh under --require-fresh",
    10: "nobody who has the archive was found or could be reached",
    12: "what came is damaged or hostile, and no other source had better",
}
_BUSY: Final = {
    75: "another p2psync is at work on the same directory or file, or on the state directory; the message "
    "names its process. It is free again when that ends",
}
TRANSFER: Final = {
    **ANY,
    **ASKING,
    3: "what is asked for is more than --max-total or --max-files allows; or SRC and DEST do not fit "
    "together: a file is where a directory is needed, or the directory for a "
    "single file is missing",
    11: "a local file, a directory or standard output could not be read or written; the disk is full, or has"
    " no room for what is to be fetched; or the "
    "directory is not the one that was filled before, since its disk is not mounted",
    20: "stopped by a signal (SIGINT, SIGTERM, SIGHUP). The same command goes on from there",
    23: "some paths are not complete: no source has them, or the publisher could not read them. A warning "
    "names each",
    25: "--max-delete stopped deletions; or the snapshot lacks more than half of what is here, and nothing "
    "was changed",
    30: "no source sent anything for --timeout seconds",
    35: "no connection came about within --contimeout seconds",
    **_BUSY,
    76: "the server that SRC names has another archive than when it was first asked; nothing was fetched. "
    "The message says which, and what to do if it is right",
}
ORIGINS: Final = (
    "origins/known_archives",
    "in the state directory: which archive each server is held to, as ssh's known_hosts",
)
PARTIAL: Final = (".p2psync.partial/", "in DEST, while files are incomplete: what has come of them")
_BY_RSYNC: Final = (
    "SERVERS OF OTHER KINDS",
    (
        "Where SRC is a server that p2psync does not know, it is asked for the archive that its files are: "
        "the head in the tree (`p2psync/head`, also of the directories above), "
        "`https://HOST/.well-known/p2psync`, TXT records of `_p2psync.HOST`, and the comment of the rsync "
        "module or the message of the day. What is found is remembered, and the server is held to it.",
        "Where an rsync server has no archive, rsync(1) is run with the options that it has as well "
        "(--bwlimit, --checksum, --contimeout, --delete, --max-delete, --protect, --timeout, filter rules "
        "and all others that are rsync's), and its exit "
        "code is passed on. "
        "For a day the server is then not asked again.",
    ),
)
_SERVICE: Final = (
    (
        "NOTIFY_SOCKET, WATCHDOG_USEC",
        "set by systemd, which is told when the node is ready and that it lives",
    ),
    ("JOURNAL_STREAM", "set by systemd; messages then have the priorities of the journal"),
)
_HOOKS: Final = (
    (
        "P2PSYNC_HOOK, P2PSYNC_ARCHIVE, P2PSYNC_DIR, P2PSYNC_SEQ, P2PSYNC_RESULT, P2PSYNC_EXIT, "
        "P2PSYNC_CHANGED, P2PSYNC_DELETED, P2PSYNC_RECEIVED, P2PSYNC_ERROR",
        "set for the commands of --hooks-before, --hooks-after and --hooks-failed: before, after or failed; "
        "the archive's address; the mirror's directory; the number of its snapshot, of the newest one "
        "afterwards; and then changed or unchanged, or partial, refused or failed; the exit code; how "
        "many files were made or replaced, how many names deleted, and how many bytes received; the sentence "
        "of an error",
    ),
)
_CONTROL: Final = (
    "control.sock",
    "in the state directory: where the running node answers questions about itself",
)

ENTRIES: Final[dict[tuple[str, ...], Entry]] = {
    ("publish",): Entry(
        examples=(
            example(
                "Publish a directory and print its address. The same command publishes a new snapshot later:",
                "p2psync publish /srv/archive",
            ),
            example(
                "Leave out partial uploads and one directory. The rules are kept for the next time:",
                "p2psync publish /srv/archive --exclude '*.part' --exclude /incoming/",
            ),
            example(
                "Announce the snapshot from a machine on which no node runs:",
                "p2psync publish /srv/archive --bootstrap bootstrap.example.org:8730",
            ),
            example(
                "Write the head and the listings as files too, for mirrors that run no p2psync:",
                "p2psync publish --static /srv/archive",
            ),
            example(
                "From cron, every night, with mail only if something is wrong. Cron looks for programs in "
                "/usr/bin and /bin alone, so the path is written out (`command -v p2psync` prints it):",
                "15 2 * * *  /opt/p2psync/venv/bin/p2psync publish /srv/archive >/dev/null",
            ),
        ),
        exits={
            **ANY,
            0: "the directory is published, or nothing in it has changed. A warning tells where it could "
            "not be announced",
            5: "the signing key may not sign a newer snapshot: its delegation has ended, or a newer epoch "
            "began",
            10: "no socket could be had to ask for the newest snapshot, and nothing was published",
            11: "a directory or the state directory could not be read or written, or the disk that was "
            "published is not mounted",
            23: "published, but some files could not be read. They stay as they were, and a warning names "
            "them",
            24: "published, but some files vanished while they were read",
            25: "nothing was published: most of the files, or all, are gone; see --accept-shrink",
            75: "another p2psync publishes this directory or changes it; the message names its process",
        },
        see=("p2psync-node(1)", "p2psync-key(1)", "p2psync-verify(1)"),
    ),
    ("fetch",): Entry(
        examples=(
            example(
                "Fetch an archive for the first time, and join the network by a node of it:",
                "p2psync fetch p2psync://ID ./copy --bootstrap bootstrap.example.org:8730",
            ),
            example(
                "Begin with a holder that the address names. A shell needs the quotes, for the question "
                "mark:",
                "p2psync fetch 'p2psync://ID?peer=mirror.example.org:8730' ./copy",
            ),
            example(
                "Fetch what is in one directory, and a single file:",
                "p2psync fetch p2psync://ID/releases/2.0/ ./release",
                "p2psync fetch p2psync://ID/README ./",
            ),
            example(
                "Fetch what an rsync server has, by P2P if it is an archive, and by rsync if it is not:",
                "p2psync fetch rsync://archive.example.org/pub/ ./copy",
            ),
            example(
                "Bring the copy up to date, remove what the archive does not have, and keep own notes:",
                "p2psync fetch p2psync://ID ./copy --delete --protect '/notes/'",
            ),
            example(
                "Fetch a part by pattern, as rsync would. Quotes keep the shell from expanding patterns:",
                "p2psync fetch p2psync://ID ./copy --include '/pool/a/***' --include /pool/ --exclude '*'",
                "p2psync fetch p2psync://ID ./copy --include '*/' --include '*.iso' --exclude '*' -m",
            ),
            example(
                "Fetch what a list names, and see beforehand what that would be:",
                "p2psync fetch p2psync://ID ./copy --files-from wanted.txt --dry-run",
            ),
            example(
                "From cron, every hour, with mail only if something is wrong:",
                "40 * * * *  /opt/p2psync/venv/bin/p2psync fetch p2psync://ID /srv/copy",
            ),
        ),
        exits={**TRANSFER, 0: "DEST equals the newest snapshot, or the part of it that SRC names"},
        files=(PARTIAL, ORIGINS),
        environment=(("RSYNC_PASSWORD, RSYNC_SSL_...", "read by rsync and rsync-ssl, where they are run"),),
        sections=(_BY_RSYNC,),
        see=("p2psync-mirror(1)", "p2psync-ls(1)", "p2psync-verify(1)", "rsync(1)", "rsync-ssl(1)"),
    ),
    ("mirror",): Entry(
        examples=(
            example(
                "Become a mirror, and stay one until stopped:",
                "p2psync mirror p2psync://ID /srv/mirror --bootstrap bootstrap.example.org:8730",
            ),
            example(
                "The same with nothing but the address of the publisher's node. A shell needs the quotes:",
                "p2psync mirror 'p2psync://ID?peer=origin.example.org:8730' /srv/mirror",
            ),
            example(
                "Mirror one directory, receive no more than 20 MiB/s, and look for news every quarter of an "
                "hour:",
                "p2psync mirror p2psync://ID/dists/ /srv/dists --bwlimit 20m --interval 900",
            ),
            example(
                "From cron, every hour, without a node of its own (or beside one that runs):",
                "40 * * * *  /opt/p2psync/venv/bin/p2psync mirror --once p2psync://ID /srv/mirror",
            ),
            example(
                "As a service of systemd, in /etc/systemd/system/p2psync-mirror.service:",
                "[Service]",
                "Type=notify",
                "User=p2psync",
                "ExecStart=/opt/p2psync/venv/bin/p2psync mirror --quiet p2psync://ID /srv/mirror",
                "StateDirectory=p2psync",
                "StateDirectoryMode=0700",
                "Restart=on-failure",
                "[Install]",
                "WantedBy=multi-user.target",
            ),
            example(
                "See that the disk is there before each update, and tell a web server of what is new "
                "afterwards:",
                "p2psync mirror p2psync://ID /srv/mirror --hooks-before 'mountpoint -q /srv/mirror' "
                "--hooks-after '/usr/local/bin/purge --all'",
            ),
            example(
                "Follow, this time, a snapshot that has lost most of what the mirror has:",
                "p2psync mirror p2psync://ID /srv/mirror --once --accept-shrink",
            ),
        ),
        exits={
            **TRANSFER,
            0: "with --once, DIR equals the newest snapshot; else it was stopped after DIR had been up to "
            "date",
            14: "",
        },
        environment=(*_SERVICE, *_HOOKS),
        files=(
            (".p2psync.partial/", "in DIR, while files are incomplete: what has come of them"),
            _CONTROL,
            ORIGINS,
        ),
        see=("p2psync-node(1)", "p2psync-fetch(1)", "p2psync-mirrors(1)", "rsync(1)", "systemd.service(5)"),
    ),
    ("node",): Entry(
        examples=(
            example(
                "Serve and announce what is published and mirrored on this state directory:",
                "p2psync node --bootstrap bootstrap.example.org:8730",
            ),
            example(
                "Run a node that others join by, with metrics for Prometheus on this machine:",
                "p2psync node --role bootstrap --metrics 127.0.0.1:9730",
            ),
            example(
                "Serve rsync clients too, on a port that needs no root:",
                "p2psync node --rsync-listen :8873",
            ),
            example(
                "Serve behind a router that forwards its TCP port 9000 to this machine's 8730:",
                "p2psync node --advertise archive.example.org:9000",
            ),
            example(
                "As a service of systemd, in /etc/systemd/system/p2psync-node.service:",
                "[Service]",
                "Type=notify",
                "User=p2psync",
                "ExecStart=/opt/p2psync/venv/bin/p2psync node --quiet",
                "StateDirectory=p2psync",
                "StateDirectoryMode=0700",
                "Restart=on-failure",
                "[Install]",
                "WantedBy=multi-user.target",
            ),
        ),
        exits={
            0: "stopped by SIGTERM, SIGINT or SIGHUP",
            1: "",
            10: "the address of --listen, --metrics or --rsync-listen cannot be used, perhaps because its "
            "port is taken",
            11: "the state directory cannot be read or written, or is damaged",
            75: "another node runs on the same state directory; the message names its process",
        },
        environment=(*_SERVICE, *_HOOKS),
        files=(
            _CONTROL,
            ("rsyncd/", "in the state directory, with --rsync-listen: what the rsync processes are told"),
        ),
        see=(
            "p2psync-publish(1)",
            "p2psync-mirror(1)",
            "p2psync-dht-status(1)",
            "rsyncd.conf(5)",
            "systemd.service(5)",
        ),
    ),
    ("unpublish",): Entry(
        examples=(
            example("End what is published from a directory:", "p2psync unpublish /srv/archive"),
            example(
                "End an archive whose publisher's disk is lost, from the machine that has its key:",
                "p2psync key import archive-root.pem",
                "p2psync unpublish p2psync://ID --bootstrap bootstrap.example.org:8730",
            ),
            example("Take it back:", "p2psync publish /srv/archive"),
        ),
        exits={
            **ANY,
            1: "wrong command line or configuration; or no key is here that may sign for the archive",
            3: "nothing is published from DIR, or no snapshot of the archive is known",
            5: "the signing key may not sign: its delegation has run out, or is of an earlier epoch",
            **_BUSY,
        },
        see=("p2psync-publish(1)", "p2psync-forget(1)", "p2psync-list(1)", "p2psync-key(1)"),
    ),
    ("forget",): Entry(
        examples=(
            example("No longer mirror a directory; its files stay:", "p2psync forget /srv/mirror"),
            example("No longer have anything to do with an archive:", "p2psync forget p2psync://ID"),
            example(
                "End the mirror of a service for good, as root:",
                "systemctl disable --now p2psync-mirror",
                "p2psync forget p2psync://ID --state /var/lib/p2psync-mirror/state",
            ),
        ),
        exits={
            **ANY,
            1: "wrong command line or configuration; or DIR may stand for several directories, which the "
            "message names",
            3: "nothing here is called so: the directory or archive is not known",
            30: "the node that runs here did not let go within a minute",
            **_BUSY,
        },
        files=(_CONTROL,),
        see=("p2psync-list(1)", "p2psync-mirror(1)", "p2psync-publish(1)", "p2psync-key(1)"),
    ),
}
