"""The state directory: what this machine knows and holds. One SQLite index, keys as files, locks as files.

`State` opens it and leads to the stores: `trees` (directories on disk and the files in them), `meta`
(directory objects, snapshots, recipes), `heads`, `holders`, `keys`. Several processes and threads may use
one state directory at the same time. What is trusted is decided elsewhere: stores keep what they are given.
"""

from p2psync.state.database import Database
from p2psync.state.heads import HeadStore
from p2psync.state.holders import MAX_HOLDERS_PER_ARCHIVE, HolderStore
from p2psync.state.keys import KeyStore, Note
from p2psync.state.meta import MetaStore
from p2psync.state.state import NODE_LOCK, State, default_path
from p2psync.state.trees import DirRow, FileRow, Located, Tree, Trees

__all__ = [
    "MAX_HOLDERS_PER_ARCHIVE",
    "NODE_LOCK",
    "Database",
    "DirRow",
    "FileRow",
    "HeadStore",
    "HolderStore",
    "KeyStore",
    "Located",
    "MetaStore",
    "Note",
    "State",
    "Tree",
    "Trees",
    "default_path",
]
