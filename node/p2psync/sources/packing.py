"""Compressed bodies of the node's interface: one zstd frame (RFC 8878) that says how long its content is.

The library is loaded with the first body: most commands pack nothing.
"""

from __future__ import annotations

from typing import Final

from p2psync.errors import FormatError

LEVEL: Final = 3
"""Some 200 MB/s and processor, at which a link of 50 Mbit/s waits for nothing."""
OVER: Final = 64
"""Bytes by which a small frame may be longer than its content; a large one by a 64th at most."""


def pack(data: bytes | memoryview) -> bytes:
    """``data`` as a frame."""
    import zstandard  # noqa: PLC0415 - see above

    return zstandard.ZstdCompressor(level=LEVEL).compress(data)


def packed_max(longest: int) -> int:
    """How long the frame of ``longest`` bytes may be."""
    return longest + longest // 64 + OVER


def unpack(raw: bytes | bytearray | memoryview, longest: int, what: str) -> bytes:
    """The content of a frame, of at most ``longest`` bytes: no more is ever held. Raises FormatError, in
    which ``what`` names the body.
    """
    import zstandard  # noqa: PLC0415

    try:
        size = zstandard.frame_content_size(raw)
        if not 0 <= size <= longest:
            told = "does not say how long it is" if size < 0 else f"unpacks to more than {longest} bytes"
            raise FormatError(f"{what} {told}")
        return zstandard.ZstdDecompressor().decompress(raw, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise FormatError(f"{what} is no zstd frame: {error}") from None
