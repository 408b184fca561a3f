"""What the writer is told to do, and the facts that it gives back. Pure values, cheap to pack.

An order names a directory once and has a row for each name in it; the fact that answers it has a result for
each row, in the same order, and carries the order's ``token``. Nothing in an order is a download's
bookkeeping: the writer knows names, attributes and where in the arena bytes lie, and that is all.

A result is a ``Stamp``-like tuple ``(size, mtime_ns, ctime_ns, ino)`` of what was made, or a ``str``: why
this one name could not be made, in words that follow its path ("a directory that is not empty is in the
way"). What ends all work (no space left, read-only file system) is a ``Broken`` fact instead.
"""

from __future__ import annotations

from typing import NamedTuple

Result = tuple[int, int, int, int] | str


class File(NamedTuple):
    """A whole file whose bytes are in the arena; ``length`` 0: empty. Times in ns, modes are permission
    bits.
    """

    name: bytes
    mode: int
    mtime_ns: int
    offset: int
    length: int
    replaces: bool
    """An older regular file stands there whose chunks may serve elsewhere: it is displaced, not dropped."""


class Link(NamedTuple):
    """A symbolic link."""

    name: bytes
    target: bytes
    mtime_ns: int


class Attributes(NamedTuple):
    """New mode and time for a file whose content is right already, provided that it still has this stamp."""

    name: bytes
    mode: int
    mtime_ns: int
    stamp: tuple[int, int, int, int]


class Target(NamedTuple):
    """A place for a finished object."""

    directory: bytes
    name: bytes
    mode: int
    mtime_ns: int
    replaces: bool


class Landing(NamedTuple):
    """What waits to be put into its place: a file, or a link with its ``target``. ``digest``: of a file."""

    name: bytes
    mode: int
    mtime_ns: int
    digest: bytes
    target: bytes


class WorkIn(NamedTuple):
    """Which directory DEST is: all orders after this are for no other one, whatever is there by then under
    its name. Not answered.
    """

    device: int
    inode: int
    delays: bool = False
    """Whether files and links wait until ``Land``."""


class MakeDirectory(NamedTuple):
    """Make ``path`` (b"": DEST itself), and those above it; make it writable for us until it gets its own
    mode.

    Answered by ``Done`` with one result.
    """

    token: int
    path: bytes
    ino: int = 0
    """Of the directory that stood there when DEST was compared; 0: none did."""


class MakeFiles(NamedTuple):
    """Make small files in one directory. Answered by ``Done``."""

    token: int
    directory: bytes
    files: list[File]


class MakeLinks(NamedTuple):
    token: int
    directory: bytes
    links: list[Link]


class SetAttributes(NamedTuple):
    token: int
    directory: bytes
    files: list[Attributes]


class OpenObject(NamedTuple):
    """Open or make the unfinished file of an object of several chunks, ``size`` bytes, under the hex of its
    digest in the folder of unfinished files. Answered by ``Done`` with one result: the file as it was found,
    so without a size if it was made. What it holds is for the owner of the order to read and verify (the
    folder is in DEST), and to see that it is that very file.
    """

    token: int
    digest: bytes
    size: int


class WriteObject(NamedTuple):
    """Write verified bytes into an unfinished file: ``parts`` are (offset in the object, offset in the arena,
    length). Answered by ``Done`` with one result.
    """

    token: int
    digest: bytes
    parts: list[tuple[int, int, int]]


class FinishObject(NamedTuple):
    """An object is whole: put it in its places, the last by renaming, the others as copies. Answered by
    ``Done`` with a result for each target. No targets: close the file, keep it for a later run.
    """

    token: int
    digest: bytes
    targets: list[Target]


class MayReplace(NamedTuple):
    """Directories that may make way for a file or a link, each with the seal that it must still have then
    (None: any). Not answered.
    """

    seals: dict[bytes, bytes | None]


class Remove(NamedTuple):
    """Remove names in one directory. A name whose flag is set is a directory that goes with all below it; a
    directory whose flag is not set goes only if it is empty. Answered by ``Done``; a result's size is the
    number of names that went.
    """

    token: int
    directory: bytes
    names: list[tuple[bytes, bool]]


class Land(NamedTuple):
    """Put what waits for one directory into its place. Answered by ``Done``: a result for each, "" for what
    has not come.
    """

    token: int
    directory: bytes
    landings: list[Landing]


class Dress(NamedTuple):
    """Mode and time for a directory; None: as it is."""

    path: bytes
    mode: int | None
    mtime_ns: int | None
    ino: int = 0
    """Of the directory that was compared; 0: it was not there, so it is one that was made since."""


class DressDirectories(NamedTuple):
    """Set mode and time of directories, in this order (inner ones come first), each if it still is the one
    that was worked in. Answered by ``Done``.
    """

    token: int
    directories: list[Dress]


class Tidy(NamedTuple):
    """Remove what was displaced, by this run or one that was killed; ``everything``: unfinished files too.
    Unfinished files that are open are closed, and the folder goes if nothing is in it, which changes DEST:
    hence before DEST itself is dressed. Answered by ``Done`` with one result.
    """

    token: int
    everything: bool


Order = (
    WorkIn
    | MakeDirectory
    | MakeFiles
    | MakeLinks
    | SetAttributes
    | OpenObject
    | WriteObject
    | FinishObject
    | MayReplace
    | Land
    | Remove
    | DressDirectories
    | Tidy
)


class Done(NamedTuple):
    """An order was carried out as far as it could be."""

    token: int
    results: list[Result]
    displaced: list[tuple[bytes, bytes]]
    """Old files and directories that made way: (path where it stood, path below DEST where it lies until
    the end of the run). Their chunks can be read there.
    """
    removed: int = 0
    """Names that went with directories that were replaced."""


class Broken(NamedTuple):
    """The writer cannot go on; nothing after ``token`` was done.

    ``path`` and ``doing`` say to what and while doing what; ``errno`` 0: the writer itself died.
    """

    token: int
    errno: int
    path: bytes
    doing: str


Fact = Done | Broken
