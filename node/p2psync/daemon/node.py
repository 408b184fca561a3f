"""The node's process: DHT and content server on one port number, and the loops that announce and update.

The state directory is what the node and the commands share: the node looks twice a second whether any process
has committed something there, and announces and serves what is new.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Final

from p2psync.content.library import StateLibrary
from p2psync.content.partial import PartialObjects
from p2psync.content.redirect import Redirects
from p2psync.content.served import tell_served
from p2psync.content.server import ContentServer
from p2psync.daemon.announce import Announcer
from p2psync.daemon.bootstrap import run_bootstrap
from p2psync.daemon.health import Vitals
from p2psync.daemon.metered import MeteredDht
from p2psync.daemon.mirror_checks import MirrorChecks
from p2psync.daemon.mirrors import Mirrors, neighbours, pause, register
from p2psync.daemon.news import News
from p2psync.daemon.options import NodeOptions, Ready, Role, Tls
from p2psync.daemon.recheck import Recheck
from p2psync.daemon.recommend import Recommender
from p2psync.daemon.redirecting import Redirecting
from p2psync.daemon.supervisor import Supervisor
from p2psync.daemon.tls import serving_tls
from p2psync.daemon.upkeep import Upkeep, open_doors
from p2psync.errors import DeleteLimitError, NetworkError, P2psyncError, UsageError
from p2psync.events import SILENT, Teller
from p2psync.fetch.engine import Host, run_fetch
from p2psync.fetch.hooks import Updated, with_hooks
from p2psync.fetch.options import FetchOptions, FetchSummary
from p2psync.network.dht import Entry, start_dht
from p2psync.network.fallback import UdpMark, WithGateways
from p2psync.network.gateways import Gateways, gateways_of
from p2psync.network.protocols import Network
from p2psync.network.seeds.find import Seeds
from p2psync.network.seeds.query import split
from p2psync.state import NODE_LOCK, State
from p2psync.state.off_loop import off_loop
from p2psync.supply.sharing import PartialShare
from p2psync_dht import RecordError

FAILED_PAUSE: Final = 30.0
"""Seconds until work that failed as a whole is begun again."""
WATCH: Final = 0.5
"""Seconds between looks at the state directory."""
TIDY: Final = 3600.0
"""Seconds between questions whether the state directory is due for cleaning."""
NOMINATION: Final = 5.0
"""Seconds that a mirror which has just been made waits, before it says so, until others know of it: from then
on nobody should need the origin.
"""
PORT_TRIES: Final = 20
"""Ports tried until one is free for UDP and TCP, where the system is to choose."""


def _silent(_: str) -> None:
    return


async def run_node(
    options: NodeOptions,
    state: State,
    *,
    on_ready: Ready,
    warn: Callable[[str], None] = _silent,
    detail: Callable[[str], None] = _silent,
    tell: Teller = SILENT,
) -> None:
    """Run until cancelled. ``tell`` hears what goes on, but for what ``warn`` hears.

    Raises:
        NetworkError: the address cannot be listened at. FileError: another node runs on this state directory.
        TrustError: there are only seeds that must not be believed.
    """
    if options.role is Role.BOOTSTRAP and options.rsync_listen is not None:
        raise UsageError("a bootstrap node has nothing to show rsync clients: leave out --rsync-listen")
    if options.role is Role.BOOTSTRAP and options.tls is not None:
        raise UsageError("a bootstrap node serves nothing within TLS: leave out --tls-cert")
    if options.role is Role.BOOTSTRAP:
        await run_bootstrap(options, state, on_ready=on_ready, warn=warn)
        return
    async with _running(options, state, on_ready, warn, detail, tell) as node:
        tell.phase("joining the network")
        try:
            await node.serve()
        except BaseExceptionGroup as failures:
            raise _first_of(failures) from None


async def run_mirror(
    mirror: FetchOptions,
    options: NodeOptions,
    state: State,
    tell: Teller,
    *,
    on_ready: Ready,
    on_done: Callable[[FetchSummary], None],
    on_released: Callable[[], None],
    detail: Callable[[str], None] = _silent,
) -> None:
    """Make a directory a mirror, update it, then stay as the node that serves it: ``on_done``. Where the
    mirror is forgotten before that, it stays as a node for what else is here: ``on_released``.

    Where a node runs on this state directory already, that one serves and updates it, and this returns.
    """
    if state.node_runs():
        tree = await off_loop(partial(register, state, mirror))
        updated = Updated(mirror.url.archive, tree.path, tree.seq)
        fetching = partial(run_fetch, mirror, state, tell)
        on_done(await with_hooks(options.hooks, updated, fetching, tell.warn, detail))
        detail("the node that runs on this state directory serves the mirror and keeps it up to date")
        return
    tree = await off_loop(partial(register, state, mirror))
    async with _running(options, state, on_ready, tell.warn, detail, tell) as node:
        node.mirrors.main = tree.path
        try:
            async with asyncio.TaskGroup() as group:
                with node.mirrors.being_updated(tree):
                    group.create_task(node.serve())
                    try:
                        summary = await node.mirrors.updating(tree, partial(node.fetch, mirror, tell))
                        if summary is not None:
                            if summary.complete:
                                node.mirrors.note_updated(tree)
                            tell.phase("telling others")
                            telling = group.create_task(node.nominate(mirror.url.archive))
                            await asyncio.wait([telling], timeout=NOMINATION)
                            on_done(summary)
                        else:
                            on_released()
                    except P2psyncError as error:
                        if tree.snapshot is None:
                            raise  # Never fetched: most likely a mistake that its user should hear of now.
                        if isinstance(error, DeleteLimitError):
                            node.mirrors.note_refused(tree, error)
                        else:
                            tell.warn(f"{error}; serving what is there, and trying again")
                node.mirrors.rest()
        except BaseExceptionGroup as failures:
            raise _first_of(failures) from None


def _first_of(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """What ended a task group, without the wrapping of the groups in it."""
    first = failures.exceptions[0]
    return _first_of(first) if isinstance(first, BaseExceptionGroup) else first


class Node:
    """A running node."""

    def __init__(
        self,
        state: State,
        announcer: Announcer,
        mirrors: Mirrors,
        checks: MirrorChecks,
        recommender: Recommender,
        host: Host,
        upkeep: Upkeep,
        recheck: Recheck,
        entry: Entry,
        news: News,
        redirecting: Redirecting,
        server: ContentServer,
        woken: asyncio.Event,
        warn: Callable[[str], None],
    ) -> None:
        """``woken``: somebody says that the state directory has something new."""
        self._state = state
        self._announcer = announcer
        self.mirrors = mirrors
        self._checks = checks
        self._recommender = recommender
        self.host = host
        self.entry = entry
        self._upkeep = upkeep
        self._recheck = recheck
        self._news = news
        self._redirecting = redirecting
        self._server = server
        self._woken = woken
        self._warn = warn
        self._announce_now = asyncio.Event()
        self._update_now = asyncio.Event()
        self._listen_now = asyncio.Event()
        self._redirect_now = asyncio.Event()
        self._check_now = asyncio.Event()

    async def serve(self) -> None:
        """Watch, announce and update until cancelled."""
        wake = asyncio.get_running_loop().call_soon_threadsafe
        self._recheck.changed = partial(wake, self._announce_now.set)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._recheck.run())
            group.create_task(self._watch())
            group.create_task(self._upkeep.run())
            group.create_task(self._loop(self._announcer.round, self._announce_now))
            group.create_task(self._loop(self.mirrors.round, self._update_now))
            group.create_task(self._loop(self._news.round, self._listen_now))
            group.create_task(self._loop(self._redirecting.round, self._redirect_now))
            group.create_task(self._loop(self._checks.round, self._check_now))
            group.create_task(self._loop(self._recommender.round, asyncio.Event()))
            group.create_task(self._meet())
            group.create_task(self._tidy())

    async def fetch(self, mirror: FetchOptions, tell: Teller) -> FetchSummary:
        """Make a directory a mirror; where nobody was given to ask, once the network can be asked."""
        if not mirror.has_source:
            await self.entry.entered()
        return await run_fetch(mirror, self._state, tell, self.host)

    async def nominate(self, archive: bytes) -> None:
        """Try to tell others what is here of an archive."""
        with self._warning():
            await self._announcer.nominate(archive)

    async def _loop(self, work: Callable[[], Coroutine[Any, Any, float]], changed: asyncio.Event) -> None:
        if self.entry.sure:
            await self.entry.entered()
        while True:
            seconds = FAILED_PAUSE
            with self._warning():
                seconds = await work()
            await pause(seconds, changed)

    @contextlib.contextmanager
    def _warning(self) -> Iterator[None]:
        """A full disk or a broken record today is no reason to serve nothing tomorrow."""
        try:
            yield
        except* (P2psyncError, RecordError, OSError) as failures:
            for error in failures.exceptions:
                self._warn(str(error))

    async def _watch(self) -> None:
        version = self._state.data_version()
        while True:
            await pause(WATCH, self._woken)
            now = self._state.data_version()
            if now != version:
                version = now
                self._announce_now.set()
                self._update_now.set()
                self._check_now.set()
                self._listen_now.set()
                self._redirect_now.set()
                self._server.look()

    async def _meet(self) -> None:
        others = self._announcer.others
        while True:
            await asyncio.sleep(others.pause())
            with self._warning():
                await others.meet()

    async def _tidy(self) -> None:
        while True:
            await asyncio.sleep(TIDY)
            try:
                await off_loop(self._state.tidy)
            except (P2psyncError, OSError) as error:
                self._warn(f"the state directory could not be cleaned: {error}")


@contextlib.asynccontextmanager
async def _running(
    options: NodeOptions,
    state: State,
    on_ready: Ready,
    warn: Callable[[str], None],
    detail: Callable[[str], None],
    tell: Teller,
) -> AsyncIterator[Node]:
    """A node that serves and has said so; everything is closed and saved at the end."""
    identity = state.identity()
    supervisor = Supervisor(warn)
    async with AsyncExitStack() as stack:
        stack.enter_context(state.lock(NODE_LOCK, on=f"the state directory {str(state.path)!r}"))
        partial = PartialObjects()
        library = StateLibrary(state, partial)
        stack.callback(library.close)
        seeds = Seeds(state.path, split(options.bootstrap)[1])
        woken = asyncio.Event()
        redirects = Redirects(options.policy.redirect)
        server, entry = await _listen(options, state, library, seeds, woken.set, redirects, stack)
        listen = options.listen[0], server.address[1]
        network = _with_gateways(entry.network, options, state)
        server.open_gateway(entry.network)
        recheck = Recheck(state, library.doubts, warn, detail)
        announcer = Announcer(
            state,
            identity,
            network,
            entry.network.observed,
            listen,
            options.advertise,
            warn,
            recheck.losses,
            closed=lambda: not entry.node.is_server,
        )
        inside = Host(network, lambda dest: PartialShare(partial, dest))
        mirrors = Mirrors(
            state, inside, bwlimit=options.bwlimit, warn=warn, detail=detail, tell=tell, hooks=options.hooks
        )
        checks = MirrorChecks(state, identity.public_key, warn=warn, detail=detail, web=options.policy.web)
        recommender = Recommender(
            state, network, options.policy, archives=announcer.archives, warn=warn, detail=detail
        )
        vitals = Vitals(
            options,
            state,
            entry.node,
            seeds,
            server,
            announcer,
            mirrors,
            lambda: checks.counts,
            recheck.losses,
        )
        stack.push_async_callback(announcer.leave)
        if options.rsync_listen is not None:
            on_ready = await _rsync_too(options.rsync_listen, state, recheck, warn, on_ready, stack)
        if options.tls is not None:
            on_ready = await _tls_too(options.tls, server, warn, on_ready, stack)
        news = News(state, identity.public_key, detail, random.Random())  # noqa: S311 - spreads load
        news.heard = woken.set
        stack.push_async_callback(news.close)
        stack.push_async_callback(mirrors.close)
        await open_doors(stack, vitals, supervisor, server.address, entry, on_ready, look=woken.set)
        upkeep = Upkeep(vitals, supervisor, entry, warn)
        telling = asyncio.ensure_future(tell_served(server, tell))
        stack.callback(telling.cancel)
        yield Node(
            state,
            announcer,
            mirrors,
            checks,
            recommender,
            inside,
            upkeep,
            recheck,
            entry,
            news,
            Redirecting(state, identity.public_key, options.policy, redirects),
            server,
            woken,
            warn,
        )


async def _rsync_too(
    listen: tuple[str, int],
    state: State,
    recheck: Recheck,
    warn: Callable[[str], None],
    on_ready: Ready,
    stack: AsyncExitStack,
) -> Ready:
    """Open the door for rsync clients; what to call when the node serves."""
    from p2psync.daemon.rsync_door import rsync_door  # noqa: PLC0415 - few have one

    door = rsync_door(state, listen, losses=recheck.losses, address=state.node_address, warn=warn)
    return partial(on_ready, rsync=await stack.enter_async_context(door))


def _with_gateways(dht: Network, options: NodeOptions, state: State) -> Network:
    """The network, asked by way of others while nobody answers by UDP."""
    servers = gateways_of([*split(options.bootstrap)[0], *neighbours(state)])
    return WithGateways(dht, Gateways(servers, dht.way), UdpMark(state.path))


async def _tls_too(
    tls: Tls, server: ContentServer, warn: Callable[[str], None], on_ready: Ready, stack: AsyncExitStack
) -> Ready:
    """Serve within TLS as well; what to call when the node serves."""
    return partial(on_ready, tls=await stack.enter_async_context(serving_tls(tls, server, warn)))


async def _listen(
    options: NodeOptions,
    state: State,
    library: StateLibrary,
    seeds: Seeds,
    heard: Callable[[], None],
    redirects: Redirects,
    stack: AsyncExitStack,
) -> tuple[ContentServer, Entry]:
    """The content server and the DHT on one port number."""
    host, port = options.listen
    key = state.identity().public_key
    names = [] if options.advertise is None else [options.advertise[0]]
    for attempt in range(PORT_TRIES):
        server = await ContentServer.start(
            library, host, port, node_key=key, names=names, heard=heard, redirects=redirects
        )
        opened = start_dht(
            state,
            bootstrap=options.bootstrap,
            peers=neighbours(state),
            host=host,
            port=server.address[1],
            server=True,
            tests_reachability=options.role.tests_reachability,
            records=True,
            node_class=MeteredDht,
            seeds=seeds,
        )
        try:
            entry = await stack.enter_async_context(opened)
        except P2psyncError as error:
            await server.close()
            if port or attempt == PORT_TRIES - 1 or not isinstance(error, NetworkError):
                raise
        else:
            stack.push_async_callback(server.close)
            return server, entry
    raise NetworkError(f"no port at {host} was free for both UDP and TCP; name one with --listen")
