"""A plan as values: each change with its reason, so that it can be printed, counted or carried out."""

from __future__ import annotations

from array import array

import pytest
from tests.node.simulator import MTIME

from p2psync.format.ids import EMPTY, Ref
from p2psync.format.listing import Kind, Totals, dir_entry, file_entry, symlink_entry
from p2psync.plan.changes import Change, Deletion, DirWork, Plan, Reason, changes, removals

REF = Ref(5, b"n" * 32)
ENTRIES = [
    file_entry(b"a", 0o644, MTIME, REF),
    file_entry(b"b", 0o644, MTIME, EMPTY),
    symlink_entry(b"c", MTIME, b"a"),
    file_entry(b"d", 0o600, MTIME, REF),
]
ROOT = dir_entry(b"", 0o755, MTIME, REF, Totals())


def test_each_change_has_its_path_kind_and_reason() -> None:
    work = DirWork(b"x/y", REF, 0o755, MTIME, exists=True)
    work.content = array("I", [0, 1])
    work.reasons = array("B", [Reason.SIZE, Reason.MISSING])
    work.symlinks.append(2)
    work.metadata.append(3)
    assert list(changes(work, ENTRIES)) == [
        Change(b"x/y/a", Kind.FILE, Reason.SIZE, 5),
        Change(b"x/y/b", Kind.FILE, Reason.MISSING, 0),
        Change(b"x/y/c", Kind.SYMLINK, Reason.TARGET, 0),
        Change(b"x/y/d", Kind.FILE, Reason.ATTRIBUTES, 0),
    ]


def test_a_directory_comes_before_what_is_in_it() -> None:
    new = DirWork(b"", REF, 0o755, MTIME, exists=False)
    new.content, new.reasons = array("I", [3]), array("B", [Reason.KIND])
    assert [(each.path, each.reason) for each in changes(new, ENTRIES)] == [
        (b"", Reason.MISSING),
        (b"d", Reason.KIND),
    ]
    touched = DirWork(b"t", REF, 0o755, MTIME, exists=True, retouch=True)
    assert list(changes(touched, ENTRIES)) == [Change(b"t", Kind.DIR, Reason.ATTRIBUTES)]


def test_deletions_are_values_too() -> None:
    plan = Plan(
        ROOT, deletions=[Deletion(b"x", [(b"old", True), (b"file", False)]), Deletion(b"", [(b"z", False)])]
    )
    assert [(each.path, each.kind, each.reason) for each in removals(plan)] == [
        (b"x/old", None, Reason.EXTRANEOUS),
        (b"x/file", None, Reason.EXTRANEOUS),
        (b"z", None, Reason.EXTRANEOUS),
    ]


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
