"""The command line. ``app`` holds the program, ``*_cmd`` one command each; all work is done by the packages
below.
"""

from p2psync.cli.app import main, program

__all__ = ["main", "program"]
