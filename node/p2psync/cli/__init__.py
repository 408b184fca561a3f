"""The command line. ``app`` holds the program, ``*_cmd`` one command each; all work is done by the packages
below.
"""

import gc
import sys
from typing import Final, NoReturn

COLLECT_AFTER: Final = 10_000
"""New objects after which Python looks for cycles among them, in place of 700: a program that is loaded is
tens of thousands of objects that stay, and looking at them is a twentieth of a small fetch. What waits to be
found is a few MiB at most.
"""


def main() -> NoReturn:
    """Run the command line and end the process with rsync's exit codes."""
    gc.set_threshold(COLLECT_AFTER)
    from p2psync.cli.app import run  # loaded after that has been said

    code = run(sys.argv[1:])
    # Python looks for cycles once more at its end, among all objects: a tenth of a small fetch, for nothing.
    gc.freeze()
    sys.exit(code)
