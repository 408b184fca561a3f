"""The common form of records: canonical body and signature, fields of exact types, one exception.

What the fields of each record are is `records`'.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from p2psync_dht.codec import CodecError, pack, unpack_canonical
from p2psync_dht.keys import SIGNATURE_SIZE, Identity, verify_signature

MAX_FIELDS: Final = 15  # elements of a body: a one-byte array header, so that known fields have fixed offsets


class RecordError(ValueError):
    """A record that is malformed, not signed by whom it claims, or outside its own rules."""


def split(raw: bytes, what: str, tag: int, known: int, limit: int) -> tuple[list[Any], tuple[Any, ...]]:
    """Split a record into its known fields (without the tag) and the extra ones."""
    if not isinstance(raw, bytes):
        raise RecordError(f"a {what} is bytes, not {type(raw).__name__}")
    if not SIGNATURE_SIZE < len(raw) <= limit:
        raise RecordError(f"a {what} of {len(raw)} bytes, not {SIGNATURE_SIZE + 1} to {limit}")
    try:
        fields = unpack_canonical(raw[:-SIGNATURE_SIZE], limit=limit)
    except CodecError as error:
        raise RecordError(f"a {what} that is {error}") from error
    if not isinstance(fields, list) or not known < len(fields) <= MAX_FIELDS:
        raise RecordError(f"not a {what}: wrong number of fields")
    if type(fields[0]) is not int or fields[0] != tag:
        raise RecordError(f"not a {what}")
    return fields[1 : known + 1], tuple(fields[known + 1 :])


def exact_bytes(value: Any, name: str, low: int, high: int | None = None) -> bytes:
    if not isinstance(value, bytes) or not low <= len(value) <= (low if high is None else high):
        raise RecordError(f"{name} is not bytes of the right length")
    return value


def number(value: Any, name: str, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise RecordError(f"{name} is not a number from {low} to {high}")
    return value


def seal(fields: Sequence[Any], signer: Identity, domain: bytes) -> bytes:
    try:
        body = pack(list(fields))
    except (TypeError, ValueError, OverflowError) as error:
        raise RecordError(f"fields that cannot be written: {error}") from error
    return body + signer.sign(body, domain=domain)


def is_signed_by(public_key: bytes, domain: bytes, raw: bytes) -> bool:
    return verify_signature(public_key, domain, raw[:-SIGNATURE_SIZE], raw[-SIGNATURE_SIZE:])
