"""One fetch from beginning to end: head, comparison, download, removal, finishing touches.

    head -> snapshot -> compare with DEST -> plan -> chunks from sources -> verify -> temporary file -> rename

Here is the order of the steps; the work of one snapshot is ``transfer``'s. A snapshot that is replaced while
it is fetched is followed: when something is missing everywhere and a newer head has come, the plan is made
anew, and what is in DEST by then counts like anything else that is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, ParamSpec

from p2psync.arena import Arena
from p2psync.errors import FormatError, PartialError
from p2psync.events import Teller
from p2psync.fetch.adopt import ADOPT_BYTES_MAX, adopt
from p2psync.fetch.ahead import LookAhead, look_ahead
from p2psync.fetch.choosing import choose
from p2psync.fetch.destination import Destination, leave_root, only_the_file
from p2psync.fetch.guards import check_links, check_loss, note_cleared, to_do
from p2psync.fetch.options import Delete, FetchOptions, FetchSummary
from p2psync.fetch.room import check_empty, check_limits, check_plan
from p2psync.fetch.telling import Telling
from p2psync.fetch.transfer import Context, Transfer, open_transfer
from p2psync.fetch.wanted import Roots, Wanted
from p2psync.format.coverage import Coverage
from p2psync.format.head import ArchiveHead
from p2psync.format.ids import Ref
from p2psync.format.listing import Entry
from p2psync.format.marks import unread_paths
from p2psync.network.beside import open_network
from p2psync.network.protocols import Network
from p2psync.plan.changes import Plan
from p2psync.plan.compare import Comparison
from p2psync.plan.deletions import Deletions
from p2psync.plan.itemized import tell_deletions, tell_plan, tell_ways
from p2psync.rules.filter import Filter
from p2psync.rules.selection import Absent, Selection
from p2psync.sources.finders.discovery import Discovery
from p2psync.sources.swarm import Swarm
from p2psync.state import State
from p2psync.state.off_loop import off_loop, to_its_end
from p2psync.state.trees import Tree
from p2psync.supply.by_blocks import ByBlocks
from p2psync.supply.control import Control
from p2psync.supply.download import STALL_SECONDS
from p2psync.supply.manifest import Manifest
from p2psync.supply.result import Result
from p2psync.supply.share import Nothing, Share
from p2psync.tree.beneath import Beneath, file_error
from p2psync.tree.worker import WriterKind
from p2psync.trust import earlier_text, ended_text

if TYPE_CHECKING:
    from p2psync.supply.sharing import Sharing

P = ParamSpec("P")

REPLANS_MAX: Final = 50
"""How often a snapshot that goes away is followed; an archive that changes faster than it can be fetched ends
here.
"""
RETRIES_MAX: Final = 1
RETRY_PAUSE: Final = 2.0
"""How often, and after how many seconds, what nobody had is looked for again before it counts as missing."""
SNAPSHOT_PATH: Final = b"./"
"""What is missing where not even the snapshot object can be had: everything."""


class Host(NamedTuple):
    """A node inside which a fetch runs: its network and its content server are used instead of own ones."""

    network: Network
    share: Callable[[bytes], Share]
    """Given DEST, who offers its unfinished objects."""


async def run_fetch(
    options: FetchOptions,
    state: State,
    tell: Teller,
    host: Host | None = None,
    control: Control | None = None,
    *,
    writer: WriterKind | None = None,
    ahead: LookAhead | None = None,
) -> FetchSummary:
    """Make ``options.dest`` like the archive. ``control`` pauses it and changes its speed while it runs;
    ``writer`` is who writes, where that is not to follow from the size of the work; ``ahead`` has begun to
    look at DEST already.

    Returns a summary; its ``exit_code`` is 23 where something could not be had.

    Raises:
        P2psyncError: nothing could be done, or not gone on with; what was done is kept, and the next run goes
        on.
    """
    control = control or Control()
    if options.bwlimit is not None:
        control.limit(options.bwlimit)
    with contextlib.ExitStack() as stack:
        if ahead is None:
            wanted = options.check_dest and not options.checksum and writer is None
            ahead = stack.enter_context(look_ahead(state, options.dest, options.url, wanted=wanted))
        arena = stack.enter_context(contextlib.closing(Arena()))
        fetch = Fetch(options, state, tell, control, arena, ahead, host, writer)
        with fetch.dest.holding():
            try:
                return await fetch.run()
            except OSError as error:
                raise file_error(error, fetch.dest.path, "working in") from error
            finally:
                await off_loop(ahead.close)


class _Asked(NamedTuple):
    """What is to be made equal to what."""

    wanted: Wanted
    tree: Tree
    previous: Ref | None
    """The snapshot that the tree had when it was last complete."""
    known: Entry | None
    """Its root, as far as that helps."""
    selection: Selection


class Fetch:
    """The state of one run."""

    def __init__(
        self,
        options: FetchOptions,
        state: State,
        tell: Teller,
        control: Control,
        arena: Arena,
        ahead: LookAhead,
        host: Host | None = None,
        writer: WriterKind | None = None,
    ) -> None:
        self._options = options
        self._host = host
        self._state = state
        self._tell = tell
        self._control = control
        self._arena = arena
        self.dest = Destination(options, state, ahead.held)
        self._ahead: LookAhead | None = ahead
        self._kept: int | None = None
        self._made_from_here = 0
        self._absent: list[Absent] = []
        """What was listed and is not in the archive."""
        self._told: int | None = None
        self._summary = FetchSummary(options.url.archive)
        self._telling = Telling(self._summary, tell.warn, options)
        self._swarm = Swarm(time.monotonic, tell.warn, tell.source_state)
        self._by_blocks = by_blocks = ByBlocks(self._swarm, options.compress)
        self._swarm.patient = host is not None
        self._context = Context(
            state,
            self._swarm,
            arena,
            tell,
            control,
            by_blocks,
            patience(options),
            writer,
            options.delay_updates,
        )

    async def run(self) -> FetchSummary:
        started = time.monotonic()
        archive = self._options.url.archive
        self._tell.phase("looking up", None, None)
        async with self._network(archive) as network:
            before = network.received
            search = self._options.search(self._control.limiter, self._arena.view)
            discovery = Discovery(self._state, search, network, self._swarm, self._tell.warn)
            try:
                await self._follow(discovery)
            finally:
                await to_its_end(discovery.close())
                self._account(network.received - before, started)
        return self._summary

    @contextlib.asynccontextmanager
    async def _network(self, archive: bytes) -> AsyncIterator[Network]:
        if self._host is not None:
            yield self._host.network
        else:
            options = self._options
            async with open_network(
                self._state,
                archive,
                bootstrap=options.bootstrap,
                peers=options.peers,
                gateways=options.gateways,
                has_source=options.has_source,
            ) as network:
                yield network

    def _account(self, network_bytes: int, started: float) -> None:
        received = {member.name: member.received for member in self._swarm.members}
        self._summary.sources = {name: count for name, count in received.items() if count}
        self._summary.received = sum(received.values()) + network_bytes
        self._summary.banned = [member.name for member in self._swarm.members if member.banned]
        self._summary.seconds = time.monotonic() - started

    async def _follow(self, discovery: Discovery) -> None:
        """Fetch the newest snapshot, and the one that replaces it where that one goes away."""
        manifest = Manifest(
            self._state,
            self._swarm,
            discovery.start,
            special_bits=self._options.special_bits,
            archive=self._options.url.archive,
            by_blocks=self._by_blocks,
        )
        head = await discovery.newest_head()
        self._tell_ended(head)
        retries = 0
        for _ in range(REPLANS_MAX):
            self._swarm.wanted = (head.epoch, head.seq)
            superseded = await self._fetch_snapshot(head, manifest, discovery)
            if not superseded and not self._summary.missing:
                return
            if superseded or await discovery.look_again(head):
                head = await discovery.newest_head()
                self._tell_ended(head)
                retries = 0
                self._tell.warn(
                    f"what was fetched is no longer to be had; going on with the newer snapshot {head.seq}"
                )
            elif retries == RETRIES_MAX:
                earlier = await discovery.before(head) if self._summary.missing == [SNAPSHOT_PATH] else None
                if earlier is None:
                    self._telling.missing()
                    return
                self._tell.warn(earlier_text(head, earlier))
                head = earlier
                retries = 0
            else:
                retries += 1
                await asyncio.sleep(RETRY_PAUSE)
            self._swarm.forgive_lacking()
        raise PartialError(
            f"the archive was published {REPLANS_MAX} times while it was fetched; run again when it rests"
        )

    def _tell_ended(self, head: ArchiveHead) -> None:
        """Say that no newer snapshot is to be expected; a node says it once of each mirror."""
        self._summary.ended = head.ended
        known = self._state.trees.get(self.dest.path) if self._host is not None else None
        if head.ended is not None and (known is None or (known.epoch, known.seq) < (head.epoch, head.seq)):
            self._tell.warn(ended_text(head))

    async def _fetch_snapshot(self, head: ArchiveHead, manifest: Manifest, discovery: Discovery) -> bool:
        """Make DEST like one snapshot; True if a newer one should be taken instead."""
        self._summary.missing, self._summary.failed = [], []
        self._summary.seq = head.seq
        if await manifest.load([head.snapshot]):
            self._summary.missing = [SNAPSHOT_PATH]
            return False
        await discovery.accept(head)
        snapshot = await manifest.snapshot(head.snapshot)
        check_links(snapshot, kept=self._options.hard_links)
        self._telling.unread(unread_paths(snapshot.extra))
        roots = Roots(self._state, manifest, self.dest, self._options.url)
        whole = await roots.of(snapshot)
        asked = await self._ask_for(whole, head, manifest, roots)
        if asked is None:
            return False
        wanted, tree, previous, *_ = asked
        root = wanted.root
        self._summary.files, self._summary.bytes = root.totals.files, root.totals.bytes
        if previous == head.snapshot and self._is_taken_as_it_was(tree):
            self._summary.reused = root.totals.bytes
            # The head may be newer though it names the same snapshot.
            if not self._options.dry_run:
                await off_loop(partial(self.dest.remember, tree, head, wanted, looked=False))
            return False
        return await self._make_like(asked, whole.root, head, manifest, discovery)

    async def _make_like(
        self, asked: _Asked, whole: Entry, head: ArchiveHead, manifest: Manifest, discovery: Discovery
    ) -> bool:
        """Compare, and carry out what differs; True if a newer snapshot should be taken instead. ``whole``:
        the directory that DEST is of the snapshot, whatever is asked for of it.
        """
        wanted, tree, _, known, selection = asked
        rules = selection.rules
        root = wanted.root
        beneath = self.dest.open(create=False)
        if beneath is None and self._options.existing:
            return False  # Not even the directory itself is made.
        try:
            async with open_transfer(self._context, self.dest, tree) as transfer:
                if beneath is None and self._options.receiving.leaves_nothing and not self._options.dry_run:
                    await self._check_space(check_empty, root.totals, self.dest.path)
                    transfer.all_is_missing(root.totals)
                plan = await self._compare(wanted, known, tree, manifest, beneath, transfer)
                self._take_list(plan, selection)
                if plan.removes and self._options.delete != Delete.NONE and not self._options.accept_shrink:
                    await off_loop(partial(check_loss, self._state, tree, plan, head, whole))
                await self._tell_changes(plan, manifest, beneath)
                if self._options.dry_run:
                    await self._tell_of(plan, tree, beneath, rules)
                    return False
                if plan.dirs:
                    await self._check_space(check_plan, plan, self.dest.path, beneath, manifest)
                    beneath = beneath or self.dest.open(create=True)
                    assert beneath is not None  # noqa: S101 - created, or raised
                    deletions = Deletions(
                        self._state,
                        tree,
                        beneath,
                        self._options.delete,
                        self._options.max_delete,
                        rules,
                    )
                    if await self._carry_out(
                        plan, wanted, tree, beneath, transfer, manifest, discovery, head, deletions
                    ):
                        return True
                else:
                    self._summary.missing, self._summary.failed = list(plan.unread), list(plan.refused)
                    self._telling.failed()
        finally:
            if beneath is not None:
                beneath.close()
        self._summary.reused = min((self._kept or 0) + self._made_from_here, root.totals.bytes)
        if self._summary.complete:
            if self._options.delete != Delete.NONE and not self._summary.withheld:
                note_cleared(tree, head, wanted.path)
            await off_loop(partial(self.dest.remember, tree, head, wanted, leaves=plan.leaves))
        return False

    def _take_list(self, plan: Plan, selection: Selection) -> None:
        """What follows for a plan from a list of names."""
        if not selection.dresses_root:
            leave_root(plan)
        for path, _ in self._absent:
            plan.refused.append(f"{os.fsdecode(path)!r}: the archive has no such name")

    async def _tell_of(self, plan: Plan, tree: Tree, beneath: Beneath | None, rules: Filter) -> None:
        """Say what would come of a plan, and leave no trace of it."""
        summary = self._summary
        summary.changed, summary.reused = plan.files, plan.kept_bytes
        summary.touched = sum(len(work.metadata) + len(work.symlinks) + work.retouch for work in plan.dirs)
        summary.missing = [path + b"/" if path else SNAPSHOT_PATH for path in plan.unread]
        lacks = plan.unread or any(each.below_a_file for each in self._absent)
        if beneath is not None and not (lacks and not self._options.ignore_errors):
            deletions = Deletions(
                self._state, tree, beneath, self._options.delete, self._options.max_delete, rules
            )
            ways = await self._forcing(tree, beneath, deletions).make_way(plan)
            await tell_ways(ways, beneath, self._tell)
            await deletions.decide(plan)
            self._telling.kept(deletions)
            await tell_deletions(plan.deletions, beneath, self._tell)
            summary.deleted = sum(len(each.names) for each in plan.deletions)
        await off_loop(partial(self.dest.forget_new, tree))

    def _is_taken_as_it_was(self, tree: Tree) -> bool:
        """Whether a tree that was complete is not looked at."""
        return not self._options.check_dest and self.dest.has_stamps(tree)

    async def _ask_for(
        self, wanted: Wanted, head: ArchiveHead, manifest: Manifest, roots: Roots
    ) -> _Asked | None:
        """What of a snapshot is asked for, and where it is to be; None where rules leave out all of it."""
        choice = self._options.choice
        if not choice:
            check_limits(wanted.root.totals, self._options)
        await off_loop(partial(self.dest.settle, single=wanted.single))
        selection = self._options.selection(wanted.path, self.dest.path)
        if not selection.has(wanted.file or wanted.root):
            return None
        tree, previous = self.dest.tree(head)
        known = await roots.known(previous)
        if self._options.selects and not wanted.single:
            self._tell.phase("choosing", None, None)
            chosen, absent = await choose(
                self._state, manifest, selection, wanted, head, choice, tree, previous, known
            )
            self._absent = sorted(absent)
            if chosen is None:
                return None
            wanted = chosen
            known = None  # The listings are here, and are those of no snapshot.
            check_limits(wanted.root.totals, self._options)
        return _Asked(wanted, tree, previous, known, selection)

    async def _tell_changes(self, plan: Plan, manifest: Manifest, beneath: Beneath | None) -> None:
        if self._told != self._summary.seq:  # Planned anew, it is the rest of the same.
            self._told = self._summary.seq
            checksum, receiving = self._options.checksum, self._options.receiving
            await tell_plan(plan, manifest, beneath, receiving, self._tell, checksum=checksum)

    async def _check_space(self, check: Callable[P, None], *arguments: P.args, **keywords: P.kwargs) -> None:
        if self._options.check_space:
            await off_loop(partial(check, *arguments, **keywords))

    async def _compare(
        self,
        wanted: Wanted,
        known: Entry | None,
        tree: Tree,
        manifest: Manifest,
        beneath: Beneath | None,
        transfer: Transfer,
    ) -> Plan:
        root = wanted.root
        older = {} if known is None else {root.ref: known.ref}
        if beneath is not None and not wanted.single and not await manifest.load([root.ref], older):
            await adopt(
                self._state,
                tree,
                manifest.listing(root.ref),
                self._tell,
                limit=None if self._options.mirror else ADOPT_BYTES_MAX,
                hidden=beneath.spared,
            )
        self._tell.phase("comparing", None, root.totals.files)
        compare = Comparison(
            self._state,
            manifest,
            tree,
            beneath,
            self._tell,
            checksum=self._options.checksum,
            verify_unknown=self._options.mirror,
            trusts_stamps=self.dest.has_stamps(tree),
            ahead=self._ahead,
            receiving=self._options.receiving,
        )
        try:
            plan = await compare.run(root, known)
        except FormatError:
            # Two objects that contradict each other are the publisher's fault, unless one was damaged here.
            await off_loop(self._state.meta.check)
            raise
        if self._ahead is not None:
            # What this run changes from now on, it has not seen.
            self._ahead.stop()
            if plan.dirs:
                await off_loop(self._ahead.close)
            self._ahead = None
        self._telling.guarded(plan)
        if self._kept is None:  # A later look finds what the first one fetched, which is not reuse.
            self._kept = plan.kept_bytes
        if wanted.single:
            only_the_file(plan)
        return plan

    # Doing it.

    async def _carry_out(
        self,
        plan: Plan,
        wanted: Wanted,
        tree: Tree,
        beneath: Beneath,
        transfer: Transfer,
        manifest: Manifest,
        discovery: Discovery,
        head: ArchiveHead,
        deletions: Deletions,
    ) -> bool:
        """Work through the plan; True if a newer snapshot should be taken instead."""
        try:
            way = await self._forcing(tree, beneath, deletions).make_way(plan)
            await tell_ways(way, beneath, self._tell)
            # After that: what a link is going to replace is noted there too.
            await off_loop(partial(self.dest.begin, tree, head, wanted, plan, manifest))
            await transfer.prepare(plan, beneath, way)
            self._tell_fetching(plan, *to_do(tree, wanted.path, plan))
            async with self._background(discovery, head) as share:
                if plan.files:
                    await discovery.start()
                result = await transfer.run(
                    plan,
                    manifest,
                    share,
                    look_again=lambda: discovery.look_again(head),
                    archive_path=wanted.archive_path,
                )
            self._take_result(result, plan)
            # What this file system refuses keeps nothing else from going, as with rsync.
            lacks = self._summary.missing or any(each.below_a_file for each in self._absent)
            removes = not (result.superseded or (lacks and not self._options.ignore_errors))
            if removes:
                self._tell.phase("finishing", None, None)
                await deletions.decide(plan)
                self._telling.kept(deletions)
                await tell_deletions(plan.deletions, beneath, self._tell)
            complete = removes and not (result.failed or plan.refused)
            failed = await transfer.finish(plan, manifest, beneath, removes=removes, complete=complete)
        finally:
            self._made_from_here += transfer.result.reused + transfer.result.copied
            self._summary.deleted += transfer.deleted
            transfer.forget_result()
        self._summary.failed += [*plan.refused, *deletions.refused, *failed]
        self._telling.failed()
        return result.superseded

    def _forcing(self, tree: Tree, beneath: Beneath, deletions: Deletions) -> Deletions:
        """Who decides which directories make way for files."""
        if not self._options.force:
            return deletions
        return Deletions(self._state, tree, beneath, Delete.ALL, None, deletions.rules)

    def _tell_fetching(self, plan: Plan, size: int, files: int) -> None:
        """Say what there is to do, and how much of it was done by runs that were interrupted."""
        done = {"done_bytes": size - plan.size, "done_files": files - plan.files}
        self._tell.phase("fetching", size, files, **done)

    def _take_result(self, result: Result, plan: Plan) -> None:
        """Note what came of the download."""
        self._summary.changed += result.changed
        made = sum(not work.exists or work.retouch for work in plan.dirs)
        self._summary.touched += result.touched + made
        self._summary.missing = sorted(
            {*result.missing, *(path + b"/" if path else b"./" for path in plan.unread)}
        )
        self._summary.failed = list(result.failed)

    @contextlib.asynccontextmanager
    async def _background(self, discovery: Discovery, head: ArchiveHead) -> AsyncIterator[Share]:
        """What goes on beside a download: the search for sources, and sharing."""
        async with contextlib.AsyncExitStack() as stack:
            share: Share = Nothing()
            work = [discovery.keep_looking()]
            if not self.dest.shared:
                pass
            elif self._host is not None:
                share = self._host.share(self.dest.path)
            else:
                # With it comes the server's HTTP library, which takes longer to load than a small fetch
                # takes.
                from p2psync.supply.sharing import Sharing  # noqa: PLC0415

                sharing = Sharing(self._state, self._state.identity(), head.archive, self.dest.path)
                stack.push_async_callback(self._end_sharing, sharing)
                await sharing.start(*self._options.listen)
                work.append(sharing.nominate(self._swarm, Coverage(False, head.epoch, head.seq), self._tell))
                share = sharing
            tasks = [asyncio.ensure_future(each) for each in work]
            try:
                yield share
            finally:
                for task in tasks:
                    task.cancel()
                for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                    if isinstance(outcome, Exception):
                        raise outcome

    async def _end_sharing(self, sharing: Sharing) -> None:
        self._summary.sent += sharing.sent
        await sharing.close()


def patience(options: FetchOptions) -> float | None:
    """Seconds of silence after which the fetch gives up; None: never."""
    return STALL_SECONDS if options.timeout is None else options.timeout or None
