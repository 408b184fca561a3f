"""The DHT by way of others, for those whose UDP does not pass: nodes that are reached by TCP ask it for them
(docs/spec/wire.md). Heads and holders are signed, and verified here: a gateway can withhold, never forge.
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import socket
import time
from collections.abc import Callable, Collection, Iterable
from typing import Final, TypeVar

import msgpack

from p2psync.config import DEFAULT_PORT
from p2psync.errors import FormatError, NetworkError, UsageError
from p2psync.format.url import archive_text, host_and_port, host_port
from p2psync.network.server import Server
from p2psync.network.way import Way
from p2psync_dht import TAG_HEAD, TAG_MIRRORS, Head, HolderRecord, RecordError, head_key, mirrors_key

T = TypeVar("T")

PATH: Final = "/p2psync/v1/dht"
GATEWAYS_MAX: Final = 4
"""Gateways that are asked, all at once: one that withholds is outvoted by one that does not."""
ASK_SECONDS: Final = 6.0
"""For one of them, its look-up in the DHT included."""
GRACE: Final = 1.0
"""Seconds that the others get once one has answered."""
NOTHING: Final = 204
"""The status with which a gateway says that it found nothing."""
HEAD_MAX: Final = 450
RECORD_MAX: Final = 250
RECORDS_MAX: Final = 200
"""Bytes of a head, and of a holder record, and how many of these an answer may have (docs/spec)."""
ANSWER_MAX: Final = RECORDS_MAX * (RECORD_MAX + 3) + 16


def head_target(archive: bytes) -> str:
    """What a gateway is asked for the head of an archive."""
    return f"{PATH}/head/{archive_text(archive)}"


def mirrors_target(archive: bytes) -> str:
    """What it is asked for the head of an archive's list of mirrors."""
    return f"{PATH}/mirrors/{archive_text(archive)}"


def holders_target(key: bytes) -> str:
    """What it is asked for the holder records under a key of the DHT."""
    return f"{PATH}/holders/{key.hex()}"


def encode_records(raws: Collection[bytes]) -> bytes:
    """The body of an answer with holder records."""
    return bytes(msgpack.packb(list(raws)[:RECORDS_MAX]))


def _decode_records(raw: bytes) -> list[bytes]:
    """Raises FormatError."""
    try:
        made = msgpack.unpackb(raw, raw=False, max_ext_len=0) if len(raw) <= ANSWER_MAX else None
    except (ValueError, msgpack.exceptions.UnpackException, RecursionError):
        made = None
    if type(made) is not list or len(made) > RECORDS_MAX or not all(type(each) is bytes for each in made):
        raise FormatError("sent something else than holder records")
    return made


def gateways_of(texts: Iterable[str]) -> list[Server]:
    """The servers that may be gateways among addresses to join by (HOST[:PORT]) and sources: each once, and
    not more than are asked.
    """
    found: dict[tuple[str, int], Server] = {}
    for text in texts:
        try:
            named = text if "://" in text else host_port(*host_and_port(text, DEFAULT_PORT))
            server = Server.node(named)
        except UsageError:  # A web mirror, or a list of seeds.
            continue
        found.setdefault((server.host, server.port), server)
    return list(found.values())[:GATEWAYS_MAX]


class Gateways:
    """A `protocols.Network` over gateways. ``way``: why the DHT itself is not asked."""

    def __init__(self, servers: list[Server], way: Way) -> None:
        self._servers = servers
        self.way = way
        self.received = 0
        self.answered: set[str] = set()
        """Names of those that have answered."""

    @property
    def reachable(self) -> bool:
        return bool(self._servers)

    def observed(self, family: socket.AddressFamily) -> str | None:
        return None  # They see the way to them.

    async def get_head(self, archive: bytes) -> Head | None:
        return await self._newest(head_target(archive), head_key(archive), TAG_HEAD)

    async def get_mirrors_head(self, archive: bytes) -> Head | None:
        return await self._newest(mirrors_target(archive), mirrors_key(archive), TAG_MIRRORS)

    async def _newest(self, target: str, key: bytes, tag: int) -> Head | None:
        def take(raw: bytes) -> Head:
            head = Head.decode(raw, tag=tag)
            if head.key != key:
                raise RecordError("a head of something else")
            head.verify(int(time.time()))
            return head

        heads = await self._ask(target, HEAD_MAX, take)
        return max(heads, key=lambda head: head.order, default=None)

    async def get_holders(self, key: bytes) -> list[HolderRecord]:
        newest: dict[bytes, HolderRecord] = {}
        for records in await self._ask(holders_target(key), ANSWER_MAX, lambda raw: _verified(raw, key)):
            for record in records:
                known = newest.get(record.node_key)
                if known is None or record.issued > known.issued:
                    newest[record.node_key] = record
        return list(newest.values())

    async def put_head(self, raw: bytes) -> int:
        return 0

    async def refresh_head(self, raw: bytes) -> int:
        return 0

    async def announce(self, raws: Collection[bytes]) -> dict[bytes, int]:
        return dict.fromkeys(raws, 0)

    async def _ask(self, target: str, most: int, take: Callable[[bytes], T]) -> list[T]:
        """What all say to a question, as far as it can be taken; the others have a little longer than the
        first.
        """
        loop = asyncio.get_running_loop()
        pending = {asyncio.ensure_future(self._ask_one(each, target, most, take)) for each in self._servers}
        came: list[T] = []
        until = loop.time() + ASK_SECONDS
        try:
            while pending and (left := until - loop.time()) > 0:
                done, pending = await asyncio.wait(pending, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                answers = [answer for task in done if (answer := task.result()) is not None]
                if answers and not came:
                    until = min(until, loop.time() + GRACE)
                came += answers
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
        return came

    async def _ask_one(self, server: Server, target: str, most: int, take: Callable[[bytes], T]) -> T | None:
        try:
            # What reads the web takes 15 ms to load, and most have no gateway to ask.
            from p2psync.network.web_file import web_get  # noqa: PLC0415

            answer = await web_get(server, target, most, seconds=ASK_SECONDS)
            self.received += len(answer.body)
            if answer.status == NOTHING:
                self.answered.add(server.name)
            if answer.status != http.HTTPStatus.OK:
                return None
            made = take(answer.body)
        except (NetworkError, FormatError, RecordError, TimeoutError):
            return None
        self.answered.add(server.name)
        return made


def _verified(raw: bytes, key: bytes) -> list[HolderRecord]:
    """The records of an answer that are current and under this key. Raises FormatError."""
    made: list[HolderRecord] = []
    for each in _decode_records(raw):
        with contextlib.suppress(RecordError):
            record = HolderRecord.decode(each)
            if record.key == key:
                record.verify(int(time.time()))
                made.append(record)
    return made
