"""Tells systemd how a node is: ready, alive, stopping, and one line of status (sd_notify(3)).

Nothing is sent where no supervisor asks for it in ``$NOTIFY_SOCKET``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from p2psync.text import clean_text

if TYPE_CHECKING:
    from systemd_watchdog import WatchDog

BEATS: Final = 3
"""Signs of life in the time that the watchdog allows: one or two may come late."""
STATUS_MAX: Final = 200
"""Characters of a status: systemctl shows it in one line."""


class Supervisor:
    """The service manager, if one is there."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._status = ""
        self._link: WatchDog | None = None
        if os.environ.get("NOTIFY_SOCKET"):
            from systemd_watchdog import WatchDog  # noqa: PLC0415 - only where systemd asks

            self._link = WatchDog()

    @property
    def beat(self) -> float | None:
        """Seconds between signs of life; None: nobody waits for them."""
        if self._link is None or not os.environ.get("WATCHDOG_USEC", "").isdigit():
            return None
        return self._link.timeout_td.total_seconds() / BEATS

    def ready(self, status: str) -> None:
        """The node serves."""
        self._send(lambda link: link.ready())
        self.status(status)

    def status(self, text: str) -> None:
        """What ``systemctl status`` shows; sent when it changes."""
        text = clean_text(text)[:STATUS_MAX]
        if text != self._status:
            self._status = text
            self._send(lambda link: link.status(text))

    def alive(self) -> None:
        """A sign of life."""
        self._send(lambda link: link.notify())

    def stopping(self) -> None:
        """The node has begun to stop. The library knows no such call: a variable is a line of the message."""
        self._send(lambda link: link.status("stopping\nSTOPPING=1"))

    def _send(self, message: Callable[[WatchDog], None]) -> None:
        if self._link is None:
            return
        try:
            message(self._link)
        except OSError as error:
            self._link = None
            self._warn(f"systemd does not listen at $NOTIFY_SOCKET: {error.strerror or error}")
