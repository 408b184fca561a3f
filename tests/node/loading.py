"""What a module makes a process load."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

HEAVY = ("asyncio", "sqlite3", "cryptography", "aiohttp", "multiprocessing", "p2psync.state")
"""What no process beside the main one needs, and what takes longer to load than such a process may take."""


def assert_light(module: ModuleType, *others: str) -> None:
    """The module, imported alone, loads nothing heavy, nor any of ``others``."""
    code = f"import sys, {module.__name__}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert not {name for name in loaded.split() if name.startswith((*HEAVY, *others))}
