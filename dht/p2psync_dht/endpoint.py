"""Endpoints: where a holder serves, as an address or a URL, and their packed form in a holder record."""

from __future__ import annotations

import ipaddress
from typing import Any, Final, NamedTuple

from p2psync_dht.form import RecordError

MAX_URL: Final = 128  # characters


class Endpoint(NamedTuple):
    """Where a holder serves: an IP address with a TCP port, or the URL of a web mirror (then `ip` is "" and
    `port` 0).
    """

    ip: str = ""
    port: int = 0
    url: str = ""

    def __str__(self) -> str:
        if self.url:
            return self.url
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"

    def encode(self) -> bytes | str:
        """6 bytes for IPv4, 18 for IPv6 (address, big-endian port: BEP 5, BEP 32), text for a URL."""
        if self.url:
            return self.url
        try:
            return ipaddress.ip_address(self.ip).packed + self.port.to_bytes(2, "big")
        except (ValueError, OverflowError) as error:
            raise RecordError(f"not an endpoint: {self.ip!r} port {self.port}") from error

    @classmethod
    def decode(cls, value: Any) -> Endpoint:
        """RecordError unless `value` is what `encode` gives for a usable endpoint."""
        if isinstance(value, str):
            scheme_ok = value.startswith(("http://", "https://"))
            if (
                not scheme_ok
                or len(value) > MAX_URL
                or not value.isascii()
                or not value.isprintable()
                or " " in value
            ):
                raise RecordError("an endpoint whose URL is not plain http(s)")
            return cls(url=value)
        if not isinstance(value, bytes) or len(value) not in (6, 18):
            raise RecordError("an endpoint that is neither an address nor a URL")
        address, port = ipaddress.ip_address(value[:-2]), int.from_bytes(value[-2:], "big")
        if port == 0 or address.is_unspecified or address.is_multicast:
            raise RecordError("an endpoint that nobody can connect to")
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            raise RecordError("an endpoint that spells IPv4 as IPv6")  # one spelling per address
        return cls(ip=str(address), port=port)
