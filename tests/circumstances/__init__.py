"""What becomes of a tree when one of its paths meets trouble: p2psync beside the real rsync.

``python -m tests.circumstances`` (``make circumstances``) runs each circumstance on several file systems, as
root and as a plain user, and prints a table; docs/circumstances.md has it. It mounts images, so it needs
root and, for some file systems, Debian's packages: what is missing is said and left out.
"""
