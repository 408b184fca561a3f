"""Puts the man pages into what is built: into a wheel as data that pip installs below share/man, where man(1)
looks beside a program on PATH, and into a source distribution below man/.

They are made of the commands' own help, for which the build needs click (``pyproject.toml``, build-system).
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ManPages(BuildHookInterface):  # type: ignore[misc] # hatchling is there while it builds, and not else
    """The hook that pyproject.toml names."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make the pages. An editable installation has none, since they would soon be stale: `p2psync help`
        shows them there.
        """
        if version == "editable":
            return
        sys.path[:0] = [str(Path(self.root) / folder) for folder in ("dht", "node")]
        from p2psync.cli.manual.files import write_pages  # noqa: PLC0415 - found from now on

        self._folder = tempfile.TemporaryDirectory(prefix="p2psync-man-")
        wheel = self.target_name == "wheel"
        key, place = ("shared_data", "share/man/man1") if wheel else ("force_include", "man")
        for page in write_pages(Path(self._folder.name)):
            build_data[key][str(page)] = f"{place}/{page.name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was copied."""
        if version != "editable":
            self._folder.cleanup()
