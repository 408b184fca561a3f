"""One small file from a web server, within bounds of size and time. Whether to believe it is not decided
here.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final
from urllib.parse import urljoin, urlsplit

from p2psync.errors import NetworkError

if TYPE_CHECKING:
    import aiohttp

REDIRECTS_MAX: Final = 3
URL_MAX: Final = 2048
"""Characters of a URL that somebody else names: far beyond what a small file's address needs."""


async def web_file(url: str, most: int, *, seconds: float) -> bytes:
    """What is at ``url``, of at most ``most`` bytes; one more says that there are more. ``seconds``:
    for all of it. Redirects are followed to https:// only. Raises NetworkError.
    """
    import aiohttp  # noqa: PLC0415 - only who asks a web server waits for its import

    try:
        async with (
            asyncio.timeout(seconds),
            aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False) as session,
        ):
            for _ in range(REDIRECTS_MAX + 1):
                headers = {"Accept-Encoding": "identity"}
                async with session.get(url, allow_redirects=False, headers=headers) as response:
                    if response.status in (301, 302, 303, 307, 308):
                        url = _redirected(url, response.headers.get("Location", ""))
                        continue
                    if response.status != 200:
                        raise NetworkError(f"{url} answers {response.status}")
                    return await _body(response, most)
    except TimeoutError:
        raise NetworkError(f"{url} did not answer in {seconds:.0f} seconds") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise NetworkError(f"{url} cannot be had: {error}") from None
    raise NetworkError(f"{url} redirects without an end")


def _redirected(url: str, location: str) -> str:
    """Where an answer leads. Raises NetworkError; ValueError: it is no URL."""
    target = urljoin(url, location)
    if not target.startswith("https://"):
        raise NetworkError(f"{url} redirects to {target[:200]!r}, which is not https://")
    plain = target.isascii() and target.isprintable() and " " not in target and len(target) <= URL_MAX
    parts = urlsplit(target)
    parts.port  # noqa: B018 - checks it
    if not plain or not parts.hostname or "@" in parts.netloc:
        raise NetworkError(f"{url} redirects to {target[:200]!r}, which is not an https:// URL")
    return target


async def _body(response: aiohttp.ClientResponse, most: int) -> bytes:
    made = bytearray()
    async for piece in response.content.iter_chunked(most):
        made += piece
        if len(made) > most:
            break
    return bytes(made[: most + 1])
