"""Two names change places in one step: renameat2(2) with RENAME_EXCHANGE, which Python does not offer."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import cache
from typing import Any, Final

RENAME_EXCHANGE: Final = 2  # linux/fs.h


@cache
def _renameat2() -> Callable[..., int] | None:
    """The function of the C library, if it has it. ctypes is loaded when first needed: few fetches do."""
    import ctypes  # noqa: PLC0415

    return getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)


def exchange(first_dir: int, first: bytes, second_dir: int, second: bytes) -> None:
    """Let two names change places in one step. Raises OSError, also where that cannot be done at all."""
    call: Any = _renameat2()
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if call(first_dir, first, second_dir, second, RENAME_EXCHANGE):
        import ctypes  # noqa: PLC0415

        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
