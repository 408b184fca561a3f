"""Which directories of a node an rsync daemon may show, and its configuration for them (rsyncd.conf(5)).

An rsync daemon knows no manifest: it shows what is in a directory. So a directory is a module only while it
is whole, and where nothing in it can lead to what the archive does not have: rsync follows symbolic links to
what a filter hides, and its older versions out of a module as well.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from p2psync.daemon.losses import Loss
from p2psync.errors import show_path
from p2psync.format.reserved import RESERVED_NAMES, TEMPORARY_PREFIX
from p2psync.format.url import ArchiveUrl, archive_text
from p2psync.inventory.holdings import Holding, list_holdings
from p2psync.publish.claim import RULES, publishes_temporary
from p2psync.rules.temporary import AS_RULES
from p2psync.state import State

SAFE_SINCE: Final = (3, 5)
"""The version of rsync from which a daemon without chroot follows no symbolic link out of a module, and none
into a directory that a filter hides by its own name."""
CONNECTIONS_MAX: Final = 32
"""Clients at once in all modules; each is a process."""
IDLE_SECONDS: Final = 600
"""Seconds of silence after which the daemon ends a transfer."""
_HIDDEN: Final = (*(b"/" + name for name in sorted(RESERVED_NAMES)), TEMPORARY_PREFIX + b"*")
_PLAIN: Final = re.compile(rb"[^A-Za-z0-9._-]+")


class Host(NamedTuple):
    """Who runs the daemon. ``version`` is rsync's."""

    is_root: bool
    version: tuple[int, ...]

    @property
    def keeps_links_in(self) -> bool:
        """Whether no link leads out of a module: there is a chroot, or rsync sees to it."""
        return self.is_root or self.version >= SAFE_SINCE


class Module(NamedTuple):
    """A directory as the daemon shows it."""

    name: str
    path: bytes
    url: ArchiveUrl
    rules: tuple[bytes, ...]
    """Filter rules of what is not shown."""
    owner: tuple[int, int]
    """User and group that the directory belongs to, as numbers."""


class Modules(NamedTuple):
    """All of them, and why other directories of the node are none, in a sentence for each."""

    shown: list[Module]
    refused: list[str]


def modules_of(state: State, host: Host, losses: Mapping[int, Loss], address: str | None) -> Modules:
    """The modules of a node. ``address``: where it is reached (HOST:PORT), for the URLs. Blocks."""
    lost = {
        tree.path: losses[tree.id].files + losses[tree.id].gone
        for tree in state.trees.all()
        if tree.id in losses
    }
    shown: list[Module] = []
    refused: list[str] = []
    names: set[str] = set()
    for held in list_holdings(state, {tree.path: lost.get(tree.path, 0) for tree in state.trees.all()}):
        if held.role == "copy" or not held.served or held.archive is None:
            continue
        why = _why_not(state, held, host)
        if why is not None:
            refused.append(f"{show_path(held.directory)} is not shown to rsync clients: {why}")
        elif held.complete and held.present and not held.lost:
            status = os.stat(held.directory)
            peers = () if address is None else (address,)
            url = ArchiveUrl(held.archive, held.path, peers, inside=bool(held.path))
            module = Module(
                _name(held, names),
                held.directory,
                url,
                _rules(state, held),
                (status.st_uid, status.st_gid),
            )
            names.add(module.name)
            shown.append(module)
    return Modules(shown, refused)


def _why_not(state: State, held: Holding, host: Host) -> str | None:
    """What forbids to show a directory, for as long as nobody changes it."""
    path = held.directory
    if b"\n" in path or b"\r" in path or path.count(b"%") > 1:
        return "its name cannot stand in rsync's configuration"
    if state.within(path):
        return "the state directory is in it, which holds private keys; name another one with --state"
    tree = state.trees.get(path)
    row = None if tree is None else state.trees.dir_row(tree.id, b"")
    links = row is None or row.totals.symlinks > 0
    if held.filtered and (links or host.version < SAFE_SINCE):
        return (
            "filter rules leave something out of what is published, and rsync follows symbolic links to it; "
            "move that out of the directory, or have rsync 3.5 and no links"
        )
    if not host.keeps_links_in and (links or held.role == "mirror"):
        version = ".".join(map(str, host.version))
        return (
            f"rsync {version} follows symbolic links out of a directory where it cannot chroot; install "
            "rsync 3.5 or newer, or run the node as root"
        )
    return None


def _rules(state: State, held: Holding) -> tuple[bytes, ...]:
    tree = state.trees.get(held.directory)
    own = [] if tree is None or not held.filtered else tree.options.get(RULES, [])
    left_out = () if tree is None or tree.role != "publish" or publishes_temporary(tree) else AS_RULES
    return (*(b"- " + name for name in _HIDDEN), *own, *left_out)


def _name(held: Holding, taken: Iterable[str]) -> str:
    """The directory's own name where that can be, else with a part of the archive's id."""
    plain = _PLAIN.sub(b"-", os.path.basename(held.directory)).strip(b"-.").decode()
    assert held.archive is not None  # noqa: S101 - those without are no modules
    text = archive_text(held.archive)
    wanted = [plain, f"{plain}-{text[:8]}"] if plain and plain.lower() != "global" else []
    number = (f"{text}-{each}" for each in range(2, 1 << 16))
    taken = set(taken)
    return next(name for name in (*wanted, text, *number) if name not in taken)


def configuration(modules: Iterable[Module], host: Host, folder: bytes) -> dict[str, bytes]:
    """The files in ``folder`` that the daemon reads: ``rsyncd.conf``, and the rules of each module."""
    files: dict[str, bytes] = {}
    lines = [
        b"list = yes",
        b"read only = yes",
        b"use chroot = %s" % (b"yes" if host.is_root else b"no"),
        # Links are sent as they are: nothing is written here that would have to be made harmless.
        b"munge symlinks = no",
        b"numeric ids = yes",
        b"ignore nonreadable = yes",
        b"log file = /dev/null",
        b"max connections = %d" % CONNECTIONS_MAX,
        b"lock file = " + os.path.join(folder, b"lock"),
        b"timeout = %d" % IDLE_SECONDS,
    ]
    for number, module in enumerate(modules):
        rules = f"{number}.rules"
        files[rules] = b"".join(rule + b"\n" for rule in module.rules)
        lines += [
            b"[%s]" % module.name.encode(),
            # A slash ends the line: a blank or a backslash at its end would be taken away, or join lines.
            b"path = " + module.path.rstrip(b"/") + b"/",
            b"comment = " + str(module.url).encode(),
            b"filter = merge " + os.path.join(folder, rules.encode()),
        ]
        if host.is_root:
            lines += [b"uid = %d" % module.owner[0], b"gid = %d" % module.owner[1]]
    files["rsyncd.conf"] = b"\n".join(lines) + b"\n"
    return files
