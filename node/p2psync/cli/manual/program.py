"""The manual on the program itself, and on the commands that explain it."""

from __future__ import annotations

from typing import Final

from p2psync.cli.manual.entry import Entry, example
from p2psync.cli.manual.exit_codes import EXIT_CODES

_ADDRESSES: Final = (
    "The address of an archive is `p2psync://ID`, where ID is 52 letters and digits that stand for its key. "
    "`p2psync://ID/PATH` is a part of it: a file, or a directory. As in rsync, a slash at the end means "
    "what is in the directory.",
    "After a question mark it may say where to ask: `?peer=HOST:PORT` is a node that has the archive, and "
    "`?web=URL` a plain web server with the same files; several are joined by `&`. Shells give `?` and `&` a "
    "meaning of their own, so such an address is written in quotes. In a path a question mark is written "
    "%3F, a number sign %23 and a percent sign %25. A percent sign in turn is written \\% in a crontab and "
    "%% in a unit of systemd.",
)
_SETTINGS: Final = (
    "Every option but those that are about one run (--accept-shrink, --accept-moved, --dry-run, "
    "--no-static, --unsigned, --head, `forget --key`) can stand in p2psync.toml under its long name, at "
    "the top for all commands or in a table such as [mirror] for one. Environment variables are "
    "stronger than the files, and the command line is stronger than both. A key or a variable that is "
    "no setting is an error.",
)

ENTRIES: Final[dict[tuple[str, ...], Entry]] = {
    (): Entry(
        examples=(
            example("On the machine that has the files:", "p2psync publish /srv/archive", "p2psync node"),
            example(
                "On a machine that mirrors them for others:",
                "p2psync mirror p2psync://ID /srv/mirror --bootstrap origin.example.org:8730",
            ),
            example(
                "On a machine that only wants them:",
                "p2psync fetch p2psync://ID ./copy --bootstrap origin.example.org:8730",
            ),
        ),
        exits=dict.fromkeys(EXIT_CODES, ""),
        environment=(
            (
                "P2PSYNC_COMMAND_OPTION",
                "the value of an option, for example `P2PSYNC_FETCH_BWLIMIT=20m` for `p2psync fetch "
                "--bwlimit 20m`",
            ),
            (
                "STATE_DIRECTORY",
                "the state directory, where --state names none; systemd sets it for a service",
            ),
            ("XDG_STATE_HOME", "where neither is given, the state directory is p2psync in this one"),
            ("XDG_CONFIG_HOME", "where p2psync/p2psync.toml of the user is looked for; else ~/.config"),
        ),
        sections=(("ADDRESSES", _ADDRESSES), ("SETTINGS", _SETTINGS)),
        see=("rsync(1)",),
    ),
    ("help",): Entry(
        examples=(
            example("Show the page of a command:", "p2psync help mirror", "p2psync help key export"),
            example("The same, where man pages are installed:", "man p2psync-mirror"),
        ),
        exits={0: "shown", 1: "there is no such command", 11: "standard output could not be written to"},
        environment=(("PAGER", "the program that shows the page on a terminal, else less"),),
        see=("man(1)",),
    ),
    ("demo",): Entry(
        examples=(
            example("See an archive outlive its origin, in less than a minute:", "p2psync demo"),
            example(
                "With files of one's own and five mirrors, and look at what is left of it:",
                "p2psync demo --tree /usr/share/doc --mirrors 5 --keep ./demo",
            ),
        ),
        exits={
            0: "the copy equals the original",
            1: "",
            11: "a directory could not be read or written",
            20: "",
            23: "the copy differs from the original, or a process of the demo failed",
        },
        environment=(("TMPDIR", "where the temporary directory is made"),),
        see=("p2psync-publish(1)", "p2psync-mirror(1)", "p2psync-fetch(1)"),
    ),
}
