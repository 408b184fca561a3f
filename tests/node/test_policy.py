"""Which mirrors a publisher recommends: those that pass, as far as it wants them."""

from __future__ import annotations

import ipaddress

import pytest
from tests.node.simulator import identity

from p2psync.checks import Result, Track, Verdict, checked
from p2psync.daemon.examine_web import web_key
from p2psync.daemon.policy import MAX_LAG, VERIFIED_FOR, Policy, Who, differ, parse_who, recommended
from p2psync.errors import UsageError
from p2psync.format.mirror_list import MIRRORS_MAX, Mirror, encode_mirrors
from p2psync_dht import Endpoint, HolderRecord, HolderRole, holders_key

NOW = 1_800_000_000
ARCHIVE = identity("publisher").public_key
ADDRESSES = {"one": "192.0.2.1", "two": "198.51.100.2", "three": "203.0.113.3"}
CAMPUS = ipaddress.ip_network("198.51.100.0/24")


def record(name: str, role: HolderRole = HolderRole.MIRROR, ip: str = "") -> HolderRecord:
    return HolderRecord.sign(
        identity(name),
        holders_key(ARCHIVE),
        endpoints=[Endpoint(ip or ADDRESSES[name], 8730)],
        issued=NOW - 60,
        expires=NOW + 3600,
        role=role,
    )


def track(result: Result | None = None, at: int = NOW - 60, published: int = NOW - 9 * 86_400) -> Track:
    good = Result(Verdict.RIGHT, seq=1, asked=8, came=8, complete=True, rate=1e6)
    return checked(None, "mirror", [], result or good, published, at)


def names(
    policy: Policy, records: list[HolderRecord] | None = None, tracks: dict[bytes, Track] | None = None
) -> list[str]:
    """Who is recommended, in order."""
    there = [record(name) for name in ADDRESSES] if records is None else records
    known = {each.node_key: track() for each in there} if tracks is None else tracks
    by_key = {identity(name).public_key: name for name in ADDRESSES}
    return [by_key[mirror.key] for mirror in recommended(known, there, policy, NOW)]


def key(name: str) -> bytes:
    return identity(name).public_key


def test_all_that_pass_are_recommended_to_everybody() -> None:
    assert sorted(names(Policy())) == sorted(ADDRESSES)
    (mirror,) = recommended({key("one"): track()}, [record("one")], Policy(), NOW)
    assert mirror == Mirror(key("one"), (Endpoint("192.0.2.1", 8730),), verified=NOW - 60, rate=1_000_000)


@pytest.mark.parametrize(
    "result",
    [
        Result(Verdict.FAILED, "silent"),
        Result(Verdict.EMPTY, "nothing"),
        Result(Verdict.WRONG, "wrong"),
        Result(Verdict.LACKS, "lacks"),
    ],
    ids=lambda result: str(result.verdict),
)
def test_who_does_not_pass_is_not(result: Result) -> None:
    assert names(Policy(), [record("one")], {key("one"): track(result)}) == []


def test_who_was_never_checked_or_shares_for_a_while_or_has_left_is_not() -> None:
    assert names(Policy(), [record("one")], {}) == []
    assert names(Policy(), [record("one", HolderRole.PEER)]) == []
    gone = record("one").withdraw(identity("one"), NOW - 1)
    assert names(Policy(), [gone], {key("one"): track()}) == []
    assert names(Policy(), [], {key("one"): track()}) == []


def test_who_was_verified_long_ago_is_not() -> None:
    """The publisher's node was off; it knows again within the hour."""
    old = track(at=NOW - int(VERIFIED_FOR) - 1)
    assert names(Policy(), [record("one")], {key("one"): old}) == []


def test_who_lags_too_far_is_not_and_who_lags_a_little_is_with_what_it_has() -> None:
    behind = Result(Verdict.RIGHT, seq=1, behind=True)
    late = track(behind, published=NOW - int(MAX_LAG) - 120)
    assert names(Policy(), [record("one")], {key("one"): late}) == []
    assert names(Policy(max_lag=2 * MAX_LAG), [record("one")], {key("one"): late}) == ["one"]
    (mirror,) = recommended({key("one"): track(behind, published=NOW - 3600)}, [record("one")], Policy(), NOW)
    assert mirror.parts == ()


