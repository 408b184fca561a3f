"""Lists of recommended mirrors: what they hold, who may sign one, and what is refused."""

from __future__ import annotations

import ipaddress
import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.node.simulator import NOW, identity
from tests.node.vectors.generate import FOLDER

from p2psync.errors import FormatError, TrustError
from p2psync.format.canonical import encode
from p2psync.format.head import decode_head
from p2psync.format.ids import Ref
from p2psync.format.mirror_list import (
    LIST_BYTES_MAX,
    MIRRORS_MAX,
    NETWORKS_MAX,
    PARTS_MAX,
    PLACES_MAX,
    WEIGHT_MAX,
    Mirror,
    MirrorList,
    decode_list,
    decode_mirrors,
    encode_mirrors,
    sign_list,
)
from p2psync_dht import ROLE_HEADS, ROLE_MIRRORS, TAG_MIRRORS, Delegation, Endpoint, Head

ROOT = identity("publisher")
KEY = identity("recommends")
NODE = identity("mirror").public_key
PLACE = Endpoint("192.0.2.1", 8730)
SPECIFICATION = Path(__file__).parents[2] / "docs" / "spec" / "mirrors.md"

FULL = Mirror(
    NODE,
    (PLACE, Endpoint("2001:db8::1", 8730)),
    250,
    (b"pool", b"dists"),
    NOW,
    12_500_000,
    (ipaddress.ip_network("198.51.100.0/24"), ipaddress.ip_network("2001:db8::/32")),
    True,
)
WEB = Mirror(b"", (Endpoint(url="https://mirror.example.org/pub"),))


def signed(*mirrors: Mirror, roles: int | None = None, seq: int = 1) -> MirrorList:
    if roles is None:
        return sign_list(
            ROOT, ROOT.public_key, mirrors, epoch=0, seq=seq, signed_at=NOW, fresh_until=NOW + 60
        )
    given = Delegation.sign(
        ROOT, KEY.public_key, epoch=2, roles=roles, not_before=NOW - 60, not_after=NOW + 60
    )
    return sign_list(
        KEY,
        ROOT.public_key,
        mirrors,
        epoch=2,
        seq=seq,
        signed_at=NOW,
        fresh_until=NOW + 60,
        delegation=given,
    )


def row(**changes: Any) -> list[Any]:
    """A mirror's row, changed by position."""
    made: list[Any] = [NODE, [PLACE.encode()], 100, None, 0, 0, [], 0]
    for name, value in changes.items():
        made[int(name[1:])] = value
    return made


def test_a_list_comes_back_as_it_was_signed() -> None:
    made = signed(FULL, WEB, Mirror(NODE, (PLACE,)))
    again = decode_list(made.record.raw, made.body)
    assert again == made
    assert again.mirrors == (FULL, WEB, Mirror(NODE, (PLACE,)))
    assert again.archive == ROOT.public_key


def test_an_empty_list_takes_all_recommendations_back() -> None:
    assert decode_list(*_raw(signed())).mirrors == ()


def _raw(made: MirrorList) -> tuple[bytes, bytes]:
    return made.record.raw, made.body


def test_who_may_recommend_mirrors_need_not_be_who_signs_heads() -> None:
    assert signed(FULL, roles=ROLE_MIRRORS).record.delegation is not None
    with pytest.raises(TrustError, match="delegate the role 'mirrors'"):
        signed(FULL, roles=ROLE_HEADS)


def test_a_later_epoch_beats_any_sequence_number() -> None:
    assert signed(roles=ROLE_MIRRORS).order > signed(seq=2**62).order > signed(seq=1).order


def test_another_list_than_was_signed_is_refused() -> None:
    one, other = signed(FULL), signed(WEB)
    for body in (other.body, one.body[:-1], one.body + b"\0", b""):
        with pytest.raises(FormatError, match="not the one that was signed"):
            decode_list(one.record.raw, body)


