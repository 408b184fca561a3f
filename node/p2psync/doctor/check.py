"""The result of trying one way, as a value. Pure."""

from __future__ import annotations

from typing import NamedTuple


class Check(NamedTuple):
    """One way that was tried."""

    way: str
    """One of archive, clock, dht, dns, gateway, proxy, rsync, tcp, udp, web."""
    target: str
    """What was tried there: a host, HOST:PORT or URL."""
    ok: bool | None
    """None: it says nothing either way."""
    detail: str
    """What happened, as a clause."""
    remedy: str = ""
    """What to do; empty if nothing is to be done."""
    seconds: float = 0.0
    told: float | None = None
    """The time that the other side says it is, in Unix seconds."""
