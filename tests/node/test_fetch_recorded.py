"""What a fetch that makes a mirror records, so that later updates are done the same way."""

from __future__ import annotations

import os

from tests.node.fetch_world import World

from p2psync.fetch.options import Delete
from p2psync.fetch.recorded import from_record


def test_a_fetch_that_makes_a_mirror_records_how_it_was_asked_for(world: World) -> None:
    world.fetch(mirror=True, checksum=True, contimeout=3.0, delete=Delete.ALL)
    tree = world.state.trees.get(os.path.realpath(bytes(world.dest)))
    assert tree is not None
    options = from_record(tree.path, tree.source, tree.options)
    assert (options.checksum, options.contimeout, options.delete) == (True, 3.0, Delete.ALL)
    assert options.mirror
