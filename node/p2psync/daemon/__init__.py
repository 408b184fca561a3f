"""The node: one long-running process that serves, announces and updates what is in a state directory.

Its parts are imported when they are first used (PEP 562): who only asks a running node needs none of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from p2psync.daemon.node import run_mirror, run_node
    from p2psync.daemon.options import NodeOptions, Role

_HOME = {"NodeOptions": "options", "Role": "options", "run_mirror": "node", "run_node": "node"}

__all__ = ["NodeOptions", "Role", "run_mirror", "run_node"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
