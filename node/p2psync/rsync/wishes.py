"""What a command line wants to be told: which of rsync's lines, where, and how figures are written. Pure.

rsync(1), --verbose, --info, --stats, --itemize-changes, --out-format, --log-file, --progress, -h.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from p2psync.rsync.command_line import CommandLine, NotRead
from p2psync.rsync.figures import BINARY, GROUPED, PLAIN

ITEMIZED: Final = "%i %n%L"
NAMES: Final = "%n%L"
ESCAPE: Final = re.compile(r"%(-?[0-9]*)([a-zA-Z])")
"""An escape of --out-format, with its width."""
KNOWN: Final = frozenset("BLMfilnopt")
"""Escapes that a fetch has an answer to: others are of the daemon, or of bytes on its connection."""
INFO: Final = {"name": 1, "flist": 1, "stats": 2, "del": 1, "progress": 2, "copy": 1, "misc": 1, "symsafe": 1}
"""Words of --info and the highest level that is known here. copy and misc have nothing to tell of."""


class Wishes(NamedTuple):
    """What is to be told. Levels are those of --info."""

    format: str | None
    """Of a line for each change, None for none."""
    itemizes: bool
    """Whether changes of attributes alone have lines."""
    deletions: bool
    creation: bool
    """That DEST was made."""
    unsafe: bool
    """That links are left out by --safe-links."""
    flist: bool
    is_incremental: bool
    """What is said of the list of files: rsync builds all of it before some transfers."""
    stats: int
    progress: int
    human: int
    eight_bit: bool
    is_quiet: bool
    dry_run: bool
    log_file: str | None
    log_format: str

    @property
    def any_line(self) -> bool:
        """Whether anybody wants to know of each change."""
        lines = (self.format, self.log_file, self.stats, self.deletions, self.flist, self.progress)
        return any(lines)


def wishes(line: CommandLine) -> Wishes:
    """What is to be told. Raises NotRead: more than is known here."""
    verbose = line.counts.get("verbose", 0)
    if verbose > 1 or line.counts.get("itemize-changes", 0) > 1:
        raise NotRead("it wants to know more than a fetch tells")
    levels = dict.fromkeys(INFO, 0)
    levels |= dict.fromkeys(("name", "flist", "stats", "del", "symsafe"), verbose)
    levels["stats"] = 2 if "stats" in line.on else levels["stats"]
    given = _format(line.values.get("out-format"))
    itemizes = "itemize-changes" in line.on if given is None else has(given, "i")
    if "progress" in line.on:
        levels |= {"flist": 1, "progress": 1}
        levels["name"] = 1 if given is None and "itemize-changes" not in line.on else levels["name"]
    levels |= _info(line)
    made = given
    if made is None:
        made = ITEMIZED if "itemize-changes" in line.on else NAMES if levels["name"] else None
    is_quiet = "quiet" in line.on
    whole_list = {"delete-before", "delete-after", "delay-updates", "prune-empty-dirs"}
    return Wishes(
        format=None if is_quiet else made,
        itemizes=itemizes,
        deletions=bool(levels["del"]) and not is_quiet,
        creation=bool(levels["name"]) or itemizes,
        unsafe=bool(levels["symsafe"]),
        flist=bool(levels["flist"]) and not is_quiet,
        is_incremental=not line.on.intersection(whole_list) and "inc-recursive" not in line.off,
        stats=levels["stats"],
        progress=0 if is_quiet else levels["progress"],
        human=_human(line),
        eight_bit="8-bit-output" in line.on,
        is_quiet=is_quiet,
        dry_run="dry-run" in line.on,
        log_file=line.values.get("log-file"),
        log_format=_format(line.values.get("log-file-format")) or ITEMIZED,
    )


def has(text: str | None, letter: str) -> bool:
    """Whether a format has an escape."""
    return text is not None and any(found[2] == letter for found in ESCAPE.finditer(text))


def _format(text: str | None) -> str | None:
    if text is None:
        return None
    rest = ESCAPE.sub(lambda found: "" if found[2] in KNOWN else found[0], text)
    if not text or "%" in rest:
        raise NotRead(f"a format has an escape that a fetch has no answer to: {text!r}")
    return text


def _info(line: CommandLine) -> dict[str, int]:
    found: dict[str, int] = {}
    for word in (word for name, value in line.said if name == "info" for word in value.lower().split(",")):
        match = re.fullmatch(r"([a-z]+)([0-9]?)", word)
        level = -1 if match is None else int(match[2] or 1)
        if match is None or not 0 <= level <= INFO.get(match[1], -1):
            raise NotRead(f"--info={word} is not known here")
        found[match[1]] = level
    return found


def _human(line: CommandLine) -> int:
    if "human-readable" in line.off:
        return PLAIN
    return min(GROUPED + line.counts.get("human-readable", 0), BINARY)
