"""All rows by name: what `make bench ARGS="NAME ..."` measures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from bench.session import Session
from bench.work import cold, crowd, fixed, links, memory, publish, web

ROWS: Final[dict[str, Callable[[Session], None]]] = {
    "help": fixed.help_text,
    "fixed": fixed.fixed,
    "big": cold.big,
    "web": web.web,
    "publish-big": publish.publish_big,
    "small": cold.small,
    "publish-small": publish.publish_small,
    "tiny": cold.tiny,
    "nochange": cold.nochange,
    "trusted": fixed.trusted,
    "republish": publish.republish,
    "memory-file": memory.memory_file,
    "memory-files": memory.memory_files,
    "links-equal": links.equal,
    "links-slow": links.slow,
    "links-silent": links.silent,
    "links-lying": links.lying,
    "crowd": crowd.crowd,
}
