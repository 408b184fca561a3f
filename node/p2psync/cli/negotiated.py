"""``fetch`` and ``mirror`` with a SRC of another kind: which archive it is, or what rsync makes of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from p2psync.errors import FileError, NetworkError, NoHead
from p2psync.events import Teller, warnings_to
from p2psync.format.url import ArchiveUrl
from p2psync.text import count

if TYPE_CHECKING:
    from p2psync.cli.options import Network
    from p2psync.cli.output import Output
    from p2psync.client import Client
    from p2psync.fetch.keywords import TransferOptions
    from p2psync.fetch.options import FetchSummary
    from p2psync.negotiate.find import Found, Search
    from p2psync.negotiate.origin import Origin


class Settled(NamedTuple):
    """What to fetch, and where to."""

    url: ArchiveUrl
    dest: str
    above: bytes = b""
    """What filter rules begin with, where DEST got a name behind it."""
    has_folder: bool = False
    """SRC has the archive's static files in it."""


async def settle(
    client: Client, src: ArchiveUrl | Origin, dest: str, network: Network, out: Output
) -> Settled | Origin:
    """The archive that SRC is, or SRC: it is none, and rsync can fetch it. Tells people and programs.

    Raises NetworkError: it is none, and nothing can fetch it.
    """
    if isinstance(src, ArchiveUrl):
        return Settled(src, dest)
    tell = Teller(warnings_to(out.warn))
    search = await client.find_archive(src, dns=network.dns, on_event=tell)
    found = search.found
    out.event(
        "origin",
        src=str(src),
        archive=None if found is None else str(found.url),
        named_by=None if found is None else found.how,
        first=found is not None and found.is_first,
        asked=not search.rests,
    )
    if found is None:
        _say_none(search, out)
        return src
    say = out.say if found.is_first else out.detail
    say(f"{src} is the archive {found.url} (so says {found.how})")
    return Settled(found.url, _below(dest, found), found.name, found.has_folder)


def _below(dest: str, found: Found) -> str:
    """DEST, or the directory in it that rsync would make; it has none where nothing is fetched."""
    if not (dest and found.name):
        return dest
    try:
        os.makedirs(dest, exist_ok=True)
    except OSError as error:
        raise FileError(f"{dest!r} cannot be made: {error.strerror}") from error
    return os.path.join(dest, os.fsdecode(found.name))


def _say_none(search: Search, out: Output) -> None:
    origin = search.origin
    asked = "; ".join(dict.fromkeys(search.asked))
    if not origin.is_rsync:
        raise NetworkError(
            f"{origin} names no archive ({asked}); give the archive's p2psync://ID, or the directory of an "
            "rsync server, rsync://HOST/MODULE"
        )
    if not (search.answered or search.rests):
        out.detail(f"asked for an archive: {asked}")
        out.say(f"{origin} could not be asked which archive it is; rsync itself tries to fetch")
    elif search.is_news:
        out.say(f"{origin} names no archive, so rsync itself fetches; after a day it is asked again")
        out.detail(f"asked for an archive: {asked}")


async def archive_of(client: Client, src: ArchiveUrl | Origin, network: Network, out: Output) -> ArchiveUrl:
    """The archive that SRC is, for what rsync cannot do. Raises NetworkError: it is none."""
    settled = await settle(client, src, "", network, out)
    if not isinstance(settled, Settled):
        raise NetworkError(f"{settled} names no archive; p2psync fetch lets rsync fetch from there")
    return settled.url


async def fetch_settled(
    client: Client,
    src: ArchiveUrl | Origin,
    settled: Settled,
    options: TransferOptions,
    tell: Teller,
    *,
    say: Callable[[str], None],
    files: bool = False,
) -> FetchSummary:
    """Fetch what was settled. An rsync server that SRC names is asked, as the last resort, for what nobody
    else has, which ``say`` is told. ``files``: ``tell`` hears of each file.
    """
    url, dest = settled.url, settled.dest
    options = {**options, "above": settled.above}
    try:
        summary = await client.fetch(url, dest, files=files, on_event=tell, **options)
    except NoHead:
        if isinstance(src, ArchiveUrl) or not src.is_rsync:
            raise
        say(f"nobody was found who tells what is newest; {src.server} is asked for all of it")
        return await client.fetch_all_from(src, url, dest, files=files, on_event=tell, **options)
    left = _left_to_rsync(src, summary)
    if left is None:
        return summary
    origin, names = left
    say(f"{origin.server} is asked for {count(len(names), 'file')} that no source has")
    return await client.fetch_missing(
        origin, url, dest, names, files=files, on_event=tell.without_changes(), **options
    )


def _left_to_rsync(src: ArchiveUrl | Origin, summary: FetchSummary) -> tuple[Origin, list[bytes]] | None:
    """The files that no source has, where SRC names an rsync server that may have them. Not those of
    directories whose listing did not come.
    """
    if isinstance(src, ArchiveUrl) or not src.is_rsync:
        return None
    names = summary.missing_files
    return (src, names) if names else None


async def by_rsync(client: Client, src: Origin, dest: str, options: TransferOptions, out: Output) -> int:
    """Let rsync fetch; its exit code. With --json what it says goes to the standard error."""
    code = await client.rsync(
        src,
        dest,
        verbose=out.verbose,
        quiet=out.quiet,
        out=sys.stderr.fileno() if out.json else None,
        **options,
    )
    out.event("rsync", src=str(src), code=code)
    return code
