"""A plan as values: what is wanted twice is known before any of it is got."""

from __future__ import annotations

import pytest
from tests.node.simulator import MTIME

from p2psync.format.ids import Ref
from p2psync.format.listing import Totals, dir_entry
from p2psync.plan.changes import Plan

REF = Ref(5, b"n" * 32)
ROOT = dir_entry(b"", 0o755, MTIME, REF, Totals())


def test_contents_that_are_wanted_twice_show_in_a_large_plan_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2psync.plan.changes.SORTED_AT_ONCE", 100)
    plan = Plan(ROOT)
    plan.contents.extend([*range(-500, 500), -77, 0, 499, 499])
    assert plan.repeated() == {-77, 0, 499}


def test_contents_that_are_wanted_twice_show() -> None:
    plan = Plan(ROOT)
    plan.contents.extend([5, -3, 7, 5, -3, 9])
    assert plan.repeated() == {5, -3}
    assert Plan(ROOT).repeated() == frozenset()
