"""p2psync: mirror archives like rsync, spread the load like BitTorrent."""

__version__ = "0.1.0"
