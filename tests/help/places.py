"""Addresses that stay a test's own while nothing listens there."""

from __future__ import annotations

import os


def own_host() -> str:
    """An address of this machine that no other process of the tests uses: one of 127/8 for each process id.

    Whoever gives up a port of 127.0.0.1 and wants it back, or wants nobody to have it, meets whoever is given
    it by the system in the meantime. At an address of one's own nobody else listens.
    """
    number = os.getpid() % (1 << 22)
    return f"127.{64 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"