@pytest.mark.parametrize("who", [key("two"), CAMPUS, ipaddress.ip_network("198.51.100.2")], ids=str)
def test_allow_and_deny_by_key_or_by_address(who: Who) -> None:
    assert names(Policy(allow=(who,))) == ["two"]
    assert sorted(names(Policy(deny=(who,)))) == ["one", "three"]
    assert names(Policy(allow=(who,), deny=(who,))) == []


def test_weights_put_mirrors_in_order() -> None:
    weights = ((key("three"), 300), (key("one"), 200))
    assert names(Policy(weights=weights)) == ["three", "one", "two"]


def test_networks_prefer_mirrors_and_a_site_keeps_its_own_to_itself() -> None:
    policy = Policy(networks=((CAMPUS, key("one")),), sites=((CAMPUS, key("two")),))
    found = {
        mirror.key: mirror
        for mirror in recommended(
            {key(name): track() for name in ADDRESSES}, [record(name) for name in ADDRESSES], policy, NOW
        )
    }
    assert (found[key("one")].networks, found[key("one")].site) == ((CAMPUS,), False)
    assert (found[key("two")].networks, found[key("two")].site) == ((CAMPUS,), True)
    assert found[key("three")].networks == ()


def test_a_list_never_grows_too_large_to_be_signed() -> None:
    parts = tuple(b"%0200d" % number for number in range(32))
    records = [record(f"m{n}", ip=f"192.0.{n // 200}.{n % 200 + 1}") for n in range(MIRRORS_MAX + 20)]
    good = track(Result(Verdict.RIGHT, parts=parts))
    found = recommended({each.node_key: good for each in records}, records, Policy(), NOW)
    assert 4 < len(found) < MIRRORS_MAX
    encode_mirrors(found)
    found = recommended({each.node_key: track() for each in records}, records, Policy(), NOW)
    assert len(found) == MIRRORS_MAX


def test_what_is_worth_another_list() -> None:
    one = Mirror(key("one"), (Endpoint("192.0.2.1", 8730),), verified=NOW, rate=1_000_000)
    assert not differ([one], [one._replace(verified=NOW + 9, rate=1_900_000)])
    for other in (
        one._replace(rate=2_100_000),
        one._replace(parts=(b"a",)),
        one._replace(places=(Endpoint("192.0.2.2", 8730),)),
        one._replace(weight=1),
        one._replace(networks=(CAMPUS,)),
        one._replace(key=key("two")),
    ):
        assert differ([one], [other])
    assert differ([one], []) and differ([], [one]) and not differ([], [])


def test_how_a_mirror_is_named() -> None:
    assert parse_who(key("one").hex()) == key("one")
    assert parse_who("198.51.100.77/24") == CAMPUS
    assert parse_who("2001:db8::1") == ipaddress.ip_network("2001:db8::1/128")
    assert parse_who("https://mirror.example.org/pub") == "https://mirror.example.org/pub/"
    for url in ("https://", "http://a b/", f"https://a.example/{'x' * 128}"):
        with pytest.raises(UsageError):
            parse_who(url)
    for wrong in ("mirror.example.org", "", "192.0.2.1:8730", "z" * 64, "192.0.2.0/33"):
        with pytest.raises(UsageError, match="neither a node's key"):
            parse_who(wrong)


def test_a_web_server_that_passes_is_recommended_by_its_url_while_the_policy_names_it() -> None:
    url = "https://mirror.example.org/pub/"
    tracks = {web_key(url): track()}
    policy = Policy(web=(url,), weights=((url, 50),), networks=((CAMPUS, url),), allow=(key("one"),))
    (mirror,) = recommended(tracks, [], policy, NOW)
    assert mirror == Mirror(
        b"", (Endpoint(url=url),), 50, verified=NOW - 60, rate=1_000_000, networks=(CAMPUS,)
    )
    encode_mirrors([mirror])
    assert recommended(tracks, [], Policy(), NOW) == ()
    assert recommended({web_key(url): track(Result(Verdict.FAILED, "gone"))}, [], policy, NOW) == ()
    other = "https://other.example.org/"
    both = recommended({web_key(each): track() for each in (url, other)}, [], Policy(web=(url, other)), NOW)
    assert differ([mirror], both) and len(both) == 2
