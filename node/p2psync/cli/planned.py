"""What a fetch would do, for ``--dry-run``: a line for each name on the standard output, as rsync's
--itemize-changes has it, or an object with ``--json``.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from p2psync.events import Changing, Event, Removing, Teller, Warned
from p2psync.text import name_fields

if TYPE_CHECKING:
    from p2psync.cli.output import Output

TYPES = {"f": "file", "d": "directory", "L": "symlink", "S": "special"}
"""As of ``p2psync ls``."""


def listing(out: Output) -> Teller:
    """Who prints what would be changed, and shows warnings."""
    from p2psync.rsync.command_line import read
    from p2psync.rsync.wishes import wishes
    from p2psync.ui.as_rsync import AsRsync

    told = AsRsync(wishes(read(["--itemize-changes"])), sys.stdout.buffer, None, out.warn)

    def hear(event: Event) -> None:
        if out.json and isinstance(event, Changing):
            out.event(
                "change",
                **name_fields(event.path or b".", "path"),
                type=TYPES[event.kind],
                new=event.is_new,
                differs=event.differs,
                size=event.size,
            )
        elif out.json and isinstance(event, Removing):
            out.event("delete", **name_fields(event.path, "path"), type=TYPES[event.kind])
        elif not out.quiet or isinstance(event, Warned):
            told.hear(event)

    return Teller(hear, changes=True)
