"""Absence is believed only of answers that are complete and as documented."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_api.outcomes import Outcome, judge
from memos_api.readback import CATEGORIES, Listing, Sight, listing_from, sight_from


def page(**members):
    lists: dict[str, list[object]] = {name: [] for name in CATEGORIES}
    return {"code": 0, "data": {**lists, "current": 1, "pages": 1, "total": 0, **members}}


def item(memory_id, **members):
    return {"id": memory_id, "status": "activated", **members}


def test_ids_of_all_categories_are_listed_once():
    document = page(
        **{name: [item(f"id of {name}"), item("twice")] for name in CATEGORIES},
    )
    listing = listing_from(document, page=1)
    assert listing is not None
    assert set(listing.memory_ids) == {f"id of {name}" for name in CATEGORIES} | {"twice"}
    assert len(listing.memory_ids) == 7
    assert listing.unchecked == ()


def test_deleted_items_are_gone_and_archived_ones_are_not():
    document = page(
        memory_detail_list=[item("a", status="deleted"), item("b", status="archived")],
        event_detail_list=[{"id": "c"}],
    )
    listing = listing_from(document, page=1)
    assert listing is not None
    assert listing.memory_ids == ("b", "c")


@pytest.mark.parametrize(
    ("members", "asked", "last"),
    [
        ({}, 1, True),
        ({"memory_detail_list": [item("a")]}, 1, True),
        ({"memory_detail_list": [item("a")], "pages": 2}, 1, False),
        ({"memory_detail_list": [item("a")], "pages": 2, "current": 2}, 2, True),
        ({"memory_detail_list": [item("a", status="deleted")], "pages": 2}, 1, False),
        ({"pages": 9}, 1, True),
        ({"memory_detail_list": [item("a")], "pages": None}, 1, False),
        ({"memory_detail_list": [item("a")], "pages": "1"}, 1, False),
        ({"memory_detail_list": [item("a")], "pages": True}, 1, False),
        ({"memory_detail_list": [item("a")], "current": None}, 1, False),
    ],
)
def test_the_last_page_is_the_last_by_number_or_an_empty_one(members, asked, last):
    listing = listing_from(page(**members), page=asked)
    assert listing is not None
    assert (listing.page, listing.last) == (asked, last)


def test_missing_and_null_categories_are_told_as_unchecked():
    document = page(skill_detail_list=None)
    del document["data"]["event_detail_list"]
    listing = listing_from(document, page=1)
    assert listing is not None
    assert listing.unchecked == ("skill_detail_list", "event_detail_list")


MALFORMED_PAGES = [
    None,
    {},
    {"data": None},
    {"data": []},
    {"data": {}},
    {"data": {"success": True}},
    {"data": dict.fromkeys(CATEGORIES)},
    page(memory_detail_list={}),
    page(memory_detail_list="none"),
    page(memory_detail_list=[None]),
    page(memory_detail_list=["a"]),
    page(memory_detail_list=[{}]),
    page(memory_detail_list=[{"id": None}]),
    page(memory_detail_list=[{"id": 5}]),
    page(memory_detail_list=[{"id": ""}]),
    page(memory_detail_list=[item("a"), {"status": "deleted"}]),
    page(current=2),
]


@pytest.mark.fault("F71")
@pytest.mark.parametrize("document", MALFORMED_PAGES, ids=range(len(MALFORMED_PAGES)))
def test_a_page_not_as_documented_is_no_listing(document):
    assert listing_from(document, page=1) is None


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*CATEGORIES, "id", "status", "current", "pages"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(JSON_VALUES)
def test_a_listing_that_shows_nothing_comes_only_from_empty_lists(data):
    listing = listing_from({"code": 0, "data": data}, page=1)
    if listing is not None and not listing.memory_ids:
        lists = [data.get(name) for name in CATEGORIES if data.get(name) is not None]
        assert lists
        assert all(entry["status"] == "deleted" for held in lists for entry in held)


def sight(body, *, status=200, memory_id="a"):
    judged = judge(
        http_status=status, headers={}, body=json.dumps(body).encode(), needs_success=False
    )
    return sight_from(judged.answer, judged.document, memory_id=memory_id)


@pytest.mark.parametrize(
    ("body", "status", "seen"),
    [
        ({"code": 0, "data": item("a")}, 200, Sight.PRESENT),
        ({"code": 200, "data": item("a")}, 200, Sight.PRESENT),
        ({"code": 0, "data": item("a", status="archived")}, 200, Sight.PRESENT),
        ({"code": 0, "data": item("a", status="resolving")}, 200, Sight.PRESENT),
        ({"code": 0, "data": item("a", status="never heard of")}, 200, Sight.PRESENT),
        ({"code": 0, "data": {"id": "a"}}, 200, Sight.PRESENT),
        ({"code": 0, "data": item("a", status="deleted")}, 200, Sight.ABSENT),
        ({"code": 200, "data": item("a", status="deleted")}, 200, Sight.ABSENT),
        ({"code": 40001, "data": None}, 200, Sight.ABSENT),
        ({"code": 40307, "data": None}, 200, Sight.ABSENT),
        ({"code": 40001}, 404, Sight.ABSENT),
        ({"code": 40001}, 500, Sight.UNKNOWN),
        ({"code": 40308}, 200, Sight.UNKNOWN),
        ({"code": 40001, "data": {"success": True}}, 200, Sight.UNKNOWN),
        ({"code": 0, "data": item("b", status="deleted")}, 200, Sight.UNKNOWN),
        ({"code": 0, "data": item("A", status="deleted")}, 200, Sight.UNKNOWN),
        ({"code": 0, "data": item("a", status=None)}, 200, Sight.PRESENT),
        ({"code": 0, "data": item("a", status=3)}, 200, Sight.UNKNOWN),
        ({"code": 0, "data": item("a", status="deleted")}, 202, Sight.UNKNOWN),
        ({"code": 0, "data": item("a", status="deleted")}, 500, Sight.UNKNOWN),
        ({"code": 0, "data": None}, 200, Sight.UNKNOWN),
        ({"code": 0, "data": []}, 200, Sight.UNKNOWN),
        ({"code": 0, "data": {}}, 200, Sight.UNKNOWN),
        (
            {"code": 0, "data": {"success": False, "id": "a", "status": "deleted"}},
            200,
            Sight.UNKNOWN,
        ),
        ({"code": 50000}, 200, Sight.UNKNOWN),
        ({"code": "40001"}, 200, Sight.UNKNOWN),
        ({"detail": "not found"}, 404, Sight.UNKNOWN),
        ({}, 200, Sight.UNKNOWN),
    ],
)
def test_one_memory_is_seen_absent_present_or_not_known(body, status, seen):
    assert sight(body, status=status) is seen


def test_a_soft_deleted_memory_is_judged_by_the_same_table_as_others():
    judged = judge(http_status=200, headers={}, body=b'{"code":40001}', needs_success=False)
    assert judged.answer.outcome is Outcome.NOT_FOUND


def test_the_repr_of_a_listing_shows_no_ids():
    listing = Listing(memory_ids=("canary",), page=1, last=True, unchecked=())
    assert "canary" not in repr(listing)
