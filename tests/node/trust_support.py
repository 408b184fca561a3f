"""Heads put to the rules of trust: a publisher with one, and what becomes of the heads that a test makes."""

from __future__ import annotations

from typing import Any

import pytest
from tests.node.simulator import Publisher

from p2psync.format.head import ArchiveHead, decode_head
from p2psync.trust import Judgement, judge

TREE = {b"file": b"content"}


@pytest.fixture
def publisher() -> Publisher:
    made = Publisher()
    made.publish(TREE)
    return made


def judged(
    publisher: Publisher, *candidates: bytes, remembered: ArchiveHead | None = None, **options: Any
) -> Judgement:
    return judge(publisher.archive, candidates, remembered, options.pop("now", publisher.now), **options)


def refused(raw: bytes, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        decode_head(raw)
