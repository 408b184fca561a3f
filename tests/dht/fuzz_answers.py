"""Strategies for what strangers answer: any msgpack, the right forms with wrong contents, packed contacts."""

from __future__ import annotations

from fuzz.world import FRIENDS, HEAD, HOLDER, HOMES, LIAR, NOW, SOURCES, TOKEN_MARK, Lie
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from p2psync_dht import Head, HolderRecord, HolderRole, holders_key
from p2psync_dht.contact import Contact
from p2psync_dht.wire import Kind

FUZZ = settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(),
    st.text(max_size=20),
    st.binary(max_size=60),
    st.sampled_from([bytes(8), bytes(16), bytes(20), bytes(96), TOKEN_MARK, HEAD.raw, HOLDER.raw, HEAD.key]),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)
bodies = st.lists(values, max_size=7)

packed_contacts = st.lists(st.binary(min_size=26, max_size=26), max_size=45).map(b"".join)
told = st.one_of(st.none(), values, packed_contacts)
lies = st.builds(
    Lie,
    body=st.one_of(
        bodies,
        st.binary(max_size=1300),
        st.tuples(st.none(), st.none(), told, told).map(list),
        st.tuples(told, told, told, told, told).map(list),
    ),
    source=st.sampled_from([None, None, *SOURCES]),
    sender=st.sampled_from([None, None, None, FRIENDS[0].node_id, bytes(20)]),
    transaction=st.sampled_from([None, None, None, bytes(8)]),
    kind=st.sampled_from([None, None, None, *Kind]),
    flags=st.integers(0, 255),
    proved=st.sampled_from([True, True, False]),
    times=st.integers(1, 3),
)

contact_ids = st.one_of(
    st.sampled_from([LIAR.node_id, FRIENDS[0].node_id, HEAD.key]), st.binary(min_size=20, max_size=20)
)
places = st.sampled_from([b"\x7f\0\0\x09\x0f\xa0", b"\x7f\0\0\x0b\1\1", b"\x08\x08\x08\x08\0\x35", bytes(6)])
OTHER_HEAD = Head.sign(LIAR, LIAR.public_key, epoch=0, seq=1, payload=b"", signed_at=NOW, fresh_until=NOW)
OTHER_HOLDER = HolderRecord.sign(
    LIAR,
    holders_key(LIAR.public_key),
    endpoints=HOLDER.endpoints,
    issued=NOW,
    expires=NOW + 60,
    role=HolderRole.PEER,
)
"""Valid, and not under the keys that are asked for."""

friends = [Contact(friend.node_id, *home).pack() for home, friend in HOMES.items()]
strangers = st.tuples(contact_ids, places | st.binary(min_size=6, max_size=6)).map(b"".join)
contacts = st.one_of(
    st.lists(st.sampled_from(friends) | strangers, max_size=25).map(b"".join),
    st.just(b"".join(friends * 3)),
    st.randoms().map(lambda chance: chance.randbytes(26 * 30)),
)


@st.composite
def changed(draw: st.DrawFn, raw: bytes) -> bytes:
    """A record cut off, or with some bytes in the place of one."""
    at = draw(st.integers(0, len(raw) - 1))
    return raw[:at] + draw(st.sampled_from([b"", draw(st.binary(max_size=2)) + raw[at + 1 :]]))


records = st.one_of(
    st.sampled_from([HEAD.raw, HOLDER.raw, OTHER_HEAD.raw, OTHER_HOLDER.raw]),
    changed(HEAD.raw),
    changed(HOLDER.raw),
    values,
)
found = st.one_of(
    st.tuples(records, st.integers(0, 3)).map(list),
    st.tuples(st.integers(0, 2**40), st.lists(records, max_size=4)).map(list),
    st.just([3, [HOLDER.raw] * 2]),
    st.lists(values, max_size=3),
    st.none() | values,
    st.sampled_from([[HEAD.raw, 0], [OTHER_HEAD.raw, 0], [1, [OTHER_HOLDER.raw]], [[], 0], [{}], [1, 1]]),
)
plausible = st.builds(
    Lie,
    body=st.tuples(st.none(), st.none(), st.one_of(contacts, contacts, contacts, values), found).map(list),
    times=st.integers(1, 2),
    spares_pings=st.just(True),
)
agents = st.one_of(
    st.binary(max_size=70), st.sampled_from([b"example/1", b"\x1b[2J", "ü".encode(), b"a" * 65]), values
)
named = st.builds(Lie, body=st.tuples(st.none(), st.none(), st.none(), agents).map(list))
"""Answers to pings, with a true proof."""
