"""From verified bytes to files in DEST: what the writer is told, and what its facts mean for the fetch.

Lives in the event loop and never waits. An answer of a source, or bytes that were read on this machine, lie
in an extent of the arena; they become orders, grouped by directory; the extent is free again when the last
of its orders was carried out. What concerns one path alone is noted in the result and stops nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import count
from typing import Final, NamedTuple, Protocol, TypeVar

from p2psync.arena import Arena, Extent
from p2psync.events import Teller
from p2psync.format.listing import Entry
from p2psync.plan.changes import repeat_key
from p2psync.supply.bundles import Bundle
from p2psync.supply.change import Change
from p2psync.supply.copies import Copies
from p2psync.supply.jobs import Job, Target
from p2psync.supply.lease import Lease, Piece
from p2psync.supply.ledger import Ledger
from p2psync.supply.result import Result
from p2psync.supply.share import Share
from p2psync.tree import orders
from p2psync.tree.trouble import explain

T = TypeVar("T")

_new: Final = tuple.__new__  # what a named tuple's own constructor calls, without a call of its own
ROWS_PER_ORDER: Final = 4096
"""Names in one order: what a request may bring."""


class Writing(Protocol):
    """The writer, as the event loop sees it (``p2psync.tree.worker``)."""

    def send(self, order: orders.Order) -> None: ...


_Sent = (
    orders.MakeDirectory
    | orders.MakeLinks
    | orders.SetAttributes
    | orders.MakeFiles
    | orders.OpenObject
    | orders.WriteObject
    | orders.FinishObject
)
"""Orders whose facts are awaited here."""


class _Files(NamedTuple):
    targets: list[Target]
    lease: Lease | None


class _Bundled(NamedTuple):
    bundle: Bundle
    lease: Lease


class _Opened(NamedTuple):
    """An unfinished file. What was refused is told when the object is finished, for each of its places."""

    job: Job


class _Parts(NamedTuple):
    job: Job
    indices: Sequence[int]
    lease: Lease
    copied: int = 0
    """Bytes, of chunks that were written elsewhere already."""


class _Finish(NamedTuple):
    job: Job
    targets: list[Target]


class _Links(NamedTuple):
    targets: list[Target]


class _Attributes(NamedTuple):
    targets: list[Target]


class _Directory(NamedTuple):
    path: bytes


_Awaited = _Files | _Bundled | _Opened | _Parts | _Finish | _Links | _Attributes | _Directory


class Placing:
    """Tells the writer what to make, and keeps account of what was made."""

    def __init__(
        self,
        writer: Writing,
        arena: Arena,
        ledger: Ledger,
        tell: Teller,
        share: Share,
        change: Change,
        *,
        moved: Callable[[bytes, bytes], None],
        made: Callable[[bytes, bytes], None],
        repeated: Collection[int] = (),
    ) -> None:
        """``change`` is told when there is room in the arena, or less to wait for. ``moved`` hears where old
        content lies that made way. ``repeated``: keys (``repeat_key``) of contents that are wanted in more
        than one place; ``made`` hears where one of these was put (digest, path).
        """
        self._writer = writer
        self._arena = arena
        self._ledger = ledger
        self._tell = tell
        self._share = share
        self._change = change
        self._moved = moved
        self._made = made
        self._repeated = repeated
        self._tokens = count(1)
        self._awaited: dict[int, _Awaited] = {}
        self._copies = Copies()
        self._stopped = False
        self._may_replace: dict[bytes, bytes | None] = {}
        self.result = Result()
        self.on_done: Callable[[], None] = lambda: None
        """Called whenever an order was carried out."""

    @property
    def idle(self) -> bool:
        """Whether every order was carried out."""
        return not self._awaited

    @property
    def backlog(self) -> int:
        """Orders that the writer has not answered."""
        return len(self._awaited)

    def lease(self, size: int) -> Lease | None:
        """Room for ``size`` bytes; None if there is none now."""
        extent = self._arena.take(size)
        return None if extent is None else Lease(extent, self._back)

    async def wait_for_lease(self, size: int) -> Lease:
        """Room for ``size`` bytes as soon as there is some. Raises FileError where nothing is written any
        more.
        """
        while (lease := self.lease(size)) is None:
            await self._change.wait()
        return lease

    async def settled(self) -> None:
        """Wait until every order was carried out. Raises FileError where nothing is written any more."""
        while self._awaited:
            await self._change.wait()

    def _back(self, extent: Extent) -> None:
        self._arena.give(extent)
        self._change.tell()

    # Orders.

    def may_replace(self, seals: dict[bytes, bytes | None]) -> None:
        """Directories that may make way for a file or link, each with the seal that it must still have."""
        self._may_replace = seals
        if seals:
            self._writer.send(orders.MayReplace(seals))

    def make_directory(self, path: bytes, ino: int) -> None:
        """Make a directory, or make the one with this inode writable until its own mode is set at the end."""
        self._send(orders.MakeDirectory(next(self._tokens), path, ino), _Directory(path))

    def make_links(self, directory: bytes, entries: Sequence[Entry]) -> None:
        """Make symbolic links, replacing what stands there."""
        rows = [orders.Link(entry.name, entry.target, entry.mtime_ns) for entry in entries]
        targets = [Target(directory, entry) for entry in entries]
        for some, whose in _slices(rows, targets):
            self._send(orders.MakeLinks(next(self._tokens), directory, some), _Links(whose))

    def set_attributes(
        self, directory: bytes, files: Sequence[tuple[Entry, tuple[int, int, int, int]]]
    ) -> None:
        """Set mode and time of files whose content is right, if they still have the stamp that they had."""
        rows = [orders.Attributes(entry.name, entry.mode, entry.mtime_ns, stamp) for entry, stamp in files]
        targets = [Target(directory, entry) for entry, _ in files]
        for some, whose in _slices(rows, targets):
            self._send(orders.SetAttributes(next(self._tokens), directory, some), _Attributes(whose))

    def make_empty(self, targets: Iterable[Target]) -> None:
        """Make files without content."""
        groups: dict[bytes, list[Target]] = {}
        for target in targets:
            groups.setdefault(target.directory, []).append(target)
        for directory, inside in groups.items():
            rows = [_file(target, 0) for target in inside]
            for some, whose in _slices(rows, inside):
                self._send(orders.MakeFiles(next(self._tokens), directory, some), _Files(whose, None))

    def open_object(self, job: Job) -> None:
        """Let the writer open the unfinished file of an object of several chunks."""
        job.opened = True
        job.written = bytearray(len(job.have))
        self._send(orders.OpenObject(next(self._tokens), job.digest, job.size), _Opened(job))

    def in_place(self, job: Job, indices: Iterable[int]) -> None:
        """Chunks that an earlier run left in the unfinished file, read and verified."""
        for index in indices:
            job.mark(index)
            _set(job.written, index)
            self.result.reused += job.recipe.chunk(index)[1]
        if not job.left:
            self.finish(job)

    def put(self, pieces: Iterable[Piece], lease: Lease) -> int:
        """Have verified bytes that lie in ``lease`` written, as often as their object has them, and finish
        what is whole. Returns how many bytes were new, of which copies are none.
        """
        files: dict[bytes, tuple[list[orders.File], list[Target]]] = {}
        parts: dict[Job, tuple[list[tuple[int, int, int]], list[int]]] = {}
        repeated: dict[Job, list[Piece]] = {}
        new = 0
        for piece in pieces:
            job, index, position, length = piece
            if not job.left or job.has(index):
                continue
            job.mark(index)
            new += length
            if job.chunks == 1:
                self._add_whole(job, position, files)
            else:
                made, indices = parts.setdefault(job, ([], []))
                made.append((job.recipe.offsets[index], position, length))
                indices.append(index)
                if job.copies(index):
                    repeated.setdefault(job, []).append(piece)
        for job, (made, indices) in parts.items():
            stretches = _joined(made)
            if not job.opened and len(stretches) == 1 and stretches[0][2] == job.size:
                self._add_whole(job, stretches[0][1], files)  # It needs no unfinished file.
                continue
            if not job.opened:
                self.open_object(job)
            lease.uses += 1
            order = orders.WriteObject(next(self._tokens), job.digest, stretches)
            self._send(order, _Parts(job, indices, lease))
            under_way = job in self._copies
            self._copies.add(job, repeated.get(job, ()), lease)
            if not under_way and job in self._copies:
                self._copy_on(job)
            elif not under_way and not job.left:
                self.finish(job)
        for directory, (rows, whose) in files.items():
            lease.uses += 1
            self._send(orders.MakeFiles(next(self._tokens), directory, rows), _Files(whose, lease))
        return new

    def _copy_on(self, job: Job) -> None:
        """Have more copies of its chunks written, or finish the job after the last."""
        copies = self._copies.next(job)
        if copies is not None:
            piece, indices, lease = copies
            offsets = job.recipe.offsets
            made = [(offsets[index], piece.position, piece.length) for index in indices]
            order = orders.WriteObject(next(self._tokens), job.digest, made)
            self._send(order, _Parts(job, indices, lease, piece.length * len(indices)))
        elif not job.left:
            self.finish(job)

    def put_bundle(self, bundle: Bundle, positions: Sequence[int], lease: Lease) -> None:
        """Have the files of a bundle made, whose verified bytes lie in ``lease``, at these positions of the
        arena.
        """
        lease.uses += 1
        order = orders.MakeFiles(next(self._tokens), bundle.directory, bundle.files(positions))
        self._send(order, _Bundled(bundle, lease))

    def _add_whole(
        self, job: Job, position: int, files: dict[bytes, tuple[list[orders.File], list[Target]]]
    ) -> None:
        """Note the files that are made of a whole object at ``position`` of the arena."""
        for target in job.targets:
            rows, whose = files.setdefault(target.directory, ([], []))
            rows.append(_file(target, position))
            whose.append(target)

    def finish(self, job: Job) -> None:
        """An object of several chunks is whole: put it in its places."""
        places = [
            orders.Target(
                target.directory, target.entry.name, target.entry.mode, target.entry.mtime_ns, target.replaces
            )
            for target in job.targets
        ]
        order = orders.FinishObject(next(self._tokens), job.digest, places)
        self._send(order, _Finish(job, list(job.targets)))

    def give_up(self, job: Job) -> None:
        """Nobody has the rest: what came stays for a later run."""
        self.result.missing += [target.path for target in job.targets]
        job.targets.clear()
        if job.opened:
            self.finish(job)

    def _send(self, order: _Sent, awaited: _Awaited) -> None:
        self._awaited[order.token] = awaited
        self._writer.send(order)

    # Facts.

    def take(self, fact: orders.Fact) -> None:
        """Draw the consequences of what the writer did. Called in the event loop."""
        if isinstance(fact, orders.Broken):
            self._change.fail(explain(fact._replace(path=self._place_of(fact))))
            return
        awaited = self._awaited.pop(fact.token, None)
        if awaited is None or not isinstance(fact, orders.Done):
            return
        self.result.deleted += fact.removed
        for was, now in fact.displaced:
            self._moved(was, now)
            if was in self._may_replace:
                self._ledger.gone(was)
        if isinstance(awaited, _Bundled):
            self._bundled(awaited.bundle, fact.results)
            awaited.lease.done()
        elif isinstance(awaited, _Files):
            self._placed(awaited.targets, fact.results)
            if awaited.lease is not None:
                awaited.lease.done()
        elif isinstance(awaited, _Opened):
            self._opened(awaited.job, fact.results[0])
        elif isinstance(awaited, _Parts):
            self._written(awaited, fact.results[0])
        elif isinstance(awaited, _Finish):
            self._finished(awaited.job, awaited.targets, fact.results)
        elif isinstance(awaited, _Links | _Attributes):
            note = self._ledger.links if isinstance(awaited, _Links) else self._ledger.attributes
            note(awaited.targets, self._touched(awaited.targets, fact.results))
        elif isinstance(awaited, _Directory):
            self._directory(awaited.path, fact.results)
        self._change.tell()
        self.on_done()

    def _opened(self, job: Job, result: orders.Result) -> None:
        """The unfinished file is there: what is in it may be offered."""
        if not isinstance(result, str):
            found, *_, job.ino = result
            job.kept = found == job.size
            self._share.offer(job)

    def _written(self, parts: _Parts, result: orders.Result) -> None:
        """Parts of an unfinished file were written, and may be offered, unless ``result`` says why not."""
        if not isinstance(result, str):
            for index in parts.indices:
                _set(parts.job.written, index)
        parts.lease.done()
        if parts.copied:
            self._copied(parts, failed=isinstance(result, str))

    def stop(self) -> None:
        """Copy nothing more: the writer is going to be closed."""
        self._stopped = True

    def _copied(self, parts: _Parts, *, failed: bool) -> None:
        """Copies were written, or could not be; then the others are not tried."""
        if self._stopped:
            return
        if failed:
            self._copies.drop(parts.job)
        else:
            self.result.copied += parts.copied
            self._tell.advance(parts.copied, 0, reused=parts.copied)
        self._copy_on(parts.job)

    def _place_of(self, fact: orders.Broken) -> bytes:
        """What a failure is about, for people: an unfinished file has the name of what it will be."""
        awaited = self._awaited.get(fact.token)
        if isinstance(awaited, _Parts) and awaited.job.targets:
            return awaited.job.targets[0].path
        return fact.path

    def changed_meanwhile(self, directory: bytes, entries: Iterable[Entry]) -> None:
        """Files that are not any more what the comparison saw, and are left alone."""
        for entry in entries:
            self.result.failed.append(
                f"{os.fsdecode(Target(directory, entry).path)!r}: "
                "it was changed while the fetch went on; run again"
            )

    def _directory(self, path: bytes, results: list[orders.Result]) -> None:
        for result in results:
            if isinstance(result, str):
                self.result.failed.append(f"{os.fsdecode(path or b'.')!r}: {result}")

    def _without_failures(
        self, targets: Sequence[Target], results: Sequence[orders.Result]
    ) -> list[tuple[int, int, int, int] | None]:
        made: list[tuple[int, int, int, int] | None] = []
        for target, result in zip(targets, results, strict=True):
            if isinstance(result, str):
                self.result.failed.append(f"{os.fsdecode(target.path)!r}: {result}")
                made.append(None)
            else:
                made.append(result)
        return made

    def _touched(
        self, targets: Sequence[Target], results: Sequence[orders.Result]
    ) -> list[tuple[int, int, int, int] | None]:
        """Links were made, or attributes set."""
        stamps = self._without_failures(targets, results)
        self.result.touched += len(stamps) - stamps.count(None)
        return stamps

    def _placed(self, targets: Sequence[Target], results: Sequence[orders.Result]) -> None:
        """Files were made."""
        stamps = self._without_failures(targets, results)
        done = len(stamps) - stamps.count(None)
        self.result.changed += done
        self._ledger.files(targets, stamps)
        if done:
            self._tell.advance(0, done)
        if self._repeated or self._tell.wants_files:
            self._name(target for target, stamp in zip(targets, stamps, strict=True) if stamp is not None)

    def _bundled(self, bundle: Bundle, results: Sequence[orders.Result]) -> None:
        """The files of a bundle were made."""
        stamps = [result for result in results if type(result) is tuple]
        if len(stamps) < len(results) or self._tell.wants_files:
            self._placed(bundle.targets(), results)
            return
        self.result.changed += len(bundle)
        self._ledger.bundle(bundle, stamps)
        self._tell.advance(0, len(bundle))

    def _name(self, targets: Iterable[Target]) -> None:
        """Tell one by one what was made."""
        for target in targets:
            if repeat_key(target.entry.digest) in self._repeated:
                self._made(target.entry.digest, target.path)
            if self._tell.wants_files:
                self._tell.file_done(target.path, target.entry.size)

    def _finished(self, job: Job, targets: Sequence[Target], results: Sequence[orders.Result]) -> None:
        there = [
            (target.path, result)
            for target, result in zip(targets, results, strict=True)
            if not isinstance(result, str)
        ]
        if there:
            self._share.complete(job, *there[0])
            self._placed(targets, results)
            self._ledger.afterwards(lambda: self._share.withdraw(job))
        else:
            self._placed(targets, results)
            self._share.withdraw(job)


def _file(target: Target, position: int) -> orders.File:
    entry = target.entry
    row = (entry.name, entry.mode, entry.mtime_ns, position, entry.size, target.replaces)
    return _new(orders.File, row)


def _slices(rows: list[T], targets: list[Target]) -> Iterator[tuple[list[T], list[Target]]]:
    """Rows and their targets, as many as one order has."""
    for start in range(0, len(rows), ROWS_PER_ORDER):
        yield rows[start : start + ROWS_PER_ORDER], targets[start : start + ROWS_PER_ORDER]


def _joined(parts: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Neighbours that follow each other in the object and in the arena become one."""
    made: list[tuple[int, int, int]] = []
    for offset, position, length in parts:
        if made:
            last = made[-1]
            if last[0] + last[2] == offset and last[1] + last[2] == position:
                made[-1] = (last[0], last[1], last[2] + length)
                continue
        made.append((offset, position, length))
    return made


def _set(bitmap: bytearray | None, index: int) -> None:
    if bitmap is not None:
        bitmap[index >> 3] |= 0x80 >> (index & 7)
