"""The public face: what the command line does, as coroutines with typed results. docs/api.md shows it in use.

    async with Client() as client:
        done = await client.fetch("p2psync://...", "copy", on_event=print)

The command line is a user of it. Work that blocks (reading, hashing) runs in threads; events are brought back
to the event loop, few enough for a program to look at each. What a coroutine works with is imported when it
is first called: publishing without a network loads no network.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from functools import cached_property, partial, wraps
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, NamedTuple, ParamSpec, TypeVar, Unpack

from p2psync.errors import NetworkError, UsageError
from p2psync.events import Teller
from p2psync.format.url import ArchiveUrl, parse_archive_text
from p2psync.relay import ClientEvent, in_thread, relayed
from p2psync.state import State
from p2psync.state.off_loop import off_loop

if TYPE_CHECKING:
    from p2psync.doctor.check import Check
    from p2psync.fetch.ahead import LookAhead
    from p2psync.fetch.holders import Holders
    from p2psync.fetch.hooks import Hooks
    from p2psync.fetch.keywords import Asking, Leaving, PathLike, TransferOptions
    from p2psync.fetch.options import FetchOptions, FetchSummary
    from p2psync.fetch.verified import Verified
    from p2psync.fetch.verify import Finding
    from p2psync.fetch.view import Listed, View
    from p2psync.format.head import ArchiveHead
    from p2psync.inventory.forget import Forgotten
    from p2psync.inventory.holdings import Holdings
    from p2psync.negotiate.find import Search
    from p2psync.negotiate.last_resort import Waits
    from p2psync.negotiate.origin import Origin
    from p2psync.network.egress import Egress
    from p2psync.publish.ending import Unpublished
    from p2psync.publish.publisher import Ask, Published
    from p2psync.publish.unsigned import Completed, Prepared
    from p2psync.rules.filter import Filter
    from p2psync.supply.control import Control

OnEvent = Callable[[ClientEvent], None] | Teller | None
"""Hears a run's events in the loop's thread; what it raises ends the run. A `Teller` takes them raw."""


P = ParamSpec("P")
T = TypeVar("T")


def _outward(
    method: Callable[Concatenate[Client, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Client, P], Coroutine[Any, Any, T]]:
    """Whatever a coroutine dials, it dials by the client's way out."""

    @wraps(method)
    async def led(self: Client, /, *args: P.args, **keywords: P.kwargs) -> T:
        from p2psync.network.egress import leaving_by

        with leaving_by(self._way):
            return await method(self, *args, **keywords)

    return led


class Listing(NamedTuple):
    """An archive's names, in order. Paths start at the directory that was asked for, which comes first."""

    head: ArchiveHead
    entries: list[Listed]


