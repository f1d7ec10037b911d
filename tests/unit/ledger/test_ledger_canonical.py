"""The quick way to canonical JSON gives the bytes of RFC 8785, or leaves it to its library."""

import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from ledger import canonical as module
from ledger.canonical import canonical
from ledger.states import Kind

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=4), inner, max_size=4)
        | st.dictionaries(st.sampled_from(["a", "B", "~", "é", "\ufb33", "\U0001f600"]), inner)
    ),
    max_leaves=12,
)


@given(value=PLAIN)
@example(value={"\x7f": "\x7f", "\x00": '\x1f\b\t\n\f\r"\\/', "é": "\u2028"})
@example(value={"\ufb33": 1, "\U0001f600": 2, "\r": 3, "1": 4})
@example(value=[True, 1, False, 0, None, 2**53 - 1])
def test_it_gives_the_bytes_of_the_reference(value):
    assert canonical(value) == rfc8785.dumps(value)


def test_what_most_events_are_made_of_goes_the_quick_way(monkeypatch):
    monkeypatch.setattr(module, "rfc8785", None)
    assert canonical({"b": ["x", {"c": None}], "a": 1, "d": True}) == (
        b'{"a":1,"b":["x",{"c":null}],"d":true}'
    )


@pytest.mark.parametrize("value", [{1: 2}, {None: 1}, {"a": {2: 3}}, {"a": b"x"}, {"a": {1}}])
def test_what_json_would_bend_to_fit_is_refused(value):
    with pytest.raises(ValueError):  # noqa: PT011 - the class is the promise
        canonical(value)


def test_a_member_of_a_list_of_words_is_its_word():
    assert canonical({"kind": Kind.USER}) == b'{"kind":"user"}'
