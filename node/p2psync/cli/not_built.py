"""Options of rsync that ``fetch`` and ``mirror`` do not have, each with why, or what does the same: who
types one out of habit is told in one sentence.
"""

from __future__ import annotations

from typing import Final

_ALWAYS: Final = "links, permissions and times are always taken: leave it out"
_PARTIAL: Final = (
    "what is not whole lies in .p2psync.partial in DEST, where the next run uses it: leave it out"
)
_HERE: Final = "what is in DEST is found by its content, and other directories are not looked into"
_NONE: Final = "archives have none of these"
_ROWS: Final = (
    ("--archive -a --links -l --perms -p --times -t", _ALWAYS),
    ("--hard-links -H", "each name becomes a file of its own, also where several are one in the archive"),
    ("--copy-links -L --copy-unsafe-links --copy-dirlinks -k", "links are kept as the archive has them"),
    ("--keep-dirlinks -K", "nothing is ever written through a link in DEST"),
    ("--inplace --append --append-verify", "files appear whole: old ones or new ones, never half of each"),
    ("--partial --partial-dir --temp-dir -T", _PARTIAL),
    ("--link-dest --copy-dest --compare-dest", _HERE),
    ("--chmod", "permissions are those of the archive; --special-bits alone adds to them"),
    ("--dirs -d --relative -R", "list what is wanted with --files-from"),
    ("--backup -b --backup-dir --suffix", "what is replaced is not kept"),
    ("--owner -o --group -g --acls -A --xattrs -X --devices --specials -D", _NONE),
)
REASONS: Final = {name: why for names, why in _ROWS for name in names.split()}
"""Name of an option -> why it is not there."""


def reason(option: str) -> str | None:
    """What is said of an option of rsync's that is not there; None of any other."""
    why = REASONS.get(option)
    return None if why is None else f"rsync's {option} is not an option here: {why}"
