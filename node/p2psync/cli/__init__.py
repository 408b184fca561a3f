"""The command line. ``app`` holds the program, ``*_cmd`` one command each; all work is done by the packages
below.
"""

import gc
import os
import sys
from typing import Final, NoReturn

COLLECT_AFTER: Final = 10_000
"""New objects after which Python looks for cycles among them, in place of 700: a program that is loaded is
tens of thousands of objects that stay, and looking at them is a twentieth of a small fetch. What waits to be
found is a few MiB at most.
"""


RSYNC: Final = "rsync"
"""The name of a link to p2psync that takes rsync's place."""


def main() -> NoReturn:
    """Run the command line and end the process with rsync's exit codes. Under the name rsync it takes rsync's
    command line.
    """
    gc.set_threshold(COLLECT_AFTER)
    from p2psync.cli.app import run  # loaded after that has been said

    argv = sys.argv[1:]
    if os.path.basename(sys.argv[0]) == RSYNC:
        argv = [RSYNC, *argv]
    code = run(argv)
    # Python looks for cycles once more at its end, among all objects: a tenth of a small fetch, for nothing.
    gc.freeze()
    sys.exit(code)
