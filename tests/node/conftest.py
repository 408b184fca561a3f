"""Fixtures that several files of tests use; a fixture of the same name in a file goes before these."""

from tests.node.client_support import client, node
from tests.node.download_arena import make, run
from tests.node.fetch_world import world
from tests.node.publishing import state, tree
from tests.node.trust_support import publisher
from tests.node.wire_support import peer
from tests.node.writer_bench import writing

__all__ = ["client", "make", "node", "peer", "publisher", "run", "state", "tree", "world", "writing"]
