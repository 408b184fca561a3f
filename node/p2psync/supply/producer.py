"""From a plan to work: directories, links and attributes for the writer, objects to be had for the queue.

Goes through the plan once, a few hundred files at a time, no further ahead than the window allows, so
memory stays flat however large the archive is. What is on this machine already is read here, before anybody
is asked for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import compress
from operator import or_
from typing import Final, NamedTuple, Protocol

from p2psync.events import Teller
from p2psync.format.ids import Ref
from p2psync.format.limits import SINGLE_CHUNK_MAX
from p2psync.format.listing import Entry, Kind
from p2psync.format.paths import join
from p2psync.format.recipe import Recipe
from p2psync.plan.changes import DirWork, Plan, repeat_key
from p2psync.state.off_loop import to_its_end
from p2psync.state.trees import FileRow
from p2psync.supply.bundles import Bundle, Stamp, fits
from p2psync.supply.jobs import Job, Target
from p2psync.supply.lease import Lease
from p2psync.supply.ledger import Ledger
from p2psync.supply.lending import LENDING_MIN, Lenders
from p2psync.supply.local import LocalChunks
from p2psync.supply.manifest import Manifest
from p2psync.supply.matching import Matching
from p2psync.supply.placing import Placing
from p2psync.supply.reader import LocalReader, Wanted

BATCH_FILES: Final = 1024
BATCH_BYTES: Final = 2 << 30
"""Files and bytes whose recipes are asked for together: hides the delay of sources, holds some MiB of
recipes.
"""
BATCH_DIRS: Final = 128
"""Directories whose listings are read in one go: a few milliseconds in a thread."""
SLICE_FILES: Final = 256
SLICE_BYTES: Final = 16 << 20
"""Files and bytes that are begun in one go, before it is looked again whether there is room for more."""
READ_BYTES: Final = 4 << 20
"""Bytes that are read from this machine in one turn."""


class Window(Protocol):
    """What is under construction, and whether more may be."""

    jobs: dict[bytes, Job]

    def add(self, jobs: Sequence[Job]) -> None:
        """What is missing of them is asked of sources."""

    def add_bundles(self, bundles: Sequence[Bundle]) -> None:
        """All of them is asked of sources."""

    def close(self, job: Job) -> None:
        """It is whole, or given up."""

    async def room(self) -> bool:
        """Wait until more may be begun; False if the download is over."""

    async def whole(self, jobs: Collection[Job]) -> bool:
        """Wait until all has come of some jobs that can; False if the download is over."""


class _Files(NamedTuple):
    """Some files of one directory whose content is wanted; ``replaces``: whether an older one stands
    there.
    """

    directory: bytes
    entries: list[Entry]
    replaces: list[bool]

    def targets(self) -> Iterator[Target]:
        for entry, replaces in zip(self.entries, self.replaces, strict=True):
            yield Target(self.directory, entry, replaces)

    def cut(self) -> Iterator[_Files]:
        """In parts that can be begun in one go."""
        begin = size = 0
        for end, entry in enumerate(self.entries, 1):
            size += entry.size
            if end - begin >= SLICE_FILES or size >= SLICE_BYTES or end == len(self.entries):
                yield _Files(self.directory, self.entries[begin:end], self.replaces[begin:end])
                begin, size = end, 0


class _Prepared(NamedTuple):
    """One directory with what its listing says."""

    work: DirWork
    files: _Files
    links: list[Entry]
    attributes: list[tuple[Entry, Stamp]]
    unknown: list[Entry]
    """Files whose attributes were to be set, but which the index does not know (any more)."""
    inner: list[tuple[bytes, int, int, Ref]]


class Producer:
    """Works through one plan."""

    def __init__(
        self,
        manifest: Manifest,
        placing: Placing,
        ledger: Ledger,
        window: Window,
        local: LocalChunks,
        reader: LocalReader,
        matching: Matching,
        tell: Teller,
        disk: ThreadPoolExecutor,
        files_in: Callable[[bytes], Mapping[bytes, FileRow]],
        arena: memoryview,
        *,
        leftovers: Collection[bytes] = (),
        repeated: Collection[int] = (),
    ) -> None:
        """``disk``: an executor of one thread, in which this machine's files are read. ``files_in``: the
        rows of the files that the index knows in a directory of DEST. ``leftovers``: digests of objects
        that an earlier run left unfinished. ``repeated``: keys of contents that are wanted more than once
        (``Plan.repeated``).
        """
        self._manifest = manifest
        self._placing = placing
        self._ledger = ledger
        self._window = window
        self._local = local
        self._reader = reader
        self._matching = matching
        self._tell = tell
        self._disk = disk
        self._files_in = files_in
        self._arena = arena
        self._leftovers = leftovers
        self._repeated = repeated
        self._seen: set[bytes] = set()
        self._lenders = Lenders()

    async def run(self, plan: Plan) -> None:
        """Returns when all of the plan has been begun, or the download is over."""
        batch: list[_Files] = []
        count = size = 0
        loop = asyncio.get_running_loop()
        for start in range(0, len(plan.dirs), BATCH_DIRS):
            works = plan.dirs[start : start + BATCH_DIRS]
            while works:
                prepared = await loop.run_in_executor(self._disk, self._prepare, works)
                works = works[len(prepared) :]
                for each in prepared:
                    if not await self._window.room():
                        return
                    self._begin(each)
                    for some in each.files.cut():
                        batch.append(some)
                        count += len(some.entries)
                        size += sum([entry.size for entry in some.entries])
                        if count >= BATCH_FILES or size >= BATCH_BYTES:
                            if not await self._produce(batch):
                                return
                            batch, count, size = [], 0, 0
        await self._produce(batch)

    def _prepare(self, works: Sequence[DirWork]) -> list[_Prepared]:
        """Read the listings of some directories, as many as have some thousand entries together."""
        made: list[_Prepared] = []
        entries_read = 0
        for work in works:
            entries = self._manifest.listing_again(work.listing)
            entries_read += len(entries)
            replaced = set(work.replaced)
            known = self._files_in(work.path) if work.metadata else {}
            attributes = [entries[i] for i in work.metadata]
            made.append(
                _Prepared(
                    work,
                    _Files(
                        work.path,
                        [entries[i] for i in work.content],
                        [i in replaced for i in work.content],
                    ),
                    [entries[i] for i in work.symlinks],
                    [
                        (_as_known(each, row), row[1:5])
                        for each in attributes
                        if (row := known.get(each.name))
                    ],
                    [each for each in attributes if each.name not in known],
                    []
                    if work.exists
                    else [(e.name, e.mode, e.mtime_ns, e.ref) for e in entries if e.kind is Kind.DIR],
                )
            )
            if entries_read >= 4 * BATCH_FILES:
                break
        return made

    def _begin(self, each: _Prepared) -> None:
        """A directory, its links, and the files that lack nothing but their attributes."""
        work = each.work
        self._placing.make_directory(work.path, work.ino)
        self._ledger.begin(work, each.inner)
        if each.links:
            self._placing.make_links(work.path, each.links)
        if each.attributes:
            self._placing.set_attributes(work.path, each.attributes)
        if each.unknown:
            self._placing.changed_meanwhile(work.path, each.unknown)

    # Content.

    async def _produce(self, batch: list[_Files]) -> bool:
        """Begin some files; False if the download is over."""
        digests = [entry.digest for some in batch for entry in some.entries if entry.size]
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._disk, self._local.expect, digests)
        bundles, single = self._sort(batch, self._local.knows(digests))
        for some in bundles:
            if not await self._window.room():
                return False
            self._window.add_bundles([some])
        return not single or await self._begin_jobs(single)

    def _sort(self, batch: list[_Files], here: Collection[bytes]) -> tuple[list[Bundle], list[Target]]:
        """Which files travel in bundles, and which one by one: also those that may be ``here``."""
        bundles: list[Bundle] = []
        single: list[Target] = []
        for some in batch:
            alone = [not fits(entry) for entry in some.entries]
            if here:
                alone = list(map(or_, alone, [entry.digest in here for entry in some.entries]))
            if self._matching.on and self._local.has_chunks:
                alone = [
                    each or self._matching.takes(join(some.directory, entry.name), entry.size, replaces)
                    for each, entry, replaces in zip(alone, some.entries, some.replaces, strict=True)
                ]
            if self._repeated:
                several = [repeat_key(entry.digest) in self._repeated for entry in some.entries]
                alone = list(map(or_, alone, several))
            if any(alone):
                single += compress(some.targets(), alone)
                together = [not each for each in alone]
                if any(together):
                    entries = list(compress(some.entries, together))
                    bundles.append(Bundle(some.directory, entries, list(compress(some.replaces, together))))
            else:
                bundles.append(Bundle(*some))
        return bundles, single

    async def _begin_jobs(self, targets: list[Target]) -> bool:
        """Begin some files one by one; False if the download is over."""
        several = [t.entry.ref for t in targets if t.entry.size > SINGLE_CHUNK_MAX]
        recipes = await self._manifest.recipes(several) if several else {}
        digests = [target.entry.digest for target in targets if target.entry.size]
        self._placing.make_empty(target for target in targets if not target.entry.size)
        if self._comes_again(digests):
            await self._placing.settled()  # So that it is known where this run has put it.
        here = self._local.knows(digests)
        fresh = [self._job_for(target, recipes) for target in targets if target.entry.size]
        jobs = [job for job in fresh if job is not None]
        lenders = await self._find_lenders([job for job in jobs if job.size >= LENDING_MIN])
        for some in _slices(jobs, lenders):
            if not (await self._window.room() and await self._borrow(some, lenders)):
                return False
            await self._fill(some, here)
            await self._match(some)
            self._window.add(some)
        return True

    async def _find_lenders(self, jobs: list[Job]) -> dict[Job, set[Job]]:
        if not jobs:
            return {}
        return await asyncio.get_running_loop().run_in_executor(self._disk, self._lenders.find, jobs)

    async def _borrow(self, jobs: list[Job], lenders: Mapping[Job, set[Job]]) -> bool:
        """Wait for the files that others of this run have chunks of; False if the download is over."""
        asked = {lender for job in jobs for lender in lenders.get(job, ())}
        if not asked:
            return True
        if not await self._window.whole(asked):
            return False
        await self._placing.settled()
        loop = asyncio.get_running_loop()
        for lender in asked:
            chunks = self._lenders.lent(lender)
            if chunks and lender.targets:
                await loop.run_in_executor(self._disk, self._local.lend, lender.targets[0].path, chunks)
        return True

    def _comes_again(self, digests: Sequence[bytes]) -> bool:
        """Whether something was begun by this run that is wanted in more than one place."""
        if not self._repeated:
            return False
        several = {digest for digest in digests if repeat_key(digest) in self._repeated}
        again = not several.isdisjoint(self._seen)
        self._seen |= several
        return again

    def _job_for(self, target: Target, recipes: dict[Ref, Recipe]) -> Job | None:
        """The job that makes ``target``; None where one that is under way does, or nobody has its recipe."""
        entry = target.entry
        under_way = self._window.jobs.get(entry.digest)
        if under_way is not None and under_way.left:
            under_way.targets.append(target)
            self._placing.result.reused += entry.size
            self._tell.advance(entry.size, 0, reused=entry.size, path=target.path)
            return None
        recipe = None
        if entry.size > SINGLE_CHUNK_MAX:
            recipe = recipes.get(entry.ref)
            if recipe is None:
                self._placing.result.missing.append(target.path)
                return None
        job = Job(entry, recipe, [target])
        self._window.jobs[entry.digest] = job
        return job

    async def _fill(self, jobs: list[Job], here: Collection[bytes]) -> None:
        """Take what is on this machine; ``here``: digests of objects that seem to be."""
        loop = asyncio.get_running_loop()
        before = self._placing.result.reused
        for job in jobs:
            if job.digest in self._leftovers:
                self._placing.open_object(job)
                await self._placing.settled()  # So that it is known which file it is.
                found = await loop.run_in_executor(self._disk, self._reader.leftovers, job)
                self._placing.in_place(job, found)
        several = [job for job in jobs if job.chunks > 1]
        if several:
            await loop.run_in_executor(self._disk, _fold, several)
        parts = self._local.has_chunks
        known = [job for job in jobs if job.digest in here or (parts and job.size > SINGLE_CHUNK_MAX)]
        wanted = [Wanted(job, index) for job in known for index in job.missing()]
        while wanted:
            self._tell_reused(before, wanted[0].job)
            before = self._placing.result.reused
            # What made way for something new is known only when the writer has said so.
            await self._placing.settled()
            wanted = await self._read(wanted, await self._placing.wait_for_lease(READ_BYTES))
        self._tell_reused(before, jobs[-1])

    async def _match(self, jobs: list[Job]) -> None:
        """Put together from older versions what can be."""
        async for group in self._matching.groups(jobs):
            size = min(sum(gap.size for gap in group), READ_BYTES)  # The arena may have no more.
            lease = await self._placing.wait_for_lease(size)
            try:
                made = await self._matching.fill(group, lease)
                new = self._placing.put(made.pieces, lease)
            finally:
                lease.done()
            self._placing.result.reused += made.given
            self._tell.advance(new, 0, reused=made.given, path=group[-1].job.targets[-1].path)

    def _tell_reused(self, before: int, job: Job) -> None:
        """Tell what was taken from this machine since ``before``, and for whom it is looked."""
        reused = self._placing.result.reused - before
        if reused:
            self._tell.advance(reused, 0, reused=reused, path=job.targets[-1].path)

    async def _read(self, wanted: list[Wanted], lease: Lease) -> list[Wanted]:
        """Read some of the chunks; returns those that have not been looked for yet."""
        begin, size = lease.extent
        view = self._arena[begin : begin + size]
        loop = asyncio.get_running_loop()
        reading = loop.run_in_executor(self._disk, self._reader.read, wanted, view, begin)
        try:
            filled = await to_its_end(reading, stop=self._local.stop)
            self._placing.result.reused += self._placing.put(filled.pieces, lease)
        finally:
            lease.done()
        return wanted[filled.looked_at :] if filled.looked_at else []


def _as_known(entry: Entry, row: FileRow) -> Entry:
    """A file whose attributes are to be set: with the content that it has, which options may take for the one
    that is wanted.
    """
    return entry if row.digest == entry.digest else entry._replace(digest=row.digest)


def _fold(jobs: list[Job]) -> None:
    """Have what some objects contain several times come once."""
    for job in jobs:
        job.fold()


def _slices(jobs: list[Job], lenders: Mapping[Job, set[Job]]) -> Iterator[list[Job]]:
    """Parts of ``jobs`` that are begun in one go; none of them has anything to have from another."""
    group: list[Job] = []
    size = 0
    for job in jobs:
        if group and not lenders.get(job, set()).isdisjoint(group):
            yield group
            group, size = [], 0
        group.append(job)
        size += job.size
        if len(group) == SLICE_FILES or size >= SLICE_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group
