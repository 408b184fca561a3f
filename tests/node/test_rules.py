"""The language of filter rules: what is understood, what is refused aloud. Matching is judged by the real
rsync in tests/interop/test_filters_rsync.py.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2psync.errors import UsageError
from p2psync.rules.filter import Filter
from p2psync.rules.parse import MAX_PATTERN, MAX_RULES, Outside


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
        (b"-/ /etc", b"-/ /etc"),
        (b"exclude,p a", b"-p a"),
        (b"-x user.*", b"-x user.*"),
        (b"P!p a", b"-!pr a"),
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
        (b"-n a", "unknown modifier 'n'"),
        (b"-- a", "unknown modifier '-'"),
        (b".! a", "unknown modifier '!'"),
        (b"HC a", "twice, or is about cvs"),
        (b"-q a", "unknown modifier"),
        (b"*.o", "unknown"),
        (b"", "unknown"),
        (b"- ", "lacks a pattern"),
        (b"! a", "takes no argument"),
        (b"Hs a", "twice"),
        (b". file", "cannot be read here"),
        (b".e file", "cannot be read here"),
        (b".+- file", "says twice"),
        (b".C- file", "says twice"),
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
    assert len(Filter.parse([b".- list"], Outside(most.__getitem__)).rules) == MAX_RULES
    with pytest.raises(UsageError, match="more than"):
        Filter.parse([b".- list", b"- b"], Outside(most.__getitem__))


def test_merge_files_take_their_place_and_end() -> None:
    files = {
        b"outer": b"+ 1\n. inner\n\n# no rule\n- 4",
        b"inner": b"- 2\r\n- 3\n",
        b"self": b". self",
        b"list": b"a\n#\nb c\n",
    }
    texts = Filter.parse([b". outer", b"- 5"], Outside(files.__getitem__)).texts()
    assert texts == [b"+ 1", b"- 2", b"- 3", b"- 4", b"- 5"]
    assert Filter.parse([b".- list"], Outside(files.__getitem__)).texts() == [b"- a", b"- b c"]
    with pytest.raises(UsageError, match="merge each other"):
        Filter.parse([b". self"], Outside(files.__getitem__))


def test_a_file_hands_its_side_and_its_modifiers_to_the_rules_in_it() -> None:
    files = {b"plain": b"a\nb\n", b"rules": b"- a\n+! b", b"sided": b"H a"}

    def texts(rule: bytes) -> list[bytes]:
        return Filter.parse([rule], Outside(files.__getitem__)).texts()

    assert texts(b".-s plain") == [b"-s a", b"-s b"]
    assert texts(b".p/ rules") == [b"-/p a", b"+!/p b"]
    assert texts(b"merge,e- plain") == [b"- plain", b"- a", b"- b"]
    assert texts(b".sr rules") == [b"- a", b"+! b"]
    with pytest.raises(UsageError, match="as does the rule for the file"):
        texts(b".s sided")


def test_a_file_of_words_is_split_at_white_space() -> None:
    files = {b"words": b"-_a\n +_b\t-_*", b"cvs": b"a # ! ;b\nc"}
    assert Filter.parse([b".w words"], Outside(files.__getitem__)).texts() == [b"- a", b"+ b", b"- *"]
    assert Filter.parse([b"- x", b".C cvs"], Outside(files.__getitem__)).texts() == [b"- ;b", b"- c"]


def test_files_of_patterns_may_have_prefixes_and_clear() -> None:
    outside = Outside({b"list": b"a\n!\n+ b\n# c\n; d\n- e\n!f"}.__getitem__)
    assert Filter().with_patterns(b"list", False, outside).texts() == [b"+ b", b"- e", b"- !f"]
    assert Filter().with_patterns(b"list", True, outside).texts() == [b"+ b", b"- e", b"+ !f"]
    zeros = Outside({b"list": b"a\nb\0- c\0"}.__getitem__)
    assert Filter().with_patterns(b"list", True, zeros, nul=True).texts() == [b"+ a\nb", b"- c"]


def test_what_cvs_ignores_does_not_keep_a_directory_that_goes() -> None:
    rules = Filter.parse([b"-C"], Outside(ignored=(b"*.log", b"mine")))
    assert rules.hidden(b"a/core", False)
    assert rules.hidden(b"a/x.log", False)
    assert rules.hidden(b".git", True)
    assert not rules.hidden(b".git", False)
    assert rules.protected(b"a/core", False)
    assert not rules.protected(b"a/core", False, inside=True)
    assert rules.protected(b"a/mine", False, inside=True)
    assert Filter.parse([b"-C"], Outside(ignored=(b"! a",))).texts() == [b"- a"]


def test_rules_that_name_no_side_are_the_senders_where_what_is_excluded_is_deleted() -> None:
    files = {b"rules": b"- a\nP b\n-r c\n-rs d"}
    rules = Filter.parse([b". rules"], Outside(files.__getitem__, deletes_excluded=True))
    assert rules.texts() == [b"-s a", b"-r b", b"-r c", b"- d"]


def test_patterns_begin_at_the_root_of_the_transfer_and_absolute_ones_at_that_of_the_archive() -> None:
    made = Filter.parse([b"- /dir/a", b"-/ /top/dir/b", b"-/ **/dir/c"])
    rules = replace(made, above=b"dir", source=b"top/dir", dest=b"home/dir")
    assert [rules.hidden(name, False) for name in (b"a", b"b", b"c", b"dir/a")] == [True, True, True, False]
    assert [rules.protected(name, False) for name in (b"a", b"b", b"c")] == [True, False, True]
    assert rules.scope(b"").hides(b"b", False)


def test_rules_about_extended_attributes_are_about_no_file() -> None:
    assert not Filter.parse([b"-x *"]).hidden(b"a", False)


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
