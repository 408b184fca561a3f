"""The local listener for metrics and health: ``GET /metrics`` and ``GET /health``, and nothing else.

Apart from the public port, so that who watches a node is the operator's choice.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, cast

from aiohttp import web

from p2psync.content.listening import listening
from p2psync.content.visitors import Visitors
from p2psync.daemon.health import Vitals
from p2psync.daemon.metered import MeteredDht
from p2psync.daemon.metrics import CONTENT_TYPE, Metrics
from p2psync.errors import P2psyncError
from p2psync.network.here import plain_ip, reached_at

KEEPALIVE: Final = 75.0
"""Seconds: longer than the usual interval of scrapes, so that each needs no new connection."""


@contextlib.asynccontextmanager
async def monitoring(vitals: Vitals, listen: tuple[str, int]) -> AsyncIterator[str]:
    """Answer at ``listen`` for the length of the block; where that is, as ``HOST:PORT``.

    Raises NetworkError: the address cannot be listened at.
    """
    metrics = Metrics(vitals)
    if isinstance(vitals.dht, MeteredDht):
        vitals.dht.listener = metrics.lookup

    async def page(_: web.Request) -> web.Response:
        try:
            return web.Response(body=metrics.page(), headers={"Content-Type": CONTENT_TYPE})
        except P2psyncError as error:
            return web.Response(status=500, text=f"the index cannot be read: {error}\n")

    async def health(_: web.Request) -> web.Response:
        try:
            report = vitals.report()
        except P2psyncError as error:
            report = {"ok": False, "error": f"the index cannot be read: {error}"}
        body = json.dumps(report) + "\n"
        status = 200 if report["ok"] else 503
        return web.Response(status=status, text=body, content_type="application/json")

    visitors = Visitors([listen[0]])

    @web.middleware
    async def guard(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        client = plain_ip(request.remote) if request.remote else ""
        refused = visitors.refusal(client, request.method, request.headers)
        if refused is not None:
            return web.Response(status=refused.status, text=refused.text)
        return await handler(request)

    app = web.Application(client_max_size=1, middlewares=[guard])
    app.router.add_get("/metrics", page)
    app.router.add_get("/health", health)
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=KEEPALIVE, shutdown_timeout=1.0)
    await runner.setup()
    try:
        made = cast(Callable[[], asyncio.Protocol], runner.server)
        servers = await listening(made, *listen, option="--metrics")
        try:
            host, port = servers[-1].sockets[0].getsockname()[:2]
            yield reached_at(host, port)[0]
        finally:
            for server in servers:
                server.close()
    finally:
        await runner.cleanup()
