"""Fetching: make a directory like an archive, from many sources at once. ``engine`` runs it; see there."""

from p2psync.fetch.engine import run_fetch
from p2psync.fetch.options import Delete, FetchOptions, FetchSummary
from p2psync.fetch.view import Holders, View, find_holders, open_view

__all__ = [
    "Delete",
    "FetchOptions",
    "FetchSummary",
    "Holders",
    "View",
    "find_holders",
    "open_view",
    "run_fetch",
]
