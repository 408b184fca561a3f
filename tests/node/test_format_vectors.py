"""Golden vectors: what is published keeps its ids, and other implementations agree with this one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.node.simulator import identity
from tests.node.vectors.generate import FOLDER, SECTIONS, dump

from p2psync.format.attributes import decode_attributes
from p2psync.format.head import decode_head
from p2psync.format.ids import EMPTY, OBJECT_CONTEXT, Ref, chunk_id, object_id
from p2psync.format.listing import Kind, Totals, decode_listing
from p2psync.format.marks import is_carried, may_lack, unread_paths
from p2psync.format.recipe import Recipe
from p2psync.format.snapshot import Snapshot
from p2psync.format.url import ArchiveUrl
from p2psync.trust import judge

SPECIFICATION = Path(__file__).parents[2] / "docs" / "spec" / "manifest.md"


def vectors(name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((FOLDER / f"{name}.json").read_text())
    return rows


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_what_is_made_now_is_what_was_made_when_the_format_was_fixed(
    section: Callable[[], list[Any]],
) -> None:
    assert dump(section()) == (FOLDER / f"{section.__name__}.json").read_text()


def test_chunk_ids_are_plain_blake3() -> None:
    """The vectors of BLAKE3's authors: input bytes 0, 1, … 250, 0, 1, …"""
    assert chunk_id(b"").hex() == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    data = bytes(i % 251 for i in range(1025))
    assert chunk_id(data[:1]).hex() == "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213"
    assert chunk_id(data[:64]).hex() == "4eed7141ea4a5cd4b788606bd23f46e212af9cacebacdc7d1f4c6dc7f2511b98"
    assert chunk_id(data).hex() == "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444"


def test_the_id_of_an_object_is_never_the_id_of_a_chunk() -> None:
    recipe = bytes.fromhex(vectors("recipes")[0]["recipe"])
    assert object_id(recipe) != chunk_id(recipe)


def test_a_listing_can_be_written_by_hand() -> None:
    """From docs/spec/manifest.md: what stands behind each byte."""
    by_hand = (
        "91 01"  # version
        "96"  # an array of six
        "c4 05 68656c6c6f"  # name: hello
        "00"  # a regular file
        "cd 01a4"  # mode 0644
        "cf 17979cfe3d85cd15"  # 1,700,000,000,123,456,789 ns
        "06"  # six bytes
        "c4 20 8e4c7c1b99dbfd50e7a95185fead5ee1448fa904a2fdd778eaf5f2dbfd629a99"  # BLAKE3 of "hello\n"
    )
    raw = bytes.fromhex(by_hand.replace(" ", ""))
    assert raw.hex() == vectors("listings")[1]["bytes"]
    (entry,) = decode_listing(raw)
    assert (entry.name, entry.mode, entry.ref) == (b"hello", 0o644, Ref(6, chunk_id(b"hello\n")))


def blocks_of_hex() -> list[str]:
    """The bytes that each indented block of the specification spells out, without what is said about them."""
    found = []
    for block in re.findall(r"(?:^    .*\n)+", SPECIFICATION.read_text(), re.MULTILINE):
        columns = re.split(r"\n| {2,}", block)
        found.append(
            "".join(column for column in columns if re.fullmatch(r"[0-9a-f ]+", column)).replace(" ", "")
        )
    return found


@pytest.mark.parametrize(
    ("section", "index", "key"),
    [("listings", 1, "bytes"), ("snapshots", 0, "bytes"), ("recipes", 0, "recipe")],
)
def test_the_specification_spells_out_the_vectors_byte_by_byte(section: str, index: int, key: str) -> None:
    assert vectors(section)[index][key] in blocks_of_hex()


def test_the_specification_names_what_the_vectors_name() -> None:
    text = SPECIFICATION.read_text()
    named = [row["digest"] for row in (*vectors("listings")[:2], vectors("snapshots")[0])]
    named += [vectors("recipes")[0]["object_id"], vectors("urls")[1]["url"], vectors("urls")[1]["path"]]
    for name in [*named, chunk_id(b"").hex(), chunk_id(b"hello\n").hex(), OBJECT_CONTEXT]:
        assert name in text


def test_the_listing_vectors_read_back_as_what_they_are_called() -> None:
    by_name = {row["name"]: decode_listing(bytes.fromhex(row["bytes"])) for row in vectors("listings")}
    assert by_name["empty"] == []
    each = {entry.name: entry for entry in by_name["each kind"]}
    assert [*each] == sorted(each)
    assert each[b"link"].kind is Kind.SYMLINK
    assert each[b"link"].target == b"dir/hello"
    assert each[b"empty"].ref == EMPTY
    assert each[b"dir"].totals == Totals(files=1, bytes=6)
    assert each[b"big"].mtime_ns == -1
    assert by_name["further fields"][0].extra == {"x": [1, None], "y": {"b": b""}}
    unread = {entry.name: entry for entry in by_name["what could not be read"]}
    assert is_carried(unread[b"file as it was"]) and is_carried(unread[b"directory as it was"])
    assert [may_lack(unread[b"names missing"], name) for name in (b"x", b"y", b"z")] == [True, True, False]
    assert may_lack(unread[b"not listed"], b"z")


def test_the_recipe_vectors_read_back() -> None:
    for row in vectors("recipes"):
        recipe = Recipe.decode(
            bytes.fromhex(row["recipe"]), Ref(row["size"], bytes.fromhex(row["object_id"]))
        )
        assert recipe.size == row["size"]


def test_the_snapshot_vectors_read_back() -> None:
    first, second, unread = (Snapshot.decode(bytes.fromhex(row["bytes"])) for row in vectors("snapshots"))
    assert first.parents == ()
    assert first.attributes is None
    assert [parent.seq for parent in second.parents] == [2, 7]
    assert second.extra == {"zz": "new"}
    assert second.root.extra == {"later": 1}
    assert second.attributes == Ref(57, b"\x44" * 32)
    assert unread_paths(unread.extra) == 1
    assert may_lack(unread.root, b"lost") and not may_lack(unread.root, b"another")


def test_the_attributes_vector_reads_back() -> None:
    rows = decode_attributes(bytes.fromhex(vectors("attributes")[0]["bytes"]))
    assert [row.name for row in rows] == [b"", b"dir", b"file"]
    assert rows[2].values["xattrs"] == {"user.mime": b"text/plain"}


def test_the_head_vectors_verify_and_the_later_epoch_wins() -> None:
    rows = vectors("heads")
    heads = [decode_head(bytes.fromhex(row["head"])) for row in rows]
    for row, head in zip(rows, heads, strict=True):
        assert head.archive.hex() == row["archive"]
        assert (head.epoch, head.seq, head.signed_at) == (row["epoch"], row["seq"], row["signed_at"])
        assert head.snapshot == Ref(row["snapshot_size"], bytes.fromhex(row["snapshot_digest"]))
        assert head.ended == row.get("ended")
    assert heads[0].record.delegation is None
    assert heads[1].record.delegation is not None
    assert heads[1].record.delegation.key == identity("vectors-signer").public_key
    assert (heads[2].ended, heads[2].snapshot) == (heads[2].signed_at, heads[1].snapshot)
    found = judge(heads[0].archive, [head.raw for head in heads], None, heads[2].signed_at)
    assert found.head == heads[2]


def test_the_url_vectors_read_back() -> None:
    for row in vectors("urls"):
        url = ArchiveUrl.parse(row["url"])
        assert (url.archive.hex(), url.path.hex()) == (row["archive"], row["path"])
        assert (list(url.peers), list(url.webs)) == (row["peers"], row["webs"])
