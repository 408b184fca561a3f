"""Text for people: names that cannot harm a terminal, and figures."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

import p2psync.cli.armor
import p2psync.errors
import p2psync.rsync.figures
import p2psync.rsync.units
import p2psync.text
import p2psync.ui.as_rsync
from p2psync.errors import show_path
from p2psync.text import clean_text, name_fields, size


@pytest.mark.parametrize(
    "module",
    [
        p2psync.errors,
        p2psync.text,
        p2psync.cli.armor,
        p2psync.rsync.figures,
        p2psync.rsync.units,
        p2psync.ui.as_rsync,
    ],
    ids=lambda m: m.__name__,
)
def test_the_examples_in_the_documentation_hold(module: object) -> None:
    tried = doctest.testmod(module)  # type: ignore[arg-type]  # a module, parametrized
    assert tried.attempted > 0
    assert tried.failed == 0


@given(st.binary())
def test_no_name_can_steer_a_terminal(name: bytes) -> None:
    shown = show_path(name)
    assert shown.isprintable()
    shown.encode()


@given(st.text())
def test_a_message_is_one_printable_line(text: str) -> None:
    assert clean_text(text).isprintable()


@given(st.binary(), st.sampled_from(["name", "path"]))
def test_the_exact_name_can_be_had_from_json(name: bytes, field: str) -> None:
    import base64

    fields = name_fields(name, field)
    exact = fields.get(f"{field}_b64")
    assert (base64.b64decode(exact) if exact is not None else fields[field].encode()) == name


@given(st.integers(0, 2**63))
def test_sizes_are_short(count: int) -> None:
    assert len(size(count)) <= 9
