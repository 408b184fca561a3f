"""p2psync: mirror archives like rsync, spread the load like BitTorrent.

What this module exports is its public face, in docs/api.md; nothing else is promised. Each name is imported
when it is first used: whoever needs only a part of the package, as `p2psync --help` does, loads no more.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from p2psync.client import Client, Listing
    from p2psync.errors import (
        ConnectTimeout,
        DeleteLimitError,
        FileError,
        FormatError,
        HookError,
        InterruptedFetch,
        NetworkError,
        P2psyncError,
        PartialError,
        TransferTimeout,
        TrustError,
        UsageError,
        VanishedWarning,
    )
    from p2psync.events import FileDone, Phase, SourceState, Warned
    from p2psync.fetch.holders import Holder, Holders
    from p2psync.fetch.hooks import Hooks
    from p2psync.fetch.keywords import Asking, TransferOptions
    from p2psync.fetch.options import Compress, Delete, FetchSummary
    from p2psync.fetch.verified import Verified
    from p2psync.fetch.verify import Difference, Finding
    from p2psync.fetch.view import Listed, View
    from p2psync.format.url import ArchiveUrl
    from p2psync.inventory.forget import Forgotten
    from p2psync.inventory.holdings import Holding, Holdings
    from p2psync.progress import Progress, SourceProgress
    from p2psync.publish.ending import Unpublished
    from p2psync.publish.publisher import Published
    from p2psync.publish.unsigned import Completed, Prepared
    from p2psync.relay import ClientEvent
    from p2psync.supply.control import Control

__version__ = "0.1.0"

__all__ = [
    "ArchiveUrl",
    "Asking",
    "Client",
    "ClientEvent",
    "Completed",
    "Compress",
    "ConnectTimeout",
    "Control",
    "Delete",
    "DeleteLimitError",
    "Difference",
    "FetchSummary",
    "FileDone",
    "FileError",
    "Finding",
    "Forgotten",
    "FormatError",
    "Holder",
    "Holders",
    "Holding",
    "Holdings",
    "HookError",
    "Hooks",
    "InterruptedFetch",
    "Listed",
    "Listing",
    "NetworkError",
    "P2psyncError",
    "PartialError",
    "Phase",
    "Prepared",
    "Progress",
    "Published",
    "SourceProgress",
    "SourceState",
    "TransferOptions",
    "TransferTimeout",
    "TrustError",
    "Unpublished",
    "UsageError",
    "VanishedWarning",
    "Verified",
    "View",
    "Warned",
]

_MODULES: Final = {
    "client": ("Client", "Listing"),
    "errors": (
        "ConnectTimeout",
        "DeleteLimitError",
        "FileError",
        "FormatError",
        "HookError",
        "InterruptedFetch",
        "NetworkError",
        "P2psyncError",
        "PartialError",
        "TransferTimeout",
        "TrustError",
        "UsageError",
        "VanishedWarning",
    ),
    "events": ("FileDone", "Phase", "SourceState", "Warned"),
    "fetch.hooks": ("Hooks",),
    "fetch.keywords": ("Asking", "TransferOptions"),
    "fetch.options": ("Compress", "Delete", "FetchSummary"),
    "fetch.verified": ("Verified",),
    "fetch.verify": ("Difference", "Finding"),
    "fetch.holders": ("Holder", "Holders"),
    "fetch.view": ("Listed", "View"),
    "format.url": ("ArchiveUrl",),
    "inventory.forget": ("Forgotten",),
    "inventory.holdings": ("Holding", "Holdings"),
    "progress": ("Progress", "SourceProgress"),
    "publish.ending": ("Unpublished",),
    "publish.publisher": ("Published",),
    "publish.unsigned": ("Completed", "Prepared"),
    "relay": ("ClientEvent",),
    "supply.control": ("Control",),
}
_WHERE: Final = {name: module for module, names in _MODULES.items() for name in names}

if not TYPE_CHECKING:  # Type checkers know the names by the imports above, and no others.

    def __getattr__(name: str) -> Any:
        if name not in _WHERE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
