"""Many ids checked and written at once, as they would be one by one."""

import json

from hypothesis import example, given
from hypothesis import strategies as st

from ledger.errors import RequestError
from ledger.ids import are_plain_ids, check_memory_id, ids_as_json

values = st.one_of(
    st.text(max_size=8),
    st.text('ab \t"\\\x7f\x85\u2028\ufffe\ud800é', max_size=6),
    st.sampled_from(["x" * 256, "x" * 257, "é" * 64, "é" * 65, "😀" * 64, "😀" * 65]),
    st.none(),
    st.integers(),
    st.binary(),
)


def is_id(value):
    try:
        check_memory_id(value, where="x")
    except RequestError:
        return False
    return True


@given(st.lists(values, max_size=6))
@example(["😀" * 65])
@example(["a", " "])
@example(["a", ""])
def test_what_is_passed_together_would_be_passed_one_by_one(some):
    if are_plain_ids(some):
        assert all(map(is_id, some))


@given(st.lists(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1)))
def test_usual_ids_are_passed_together(some):
    assert are_plain_ids([each[:256] for each in some])


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1).filter(is_id), max_size=6))
@example(["a", '"', "b"])
@example(["a\\"])
@example(['a","b'])
@example(["é"])
def test_the_stored_text_is_the_one_that_json_gives(ids):
    assert ids_as_json(ids) == json.dumps(ids, separators=(",", ":"))
