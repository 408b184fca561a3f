"""Golden vectors of the archive format: what the implementation makes of fixed inputs.

``python -m tests.node.vectors.generate`` (from the project's root, with it on the path) writes the JSON files
beside this one; the tests compare the files with what is made now. A difference means that archives which are
published already would get other ids: that is a new format version, never a new set of vectors.

Inputs are small and given in the files, or come from ``simulator.content``: BLAKE3's extended output for the
text ``p2psync test content <seed>``. Keys are ``simulator.identity``: their seeds are BLAKE3 of ``p2psync
test key <name>``.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tests.node.simulator import DAY, MTIME, NOW, Link, Publisher, content, identity

from p2psync.chunking import Chunker, average_for, cut_object
from p2psync.format import pack
from p2psync.format.attributes import Attributes, encode_attributes
from p2psync.format.ids import Ref, chunk_id
from p2psync.format.listing import Totals, dir_entry, encode_listing, file_entry, symlink_entry
from p2psync.format.marks import UNREAD, carried, incomplete
from p2psync.format.mirror_list import Mirror, sign_list
from p2psync.format.snapshot import ParentSnapshot, Snapshot
from p2psync.format.url import ArchiveUrl
from p2psync_dht import ROLE_MIRRORS, Delegation, Endpoint, Identity

FOLDER: Final = Path(__file__).parent
KIB: Final = 1 << 10
MIB: Final = 1 << 20


def averages() -> list[dict[str, int]]:
    """The average chunk on both sides of every step."""
    steps = [0, 1, 64 * KIB, 64 * KIB + 1]
    for power in range(27, 34):  # 128 MiB to 8 GiB
        steps += [(1 << power) - 1, 1 << power, (1 << power) + 1]
    return [{"size": size, "average": average_for(size)} for size in [*steps, 1 << 40]]


def cuts() -> list[dict[str, Any]]:
    """Whole objects, cut: content, size, lengths of the chunks, and the reference that follows."""
    sizes = [0, 1, 64, 4095, 4096, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 68 * KIB, 128 * KIB, 256 * KIB + 7]
    cases = [(f"random-{size}", content(size, size)) for size in [*sizes, MIB, 3 * MIB + 12345]]
    cases += [
        ("zeros", bytes(200_001)),
        ("one-byte", b"\xff" * 300_000),
        ("period-of-3000", (content("period", 3000) * 100)[:250_000]),
    ]
    made = []
    for name, data in cases:
        ref, recipe = cut_object(data)
        made.append(
            {
                "content": name,
                "size": ref.size,
                "blake3": chunk_id(data).hex(),
                "lengths": [length for _, length in recipe],
                "digest": ref.digest.hex(),
            }
        )
    return made


def windows() -> list[dict[str, Any]]:
    """Chunk lengths of 6 MiB as part of an object of each size class."""
    data = memoryview(content("window", 6 * MIB))
    sizes = [MIB, *((1 << power) + 1 for power in range(27, 33))]
    return [{"object_size": size, "lengths": list(Chunker(size).cut(data))} for size in sizes]


def recipes() -> list[dict[str, Any]]:
    """Encoded recipes."""
    made = []
    for size in (64 * KIB + 1, 200 * KIB):
        ref, recipe = cut_object(content(size, size))
        made.append({"size": size, "recipe": recipe.encode().hex(), "object_id": ref.digest.hex()})
    return made


def listings() -> list[dict[str, Any]]:
    """Encoded directory objects, from none to one entry of each kind."""
    hello = Ref(6, chunk_id(b"hello\n"))
    inner = encode_listing([file_entry(b"hello", 0o644, MTIME, hello)])
    inner_ref, _ = cut_object(inner)
    cases = {
        "empty": [],
        "one file": [file_entry(b"hello", 0o644, MTIME, hello)],
        "each kind": [
            file_entry(b"big", 0o600, -1, cut_object(content(200 * KIB, 200 * KIB))[0]),
            dir_entry(b"dir", 0o755, MTIME, inner_ref, Totals(files=1, bytes=6)),
            file_entry(b"empty", 0o444, 0, Ref(0, b"")),
            symlink_entry(b"link", MTIME, b"dir/hello"),
            file_entry(b"-\n\xff not UTF-8", 0o4755, MTIME, hello),
        ],
        "further fields": [
            file_entry(b"a", 0o644, 5, hello)._replace(extra={"x": [1, None], "y": {"b": b""}})
        ],
        "what could not be read": [
            carried(file_entry(b"file as it was", 0o644, MTIME, hello)),
            carried(dir_entry(b"directory as it was", 0o755, MTIME, inner_ref, Totals(files=1, bytes=6))),
            incomplete(
                dir_entry(b"names missing", 0o755, MTIME, inner_ref, Totals(files=1, bytes=6)), [b"x", b"y"]
            ),
            incomplete(dir_entry(b"not listed", 0o700, MTIME, cut_object(encode_listing([]))[0], Totals())),
        ],
    }
    return [_object(name, encode_listing(entries)) for name, entries in cases.items()]


def attributes() -> list[dict[str, Any]]:
    """An encoded attributes object."""
    rows = [
        Attributes(b"", {"uid": 0}),
        Attributes(b"dir", {}, Ref(100, b"\x11" * 32)),
        Attributes(b"file", {"uid": 1000, "xattrs": {"user.mime": b"text/plain"}}),
    ]
    return [_object("root, directory, file", encode_attributes(rows))]


def snapshots() -> list[dict[str, Any]]:
    """Encoded snapshots."""
    root = dir_entry(b"", 0o755, MTIME, cut_object(encode_listing([]))[0], Totals())
    parents = (ParentSnapshot(1, 2, Ref(90, b"\x22" * 32)), ParentSnapshot(0, 7, Ref(91, b"\x33" * 32)))
    cases = {
        "first": Snapshot(root, NOW * 10**9),
        "with parents, attributes and further fields": Snapshot(
            root._replace(extra={"later": 1}), NOW * 10**9 + 1, parents, Ref(57, b"\x44" * 32), {"zz": "new"}
        ),
        "of a root that could not be read wholly": Snapshot(
            incomplete(root, [b"lost"]), NOW * 10**9, extra={UNREAD: 1}
        ),
    }
    return [_object(name, snapshot.encode()) for name, snapshot in cases.items()]


def heads() -> list[dict[str, Any]]:
    """Signed heads. Ed25519 signatures are deterministic (RFC 8032)."""
    publisher = Publisher("vectors")
    publisher.publish({b"hello": b"hello\n", b"link": Link(b"hello")})
    publisher.delegate("vectors-signer", epoch=1)
    publisher.now += 3600
    publisher.publish({b"hello": b"hello again\n"})
    publisher.now += 3600
    publisher.end()
    keys = {"root_seed": identity("vectors").seed.hex(), "signer_seed": identity("vectors-signer").seed.hex()}
    return [
        {
            "name": "ended" if head.ended else "delegated" if head.record.delegation else "root-signed",
            "archive": head.archive.hex(),
            **keys,
            "epoch": head.epoch,
            "seq": head.seq,
            "signed_at": head.signed_at,
            "fresh_until": head.fresh_until,
            "snapshot_size": head.snapshot.size,
            "snapshot_digest": head.snapshot.digest.hex(),
            "head": head.raw.hex(),
            **({} if head.ended is None else {"ended": head.ended}),
        }
        for head in publisher.heads
    ]


def mirror_lists() -> list[dict[str, Any]]:
    """Lists of recommended mirrors, signed by the root and by a key that may do no more than that."""
    root, signer = identity("vectors"), identity("vectors-signer")
    given = Delegation.sign(
        root, signer.public_key, epoch=1, roles=ROLE_MIRRORS, not_before=NOW, not_after=NOW + DAY
    )
    node = Mirror(identity("vectors-mirror").public_key, (Endpoint("192.0.2.7", 8730),), verified=NOW)
    near = Mirror(
        identity("vectors-campus").public_key,
        (Endpoint("198.51.100.7", 8730), Endpoint("2001:db8::7", 8730)),
        weight=200,
        parts=(b"dists", b"pool"),
        verified=NOW,
        rate=12_500_000,
        networks=(ipaddress.ip_network("198.51.100.0/24"), ipaddress.ip_network("2001:db8::/32")),
        site=True,
    )
    web = Mirror(b"", (Endpoint(url="https://mirror.example.org/pub"),), weight=50)
    cases: list[tuple[str, Identity, Delegation | None, tuple[Mirror, ...]]] = [
        ("one mirror, signed by the root", root, None, (node,)),
        ("three, signed by a delegate", signer, given, (near, node, web)),
    ]
    made = []
    for name, key, delegation, mirrors in cases:
        signed = sign_list(
            key,
            root.public_key,
            mirrors,
            epoch=0 if delegation is None else 1,
            seq=1,
            signed_at=NOW,
            fresh_until=NOW + 7 * DAY,
            delegation=delegation,
        )
        made.append(
            {
                "name": name,
                "archive": root.public_key.hex(),
                "mirrors": [[str(place) for place in mirror.places] for mirror in mirrors],
                "list": signed.body.hex(),
                "digest": chunk_id(signed.body).hex(),
                "record": signed.record.raw.hex(),
            }
        )
    return made


def urls() -> list[dict[str, Any]]:
    """URLs, as they are printed."""
    archive = identity("vectors").public_key
    cases = [
        ArchiveUrl(archive),
        ArchiveUrl(archive, b"pool/main/a b?c#d%e\xff/\xc3\xa9"),
        ArchiveUrl(archive, b"", ("192.0.2.1:8730", "[2001:db8::1]:8730", "origin.example:1"), ()),
        ArchiveUrl(archive, b"x", ("h:1",), ("https://mirror.example/pub/?a=b&c=d+e", "http://[::1]:80/")),
    ]
    return [
        {
            "archive": url.archive.hex(),
            "path": url.path.hex(),
            "peers": list(url.peers),
            "webs": list(url.webs),
            "url": str(url),
        }
        for url in cases
    ]


def packs() -> list[dict[str, Any]]:
    """A pack with an object and a recipe, and what lies where in it."""
    listing = encode_listing([file_entry(b"hello", 0o644, MTIME, Ref(6, chunk_id(b"hello\n")))])
    ref, recipe = cut_object(content(65_537, 65_537))
    raw = recipe.encode()
    single = cut_object(listing)[0]
    header = pack.encode_header(2, [chunk_id(b"one older pack"), chunk_id(b"another")])
    rows = pack.encode_row(single.digest, len(listing), recipe=False)
    rows += pack.encode_row(ref.digest, len(raw), recipe=True)
    begin = len(header) + len(rows)
    return [
        {
            "pack": (header + rows + listing + raw).hex(),
            "packs": [chunk_id(name).hex() for name in (b"one older pack", b"another")],
            "rows": [
                {"digest": single.digest.hex(), "recipe": False, "offset": begin, "length": len(listing)},
                {
                    "digest": ref.digest.hex(),
                    "recipe": True,
                    "offset": begin + len(listing),
                    "length": len(raw),
                },
            ],
        }
    ]


def _object(name: str, raw: bytes) -> dict[str, Any]:
    ref, _ = cut_object(raw)
    return {"name": name, "size": ref.size, "digest": ref.digest.hex(), "bytes": raw.hex()}


SECTIONS: Final[tuple[Callable[[], list[Any]], ...]] = (
    averages,
    cuts,
    windows,
    recipes,
    listings,
    attributes,
    snapshots,
    heads,
    mirror_lists,
    urls,
    packs,
)


def dump(rows: list[Any]) -> str:
    """A file's text: one vector a line, so that differences can be read."""
    return "[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n"


if __name__ == "__main__":
    for section in SECTIONS:
        (FOLDER / f"{section.__name__}.json").write_text(dump(section()))
