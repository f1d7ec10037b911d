"""A walk between two pages: it comes out of the ledger as it went in."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.walks import Walk

IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
WALKS = st.builds(
    Walk,
    legs=st.lists(IDS, max_size=3).map(tuple),
    page=st.integers(1, 1_000),
    pages=st.lists(IDS, max_size=3).map(tuple),
    present=st.frozensets(IDS, max_size=5),
    unsaid=st.integers(0, 10**6),
    later=st.frozensets(IDS, max_size=5),
    foreign=st.integers(0, 10**6),
    unchecked=st.lists(IDS, max_size=3).map(tuple),
)


@given(WALKS)
def test_a_walk_goes_on_as_it_was(walk):
    stored = walk.to_json()
    again = Walk.from_json(stored)
    assert again == walk
    assert again is not None
    assert again.to_json() == stored


@given(WALKS)
def test_any_database_can_hold_a_walk(walk):
    """PostgreSQL takes no NUL character, which an id may have."""
    stored = walk.to_json()
    assert stored.isascii()
    assert stored.isprintable()


def test_a_walk_that_has_not_begun_is_none():
    assert Walk.from_json(None) is None


def test_what_is_as_in_a_new_walk_is_left_out():
    assert Walk().to_json() == "{}"
    assert Walk.from_json("{}") == Walk()
    assert json.loads(Walk(legs=("all",), present=frozenset("ba")).to_json()) == {
        "legs": ["all"],
        "present": ["a", "b"],
    }


def test_equal_walks_have_one_stored_form():
    first = Walk(present=frozenset("abc"), later=frozenset("de"))
    assert first.to_json() == Walk(present=frozenset("cba"), later=frozenset("ed")).to_json()


def test_a_walk_cannot_be_changed_and_shows_no_ids():
    walk = Walk(present=frozenset({"canary"}), later=frozenset({"canary"}))
    assert "canary" not in repr(walk)
    with pytest.raises(AttributeError):
        walk.page = 2  # type: ignore[misc]
