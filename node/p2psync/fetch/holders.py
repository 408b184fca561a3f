"""Who holds an archive: in their own words, by checks that were made here, and by the archive's own list."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from p2psync.checks import WEB, Track
from p2psync.errors import FormatError, NetworkError, P2psyncError
from p2psync.fetch.options import FetchOptions
from p2psync.fetch.view import finding, tell_ended
from p2psync.format.coverage import Coverage
from p2psync.format.head import ArchiveHead
from p2psync.format.mirror_list import Mirror
from p2psync.format.url import ArchiveUrl
from p2psync.state import State
from p2psync_dht import HolderRecord, HolderRole, node_id_of


class Checked(NamedTuple):
    """What checks of a holder by this machine, which publishes the archive, have found."""

    listed: bool
    """It passes them, and may be recommended."""
    dropped: bool
    """It sent something wrong, or had not what it said, and has not made up for that."""
    reason: str
    """Why it is not listed, or failed last: a clause; empty where there is nothing to say."""
    verified: int
    checked: int
    """When it passed a check last (0: never), and was checked last. Seconds since 1970."""
    lag: int
    """Seconds for which there has been a newer snapshot than it has."""
    rate: float
    """Bytes a second, from here; 0: not measured."""
    failures: int
    """Checks in a row that it failed."""
    checks: int
    passes: int
    epoch: int
    seq: int
    """The snapshot that it was at."""
    complete: bool
    """It has all of the newest snapshot, as far as random chunks show."""
    parts: list[bytes]
    """Names at the root of the archive below which it has something, if it has not all."""

    @classmethod
    def of(cls, track: Track, head: ArchiveHead | None, now: float) -> Checked:
        """``head``: the newest one, which may be newer than the last check."""
        lag = track.lag(now)
        if not lag and track.passed and head is not None and (track.epoch, track.seq) < head.order[:2]:
            lag = max(int(now) - head.record.signed_at, 0)
        return cls(
            listed=track.listed,
            dropped=track.dropped,
            reason=track.reason,
            verified=track.passed,
            checked=track.checked,
            lag=lag,
            rate=track.rate,
            failures=track.failures,
            checks=track.checks,
            passes=track.passes,
            epoch=track.epoch,
            seq=track.seq,
            complete=track.complete,
            parts=list(track.parts),
        )


class Holder(NamedTuple):
    """Who holds an archive, in the holder's own words, which it signed; and what checks of it have found."""

    node: str
    """Its id in the DHT, and its public key, in hexadecimal."""
    key: str
    role: str
    """One of origin, mirror, peer; web for a web server that has the tree, which says nothing itself."""
    endpoints: list[str]
    complete: bool | None
    """Whether it has all of the snapshot (epoch, seq); None where it does not say, as of these."""
    epoch: int | None
    seq: int | None
    issued: int
    expires: int
    """Seconds since 1970."""
    state: str
    """Of one that was asked just now "answers" or "silent", else "unknown"; "withdrawn" where the record
    takes back what the holder said before.
    """
    check: Checked | None = None
    """None where this machine has not checked it."""
    recommended: Mirror | None = None
    """What the archive's list of mirrors says of it, as far as that is known here."""

    @classmethod
    def of(
        cls,
        record: HolderRecord,
        answers: bool | None = None,
        check: Checked | None = None,
        recommended: Mirror | None = None,
    ) -> Holder:
        claim: Coverage | None = None
        with contextlib.suppress(FormatError):
            claim = Coverage.decode(record.payload)
        return cls(
            node=node_id_of(record.node_key).hex(),
            key=record.node_key.hex(),
            role=record.role.name.lower(),
            endpoints=[str(endpoint) for endpoint in record.endpoints],
            complete=None if claim is None else claim.complete,
            epoch=None if claim is None else claim.epoch,
            seq=None if claim is None else claim.seq,
            issued=record.issued,
            expires=record.expires,
            state="withdrawn" if record.withdrawn else _STATES[answers],
            check=check,
            recommended=recommended,
        )


def _of_web(url: str, head: ArchiveHead | None, check: Checked | None, recommended: Mirror | None) -> Holder:
    """A web server, of which checks or the archive's list speak."""
    complete = check.complete if check is not None else recommended is not None and recommended.parts is None
    at = head if complete else None
    return Holder(
        node="",
        key="",
        role=WEB,
        endpoints=[url],
        complete=complete,
        epoch=None if at is None else at.epoch,
        seq=None if at is None else at.seq,
        issued=0,
        expires=0,
        state=_STATES[None],
        check=check,
        recommended=recommended,
    )


_STATES: Final[Mapping[bool | None, str]] = {True: "answers", False: "silent", None: "unknown"}


class Holders(NamedTuple):
    """Who is known to hold an archive and, of those that were to stay, who has withdrawn, both by role and
    then by key; and its newest head, if one was found.
    """

    head: ArchiveHead | None
    holders: list[Holder]
    withdrawn: list[Holder]


async def find_holders(
    url: ArchiveUrl,
    state: State,
    warn: Callable[[str], None],
    *,
    sources: Sequence[str] = (),
    bootstrap: Sequence[str] = (),
) -> Holders:
    """Who holds the archive, as far as the DHT, known holders and ``sources`` tell.

    Raises NetworkError: nothing is known of it, and nobody could be asked.
    """
    options = FetchOptions(url, b"", sources=tuple(sources), bootstrap=tuple(bootstrap), share=False)
    async with finding(options, state, warn) as (discovery, _):
        head: ArchiveHead | None = None
        try:
            head = await discovery.newest_head()
            await discovery.accept(head)
            tell_ended(head, warn)
        except NetworkError as error:
            if not discovery.heard:
                raise
            warn(str(error))
        except P2psyncError as error:
            warn(str(error))
        await discovery.look_around()
        now = time.time()
        records = state.holders.records(url.archive, now)
        records.sort(key=lambda record: (record.role, record.node_key))
        tracks = state.checks.of_archive(url.archive)
        checks = {key: Checked.of(track, head, now) for key, track in tracks.items()}
        found = state.lists.newest(url.archive)
        listed_mirrors = () if found is None else found.mirrors
        listed = {mirror.key: mirror for mirror in listed_mirrors if mirror.key}
        present = [
            Holder.of(each, discovery.answers(each), checks.get(each.node_key), listed.get(each.node_key))
            for each in records
            if not each.withdrawn
        ]
        by_url = {place.url: each for each in listed_mirrors for place in each.places if place.url}
        tracked = {track.places[0]: checks[key] for key, track in tracks.items() if track.role == WEB}
        present += [
            _of_web(url, head, tracked.get(url), by_url.get(url)) for url in sorted({*by_url, *tracked})
        ]
        gone = [each for each in records if each.withdrawn and each.role is not HolderRole.PEER]
        return Holders(head, present, [Holder.of(each) for each in gone])