class Client:
    """One state directory, and what can be done with it. Several coroutines may run at once.

    Every coroutine may be cancelled: what is done by then is kept, files are old or new, and the same call
    goes on from there. Each raises the errors of `p2psync.errors`.
    """

    def __init__(
        self,
        state: str | Path | None = None,
        *,
        bootstrap: Sequence[str] = (),
        **leaving: Unpack[Leaving],
    ) -> None:
        """`state`: the state directory, made if there is none; None for the one that the command line uses.
        `bootstrap`: HOST:PORT of nodes to join the network by; needed once, then nodes are remembered. The
        rest: by which proxies, as `egress_of` has it; without any, those of the environment.
        """
        self._leaving = leaving
        self._path = None if state is None else Path(state)
        self._bootstrap = tuple(bootstrap)
        self._opened: State | None = None

    async def __aenter__(self) -> Client:
        _ = self._way  # What is wrong with it is said now.
        self._opened = await off_loop(partial(State.open, self._path), lost=State.close)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        state, self._opened = self._opened, None
        if state is not None:
            state.close()

    @cached_property
    def _way(self) -> Egress | None:
        """The way out that this client was made with, if it was."""
        from p2psync.network.egress import egress_of

        if not self._leaving:
            return None
        way = egress_of(**self._leaving)
        way.check()
        return way

    @property
    def state(self) -> State:
        """The open state directory: keys and what is known. Its parts may change between versions."""
        if self._opened is None:
            raise UsageError("the client is not open; use it within 'async with Client(...) as client'")
        return self._opened

    @_outward
    async def publish(
        self,
        directory: PathLike,
        *,
        archive: str | bytes | None = None,
        rules: Filter | Iterable[str] | None = None,
        bootstrap: Sequence[str] | None = None,
        count_first: bool = False,
        accept_shrink: bool = False,
        static: PathLike | bool | None = None,
        temporary: bool | None = None,
        on_event: OnEvent = None,
    ) -> Published:
        """Publish a directory, or a new snapshot of it, and announce it where `bootstrap` leads to a network.

        `archive`: the id or URL to publish as; by default the one that the directory had, or a new one.
        `rules`: what is left out, as rsync's --filter has it; by default those of the last time.
        `count_first`: walk a new tree once more, so that progress has totals. `accept_shrink`: publish also
        a directory that has lost most of its files, or is another disk than it was. `static`: the folder of
        the static files, a name in the directory or a path; True for the usual one, False for none any
        more, None for what it was. `temporary`: publish also what looks like a temporary name of rsync's;
        by default as it was last said, and at first not.
        """
        from p2psync.publish.publisher import publish

        asked = self._bootstrap if bootstrap is None else tuple(bootstrap)
        which = _archive_id(archive)
        chosen = _filter(rules)
        folder = _static(static)
        ask = self._asker(asked)

        def make(tell: Teller) -> Published:
            return publish(
                self.state,
                os.fsencode(directory),
                archive=which,
                rules=chosen,
                tell=tell,
                ask=ask,
                count_first=count_first,
                accept_shrink=accept_shrink,
                static=folder,
                temporary=temporary,
            )

        async with relayed(on_event) as tell:
            done = await in_thread(make, tell)
            await self._wake_node()
            if asked:
                await self._announce(done.archive, asked, tell)
        if done.changed:
            await off_loop(self.state.tidy)
        return done

    @_outward
    async def prepare(
        self,
        directory: PathLike,
        *,
        archive: str | bytes | None = None,
        rules: Filter | Iterable[str] | None = None,
        bootstrap: Sequence[str] | None = None,
        accept_shrink: bool = False,
        static: PathLike | bool | None = None,
        temporary: bool | None = None,
        on_event: OnEvent = None,
    ) -> Prepared:
        """Make a snapshot whose head is signed elsewhere (`p2psync key sign`) and brought to `complete`. The
        arguments are as in `publish`; no key is needed here.
        """
        from p2psync.publish.unsigned import prepare

        which = _archive_id(archive)
        chosen = _filter(rules)
        folder = _static(static)
        ask = self._asker(self._bootstrap if bootstrap is None else tuple(bootstrap))

        def make(tell: Teller) -> Prepared:
            return prepare(
                self.state,
                os.fsencode(directory),
                archive=which,
                rules=chosen,
                tell=tell,
                ask=ask,
                accept_shrink=accept_shrink,
                static=folder,
                temporary=temporary,
            )

        async with relayed(on_event) as tell:
            return await in_thread(make, tell)

    async def complete(self, directory: PathLike, head: bytes, *, on_event: OnEvent = None) -> Completed:
        """Publish the snapshot that `prepare` made, with the signed head of it; running nodes announce it."""
        from p2psync.publish.unsigned import complete

        def publish(tell: Teller) -> Completed:
            return complete(self.state, os.fsencode(directory), head, tell=tell)

        async with relayed(on_event) as tell:
            done = await in_thread(publish, tell)
            await self._wake_node()
        await off_loop(self.state.tidy)
        return done

    def _asker(self, bootstrap: Sequence[str]) -> Ask:
        """Who asks others for the head that they know; called within the loop."""
        loop = asyncio.get_running_loop()

        def ask(archive: bytes) -> Future[list[ArchiveHead]]:
            from p2psync.sources.finders.before import heads_elsewhere

            return asyncio.run_coroutine_threadsafe(heads_elsewhere(self.state, archive, bootstrap), loop)

        return ask

    @_outward
    async def unpublish(
        self,
        directory: PathLike | None = None,
        *,
        archive: str | bytes | None = None,
        bootstrap: Sequence[str] | None = None,
        on_event: OnEvent = None,
    ) -> Unpublished:
        """End an archive, named by itself or by a directory that is published as it: sign that its newest
        snapshot is the last one, and serve and announce it no more. No file is touched. `publish` of the same
        directory takes it back. Mirrors keep what they have.
        """
        from p2psync.inventory.find import published
        from p2psync.publish.ending import unpublish

        which = _archive_id(archive)
        where = None if directory is None else os.fsencode(directory)
        asked = self._bootstrap if bootstrap is None else tuple(bootstrap)
        ask = self._asker(asked)

        def end(tell: Teller) -> Unpublished:
            return unpublish(self.state, published(self.state, where, which), ask=ask, tell=tell)

        async with relayed(on_event) as tell:
            done = await in_thread(end, tell)
            await self._wake_node()
            if asked:
                await self._announce(done.archive, asked, tell)
        return done

    async def _wake_node(self) -> None:
        """Have the node that runs here, if one does, tell others at once of what is new."""
        if self.state.node_runs():
            from p2psync.state.ask import look

            await off_loop(partial(look, self.state.path))

    async def _announce(self, archive: bytes, bootstrap: Sequence[str], tell: Teller) -> None:
        from p2psync.network.once import announce_published

        try:
            await announce_published(self.state, archive, bootstrap)
        except NetworkError as error:
            tell.warn(f"nobody could be reached to announce it to ({error}); a running node will announce it")

    @_outward
    async def find_archive(
        self, source: str | Origin, *, dns: str | None = None, on_event: OnEvent = None
    ) -> Search:
        """The archive that a place on a server of another kind is: ``rsync://``, ``host::module``,
        ``https://`` or a host's name. The state directory holds the server to it.

        `dns`: HOST:PORT of the DNS server to ask. Raises OriginChanged: it was another archive before.
        """
        from p2psync.negotiate.find import find
        from p2psync.negotiate.origin import Origin, parse_origin

        origin = source if isinstance(source, Origin) else parse_origin(source)
        async with relayed(on_event) as tell:
            tell.phase("looking for the archive", None, None)
            search = await find(origin, self.state.path, now=time.time(), dns=dns)
            for warning in search.warnings:
                tell.warn(warning)
            return search

    @_outward
    async def diagnose(
        self,
        source: str | ArchiveUrl | Origin | None,
        tell: Callable[[Check], None],
        *,
        dns: str | None = None,
        **asking: Unpack[Asking],
    ) -> bool:
        """Try every way to an archive or, without `source`, into the network, and tell of each; whether one
        leads there. `dns`: as for `find_archive`.
        """
        from p2psync.doctor.diagnose import Asked, diagnose
        from p2psync.negotiate.origin import is_origin, parse_origin

        src = source
        if isinstance(src, str):
            src = parse_origin(src) if is_origin(src) else ArchiveUrl.parse(src)
        whom = self._whom(asking)
        asked = Asked(src, tuple(whom.get("sources", ())), tuple(whom.get("bootstrap", ())), dns)
        return await diagnose(asked, self.state, tell)

    @_outward
    async def rsync(
        self,
        origin: Origin,
        dest: PathLike,
        *,
        verbose: int = 0,
        quiet: bool = False,
        out: int | None = None,
        **options: Unpack[TransferOptions],
    ) -> int:
        """Let the real rsync do what `fetch` would, from a server that has no archive; its exit code. It
        writes to the standard output, or to the descriptor `out`.
        """
        from p2psync.negotiate.classic import run_rsync

        return await run_rsync(
            origin, os.fsencode(dest), options, self.state, verbose=verbose, quiet=quiet, out=out
        )

    @_outward
    async def read_list(
        self, source: ArchiveUrl, path: bytes, *, nul: bool = False, sources: Sequence[str] = ()
    ) -> list[bytes]:
        """The names in a file of an archive, for `files_from`: ``path`` from the archive's root. ``nul``:
        they are separated by NUL. Raises PartialError: it cannot be had.
        """
        from p2psync.errors import PartialError, show_path
        from p2psync.rules.names import LIST_MAX, read_names

        whole = source._replace(path=path, inside=False)
        with _folder() as folder:
            place = os.path.join(folder, b"list")
            try:
                done = await self.fetch(whole, place, share=False, max_total=LIST_MAX, sources=sources)
            finally:
                made = self.state.trees.get(folder)
                if made is not None:
                    await off_loop(partial(self.state.trees.remove, made))
            if not done.complete or not os.path.isfile(place):
                raise PartialError(f"the list of files '{show_path(path)}' cannot be had from the archive")
            text = await off_loop(Path(os.fsdecode(place)).read_bytes)
        return list(read_names(text, nul=nul))

    @_outward
    async def fetch_missing(
        self,
        origin: Origin,
        source: ArchiveUrl,
        dest: PathLike,
        names: Iterable[bytes],
        *,
        files: bool = False,
        on_event: OnEvent = None,
        **options: Unpack[TransferOptions],
    ) -> FetchSummary:
        """As `fetch`, where `names` (below what `source` names) were found nowhere: an rsync server is asked
        for them, as a last resort. What it gives is verified as all else is.
        """
        from p2psync.negotiate.last_resort import fetch_files

        with _folder() as place:
            came = await fetch_files(origin, source, list(names), place, **_waits(options))
            options["sources"] = (*options.get("sources", ()), f"file://{os.fsdecode(came)}")
            return await self.fetch(source, dest, files=files, on_event=on_event, **options)

    @_outward
    async def fetch_all_from(
        self,
        origin: Origin,
        source: ArchiveUrl,
        dest: PathLike,
        *,
        files: bool = False,
        on_event: OnEvent = None,
        **options: Unpack[TransferOptions],
    ) -> FetchSummary:
        """As `fetch`, where nobody tells the head (`NoHead`): an rsync server is asked for the static files
        beside its tree, and then for what no source has. All of it is verified.
        """
        from p2psync.negotiate.last_resort import fetch_static

        with _folder() as place:
            came = await fetch_static(origin, source, place, **_waits(options))
            options["sources"] = (*options.get("sources", ()), f"file://{os.fsdecode(came)}")
            # Nothing is told of this: that no source has a file is what it is to find out.
            told = on_event.of_changes() if isinstance(on_event, Teller) else None
            names = (await self.fetch(source, dest, on_event=told, **options)).missing_files
            on_event = on_event.without_changes() if isinstance(on_event, Teller) else on_event
            if not names:
                return await self.fetch(source, dest, files=files, on_event=on_event, **options)
            return await self.fetch_missing(
                origin, source, dest, names, files=files, on_event=on_event, **options
            )

    async def copy_static(
        self, origin: Origin, source: ArchiveUrl, dest: PathLike, **options: Unpack[TransferOptions]
    ) -> int:
        """Bring the static files beside the archive that an rsync server has into `dest`, so that whoever
        copies from there finds it too; rsync's exit code. Where those there are of the newest head that is
        known, nobody is asked.
        """
        from p2psync.fetch.options import Delete
        from p2psync.negotiate.last_resort import copy_folder
        from p2psync.negotiate.origin import HEAD_NAMES
        from p2psync.negotiate.rsync import read_small

        place = os.path.realpath(os.fsencode(dest))
        newest = self.state.heads.newest(source.archive)
        there = await off_loop(lambda: [read_small(place, name) for name in HEAD_NAMES])
        if newest is not None and newest.raw in there:
            return 0
        deletes = options.get("delete") is Delete.ALL
        return await copy_folder(origin, place, deletes=deletes, **_waits(options))

    def url_of(self, archive: bytes) -> str:
        """The URL of an archive; where a node runs on this state directory, it is named as a place to ask."""
        serving = self.state.node_address()
        return str(ArchiveUrl(archive, peers=(serving,) if serving else ()))

    @_outward
    async def fetch(
        self,
        source: str | ArchiveUrl,
        dest: PathLike,
        *,
        control: Control | None = None,
        files: bool = False,
        on_event: OnEvent = None,
        **options: Unpack[TransferOptions],
    ) -> FetchSummary:
        """Make the directory `dest` like an archive, or like the part of it that `source` names.

        `control`: pauses it and changes its speed while it runs. `files`: tell of each file (`FileDone`).
        What could not be had is in the result, and its exit_code is 23.
        """
        with self._looking_ahead(source, dest, options) as ahead:
            from p2psync.fetch.keywords import options_for

            asked = options_for(source, dest, self._with_bootstrap(options))
            return await self._fetch(asked, ahead, control, files, on_event)

    @_outward
    async def mirror(
        self,
        source: str | ArchiveUrl,
        directory: PathLike,
        *,
        interval: float = 3600.0,
        hooks: Hooks | None = None,
        control: Control | None = None,
        files: bool = False,
        on_event: OnEvent = None,
        **options: Unpack[TransferOptions],
    ) -> FetchSummary:
        """As `fetch`; from then on every node on this state directory serves, announces and updates it,
        each `interval` seconds. `hooks` are run before and after this one update.
        """

        async def update() -> FetchSummary:
            with self._looking_ahead(source, directory, options) as ahead:
                from p2psync.fetch.keywords import options_for

                asked = options_for(
                    source, directory, self._with_bootstrap(options), mirror=True, interval=interval
                )
                return await self._fetch(asked, ahead, control, files, on_event)

        if hooks is None:
            return await update()
        return await self._hooked(hooks, source, directory, update, on_event)

    @contextlib.asynccontextmanager
    async def view(
        self,
        source: str | ArchiveUrl,
        *,
        require_fresh: bool = False,
        on_event: OnEvent = None,
        **asking: Unpack[Asking],
    ) -> AsyncIterator[View]:
        """The newest snapshot, to be walked through without fetching a file."""
        from p2psync.fetch.view import open_view
        from p2psync.network.egress import leaving_by

        whom = self._whom(asking)
        with leaving_by(self._way):
            async with (
                relayed(on_event) as tell,
                open_view(_url(source), self.state, tell.warn, require_fresh=require_fresh, **whom) as found,
            ):
                yield found

    async def list(
        self,
        source: str | ArchiveUrl,
        *,
        recursive: bool = False,
        require_fresh: bool = False,
        on_event: OnEvent = None,
        **asking: Unpack[Asking],
    ) -> Listing:
        """What an archive, or the part of it that `source` names, has. For very many names, use `view`."""
        async with self.view(source, require_fresh=require_fresh, on_event=on_event, **asking) as found:
            return Listing(found.head, [entry async for entry in found.walk(recursive=recursive)])

    @_outward
    async def holders(
        self, source: str | ArchiveUrl, *, on_event: OnEvent = None, **asking: Unpack[Asking]
    ) -> Holders:
        """Who says to hold an archive, how much of it and how fresh; and its newest head, if one is found."""
        from p2psync.fetch.holders import find_holders

        async with relayed(on_event) as tell:
            return await find_holders(_url(source), self.state, tell.warn, **self._whom(asking))

    async def holdings(self, *, on_event: OnEvent = None) -> Holdings:
        """What is published, mirrored and fetched here, by directory, and whether a node serves it."""
        from p2psync.inventory.holdings import list_all

        async with relayed(on_event) as tell:
            return await in_thread(lambda teller: list_all(self.state, teller), tell)

    async def forget(
        self,
        directory: PathLike | None = None,
        *,
        archive: str | bytes | None = None,
        keys: bool = False,
        on_event: OnEvent = None,
    ) -> Forgotten:
        """Stop publishing or mirroring a directory, or all those of an archive, and forget what is in them.
        No file is touched. Nodes on this state directory obey at once.

        Name one of the two. `keys`: also remove the archive's keys, without which nobody can publish it.
        """
        from p2psync.inventory.forget import forget

        which = _archive_id(archive)
        where = None if directory is None else os.fsencode(directory)
        async with relayed(on_event) as tell:
            done = await in_thread(lambda told: forget(self.state, where, which, keys=keys, tell=told), tell)
        await off_loop(self.state.tidy)
        return done

    async def verify(
        self,
        path: PathLike,
        *,
        archive: str | bytes | ArchiveUrl | None = None,
        rules: Filter | Iterable[str] | None = None,
        quick: bool = False,
        on_difference: Callable[[Finding], None] | None = None,
        on_event: OnEvent = None,
    ) -> Verified:
        """Hold a directory, a part of one or a single file against what was published or fetched there: read
        every file.

        `archive`: against the newest snapshot that is known of this archive, or of the part of it that a URL
        names; `path` is then what `fetch` would call `dest`. `rules`: what is left out, as with `publish`; by
        default what was left out there. `quick`: names, types, sizes, modes and times only.
        `on_difference`: told of each as it is found, in the loop's thread.
        """
        from p2psync.fetch.verified import verify

        which = _archive_id(archive) if isinstance(archive, str) and "://" not in archive else archive
        src = ArchiveUrl(which) if isinstance(which, bytes) else which if which is None else _url(which)
        chosen = _filter(rules)
        loop = asyncio.get_running_loop()

        def heard(finding: Finding) -> None:
            if on_difference is not None:
                loop.call_soon_threadsafe(on_difference, finding)

        def check(tell: Teller) -> Verified:
            return verify(self.state, path, src, chosen, full=not quick, tell=tell, found=heard)

        async with relayed(on_event) as tell:
            return await in_thread(check, tell)

    def _looking_ahead(
        self, source: str | ArchiveUrl, dest: PathLike, options: TransferOptions
    ) -> AbstractContextManager[LookAhead]:
        """Begin to look at `dest`, while what a fetch works with is loaded."""
        from p2psync.fetch.ahead import look_ahead

        wanted = options.get("check_dest", True) and not options.get("checksum", False)
        url = _url(source)
        if options.get("files_from") is not None:
            url = url._replace(inside=bool(url.path))
        return look_ahead(self.state, os.fsencode(dest), url, wanted=wanted)

    async def _hooked(
        self,
        hooks: Hooks,
        source: str | ArchiveUrl,
        directory: PathLike,
        update: Callable[[], Coroutine[Any, Any, FetchSummary]],
        on_event: OnEvent,
    ) -> FetchSummary:
        import logging

        from p2psync.fetch.hooks import Updated, with_hooks
        from p2psync.fetch.placed import placed

        url = _url(source)
        path = placed(os.fsencode(directory), url, single=False)
        tree = await off_loop(partial(self.state.trees.get, path))
        mirror = Updated(url.archive, path, 0 if tree is None else tree.seq)
        log = logging.getLogger("p2psync.hooks")
        async with relayed(on_event) as tell:
            return await with_hooks(hooks, mirror, update, tell.warn, log.info)

    async def _fetch(
        self,
        asked: FetchOptions,
        ahead: LookAhead,
        control: Control | None,
        files: bool,
        on_event: OnEvent,
    ) -> FetchSummary:
        from p2psync.fetch.engine import run_fetch

        async with relayed(on_event, files=files) as tell:
            return await run_fetch(asked, self.state, tell, None, control, ahead=ahead)

    def _with_bootstrap(self, options: TransferOptions) -> TransferOptions:
        return options if "bootstrap" in options else {**options, "bootstrap": self._bootstrap}

    def _whom(self, asking: Asking) -> Asking:
        return asking if "bootstrap" in asking else {**asking, "bootstrap": self._bootstrap}


