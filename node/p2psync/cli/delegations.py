"""Delegations as ``p2psync key`` reads, checks and shows them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from p2psync.cli.armor import unarmor
from p2psync.errors import UsageError

if TYPE_CHECKING:
    from p2psync.state import State
    from p2psync_dht import Delegation

ROLES: Final = {"heads": 1, "mirrors": 2}
"""What a key may sign, and the bit of it."""


def describe(delegation: Delegation) -> dict[str, Any]:
    """A delegation as JSON fields. Times are seconds since 1970."""
    return {
        "key": delegation.key.hex(),
        "epoch": delegation.epoch,
        "roles": [name for name, bit in ROLES.items() if delegation.roles & bit],
        "not_before": delegation.not_before,
        "not_after": delegation.not_after,
    }


def epoch_of(state: State, archive: bytes) -> int:
    """The epoch in use: of the newest head, or of a delegation that has signed nothing yet."""
    head = state.heads.newest(archive)
    signing = state.keys.signing(archive)
    delegated = signing[1].epoch if signing is not None and signing[1] is not None else 0
    return max(head.epoch if head is not None else 0, delegated)


def public_key_of(text: str) -> bytes:
    """The key in 64 hexadecimal digits. Raises UsageError."""
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise UsageError(f"{text!r} is not a key: 64 hexadecimal digits, as 'p2psync key show' prints them")
    return key


def delegation_in(data: bytes) -> Delegation | None:
    """The delegation in a text; None where there is none. Raises UsageError: it is damaged."""
    from p2psync_dht import Delegation, RecordError

    raw = unarmor(data)
    if raw is None:
        return None
    try:
        return Delegation.decode(raw)
    except RecordError as error:
        raise UsageError(f"the delegation is damaged ({error}); copy the whole text again") from None


def check_delegation(state: State, delegation: Delegation) -> None:
    """Raises UsageError: it is of no use any more."""
    if delegation.not_after < time.time():
        ended = time.strftime("%Y-%m-%d", time.localtime(delegation.not_after))
        raise UsageError(
            f"the delegation ended on {ended}: make a new one with 'p2psync key delegate' where the root key "
            "is"
        )
    known = state.keys.info(delegation.root).delegation
    if known is not None and known.key == delegation.key and known.epoch > delegation.epoch:
        raise UsageError(
            f"the delegation is of epoch {delegation.epoch}, and a newer one, of epoch {known.epoch}, is here"
        )
