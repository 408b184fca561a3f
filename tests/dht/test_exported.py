"""What the library exports: all of it is there, and who only reads records does not import the network."""

from __future__ import annotations

import subprocess
import sys

import p2psync_dht


def test_every_exported_name_is_there() -> None:
    assert [name for name in p2psync_dht.__all__ if not hasattr(p2psync_dht, name)] == []


def test_records_need_no_event_loop_and_no_kademlia() -> None:
    code = "import sys, p2psync_dht; print([m for m in ('asyncio', 'kademlia') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
