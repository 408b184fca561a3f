"""The bodies and paths of the node's HTTP interface: pure codecs, bounded on both sides.

The specification with examples is docs/spec/wire.md. Bodies are msgpack but need not be canonical: nothing
is signed or named by them. Verifying what the bytes say (signatures, hashes) is the callers'.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import msgpack
from blake3 import blake3

from p2psync.chunking import BLOCK_MIN
from p2psync.errors import FormatError, UsageError
from p2psync.format.ids import DIGEST_SIZE
from p2psync.format.limits import OBJECT_BYTES_MAX, RECIPE_CHUNKS_MAX
from p2psync.format.mirror_list import LIST_BYTES_MAX
from p2psync.format.url import ARCHIVE_TEXT_SIZE, archive_text, parse_archive_text

PREFIX: Final = "/p2psync/v1"
INFO_PATH: Final = f"{PREFIX}/info"
BATCH_PATH: Final = f"{PREFIX}/batch"
HAVE_PATH: Final = f"{PREFIX}/have"
RECIPES_PATH: Final = f"{PREFIX}/recipes"
BLOCKS_PATH: Final = f"{PREFIX}/blocks"
PACKED_PATH: Final = f"{PREFIX}/packed"
OCTETS: Final = "application/octet-stream"
MSGPACK: Final = "application/vnd.msgpack"
ZSTD: Final = "application/zstd"

BATCH_ROWS_MAX: Final = 4096
"""Rows of one batch request: bounds the look-ups that one request may cost."""
BATCH_BYTES_MAX: Final = 8 << 20
"""Bytes that the rows of one batch ask for in all: what a client may have to hold at once for it."""
BATCH_ROW_MAX: Final = 1 << 20
"""Bytes of one row, which a node holds in memory: longer stretches are for ranges."""
BATCH_BODY_MAX: Final = BATCH_ROWS_MAX * 64
"""Bytes of a batch request: a row takes at most 51."""
HAVE_DIGESTS_MAX: Final = 1024
"""Objects that one have request may ask about."""
HAVE_BODY_MAX: Final = HAVE_DIGESTS_MAX * (DIGEST_SIZE + 2) + 16
HAVE_ANSWER_MAX: Final = 8 << 20
"""Bytes of a have answer: a few bitmaps of the largest objects (128 KiB each), thousands of usual ones."""
RECIPES_DIGESTS_MAX: Final = 256
"""Objects whose recipes one request may ask for: more than fit in an answer, as a recipe has at least two
chunks and usually dozens."""
RECIPES_BODY_MAX: Final = RECIPES_DIGESTS_MAX * (DIGEST_SIZE + 2) + 16
RECIPES_ANSWER_MAX: Final = 8 << 20
"""Bytes of an answer with recipes: 25 of the usual largest (8,000 chunks, 300 kB)."""
BITMAP_MAX: Final = RECIPE_CHUNKS_MAX // 8
HOLDERS_MAX: Final = 200
"""Holder records in one answer: a random sample beyond."""
HOLDER_BYTES_MAX: Final = 250
"""Bytes of one holder record (docs/spec/records.md)."""
HOLDERS_ANSWER_MAX: Final = HOLDERS_MAX * (HOLDER_BYTES_MAX + 2) + 16
HEAD_BYTES_MAX: Final = 450
"""Bytes of a signed head (docs/spec/records.md)."""
WAIT_MAX: Final = 50
"""Seconds for which a request for a head may wait for a newer one: proxies give up after 60 (nginx, and many
load balancers).
"""
MIRRORS_ANSWER_MAX: Final = HEAD_BYTES_MAX + LIST_BYTES_MAX + 16
"""Bytes of a list of recommended mirrors with the record that names it."""
INFO_ARCHIVES_MAX: Final = 1000
"""Archives that a node lists about itself."""
INFO_ANSWER_MAX: Final = 64 << 10
VERSION_MAX: Final = 64
"""Characters of a version that are looked at: it is shown to people, never acted on."""

NOT_HERE: Final = 0xFFFFFFFF
"""The length of a row that the node does not have, in answers with rows."""
ROW_LENGTH: Final = struct.Struct(">I")
"""What stands in front of each row of an answer: how many bytes follow."""

_WAIT: Final = re.compile(r"""(?:^|,)\s*wait\s*=\s*"?(\d{1,9})"?\s*(?:$|[,;])""", re.IGNORECASE | re.ASCII)
"""The preference in a Prefer header."""

Have = bool | bytes
"""What a node has of an object: False nothing, True all, or a bitmap over its chunks, most significant bit
first (BEP 3)."""
Row = tuple[bytes, int, int]
"""One row of a batch: digest, offset and length in bytes."""
Block = tuple[bytes, int]
"""Hash (``chunking.block_hash``) and length in bytes of a part of a row."""
_BLOCK: Final = struct.Struct(">6sH")


class Info(NamedTuple):
    """What a node says about itself: node id (hex), public key (32 bytes), version, ids of archives (32
    bytes each)."""

    node: str
    key: bytes
    version: str
    archives: tuple[bytes, ...]


def object_path(digest: bytes) -> str:
    return f"{PREFIX}/object/{digest.hex()}"


def recipe_path(digest: bytes) -> str:
    return f"{PREFIX}/recipe/{digest.hex()}"


def head_path(archive: bytes) -> str:
    return f"{PREFIX}/archive/{archive_text(archive)}/head"


def head_tag(raw: bytes) -> str:
    """The ETag of a head (RFC 9110, section 8.8.3)."""
    return f'"{blake3(raw).hexdigest()}"'


def wait_wished(prefer: str) -> int:
    """Seconds that a request for a head wants to wait, at most ``WAIT_MAX``, by its Prefer header (RFC 7240,
    section 4.3); 0: it does not.
    """
    found = _WAIT.search(prefer)
    return min(int(found[1]), WAIT_MAX) if found else 0


def holders_path(archive: bytes) -> str:
    return f"{PREFIX}/archive/{archive_text(archive)}/holders"


def mirrors_path(archive: bytes) -> str:
    return f"{PREFIX}/archive/{archive_text(archive)}/mirrors"


def parse_digest(text: str) -> bytes:
    """The digest in a path: 64 hex digits in lower case. Raises FormatError."""
    if len(text) != 2 * DIGEST_SIZE or text.strip("0123456789abcdef"):
        raise FormatError("a digest is 64 hex digits in lower case")
    return bytes.fromhex(text)


def _unpack(raw: bytes | bytearray, limit: int, what: str, *, arrays: type = list) -> Any:
    """``arrays``: what arrays become, list or tuple."""
    if len(raw) > limit:
        raise FormatError(f"{what} is longer than {limit} bytes")
    try:
        return msgpack.unpackb(raw, raw=False, strict_map_key=True, max_ext_len=0, use_list=arrays is list)
    except (ValueError, msgpack.exceptions.UnpackException, RecursionError) as error:
        raise FormatError(f"{what} is damaged: {error}") from None


def _array(value: Any, limit: int, what: str) -> list[Any]:
    if type(value) is not list or len(value) > limit:
        raise FormatError(f"{what} must be an array of at most {limit} items")
    return value


def _digest(value: Any, what: str) -> bytes:
    if type(value) is not bytes or len(value) != DIGEST_SIZE:
        raise FormatError(f"{what} holds something else than a digest of {DIGEST_SIZE} bytes")
    return value


def _all_of(kind: type, values: Iterable[Any]) -> bool:
    """Whether all values are of this very type."""
    return set(map(type, values)) == {kind}


def encode_batch(rows: Sequence[Row]) -> bytes:
    return _pack(rows)  # tuples are arrays


def decode_batch(raw: bytes | bytearray) -> list[Row]:
    """Rows of a batch request, each of at least one byte and all within the limits. Raises FormatError."""
    what = "a batch request"
    items = _unpack(raw, BATCH_BODY_MAX, what, arrays=tuple)
    if type(items) is not tuple or len(items) > BATCH_ROWS_MAX:
        raise FormatError(f"{what} must be an array of at most {BATCH_ROWS_MAX} items")
    if not items:
        return []
    # Column by column: a node checks thousands of rows for each request.
    if not _all_of(tuple, items) or set(map(len, items)) != {3}:
        raise FormatError(f"{what} has a row that is not digest, offset, length")
    digests, offsets, lengths = zip(*items, strict=True)
    if not _all_of(int, offsets) or min(offsets) < 0 or max(offsets) > OBJECT_BYTES_MAX:
        raise FormatError(f"{what} has an offset that no object reaches")
    if not _all_of(int, lengths) or min(lengths) <= 0 or max(lengths) > BATCH_ROW_MAX:
        raise FormatError(f"{what} has a row that is empty or longer than {BATCH_ROW_MAX} bytes")
    if sum(lengths) > BATCH_BYTES_MAX:
        raise FormatError(f"{what} asks for more than {BATCH_BYTES_MAX} bytes")
    if not _all_of(bytes, digests) or set(map(len, digests)) != {DIGEST_SIZE}:
        raise FormatError(f"{what} holds something else than digests of {DIGEST_SIZE} bytes")
    return list(items)


def encode_have(digests: Sequence[bytes]) -> bytes:
    return _pack(list(digests))


def decode_have(raw: bytes | bytearray) -> list[bytes]:
    """Raises FormatError."""
    what = "a have request"
    items = _array(_unpack(raw, HAVE_BODY_MAX, what), HAVE_DIGESTS_MAX, what)
    return [_digest(item, what) for item in items]


def encode_have_answer(answers: Sequence[Have]) -> bytes:
    return _pack([item if isinstance(item, bytes) else int(item) for item in answers])


def decode_have_answer(raw: bytes | bytearray, count: int) -> list[Have]:
    """As many answers as there were digests. Raises FormatError."""
    what = "a have answer"
    items = _array(_unpack(raw, HAVE_ANSWER_MAX, what), count, what)
    if len(items) != count:
        raise FormatError(f"{what} has {len(items)} items where {count} were asked about")
    answers: list[Have] = []
    for item in items:
        if type(item) is int and item in (0, 1):
            answers.append(bool(item))
        elif type(item) is bytes and 0 < len(item) <= BITMAP_MAX:
            answers.append(item)
        else:
            raise FormatError(f"{what} has an item that is neither 0, 1 nor a bitmap")
    return answers


def encode_recipes(digests: Sequence[bytes]) -> bytes:
    return _pack(list(digests))


def decode_recipes(raw: bytes | bytearray) -> list[bytes]:
    """Raises FormatError."""
    what = "a request for recipes"
    items = _array(_unpack(raw, RECIPES_BODY_MAX, what), RECIPES_DIGESTS_MAX, what)
    return [_digest(item, what) for item in items]


def encode_recipes_answer(recipes: Iterable[bytes | None]) -> bytes:
    """Rows for as many of the encoded recipes as fit, from the first on; None for one that is not here."""
    parts: list[bytes] = []
    left = RECIPES_ANSWER_MAX
    for recipe in recipes:
        left -= ROW_LENGTH.size + len(recipe or b"")
        if left < 0:
            break
        parts.append(ROW_LENGTH.pack(NOT_HERE if recipe is None else len(recipe)))
        if recipe is not None:
            parts.append(recipe)
    return b"".join(parts)


def decode_recipes_answer(raw: bytes | bytearray, count: int) -> list[bytes | None]:
    """The encoded recipes of the first of ``count`` digests, unverified; None for those that are not there.

    Fewer than ``count`` where the answer was full: ask again for the rest. An empty list: the first recipe
    alone is too long for an answer, and is had by itself (``recipe_path``). Raises FormatError.
    """
    what = "an answer with recipes"
    if len(raw) > RECIPES_ANSWER_MAX:
        raise FormatError(f"{what} is longer than {RECIPES_ANSWER_MAX} bytes")
    found: list[bytes | None] = []
    position = 0
    while position < len(raw):
        if len(found) == count or len(raw) - position < ROW_LENGTH.size:
            raise FormatError(f"{what} has bytes after its last row")
        (length,) = ROW_LENGTH.unpack_from(raw, position)
        position += ROW_LENGTH.size
        if length == NOT_HERE:
            found.append(None)
        elif 0 < length <= len(raw) - position:
            found.append(bytes(raw[position : position + length]))
            position += length
        else:
            raise FormatError(f"{what} has a row that is empty or longer than the answer")
    return found


def encode_blocks_answer(rows: Iterable[Sequence[Block] | None]) -> bytes:
    """The blocks of each row of a batch request, before the answer is packed; None for one that is not
    here.
    """
    parts: list[bytes] = []
    for blocks in rows:
        parts.append(ROW_LENGTH.pack(NOT_HERE if blocks is None else len(blocks)))
        parts += [_BLOCK.pack(*block) for block in blocks or ()]
    return b"".join(parts)


def blocks_answer_max(rows: Sequence[Row]) -> int:
    """Bytes that an answer with the blocks of these rows may have when it is unpacked."""
    return sum(ROW_LENGTH.size + _BLOCK.size * (length // BLOCK_MIN + 1) for _, _, length in rows)


def decode_blocks_answer(raw: bytes | memoryview, rows: Sequence[Row]) -> list[list[Block] | None]:
    """The blocks of each row that was asked for; None for one that is not there. Each is as long as its row.
    Raises FormatError.
    """
    what = "an answer with blocks"
    view = memoryview(raw)
    found: list[list[Block] | None] = []
    position = 0
    for _, _, length in rows:
        if len(view) - position < ROW_LENGTH.size:
            raise FormatError(f"{what} ends before its last row")
        (count,) = ROW_LENGTH.unpack_from(view, position)
        position += ROW_LENGTH.size
        if count == NOT_HERE:
            found.append(None)
            continue
        end = position + count * _BLOCK.size
        if end > len(view):
            raise FormatError(f"{what} ends within a row")
        blocks: list[Block] = list(_BLOCK.iter_unpack(view[position:end]))
        lengths = [size for _, size in blocks]
        if sum(lengths) != length or not all(lengths):
            raise FormatError(f"{what} has blocks that do not make up their row")
        found.append(blocks)
        position = end
    if position != len(view):
        raise FormatError(f"{what} has bytes after its last row")
    return found


def decode_packed_answer(raw: bytes | memoryview, rows: Sequence[Row]) -> list[memoryview | None]:
    """The rows of a batch answer that was unpacked; None for one that is not there. Raises FormatError."""
    what = "a packed answer"
    view = memoryview(raw)
    found: list[memoryview | None] = []
    position = 0
    for _, _, length in rows:
        if len(view) - position < ROW_LENGTH.size:
            raise FormatError(f"{what} ends before its last row")
        (told,) = ROW_LENGTH.unpack_from(view, position)
        position += ROW_LENGTH.size
        if told == NOT_HERE:
            found.append(None)
        elif told == length <= len(view) - position:
            found.append(view[position : position + length])
            position += length
        else:
            raise FormatError(f"{what} has a row of another length than was asked for")
    if position != len(view):
        raise FormatError(f"{what} has bytes after its last row")
    return found


def encode_holders(records: Sequence[bytes]) -> bytes:
    return _pack(list(records))


def decode_holders(raw: bytes | bytearray) -> list[bytes]:
    """Holder records as they came: not decoded, not verified. Raises FormatError."""
    what = "a list of holders"
    items = _array(_unpack(raw, HOLDERS_ANSWER_MAX, what), HOLDERS_MAX, what)
    for item in items:
        if type(item) is not bytes or not 0 < len(item) <= HOLDER_BYTES_MAX:
            raise FormatError(f"{what} holds something else than holder records")
    return items


def encode_mirrors(record: bytes, body: bytes) -> bytes:
    """A list of recommended mirrors, behind the record that names it."""
    return _pack([record, body])


def decode_mirrors(raw: bytes | bytearray) -> tuple[bytes, bytes]:
    """The record and the list, unverified. Raises FormatError."""
    what = "a list of mirrors"
    fields = _array(_unpack(raw, MIRRORS_ANSWER_MAX, what), 2, what)
    if len(fields) != 2 or not _all_of(bytes, fields):
        raise FormatError(f"{what} that is not a record and a list")
    return fields[0], fields[1]


def encode_info(info: Info) -> bytes:
    archives = [archive_text(archive) for archive in info.archives[:INFO_ARCHIVES_MAX]]
    return _pack({"node": info.node, "key": info.key, "version": info.version, "archives": archives})


def decode_info(raw: bytes | bytearray) -> Info:
    """What a node says about itself; further keys are ignored. Raises FormatError."""
    what = "a node's description of itself"
    value = _unpack(raw, INFO_ANSWER_MAX, what)
    if type(value) is not dict:
        raise FormatError(f"{what} must be a map")
    node, version = value.get("node"), value.get("version")
    if not isinstance(node, str) or len(node) != 40 or node.strip("0123456789abcdef"):
        raise FormatError(f"{what} has no node id of 40 hex digits")
    if not isinstance(version, str) or len(version) > VERSION_MAX or not version.isprintable():
        raise FormatError(f"{what} has no version")
    key = _digest(value.get("key"), what)
    archives = _array(value.get("archives"), INFO_ARCHIVES_MAX, f"the archives of {what}")
    return Info(node, key, version, tuple(_archive(item, what) for item in archives))


def _archive(value: Any, what: str) -> bytes:
    if not isinstance(value, str) or len(value) != ARCHIVE_TEXT_SIZE:
        raise FormatError(f"{what} lists something else than archives")
    try:
        return parse_archive_text(value)
    except UsageError as error:
        raise FormatError(f"{what} lists something else than archives: {error}") from None


def _pack(value: Any) -> bytes:
    return bytes(msgpack.packb(value, use_bin_type=True))
