"""Which of the mirrors that pass their checks a publisher recommends, to whom, and how much. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from p2psync.checks import Track
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
from p2psync_dht import HolderRecord, HolderRole

MAX_LAG: Final = 24 * 3600.0
"""Seconds for which a mirror may lack the newest snapshot and still be recommended: mirrors of large archives
are updated once a day.
"""
VERIFIED_FOR: Final = 24 * 3600.0
"""Seconds after its last good check that a mirror is recommended: the publisher's node may have been off."""
RATE_FACTOR: Final = 2.0
"""By how much a rate has to differ before it is worth another list."""

Who = bytes | IpNetwork
"""A mirror: the public key of its node, or where it is."""


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


EVERYBODY: Final = Policy()


def parse_who(text: str) -> Who:
    """A node's key in hexadecimal, an IP address, or a network as ADDRESS/BITS. Raises UsageError."""
    if len(text) == 2 * DIGEST_SIZE:
        try:
            return bytes.fromhex(text)
        except ValueError:
            pass
    return parse_network(text)


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
    found.sort(key=lambda mirror: (-mirror.weight, -mirror.rate, mirror.key))
    return _fitting(found[:MIRRORS_MAX])


def _is_welcome(track: Track, record: HolderRecord, policy: Policy, now: float) -> bool:
    return (
        track.listed
        and not record.withdrawn
        and record.role is not HolderRole.PEER
        and bool(record.ips)
        and now - track.passed <= VERIFIED_FOR
        and track.lag(now) <= policy.max_lag
        and not any(_is(record, who) for who in policy.deny)
        and (not policy.allow or any(_is(record, who) for who in policy.allow))
    )


def _mirror(track: Track, record: HolderRecord, policy: Policy) -> Mirror:
    sites = [network for network, who in policy.sites if _is(record, who)]
    networks = [*sites, *(network for network, who in policy.networks if _is(record, who))]
    weight = next((weight for who, weight in policy.weights if _is(record, who)), WEIGHT)
    return Mirror(
        record.node_key,
        tuple(endpoint for endpoint in record.endpoints if endpoint.ip),
        weight,
        None if track.complete else track.parts,
        track.passed,
        min(round(track.rate), RATE_MAX),
        tuple(dict.fromkeys(networks))[:NETWORKS_MAX],
        bool(sites),
    )


def _is(record: HolderRecord, who: Who) -> bool:
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
    old, new = ({mirror.key: mirror for mirror in mirrors} for mirrors in (one, other))
    if old.keys() != new.keys():
        return True
    return any(_differs(old[key], new[key]) for key in old)


def _differs(old: Mirror, new: Mirror) -> bool:
    rates = sorted((old.rate, new.rate))
    if rates[1] > RATE_FACTOR * rates[0]:
        return True
    return old._replace(verified=0, rate=0) != new._replace(verified=0, rate=0)
