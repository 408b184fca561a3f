"""What `import p2psync` promises, and what it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import p2psync

PROMISED = [
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
"""A name that goes away breaks programs: that is a new major version."""


def test_what_is_exported_is_what_is_promised() -> None:
    assert p2psync.__all__ == PROMISED
    assert dir(p2psync) == sorted([*PROMISED, "__version__"])
    for name in PROMISED:
        assert getattr(p2psync, name) is not None


def test_what_is_not_exported_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Clint'"):
        _ = p2psync.Clint  # type: ignore[attr-defined]


def test_importing_the_package_imports_nothing_else() -> None:
    program = "import sys, p2psync; print([name for name in sys.modules if name.startswith('p2psync')])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "['p2psync']\n"


def test_a_star_import_brings_everything() -> None:
    program = "from p2psync import *; print(Client.__name__, Progress.__name__)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "Client Progress\n"
