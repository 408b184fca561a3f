"""The limits of the archive format, with their reasons. Decoders check each before they use what it
bounds.
"""

from typing import Final

NAME_MAX: Final = 255
"""Bytes in one name: what Linux file systems hold (limits.h, NAME_MAX)."""

PATH_MAX: Final = 4095
"""Bytes in a path below the archive's root: Linux's PATH_MAX less its NUL."""

DEPTH_MAX: Final = 512
"""Directories in directories: deeper than people make them, shallow enough for recursive walks of a tree."""

SYMLINK_TARGET_MAX: Final = 4095
"""Bytes in the target of a symbolic link (PATH_MAX)."""

LISTING_ENTRIES_MAX: Final = 1 << 20
"""Entries in one directory: a million; larger directories do not work well with rsync or a web server
either.
"""

TREE_ENTRIES_MAX: Final = 1 << 32
"""Files, directories or symbolic links below a directory, each: the inodes of the largest file systems in
use (ext4). Directories may repeat, so a few small objects can mean more than any disk holds.
"""

LISTING_BYTES_MAX: Final = 256 << 20
"""Bytes of one directory object: a million entries with short names; a decoder may be made to hold this
much.
"""

SINGLE_CHUNK_MAX: Final = 64 << 10
"""Bytes up to which an object is one chunk, never cut: its chunk id then names it, without a recipe."""

CHUNK_MIN: Final = 4 << 10
"""Bytes in the smallest chunk, save the last of an object: a quarter of the smallest average (16 KiB).
Without it a recipe could be longer than what it describes.
"""

CHUNK_MAX: Final = 4 << 20
"""Bytes in the largest chunk: four times the largest average (1 MiB)."""

RECIPE_CHUNKS_MAX: Final = 1 << 20
"""Chunks of one object: at 1.25 MiB each, files of 1.2 TiB; the recipe of such a file is 36 MiB."""

OBJECT_BYTES_MAX: Final = RECIPE_CHUNKS_MAX * CHUNK_MAX
"""Bytes of one object: no recipe can describe more."""

SNAPSHOT_BYTES_MAX: Final = SINGLE_CHUNK_MAX
"""Bytes of a snapshot object: it names three things and must stay one chunk."""

PARENTS_MAX: Final = 8
"""Earlier snapshots that a snapshot names."""

HEAD_PAYLOAD_MAX: Final = 128
"""Bytes that a head carries for the archive: the reference of its snapshot and little else."""

EXTRA_DEPTH_MAX: Final = 8
"""Nesting of values: enough for unknown fields of newer writers, never deep enough to hurt a decoder."""

CONTAINER_ITEMS_MAX: Final = 4096
"""Items of one array or map: a decoder allocates them when it reads the length, 8 bytes each, at every level
of nesting, before it knows whether they are there. More belongs in a byte string or in an object.
"""

ENTRY_BYTES_MAX: Final = 16 << 10
"""Bytes of one entry of a listing: the longest name and symlink target take 4.4 KiB, the rest is for unknown
fields.
"""

EXTRA_VALUES_MAX: Final = 4 << 20
"""Values in the unknown fields of a whole listing, or in the rows of a whole attributes object: four for each
entry of the largest. An empty map of one byte takes 80 in memory, so counting bytes would not do.
"""

ATTRIBUTES_BYTES_MAX: Final = 256 << 20
"""Bytes of the attributes object of one directory."""

ATTRIBUTES_ROW_MAX: Final = 1 << 20
"""Bytes of one row of an attributes object: Linux allows extended attributes of 64 KiB each (xattr(7),
XATTR_SIZE_MAX), and several.
"""

INT64_MAX: Final = (1 << 63) - 1
