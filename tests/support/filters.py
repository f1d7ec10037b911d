"""Any filters for property tests, and what they mean, told in plain Python."""

import operator
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from ledger.filters import Bound, Filter, Word
from ledger.states import Certainty, Kind, Lane, RequestState, Result

__all__ = ["DEAD_REASONS", "FILTERS", "NOW", "PROJECTS", "REASONS", "matches"]

NOW = datetime(2027, 1, 15, 8, tzinfo=UTC)
PROJECTS = ["shop", "blog", "far"]
REASONS = ["gdpr-17", "a,b", 'say "no"', "back\\slash", "two words", "-x", "é"]
DEAD_REASONS = ["http_503", "code_40305", "still_present"]
_CHOICES: dict[str, Sequence[str]] = {
    "state": list(RequestState),
    "kind": list(Kind),
    "lane": list(Lane),
    "result": list(Result),
    "certainty": list(Certainty),
    "project": [*PROJECTS, "nobody"],
    "reason": [*REASONS, "none"],
    "id": [f"r{number}" for number in range(12)],
    "dead_reason": [*DEAD_REASONS, "none"],
}
_DAYS = timedelta(days=1)
_BOUNDS = st.builds(
    Bound,
    st.sampled_from(["<", "<=", ">", ">="]),
    st.one_of(
        st.integers(-5, 5).map(lambda n: n * _DAYS),
        st.sampled_from([timedelta(), timedelta(seconds=90), -timedelta(weeks=3)]),
        st.integers(-5, 5).map(lambda n: NOW + n * _DAYS),
    ),
)


def _values(key):
    if key in _CHOICES:
        return st.sampled_from(_CHOICES[key]).map(str)
    return st.booleans() if key in _FLAGS else _BOUNDS


_FLAGS = ["held", "cancelling", "overdue", "at_risk", "final", "dead", "tampered"]
_MOMENTS = ["created", "submitted", "due", "finished"]
_WORDS = st.sampled_from([*_CHOICES, *_FLAGS, *_MOMENTS]).flatmap(
    lambda key: st.builds(
        Word,
        st.just(key),
        st.lists(_values(key), min_size=1, max_size=3, unique=True).map(tuple),
        negated=st.booleans(),
    )
)
FILTERS = st.lists(_WORDS, max_size=4).map(lambda words: Filter(tuple(words)))
_COMPARE = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


def matches(made, view, dead: Mapping[str, Collection[str]]):
    """Say whether a view is one that the filter is about, asked at NOW.

    `dead` has the reasons of each request's dead letters, by its id.
    """
    return all(_holds(word, view, dead.get(view.id, ())) is not word.negated for word in made.words)


def _holds(word, view, dead):
    if word.key == "dead":
        return bool(dead) in word.values
    if word.key == "dead_reason":
        return any(reason in word.values for reason in dead)
    if word.key in _MOMENTS:
        found = getattr(view, f"{word.key}_at")
        return found is not None and any(
            _COMPARE[one.operator](
                found, one.moment if isinstance(one.moment, datetime) else NOW + one.moment
            )
            for one in word.values
        )
    if word.key == "final":
        return (view.finished_at is not None) in word.values
    return getattr(view, word.key) in word.values
