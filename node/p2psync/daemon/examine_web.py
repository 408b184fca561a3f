"""One check of a web server that has the tree of an archive: random chunks, asked for by path and Range.

A file that is missing or another one there is no lie: the server is older or newer at that path. One that has
some of the newest snapshot passes, and is behind until it has all.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import quote_from_bytes

from blake3 import blake3

from p2psync.checks import Result, Verdict
from p2psync.daemon.examine import ASKED, CONNECT_TIMEOUT, IDLE_TIMEOUT, RATE_BYTES_MIN, TIMEOUT
from p2psync.daemon.samples import Chunk, Sample, Samples
from p2psync.errors import P2psyncError
from p2psync.format.head import ArchiveHead
from p2psync.format.ids import chunk_id
from p2psync.sources.web_files import WebFiles

_CONTEXT: Final = "p2psync 2026-11 key of a web mirror's checks v1"


def web_key(url: str) -> bytes:
    """What checks of a web server are kept under, in place of a node's key (32 bytes)."""
    return blake3(url.encode(), derive_key_context=_CONTEXT).digest()


async def examine_web(url: str, newest: ArchiveHead, samples: Samples, chance: random.Random) -> Result:
    """Check the server at ``url``, below which the archive's tree is to be."""
    files = WebFiles(url, connections=1, connect_timeout=CONNECT_TIMEOUT, idle_timeout=IDLE_TIMEOUT)
    try:
        async with asyncio.timeout(TIMEOUT):
            return await _examine(files, newest, samples, chance)
    except TimeoutError:
        return Result(Verdict.FAILED, f"{url}: took more than {TIMEOUT:.0f} s to answer")
    except P2psyncError as error:
        return Result(Verdict.FAILED, str(error))
    finally:
        await files.close()


async def _examine(files: WebFiles, newest: ArchiveHead, samples: Samples, chance: random.Random) -> Result:
    some = chance.sample(samples.anywhere, min(ASKED, len(samples.anywhere)))
    right = [sample for sample in some if await _has(files, sample, sample.chunks[:1])]
    if some and not right:
        return Result(
            Verdict.FAILED, f"{files.name}: has nothing of the newest snapshot that it was asked for"
        )
    complete = len(right) == len(some)
    made = Result(
        Verdict.RIGHT,
        epoch=newest.epoch,
        # It names no snapshot; what is not there yet is of the newest.
        seq=newest.seq if complete else max(newest.seq - 1, 0),
        behind=not complete,
        asked=len(some),
        came=len(right),
        complete=complete,
    )
    return made._replace(rate=await _rate(files, [*right, *samples.anywhere], chance))


async def _rate(
    files: WebFiles,
    samples: list[Sample],
    chance: random.Random,
    clock: Callable[[], float] = time.monotonic,
) -> float:
    """Bytes a second of one long request; 0 where nothing is large enough, or it does not come."""
    long = [sample for sample in samples if sample.length >= RATE_BYTES_MIN]
    if not long:
        return 0.0
    sample = chance.choice(long)
    began = clock()
    came = await _has(files, sample, sample.chunks)
    return sample.length / max(clock() - began, 1e-6) if came else 0.0


async def _has(files: WebFiles, sample: Sample, chunks: tuple[Chunk, ...]) -> bool:
    """Whether chunks in a row are there, and right. Raises NetworkError, FormatError."""
    begin, length = chunks[0][0], sum(size for _, size, _ in chunks)
    part = await files.part(quote_from_bytes(sample.path, safe="/"), begin, length)
    if part is None:
        return False
    data = memoryview(part.data)[begin if part.whole else 0 :][:length]
    return len(data) == length and all(
        chunk_id(data[offset - begin : offset - begin + size]) == digest for offset, size, digest in chunks
    )
