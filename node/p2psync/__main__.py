"""``python -m p2psync``: the command line without the console script."""

from p2psync.cli import main

if __name__ == "__main__":
    main()
