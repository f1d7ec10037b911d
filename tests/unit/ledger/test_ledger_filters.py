"""The filter language: what can be said, and what is answered to everything else."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ledger.errors import RequestError
from ledger.filters import KEYS, Bound, Filter, Word, parse_filter
from ledger.states import Certainty, Kind, Lane, RequestState, Result
from tests.support.filters import FILTERS

PIECES = [*'abdesu:,-<>=+"\\ \t\n019Zé\x00\ud800', "state:", "open", "due:", "2026-12-01", "now"]
WORDISH = st.lists(st.sampled_from(PIECES), max_size=20).map("".join)


def words(text):
    return parse_filter(text).words


@pytest.mark.parametrize("text", ["", " ", "\n\t "])
def test_no_word_matches_everything(text):
    assert parse_filter(text) == Filter()


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("state", RequestState),
        ("kind", Kind),
        ("lane", Lane),
        ("result", Result),
        ("certainty", Certainty),
    ],
)
def test_every_word_of_a_closed_list_can_be_asked_for(key, kind):
    assert words(f"{key}:{','.join(kind)}") == (Word(key, tuple(kind)),)


def test_words_values_and_negations_are_read_apart():
    assert words("state:open,verifying  -project:crm\theld:true") == (
        Word("state", ("open", "verifying")),
        Word("project", ("crm",), negated=True),
        Word("held", (True,)),
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('project:"my shop"', "my shop"),
        ('project:my" "shop', "my shop"),
        ('project:"a,b"', "a,b"),
        (r'project:"say \"no\" \\ more"', 'say "no" \\ more'),
        ("project:a:b", "a:b"),
        ('project:"-x"', "-x"),
        (r"project:a\b", "a\\b"),
    ],
)
def test_quotes_keep_blanks_commas_and_quotes(text, value):
    assert words(text) == (Word("project", (value,)),)


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("<now", Bound("<", timedelta())),
        ("<=-7d", Bound("<=", -timedelta(days=7))),
        (">+12h", Bound(">", timedelta(hours=12))),
        (">=-90m", Bound(">=", -timedelta(minutes=90))),
        ("<+2w", Bound("<", timedelta(weeks=2))),
        ("<-30s", Bound("<", -timedelta(seconds=30))),
        (">=2026-12-01", Bound(">=", datetime(2026, 12, 1, tzinfo=UTC))),
        (">2026-12-01T10:00:00Z", Bound(">", datetime(2026, 12, 1, 10, tzinfo=UTC))),
        (">2026-12-01T11:00:00+01:00", Bound(">", datetime(2026, 12, 1, 10, tzinfo=UTC))),
        ('>"2026-12-01 10:00:00Z"', Bound(">", datetime(2026, 12, 1, 10, tzinfo=UTC))),
    ],
)
def test_moments_are_days_times_or_distances_from_now(text, bound):
    assert words(f"due:{text}") == (Word("due", (bound,)),)


@pytest.mark.parametrize(
    ("text", "number", "said"),
    [
        ("open", 1, "not KEY:VALUE"),
        ("state", 1, "not KEY:VALUE; did you mean `state`"),
        ("kind:user stat:open", 2, "did you mean `state`"),
        ("nothing:like-this", 1, "Keys are: state, kind"),
        ("state:opne", 1, "did you mean `open`"),
        ("state:OPEN", 1, "did you mean `open`"),
        ("kind:user lane:fast", 2, "Values are: erasure, bulk"),
        ("held:yes", 1, "Values are: true, false"),
        ("project:", 1, "empty value"),
        ("project:a,,b", 1, "empty value"),
        ('"":x', 1, "not KEY:VALUE"),
        ("-:x", 1, "not KEY:VALUE"),
        ('project:"a\nb"', 1, "cannot be printed"),
        ("due:2026-12-01", 1, "comparison"),
        ("due:<2026-12-01T10:00:00", 1, "with its zone"),
        ("due:<tomorrow", 1, "moment"),
        ("due:<-9999999d", 1, "moment"),
        ("due:<-7y", 1, "moment"),
        ("due:<", 1, "moment"),
    ],
)
def test_what_is_no_word_is_named_by_its_number_with_what_may_stand_there(text, number, said):
    with pytest.raises(RequestError) as caught:
        parse_filter(text)
    assert f"Word {number} of the filter" in str(caught.value)
    assert said in str(caught.value)


def test_an_open_quote_is_told():
    with pytest.raises(RequestError, match="not closed"):
        parse_filter('project:"a b')


@pytest.mark.parametrize(
    "text",
    ["x" * 20_001, "held:true " * 51, "id:" + ",".join(map(str, range(201)))],
    ids=["characters", "words", "values"],
)
def test_a_filter_is_only_so_long(text):
    with pytest.raises(RequestError, match="has over"):
        parse_filter(text)


@pytest.mark.parametrize("text", ["state:canary", "canary:x", "due:<canary", "canary"])
def test_a_message_never_repeats_what_was_typed(text):
    with pytest.raises(RequestError) as caught:
        parse_filter(text)
    assert "canary" not in str(caught.value)


@given(st.one_of(st.text(), WORDISH, st.sampled_from(KEYS).map("{}:".format)))
@example("due:<0001-01-01T00:00:00+23:59")
@example("due:>9999-12-31T23:59:59-23:59")
def test_any_text_is_a_filter_or_bad_input(text):
    try:
        found = parse_filter(text)
    except RequestError:
        return
    found.condition(0)
    assert parse_filter(str(found)) == found


@given(FILTERS)
def test_a_printed_filter_reads_the_same(made):
    assert parse_filter(str(made)) == made
