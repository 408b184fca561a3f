"""What options leave of a snapshot: found out once for each, and noted, so that the next fetch into the same
DEST need not look where nothing has changed.
"""

from __future__ import annotations

from p2psync.errors import FormatError
from p2psync.fetch.put import Chosen, chosen_of
from p2psync.fetch.wanted import Wanted
from p2psync.format.head import ArchiveHead
from p2psync.format.ids import Ref
from p2psync.format.listing import Entry
from p2psync.plan.selected import Selecting
from p2psync.rules.selection import Absent, Selection
from p2psync.state import State
from p2psync.state.off_loop import off_loop
from p2psync.state.trees import Tree
from p2psync.supply.manifest import Manifest


async def choose(
    state: State,
    manifest: Manifest,
    selection: Selection,
    wanted: Wanted,
    head: ArchiveHead,
    choice: bytes,
    tree: Tree,
    previous: Ref | None,
    earlier: Entry | None,
) -> tuple[Wanted | None, list[Absent]]:
    """``wanted``, a directory, as a ``selection`` leaves it, which ``choice`` names; None where it leaves
    nothing, not even that directory. And paths that are listed, and that the archive does not have.

    ``previous``: the snapshot from which the tree was last made complete, and ``earlier`` the directory as
    that one had it.
    """
    before = chosen_of(tree)
    if before is not None and (before.choice, before.path) != (choice, wanted.path):
        before = None
    if (
        before is not None
        and before.snapshot == head.snapshot == previous
        and state.meta.has(before.root.digest)
    ):
        return wanted._replace(root=before.root, chosen=before), []
    known = None if before is None or earlier is None else (earlier, before.root)
    selecting = Selecting(state, manifest, selection, head.archive)
    try:
        root = await selecting.run(wanted.root, known)
    except FormatError:
        # Two objects that contradict each other are the publisher's fault, unless one was damaged here.
        await off_loop(state.meta.check)
        raise
    if root is None:
        return None, selecting.absent
    chosen = Chosen(head.snapshot, wanted.path, choice, root, root == wanted.root, selection.rules)
    return wanted._replace(root=root, chosen=chosen), selecting.absent
