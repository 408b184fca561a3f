"""A node's TLS of its own: for readers whose firewall lets port 443 through and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from functools import partial

from p2psync.content.server import ContentServer
from p2psync.content.tls_door import LOOK, Certificate
from p2psync.daemon.options import Tls
from p2psync.errors import UsageError
from p2psync.network.here import reached_at
from p2psync.state.off_loop import off_loop


@contextlib.asynccontextmanager
async def serving_tls(tls: Tls, server: ContentServer, warn: Callable[[str], None]) -> AsyncIterator[str]:
    """Serve within TLS as well; HOST:PORT where. The certificate may be replaced meanwhile.

    Raises UsageError: it cannot be used. NetworkError: the address cannot be listened at.
    """
    certificate = await off_loop(partial(Certificate.load, tls.certificate, tls.key))
    where = await server.open_tls(*tls.listen, certificate.context)
    watching = asyncio.ensure_future(_watch(certificate, warn))
    try:
        yield reached_at(*where)[0]
    finally:
        watching.cancel()


async def _watch(certificate: Certificate, warn: Callable[[str], None]) -> None:
    """Until cancelled."""
    while True:
        await asyncio.sleep(LOOK)
        try:
            await off_loop(certificate.refresh)
        except UsageError as error:
            warn(f"{error}; the one before is used on")
