"""Names that rsync and the mirror tools round it use for what is on its way: nobody means to publish them.
Pure.

rsync writes ``.NAME.XXXXXX`` and renames it (rsync(1), ``--temp-dir``), with ``--delay-updates`` into
``.~tmp~``, and keeps parts in ``.rsync-partial`` where it is told to; Debian's ftpsync leaves
``Archive-Update-…`` while it is at work.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

FOLDERS: Final = frozenset({b".~tmp~", b".rsync-partial"})
_FILE: Final = re.compile(rb"\..+\.[0-9A-Za-z]{6}", re.DOTALL)
_AT_WORK: Final = b"Archive-Update-"
_RANGES: Final = ((b".", b"/"), (_AT_WORK, b"Archive-Update."))
"""Where in the order of names such a one may stand."""
AS_RULES: Final = (b"- .~tmp~/", b"- .rsync-partial/", b"- .*.??????", b"- Archive-Update-*")
"""The same for rsync, as far as its patterns can say it."""


def is_temporary(name: bytes, is_dir: bool) -> bool:
    """Whether it looks like one of them."""
    if is_dir:
        return name in FOLDERS
    return _FILE.fullmatch(name) is not None or name.startswith(_AT_WORK)


def may_have_temporary(names: Sequence[bytes]) -> bool:
    """Whether one of these names, which are sorted, may be one of them: quickly, as most directories have
    none.
    """
    return any(
        name in FOLDERS or is_temporary(name, False)
        for low, high in _RANGES
        for name in names[bisect_left(names, low) : bisect_left(names, high)]
    )
