"""A process that makes a v2 torrent, seeds one, or fetches one with libtorrent: what `torrent` starts.

    make TREE TORRENT | seed TORRENT TREE HOST:PORT | fetch TORRENT DEST PEER... [--listen HOST:PORT]

There is no DHT, no local discovery, no mapping of ports and no uTP: peers are given, and found from each
other.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, Final

import libtorrent as lt

POLL_MS: Final = 20
PLAIN: Final = 2
"""libtorrent's ``pe_disabled``: no encryption."""
QUIET: Final = {
    "enable_dht": False,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "enable_outgoing_utp": False,
    "enable_incoming_utp": False,
    "allow_multiple_connections_per_ip": True,
    "out_enc_policy": PLAIN,
    "in_enc_policy": PLAIN,
    "alert_mask": 0,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["make", "seed", "fetch"])
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("peers", nargs="*", metavar="HOST:PORT")
    parser.add_argument("--listen", default="0.0.0.0:0", help="where a fetch listens")
    options = parser.parse_args()
    if options.what == "make":
        make(options.first, options.second)
    elif options.what == "seed":
        seed(options.first, options.second, options.peers[0])
    else:
        fetch(options.first, options.second, options.peers, options.listen)
    return 0


def make(tree: Path, torrent: Path) -> None:
    """Hash a tree."""
    made = lt.create_torrent(lt.list_files(os.fspath(tree)), 0, lt.create_torrent.v2_only)
    lt.set_piece_hashes(made, os.fspath(tree.parent))
    torrent.write_bytes(lt.bencode(made.generate()))


def _session(listen: str, further: Any) -> Any:
    settings: Any = {**further, **QUIET, "listen_interfaces": listen}
    return lt.session(settings)


def _added(session: Any, torrent: Path, folder: Path, flags: Any) -> Any:
    """Add a torrent whose directory, or whose one file, is or comes in ``folder``."""
    wanted = lt.load_torrent_file(os.fspath(torrent))
    wanted.save_path = os.fspath(folder)
    wanted.flags = (wanted.flags | flags) & ~lt.torrent_flags.auto_managed & ~lt.torrent_flags.paused
    return session.add_torrent(wanted)


def seed(torrent: Path, tree: Path, listen: str) -> None:
    """Serve a tree until SIGTERM. It is taken to be whole and right, as by a seed that checked it long
    ago.
    """
    session = _session(listen, {**lt.high_performance_seed(), "disable_hash_checks": True})
    name = lt.torrent_info(os.fspath(torrent)).name()
    _added(session, torrent, tree.parent if name == tree.name else tree, lt.torrent_flags.seed_mode)
    signal.pause()


def fetch(torrent: Path, dest: Path, peers: list[str], listen: str) -> None:
    """Fetch a tree into DEST, below its name unless it is one file, and end when all of it is on the disk."""
    session = _session(listen, {})
    handle = _added(session, torrent, dest, lt.torrent_flags.default_flags)
    for peer in peers:
        host, _, port = peer.rpartition(":")
        handle.connect_peer((host, int(port)))
    while not handle.status().is_seeding:
        time.sleep(POLL_MS / 1000)
    handle.flush_cache()
    session.pause()


if __name__ == "__main__":
    sys.exit(main())
