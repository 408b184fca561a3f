"""The node: one long-running process that serves, announces and updates what is in a state directory."""

from p2psync.daemon.node import run_mirror, run_node
from p2psync.daemon.options import NodeOptions, Role

__all__ = ["NodeOptions", "Role", "run_mirror", "run_node"]