def test_a_changed_record_and_the_head_of_the_archive_are_none_of_a_list() -> None:
    made = signed(FULL)
    raw = made.record.raw
    with pytest.raises(TrustError, match="did not sign"):
        decode_list(raw[:-1] + bytes([raw[-1] ^ 1]), made.body)
    head = Head.sign(
        ROOT, ROOT.public_key, epoch=0, seq=1, payload=made.record.payload, signed_at=NOW, fresh_until=NOW
    )
    with pytest.raises(FormatError):
        decode_list(head.raw, made.body)
    with pytest.raises(FormatError):
        decode_head(raw)


def test_fields_of_newer_writers_are_passed_over() -> None:
    body = encode([1, [[*row(), "new", {"a": [1]}]], "newer still"])
    assert decode_mirrors(body) == (Mirror(NODE, (PLACE,)),)


@pytest.mark.parametrize(
    "wrong",
    [
        row(_0=b"short"),
        row(_0="text"),
        row(_0=b""),  # an address that nobody's key speaks for
        row(_1=[]),
        row(_1=[PLACE.encode()] * (PLACES_MAX + 1)),
        row(_1=["https://mirror.example.org/"]),  # a key that a web server has none of
        row(_1=[PLACE.encode(), "https://mirror.example.org/"]),
        row(_1=["file:///etc"]),
        row(_1=[bytes(6)]),
        row(_2=-1),
        row(_2=WEIGHT_MAX + 1),
        row(_2=True),
        row(_3=[b"a/b"]),
        row(_3=[b".."]),
        row(_3=[b""]),
        row(_3=[b"a\0"]),
        row(_3=[b"a"] * (PARTS_MAX + 1)),
        row(_4=-1),
        row(_5=2**60),
        row(_6=[b"\xc0\0\2\0" + bytes([33])]),
        row(_6=[b"\xc0\0\2\1" + bytes([24])]),  # bits behind the prefix: two spellings of one network
        row(_6=[bytes(7)]),
        row(_6=[b"\xc0\0\2\0" + bytes([24])] * (NETWORKS_MAX + 1)),
        row(_7=2),
        row()[:7],
        {},
        b"",
    ],
    ids=str,
)
def test_what_no_mirror_can_be_is_refused(wrong: Any) -> None:
    with pytest.raises(FormatError):
        decode_mirrors(encode([1, [wrong]]))


def test_too_many_or_too_long_or_of_another_version_is_refused() -> None:
    assert len(decode_mirrors(encode([1, [row()] * MIRRORS_MAX]))) == MIRRORS_MAX
    wrong: list[Any] = [[1, [row()] * (MIRRORS_MAX + 1)], [2, []], [1], [], {}, 1]
    for value in wrong:
        with pytest.raises(FormatError):
            decode_mirrors(encode(value))
    with pytest.raises(FormatError, match=f"at most {LIST_BYTES_MAX}"):
        encode_mirrors([FULL._replace(parts=tuple(b"%0255d" % n for n in range(PARTS_MAX)))] * 9)


def test_a_payload_that_names_no_list_is_refused() -> None:
    made = signed(FULL)
    for payload in (b"", b"\x90", encode([1]), encode([len(made.body), bytes(31)]), encode([-1, bytes(32)])):
        head = Head.sign(
            ROOT,
            ROOT.public_key,
            epoch=0,
            seq=1,
            payload=payload,
            signed_at=NOW,
            fresh_until=NOW,
            tag=TAG_MIRRORS,
        )
        with pytest.raises(FormatError):
            decode_list(head.raw, made.body)


def test_who_is_near_a_mirror() -> None:
    assert FULL.near(["203.0.113.1", "198.51.100.7"])
    assert FULL.near(["2001:db8:5::1"])
    assert not FULL.near(["203.0.113.1"])
    assert not FULL.near([]) and not WEB.near(["198.51.100.7"])


def test_the_specification_quotes_the_vectors() -> None:
    page = re.sub(r"\s", "", SPECIFICATION.read_text())
    for vector in json.loads((FOLDER / "mirror_lists.json").read_text()):
        made = decode_list(bytes.fromhex(vector["record"]), bytes.fromhex(vector["list"]))
        assert len(made.mirrors) == len(vector["mirrors"])
        assert made.record.payload == encode(Ref(len(made.body), bytes.fromhex(vector["digest"])).to_row())
        assert vector["record"] in page and vector["list"] in page
