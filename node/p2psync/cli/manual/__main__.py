"""``python -m p2psync.cli.manual FOLDER`` writes the man pages."""

import sys
from pathlib import Path

from p2psync.cli.manual.files import write_pages

if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    write_pages(target)
