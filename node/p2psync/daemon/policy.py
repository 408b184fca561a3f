"""Which of the mirrors that pass their checks a publisher recommends, to whom, and how much. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from p2psync.checks import Track
from p2psync.daemon.examine_web import web_key
from p2psync.errors import FormatError, UsageError
from p2psync.format.ids import DIGEST_SIZE
from p2psync.format.mirror_list import (
    MIRRORS_MAX,
    NETWORKS_MAX,
    RATE_MAX,
    WEIGHT,
    IpNetwork,
    Mirror,
    encode_mirrors,
)
from p2psync.network.server import Server
from p2psync_dht import Endpoint, HolderRecord, HolderRole, RecordError
from p2psync_dht.endpoint import MAX_URL

MAX_LAG: Final = 24 * 3600.0
"""Seconds for which a mirror may lack the newest snapshot and still be recommended: mirrors of large archives
are updated once a day.
"""
VERIFIED_FOR: Final = 24 * 3600.0
"""Seconds after its last good check that a mirror is recommended: the publisher's node may have been off."""
RATE_FACTOR: Final = 2.0
"""By how much a rate has to differ before it is worth another list."""

Who = bytes | IpNetwork | str
"""A mirror: the public key of its node, where it is, or its URL."""


class Policy(NamedTuple):
    """What a publisher wants. Nothing said: every mirror that passes is recommended to everybody, alike."""

    allow: tuple[Who, ...] = ()
    """Where there are any, nobody else."""
    deny: tuple[Who, ...] = ()
    max_lag: float = MAX_LAG
    networks: tuple[tuple[IpNetwork, Who], ...] = ()
    """Whose readers prefer which mirror."""
    sites: tuple[tuple[IpNetwork, Who], ...] = ()
    """The same, of mirrors that are for nobody else."""
    weights: tuple[tuple[Who, int], ...] = ()
    web: tuple[str, ...] = ()
    """URLs of web servers that have the trees of archives, which are checked as well."""
    redirect: int | None = None
    """Bytes of a file from which on readers who know nothing of p2psync are sent to mirrors; None: never."""


EVERYBODY: Final = Policy()


def parse_who(text: str) -> Who:
    """A node's key in hexadecimal, an IP address, a network as ADDRESS/BITS, or a URL. Raises UsageError."""
    if text.startswith(("http://", "https://")):
        return parse_web(text)
    if len(text) == 2 * DIGEST_SIZE:
        try:
            return bytes.fromhex(text)
        except ValueError:
            pass
    return parse_network(text)


def parse_web(text: str) -> str:
    """The URL of a web server, as it stands in lists. Raises UsageError."""
    url = f"{text.rstrip('/')}/"
    Server.web(url)
    try:
        Endpoint.decode(url)
    except RecordError:
        raise UsageError(
            f"{text!r} cannot stand in a list of mirrors: give a URL of at most {MAX_URL} plain characters"
        ) from None
    return url


def parse_network(text: str) -> IpNetwork:
    """Raises UsageError."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise UsageError(
            f"{text!r} is neither a node's key (64 hexadecimal digits, as 'p2psync mirrors --json' shows it) "
            "nor an address or network such as 192.0.2.0/24"
        ) from None


def recommended(
    tracks: Mapping[bytes, Track], records: Iterable[HolderRecord], policy: Policy, now: float
) -> tuple[Mirror, ...]:
    """The mirrors for a list at ``now`` (Unix seconds), those to be preferred first. ``tracks`` by node key;
    ``records`` are of those who say that they are there.
    """
    found = [
        _mirror(tracks[record.node_key], record, policy)
        for record in records
        if record.node_key in tracks and _is_welcome(tracks[record.node_key], record, policy, now)
    ]
    found += [
        _mirror_at(url, tracks[key], policy)
        for url in policy.web
        if (key := web_key(url)) in tracks and _passes(tracks[key], policy, now)
    ]
    found.sort(key=lambda mirror: (-mirror.weight, -mirror.rate, mirror.key, mirror.places))
    return _fitting(found[:MIRRORS_MAX])


def _is_welcome(track: Track, record: HolderRecord, policy: Policy, now: float) -> bool:
    return (
        _passes(track, policy, now)
        and not record.withdrawn
        and record.role is not HolderRole.PEER
        and bool(record.ips)
        and not any(_is(record, who) for who in policy.deny)
        and (not policy.allow or any(_is(record, who) for who in policy.allow))
    )


def _passes(track: Track, policy: Policy, now: float) -> bool:
    return track.listed and now - track.passed <= VERIFIED_FOR and track.lag(now) <= policy.max_lag


def _mirror(track: Track, record: HolderRecord, policy: Policy) -> Mirror:
    places = tuple(endpoint for endpoint in record.endpoints if endpoint.ip)
    return _made(record.node_key, places, track, policy, lambda who: _is(record, who))


def _mirror_at(url: str, track: Track, policy: Policy) -> Mirror:
    return _made(b"", (Endpoint(url=url),), track, policy, lambda who: who == url)


def _made(
    key: bytes, places: tuple[Endpoint, ...], track: Track, policy: Policy, is_it: Callable[[Who], bool]
) -> Mirror:
    sites = [network for network, who in policy.sites if is_it(who)]
    networks = [*sites, *(network for network, who in policy.networks if is_it(who))]
    return Mirror(
        key,
        places,
        next((weight for who, weight in policy.weights if is_it(who)), WEIGHT),
        None if track.complete else track.parts,
        track.passed,
        min(round(track.rate), RATE_MAX),
        tuple(dict.fromkeys(networks))[:NETWORKS_MAX],
        bool(sites),
    )


def _is(record: HolderRecord, who: Who) -> bool:
    if isinstance(who, str):
        return False
    if isinstance(who, bytes):
        return record.node_key == who
    return any(ipaddress.ip_address(ip) in who for ip in record.ips)


def _fitting(mirrors: list[Mirror]) -> tuple[Mirror, ...]:
    """As many from the front as a list has room for."""
    while mirrors:
        try:
            encode_mirrors(mirrors)
            break
        except FormatError:
            mirrors = mirrors[: len(mirrors) * 3 // 4]
    return tuple(mirrors)


def differ(one: Iterable[Mirror], other: Iterable[Mirror]) -> bool:
    """Whether readers should hear of it: other mirrors, places or parts, or rates that are others altogether,
    but not that somebody was verified once more.
    """
    old, new = ({mirror.key or mirror.places: mirror for mirror in mirrors} for mirrors in (one, other))
    if old.keys() != new.keys():
        return True
    return any(_differs(old[key], new[key]) for key in old)


def _differs(old: Mirror, new: Mirror) -> bool:
    rates = sorted((old.rate, new.rate))
    if rates[1] > RATE_FACTOR * rates[0]:
        return True
    return old._replace(verified=0, rate=0) != new._replace(verified=0, rate=0)
