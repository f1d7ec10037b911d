"""Folding of repeated ids, in memory that does not grow."""

import tracemalloc
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import fold
from ledger.fold import Folder

FEW = 100


@pytest.fixture
def early_packing(monkeypatch):
    """Digests take over from texts after a hundred ids, and not after ten thousand."""
    monkeypatch.setattr(fold, "_MOST_AS_TEXT", FEW)


@given(
    ids=st.lists(st.one_of(st.integers(0, 300).map(str), st.text(st.characters(codec="utf-8")))),
    most_texts=st.integers(1, 50),
)
def test_up_to_the_window_folding_is_that_of_a_set(ids, most_texts):
    with patch.object(fold, "_MOST_AS_TEXT", most_texts):
        folder, seen = Folder(max(1, len(ids))), set()
    for each in ids:
        assert folder.is_new(each) is (each not in seen)
        seen.add(each)


@pytest.mark.parametrize("window", [1, 50, FEW, 5_000])
def test_what_was_new_within_the_window_is_known_and_what_is_far_behind_is_not(
    early_packing, window
):
    folder = Folder(window)
    ids = [f"m-{number}" for number in range(6 * window)]
    for place, each in enumerate(ids):
        assert folder.is_new(each)
        if place % 7 == 0:
            assert not folder.is_new(ids[max(0, place - window + 1)])
    assert not any(folder.is_new(each) for each in ids[-window:])
    assert folder.is_new(ids[0])


def test_many_ids_are_told_apart_and_their_repeats_are_found(early_packing):
    folder = Folder(50_000)
    ids = [f"memory-{number:036d}" for number in range(50_000)]
    assert all(folder.is_new(each) for each in ids)
    assert not any(folder.is_new(each) for each in ids)


@pytest.mark.parametrize("ids", [("a", "b", "a", "b"), ("é", "e\u0301", "é", "e\u0301")])
def test_ids_are_compared_byte_for_byte_as_texts_and_as_digests(monkeypatch, ids):
    for most_texts in (1, FEW):
        monkeypatch.setattr(fold, "_MOST_AS_TEXT", most_texts)
        folder = Folder()
        assert [folder.is_new(each) for each in ids] == [True, True, False, False]


@given(
    batches=st.lists(
        st.lists(st.one_of(st.integers(0, 99).map(str), st.text(st.characters(codec="utf-8")))),
        max_size=8,
    ),
    most_texts=st.integers(1, 50),
    at_once=st.integers(1, 20),
)
def test_batches_are_folded_as_one_id_after_the_other(batches, most_texts, at_once):
    window = max(1, sum(map(len, batches)))
    with (
        patch.object(fold, "_MOST_AS_TEXT", most_texts),
        patch.object(fold, "_AT_ONCE", at_once),
    ):
        together, singly = Folder(window), Folder(window)
        for batch in batches:
            assert together.fresh(batch) == [each for each in batch if singly.is_new(each)]


@given(
    batches=st.lists(st.lists(st.integers(0, 60), max_size=30), max_size=12),
    window=st.integers(1, 20),
    at_once=st.integers(1, 20),
    last=st.sampled_from([60, 200, 1 << 32]),
)
def test_beyond_the_window_no_new_id_is_ever_lost(batches, window, at_once, last):
    with (
        patch.object(fold, "_MOST_AS_TEXT", 1),
        patch.object(fold, "_AT_ONCE", at_once),
        patch.object(fold, "_LAST_NUMBER", last),
    ):
        folder = Folder(window)
        seen: set[str] = set()
        for batch in batches:
            fresh = folder.fresh([str(each) for each in batch])
            assert set(map(str, batch)) - seen <= set(fresh)
            seen.update(fresh)


def test_ids_of_many_windows_in_batches_are_all_new_and_the_last_ones_are_known(early_packing):
    folder = Folder(1_000)
    ids = [f"m-{number}" for number in range(20_000)]
    assert [
        each for start in range(0, 20_000, 300) for each in folder.fresh(ids[start:][:300])
    ] == ids
    assert folder.fresh(ids[-1_000:]) == []
    assert folder.fresh(ids[:500]) == ids[:500]


def test_whoever_runs_out_of_numbers_begins_a_window_anew(early_packing, monkeypatch):
    monkeypatch.setattr(fold, "_LAST_NUMBER", 5_000)
    folder = Folder(1_000)
    ids = [f"m-{number}" for number in range(20_000)]
    for start in range(0, 20_000, 500):
        assert folder.fresh(ids[start:][:500]) == ids[start:][:500]
    assert folder.fresh(["a", "b", "a"]) == ["a", "b"]
    assert folder.fresh(["b"]) == []


def test_memory_stays_flat_beyond_the_window(early_packing):
    """Scaled down to a fiftieth: by as much the default window stays below 70 MB."""
    window, most = 20_000, 70_000_000 / 50
    tracemalloc.start()
    try:
        folder = Folder(window)
        peaks = []
        for turn in range(6):
            tracemalloc.reset_peak()
            for number in range(window):
                folder.is_new(f"{turn}-{number:036d}")
            peaks.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()
    assert max(peaks) < most
    assert max(peaks[3:]) < max(peaks[:3]) * 1.05


def test_a_small_request_takes_little_memory():
    tracemalloc.start()
    try:
        folder = Folder()
        assert folder.is_new("a")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20_000
