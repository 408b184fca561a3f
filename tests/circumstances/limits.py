"""What the two processes of a run have to agree on."""

from __future__ import annotations

from typing import Final

PLAIN_USER: Final = 65534
"""nobody: has no rights that others have not."""
DEADLINE: Final = 120
"""Seconds after which a program that hangs is ended."""
