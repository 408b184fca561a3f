"""The state directory itself: where it is, what lies in it, and the stores over it.

index.sqlite        the index (p2psync.state.database)
node.key            this node's identity, PEM
keys/               keys of archives
locks/              locks between processes
contacts.msgpack    contacts of the DHT; the daemon and the clients write it
node.address        where the node is reached that runs, or ran last, on this state directory
tidied              when it was last cleaned

All of it is readable to its owner alone (p2psync.state.private).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final

from blake3 import blake3

from p2psync.config import home_directory
from p2psync.errors import BusyError, FileError, PlaceBusy, UsageError, show_path
from p2psync.state.checks import CheckStore
from p2psync.state.database import Database
from p2psync.state.files import leave_to_owner, read_private, write_private
from p2psync.state.heads import HeadStore
from p2psync.state.holders import HolderStore
from p2psync.state.keys import KeyStore, own_key, to_pem
from p2psync.state.lists import ListStore
from p2psync.state.locks import PROBES_LAST, WRITABLE, is_held, lock
from p2psync.state.made import MadeStore
from p2psync.state.meta import MetaStore
from p2psync.state.nodes import NodeStore
from p2psync.state.offers import Offers
from p2psync.state.private import INDEX, make_file, make_folder, make_private
from p2psync.state.trees import Trees
from p2psync_dht import Identity

NODE_LOCK: Final = "node"
STATIC: Final = "static"
"""Among a tree's options: the folder of its static files, a name in it or a path."""
NODE_ADDRESS: Final = "node.address"
TIDY_EVERY: Final = 24 * 3600
"""Seconds between two cleanings of a state directory: what is dead takes space and nothing else."""


def default_path() -> Path:
    """`$STATE_DIRECTORY` (systemd.exec(5); its first part), else `p2psync` in the XDG state home.

    Raises FileError: whoever runs this has no home.
    """
    given = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if given:
        return Path(given)
    home = os.environ.get("XDG_STATE_HOME", "")
    if home.startswith("/"):
        return Path(home) / "p2psync"
    own = home_directory()
    if own is None:
        raise FileError(
            "there is no home directory to keep the state in: name a directory with --state, or set HOME"
        )
    return Path(own) / ".local" / "state" / "p2psync"


