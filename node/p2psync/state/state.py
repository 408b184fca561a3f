"""The state directory itself: where it is, what lies in it, and the stores over it.

index.sqlite        the index (p2psync.state.database)
node.key            this node's identity, PEM, mode 0600
keys/               keys of archives
locks/              locks between processes
contacts.msgpack    contacts of the DHT; the daemon and the clients write it
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType

from p2psync.errors import FileError
from p2psync.state.database import Database
from p2psync.state.files import read_private, write_private
from p2psync.state.heads import HeadStore
from p2psync.state.holders import HolderStore
from p2psync.state.keys import KeyStore, from_pem, to_pem
from p2psync.state.locks import lock
from p2psync.state.meta import MetaStore
from p2psync.state.trees import Trees
from p2psync_dht import Identity


def default_path() -> Path:
    """`$STATE_DIRECTORY` (systemd.exec(5); its first part), else `p2psync` in the XDG state home."""
    given = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if given:
        return Path(given)
    home = os.environ.get("XDG_STATE_HOME", "")
    base = Path(home) if home.startswith("/") else Path.home() / ".local" / "state"
    return base / "p2psync"


class State:
    """An open state directory. Any number of threads may use one; close it, or use it as a context
    manager.
    """

    def __init__(self, path: Path, database: Database) -> None:
        self.path = path
        self._db = database
        self.trees = Trees(database)
        self.meta = MetaStore(database)
        self.heads = HeadStore(database)
        self.holders = HolderStore(database)
        self.keys = KeyStore(path / "keys")

    @classmethod
    def open(cls, path: Path | None = None) -> State:
        """Open the state directory, making it (mode 0700) if there is none; None stands for `default_path()`.

        Raises FileError: no permission, not a directory, damaged, or written by a newer version.
        """
        where = (default_path() if path is None else path).absolute()
        try:
            for folder in (where, where / "keys", where / "locks"):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise FileError(f"The state directory {where} cannot be made: {error.strerror}.") from error
        with lock(where / "locks", "open", wait=True):
            return cls(where, Database(where / "index.sqlite"))

    @property
    def contacts_path(self) -> Path:
        return self.path / "contacts.msgpack"

    def identity(self) -> Identity:
        """This node's key pair, made on first use; several processes that start at once get the same one."""
        path = self.path / "node.key"
        raw = read_private(path)
        if raw is None:
            write_private(path, to_pem(Identity.generate()), replace=False)
            raw = read_private(path)
        if raw is None:
            raise FileError(f"{path} was removed while it was made.")
        return from_pem(raw, f"The node key {path}")

    @contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[None]:
        """Commit all that this thread writes to the stores within the block at once, or nothing of it."""
        with self._db.transaction(durable=durable):
            yield

    def data_version(self) -> int:
        """A number that changes whenever this or another process has committed something."""
        return self._db.data_version()

    def lock(self, name: str) -> AbstractContextManager[None]:
        """Hold a named lock against other processes and threads. Raises FileError at once if it is held."""
        return lock(self.path / "locks", name)

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> State:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
