"""What was seen of a request, in a sentence: numbers that are so, and no name."""

from types import SimpleNamespace
from typing import Any

import pytest

from ledger.states import Certainty, Kind
from ledger.words import in_words


def said(certainty, kind=Kind.MEMORIES, **changed):
    plain = {
        "certainty": certainty,
        "kind": kind,
        "unique_ids": 12_000,
        "verified_absent": 0,
        "already_absent": 0,
        "acknowledged": 0,
        "still_present": 0,
        "refused": 0,
        "unknown": 0,
        "drawn": None,
        "not_checked": None,
        "later": 0,
        "second_look": None,
    }
    row: Any = SimpleNamespace(**(plain | changed))
    return in_words(row)


def test_of_what_has_not_ended_nothing_is_said():
    assert said(None) is None


@pytest.mark.parametrize(
    ("certainty", "counts", "sentence"),
    [
        (
            Certainty.SAMPLED,
            {"drawn": 50},
            "50 of 12000 read back, all absent. The others are gone by MemOS's word alone.",
        ),
        (Certainty.SAMPLED, {"drawn": 12_000}, "12000 of 12000 read back, all absent."),
        (
            Certainty.ACKNOWLEDGED,
            {"acknowledged": 12_000},
            "MemOS said that it deleted 12000 of 12000; nobody looked.",
        ),
        (
            Certainty.VERIFIED,
            {"verified_absent": 11_990, "already_absent": 10},
            "All 12000 were looked for after the deletion, and none was there.",
        ),
        (
            Certainty.STILL_PRESENT,
            {"still_present": 3},
            "3 of 12000 were seen to be still there.",
        ),
        (
            Certainty.UNVERIFIABLE,
            {"unknown": 4, "refused": 1},
            (
                "5 of 12000 could not be seen to be gone: MemOS refused 1, and of 4 it gave no "
                "answer that tells."
            ),
        ),
    ],
)
def test_ids_are_told_with_their_numbers(certainty, counts, sentence):
    assert said(certainty, **counts) == sentence


def test_a_verified_purge_says_what_was_left_and_what_was_not_looked_at():
    told = said(
        Certainty.VERIFIED, Kind.USER, later=2, not_checked='["tool_memory"]', second_look="found"
    )
    assert told == (
        "Every list of this user was read to its end after the deletion, and showed nothing that "
        "was to go. Not checked, for MemOS did not show it: tool memory. 2 appeared after the "
        "request was handed in and were left. The second look, long after, found memories again: "
        "see the request that follows it."
    )


@pytest.mark.parametrize("certainty", Certainty)
@pytest.mark.parametrize("kind", Kind)
def test_every_certainty_has_a_sentence(certainty, kind):
    told = said(certainty, kind)
    assert told is not None
    assert told.endswith(".")
