"""The language of filter rules: what is understood, what is refused aloud. Matching is judged by the real
rsync in tests/interop/test_filters_rsync.py.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2psync.errors import UsageError
from p2psync.rules.filter import Filter
from p2psync.rules.parse import MAX_PATTERN, MAX_RULES


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (b"- *.o", b"- *.o"),
        (b"exclude *.o", b"- *.o"),
        (b"exclude_*.o", b"- *.o"),
        (b"-,! a", b"-! a"),
        (b"-!a", None),
        (b"+  a b ", b"+  a b "),
        (b"include,s a", b"+s a"),
        (b"H a", b"-s a"),
        (b"show a", b"+s a"),
        (b"P a", b"-r a"),
        (b"risk a", b"+r a"),
        (b"-sr a", b"- a"),
    ],
)
def test_forms_of_one_rule(rule: bytes, text: bytes | None) -> None:
    if text is None:
        with pytest.raises(UsageError):
            Filter.parse([rule])
    else:
        made = Filter.parse([rule])
        assert made.texts() == [text]
        assert Filter.parse(made.texts()) == made


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (b": .rules", "per-directory"),
        (b"dir-merge .rules", "per-directory"),
        (b"-C", "lacks a pattern"),
        (b"-/ /etc", "absolute paths"),
        (b"-p a", "perishable"),
        (b"-x user.*", "xattr"),
        (b"-q a", "unknown modifier"),
        (b"*.o", "unknown"),
        (b"", "unknown"),
        (b"- ", "lacks a pattern"),
        (b"! a", "takes no argument"),
        (b"Hs a", "twice"),
        (b". file", "cannot be read here"),
        (b".e file", "not supported"),
        (b".+- file", "only the modifiers"),
        (b"- a\0b", "NUL"),
        (b"- " + b"a" * (MAX_PATTERN + 1), "longer"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(rule: bytes, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Filter.parse([rule])


def test_first_match_wins_and_clear_forgets() -> None:
    rules = Filter.parse([b"+ a", b"- a", b"- b"])
    assert not rules.hidden(b"x/a", False)
    assert rules.hidden(b"b", True)
    assert not rules.hidden(b"c", False)
    assert Filter.parse([b"- a", b"!", b"- b"]).texts() == [b"- b"]
    assert Filter().with_exclude(b"a").with_include(b"!").rules == ()
    assert Filter().with_exclude(b"+ a").texts() == [b"+ a"]


def test_sides_are_kept_apart() -> None:
    rules = Filter.parse([b"H secret", b"P local", b"- both"])
    assert (rules.hidden(b"secret", False), rules.protected(b"secret", False)) == (True, False)
    assert (rules.hidden(b"local", False), rules.protected(b"local", False)) == (False, True)
    assert (rules.hidden(b"both", False), rules.protected(b"both", False)) == (True, True)


def test_a_directory_has_the_rules_of_its_place() -> None:
    rules = Filter.parse([b"- /src/*.o", b"+ keep/", b"- */", b"P mine"])
    assert rules.scope(b"src").hides(b"a.o", False)
    assert not rules.scope(b"").hides(b"a.o", False)
    assert not rules.scope(b"lib/src").hides(b"a.o", False)
    assert rules.scope(b"src").hides(b"dir", True)
    assert not rules.scope(b"src").hides(b"keep", True)
    assert not rules.scope(b"src").hides(b"mine", False)


def test_a_list_has_an_end() -> None:
    most = {b"list": b"a\n" * MAX_RULES}
    assert len(Filter.parse([b".- list"], most.__getitem__).rules) == MAX_RULES
    with pytest.raises(UsageError, match="more than"):
        Filter.parse([b".- list", b"- b"], most.__getitem__)


def test_merge_files_take_their_place_and_end() -> None:
    files = {
        b"outer": b"+ 1\n. inner\n\n# no rule\n- 4",
        b"inner": b"- 2\r\n- 3\n",
        b"self": b". self",
        b"list": b"a\n#\nb c\n",
    }
    texts = Filter.parse([b". outer", b"- 5"], files.__getitem__).texts()
    assert texts == [b"+ 1", b"- 2", b"- 3", b"- 4", b"- 5"]
    assert Filter.parse([b".- list"], files.__getitem__).texts() == [b"- a", b"- b c"]
    with pytest.raises(UsageError, match="merge each other"):
        Filter.parse([b". self"], files.__getitem__)


@given(
    pattern=st.binary(min_size=1, max_size=40), path=st.binary(min_size=1, max_size=60), is_dir=st.booleans()
)
def test_any_pattern_compiles_and_answers(pattern: bytes, path: bytes, is_dir: bool) -> None:
    if b"\0" in pattern:
        return
    rules = Filter().with_rule(b"- " + pattern)
    assert rules.hidden(path, is_dir) in {True, False}
    negated = Filter().with_rule(b"-! " + pattern)
    assert negated.hidden(path, is_dir) != rules.hidden(path, is_dir)
