"""Sources of seeds that tests play themselves, on loopback sockets: a DNS server and a web server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import cast

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
from aiohttp import web


@dataclass
class Zone:
    """What a DNS server answers: (name without the final dot, type) -> records as a zone file has them."""

    records: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    raw: bytes | None = None
    """Sent instead of an answer, behind the question's id."""

    def answer(self, datagram: bytes) -> bytes:
        question = dns.message.from_wire(datagram)
        (one,) = question.question
        name, kind = one.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(one.rdtype)
        self.asked.append((name, kind))
        if self.raw is not None:
            return datagram[:2] + self.raw
        reply = dns.message.make_response(question, recursion_available=True)
        found = self.records.get((name, kind))
        if found:
            reply.answer.append(dns.rrset.from_text_list(one.name, 60, "IN", kind, found))
        elif not any(known == name for known, _ in self.records):
            reply.set_rcode(dns.rcode.NXDOMAIN)
        return reply.to_wire(max_size=65535)


class _Server(asyncio.DatagramProtocol):
    def __init__(self, zone: Zone) -> None:
        self._zone = zone

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._transport.sendto(self._zone.answer(data), addr)


@contextlib.asynccontextmanager
async def dns_server(zone: Zone) -> AsyncIterator[str]:
    """A DNS server for ``zone``; its HOST:PORT. One datagram an answer, however large."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: _Server(zone), ("127.0.0.1", 0))
    try:
        yield f"127.0.0.1:{transport.get_extra_info('sockname')[1]}"
    finally:
        transport.close()


@contextlib.asynccontextmanager
async def web_server(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    """A web server that answers everything in one way; its URL without a path."""
    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def txt(strings: list[str]) -> str:
    """Character strings as one record of a zone file."""
    return " ".join('"' + part.replace("\\", "\\\\").replace('"', '\\"') + '"' for part in strings)