class State:
    """An open state directory. Any number of threads may use one; close it, or use it as a context
    manager.
    """

    def __init__(self, path: Path, database: Database) -> None:
        self.path = path
        self._db = database
        self.trees = Trees(database)
        self.made = MadeStore(database)
        self.meta = MetaStore(database)
        self.offers = Offers(database)
        self.heads = HeadStore(database)
        self.nodes = NodeStore(database)
        self.holders = HolderStore(database, self.nodes)
        self.checks = CheckStore(database)
        self.lists = ListStore(database)
        self.keys = KeyStore(path / "keys")

    @classmethod
    def open(cls, path: Path | None = None) -> State:
        """Open the state directory, making it if there is none, and leaving it to its owner alone; None
        stands for `default_path()`.

        Raises FileError: no permission, not a directory, damaged, or written by a newer version.
        """
        where = (default_path() if path is None else path).absolute()
        try:
            for folder in (where, where / "keys", where / "locks"):
                make_folder(folder)
            make_private(where)
            make_file(where / INDEX)
        except OSError as error:
            raise FileError(
                f"the state directory {where} cannot be made ({error.strerror}): {WRITABLE}"
            ) from error
        with lock(where / "locks", "open", patience=None):
            return cls(where, Database(where / INDEX))

    @property
    def contacts_path(self) -> Path:
        return self.path / "contacts.msgpack"

    def within(self, directory: bytes) -> frozenset[bytes]:
        """What of p2psync's own lies below ``directory`` (absolute, real), by its path from there: this
        state directory, which holds private keys, and static files. Whoever works in a tree leaves them
        out, and alone.

        Raises UsageError: ``directory`` is the state directory, or lies in it.
        """
        own = os.fsencode(os.path.realpath(self.path))
        if directory == own or directory.startswith(own + b"/"):
            raise UsageError(
                f"{show_path(directory)} is, or lies in, the state directory, which holds private keys and "
                "is never part of an archive: use another directory, or name another state directory with "
                "--state"
            )
        above = directory.rstrip(b"/") + b"/"
        tree = self.trees.get(directory)
        static = b"" if tree is None else tree.options.get(STATIC, b"")
        paths = [own, os.path.normpath(os.path.join(directory, static))]
        return frozenset(path.removeprefix(above) for path in paths if path.startswith(above))

    @property
    def key_path(self) -> Path:
        """Where the key of this node lies."""
        return self.path / "node.key"

    def identity(self) -> Identity:
        """This node's key pair, made on first use; several processes that start at once get the same one."""
        path = self.key_path
        raw = read_private(path)
        if raw is None:
            write_private(path, to_pem(Identity.generate()), replace=False)
            raw = read_private(path)
        if raw is None:
            raise FileError(f"{path} was removed while it was made")
        return own_key(raw, f"the node key {path}", "remove it, and the node gets a new one")

    @contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[None]:
        """Commit all that this thread writes to the stores within the block at once, or nothing of it."""
        with self._db.transaction(durable=durable):
            yield

    # The node that runs on this state directory, if one does.

    def node_runs(self) -> bool:
        """Whether a node runs on this state directory: it holds a lock for as long as it does."""
        return is_held(self.path / "locks", NODE_LOCK)

    def tell_address(self, address: str) -> None:
        """Note where the running node is reached (HOST:PORT), for those who print URLs."""
        write_private(self.path / NODE_ADDRESS, address.encode(), replace=True)

    def node_address(self) -> str | None:
        """Where the node is reached that runs now; None if none does, or it does not know."""
        if not self.node_runs():
            return None
        raw = read_private(self.path / NODE_ADDRESS)
        return None if raw is None else raw.decode("ascii", "replace")

    def tidy(self, *, now: float | None = None) -> bool:
        """At most once a day, remove what nothing refers to any more and what has expired; whether it did.

        Commands call it when they have changed something, and nodes from time to time; it may take seconds.
        """
        moment = time.time() if now is None else now
        stamp = self.path / "tidied"
        try:
            try:
                due = moment - stamp.stat().st_mtime >= TIDY_EVERY
                if not due:
                    return False
            except FileNotFoundError:
                due = False  # A new one, in which nothing is old enough to go.
            stamp.touch(mode=0o600)
            os.utime(stamp, (moment, moment))
        except OSError as error:
            raise FileError(f"{stamp} cannot be written ({error.strerror}): {WRITABLE}") from error
        if due:
            self.holders.prune(moment)
            self.nodes.prune(moment)
            self.checks.prune(moment)
            self.meta.gc(now=moment)
        return due

    def data_version(self) -> int:
        """A number that changes whenever this or another process has committed something."""
        return self._db.data_version()

    def lock(self, name: str, on: str = "", *, patience: float = PROBES_LAST) -> AbstractContextManager[None]:
        """Hold a named lock against other processes and threads. Raises BusyError if it is held for
        `patience` seconds; `on` says what it is about.
        """
        return lock(self.path / "locks", name, on=on, patience=patience)

    @contextmanager
    def lock_place(self, place: bytes, *, patience: float = PROBES_LAST) -> Iterator[None]:
        """Hold the lock of a directory, or of a single file, that is going to be changed or published. Raises
        PlaceBusy if it is held for `patience` seconds.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(self.lock(_lock_of(place), on=repr(show_path(place)), patience=patience))
            except BusyError as error:
                raise PlaceBusy(str(error)) from None
            yield

    def place_is_held(self, place: bytes) -> bool:
        """Whether somebody is at work in a directory now, as `lock_place` would find."""
        return is_held(self.path / "locks", _lock_of(place))

    def close(self) -> None:
        self._db.close()
        leave_to_owner(self.path)

    def __enter__(self) -> State:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _lock_of(place: bytes) -> str:
    """The name of the lock of a directory, or of a single file."""
    return "dest-" + blake3(place).hexdigest(length=8)