@contextlib.contextmanager
def _folder() -> Iterator[bytes]:
    """A folder of this user's alone, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="p2psync-") as folder:
        yield os.path.realpath(os.fsencode(folder))


def _waits(options: TransferOptions) -> Waits:
    from p2psync.negotiate.last_resort import Waits
    from p2psync.supply.download import STALL_SECONDS

    timeout = options.get("timeout")
    return Waits(bwlimit=options.get("bwlimit"), silence=STALL_SECONDS if timeout is None else timeout)


def _url(source: str | ArchiveUrl) -> ArchiveUrl:
    return source if isinstance(source, ArchiveUrl) else ArchiveUrl.parse(source)


def _filter(rules: Filter | Iterable[str] | None) -> Filter | None:
    from p2psync.rules.filter import Filter

    return rules if rules is None or isinstance(rules, Filter) else Filter.parse(map(os.fsencode, rules))


def _static(given: PathLike | bool | None) -> bytes | bool | None:
    """The folder of static files: a name, or an absolute path."""
    if given is None or isinstance(given, bool):
        return given
    folder = os.fsencode(given)
    return os.path.abspath(folder) if b"/" in folder else folder


def _archive_id(archive: str | bytes | None) -> bytes | None:
    """The id in an id's text, a URL, or as it is."""
    if not isinstance(archive, str):
        return archive
    return ArchiveUrl.parse(archive).archive if "://" in archive else parse_archive_text(archive)
