"""Exit codes as scripts that run rsync know them (rsync(1), EXIT VALUES)."""

from __future__ import annotations

from typing import Final

from p2psync.errors import BusyError, FileError, FormatError, OriginChanged, TrustError

INSTEAD: Final = {
    TrustError.exit_code: FormatError.exit_code,
    OriginChanged.exit_code: FormatError.exit_code,
    BusyError.exit_code: FileError.exit_code,
}
"""p2psync's code -> rsync's. Scripts try again after 5, which is rsync's for a server that is full; 12, an
error in the protocol, they report. rsync has no 75 and 76.
"""
