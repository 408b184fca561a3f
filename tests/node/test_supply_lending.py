"""Who can lend what to whom: the first file that has a chunk, to all that have it too and come soon after."""

from __future__ import annotations

import pytest
from tests.node.simulator import MTIME

from p2psync.format.listing import file_entry
from p2psync.format.recipe import Recipe
from p2psync.supply import lending
from p2psync.supply.jobs import Job, Target
from p2psync.supply.lending import Lenders

LENGTH = 5000


def job(chunks: str) -> Job:
    """Each letter is a chunk."""
    recipe = Recipe.of((letter.encode() * 32, LENGTH) for letter in chunks)
    return Job(recipe.ref(), recipe, [Target(b"", file_entry(chunks.encode(), 0o644, MTIME, recipe.ref()))])


def test_the_first_that_has_a_chunk_lends_it() -> None:
    a, b, c = job("abc"), job("xbc"), job("ybx")
    lenders = Lenders()
    assert lenders.find([a, b, c]) == {b: {a}, c: {a, b}}
    assert lenders.lent(a) == {b"b" * 32: LENGTH, b"c" * 32: 2 * LENGTH}
    assert lenders.lent(b) == {b"x" * 32: 0}
    assert lenders.lent(a) == {}, "told once"


def test_what_has_nothing_in_common_needs_nobody() -> None:
    lenders = Lenders()
    assert lenders.find([job("abc"), job("def")]) == {}
    assert lenders.find([job("ghi")]) == {}


def test_what_one_file_has_several_times_it_needs_nobody_for() -> None:
    assert Lenders().find([job("aab")]) == {}


def test_files_that_were_begun_before_lend_too() -> None:
    lenders = Lenders()
    a, b = job("abc"), job("xbc")
    assert lenders.find([a]) == {}
    assert lenders.find([b]) == {b: {a}}
    again = job("zza")
    assert lenders.find([again]) == {again: {a}}
    assert lenders.lent(a).keys() == {b"a" * 32, b"b" * 32, b"c" * 32}


def test_only_so_much_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lending, "KEPT_CHUNKS", 6)
    lenders = Lenders()
    a, b, c = job("abc"), job("def"), job("ghi")
    for each in (a, b, c):
        lenders.find([each])
    late, later = job("xya"), job("xyi")
    assert lenders.find([late]) == {}, "the first is forgotten"
    assert lenders.find([later]) == {later: {c, late}}


def test_ids_that_only_begin_alike_are_not_the_same() -> None:
    one = Recipe.of([(b"same" + b"1" * 28, LENGTH), (b"x" * 32, LENGTH)])
    two = Recipe.of([(b"same" + b"2" * 28, LENGTH), (b"y" * 32, LENGTH)])
    jobs = [Job(recipe.ref(), recipe, []) for recipe in (one, two)]
    assert Lenders().find(jobs) == {}
