"""Absence is believed only of answers that are complete and as documented."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_api.outcomes import Outcome, judge
from memos_api.readback import CATEGORIES, Item, Listing, Sight, listing_from, sight_from

MEMBERS = tuple(CATEGORIES.values())
OWNER = ("user", "u")


def page(**members):
    lists: dict[str, list[object]] = {name: [] for name in MEMBERS}
    return {"code": 0, "data": {**lists, "current": 1, "pages": 1, "total": 0, **members}}


def item(memory_id, **members):
    return {"id": memory_id, "status": "activated", **members}


def listed(document, *, owner=OWNER, **asked):
    return listing_from(document, owner=owner, **{"page": 1, **asked})


def test_ids_of_all_categories_are_listed_once():
    document = page(
        **{name: [item(f"id of {name}"), item("twice")] for name in MEMBERS},
    )
    listing = listed(document)
    assert listing is not None
    assert set(listing.memory_ids) == {f"id of {name}" for name in MEMBERS} | {"twice"}
    assert len(listing.memory_ids) == 7
    assert listing.unchecked == ()


def test_deleted_items_are_gone_and_archived_ones_are_not():
    document = page(
        memory_detail_list=[item("a", status="deleted"), item("b", status="archived")],
        event_detail_list=[{"id": "c"}],
    )
    listing = listed(document)
    assert listing is not None
    assert listing.memory_ids == ("b", "c")


@pytest.mark.parametrize(
    "members",
    [
        {"pages": 1, "total": 0},
        {"pages": 9},
        {"pages": None, "total": None},
        {"pages": "1", "total": True},
        {"current": None},
        {"current": "2"},
        {"current": True},
    ],
)
def test_what_a_page_says_of_the_others_is_not_trusted(members):
    """Only another page's number makes it an answer to another question."""
    listing = listed(page(memory_detail_list=[item("a")], **members))
    assert listing is not None
    assert listing.memory_ids == ("a",)


def test_the_ids_of_a_page_are_all_that_were_on_it():
    listing = listed(page(memory_detail_list=[item("a", status="deleted"), item("b")]))
    assert listing is not None
    assert listing.ids == {"a", "b"}
    assert listing.memory_ids == ("b",)


def test_a_page_is_read_as_the_one_that_was_asked_for():
    assert listed(page(current=2), page=2) is not None
    assert listed(page(current=2), page=3) is None


@pytest.mark.parametrize(
    ("owner", "members", "owned"),
    [
        (("user", "u"), {"user_id": "u"}, True),
        (("user", "u"), {"user_id": "v"}, False),
        (("user", "u"), {"user_id": "U"}, False),
        (("user", "u"), {"agent_id": "u"}, None),
        (("user", "u"), {}, None),
        (("user", "u"), {"user_id": ""}, None),
        (("user", "u"), {"user_id": None}, None),
        (("user", "u"), {"user_id": ["u"]}, None),
        (("agent", "g"), {"agent_id": "g", "user_id": "u"}, True),
        (("agent", "g"), {"agent_id": "h"}, False),
        (("agent", "g"), {"user_id": "g"}, None),
    ],
)
def test_whose_a_memory_is_only_the_server_says(owner, members, owned):
    listing = listed(page(event_detail_list=[item("a", **members)]), owner=owner)
    assert listing is not None
    assert [one.owned for one in listing.items] == [owned]


@pytest.mark.parametrize(
    ("members", "made"),
    [
        ({"create_time": "2027-01-15T08:00:00Z"}, 1_800_000_000_000_000),
        ({"create_time": 1_800_000_000_000}, 1_800_000_000_000_000),
        ({"created_at": "2027-01-15T08:00:00Z"}, 1_800_000_000_000_000),
        ({"create_time": None, "created_at": 1_800_000_000}, 1_800_000_000_000_000),
        # Another time than the one that was given is not made up for it.
        ({"create_time": "soon", "created_at": 1_800_000_000}, None),
        ({}, None),
    ],
)
def test_when_a_memory_was_made(members, made):
    listing = listed(page(profile_detail_list=[item("a", **members)]))
    assert listing is not None
    assert [one.created_us for one in listing.items] == [made]


@pytest.mark.parametrize(
    ("said", "feared"),
    [
        (((True, 5), (False, 7)), (True, 5)),
        (((False, 5), (True, 7)), (True, 5)),
        (((False, 5), (None, 7)), (None, 5)),
        (((False, None), (False, 7)), (False, None)),
        (((False, 7), (False, 5)), (False, 5)),
    ],
)
def test_of_an_id_that_stands_there_twice_the_worse_is_believed(said, feared):
    first, second = (Item(id="a", owned=owned, created_us=made) for owned, made in said)
    worse = second.both(first)
    assert (worse.owned, worse.created_us) == feared
    assert first.both(None) == first


def test_a_list_that_names_an_id_twice_is_read_that_way():
    listing = listed(
        page(
            memory_detail_list=[item("a", user_id="u", create_time=1_800_000_000)],
            event_detail_list=[item("a", user_id="other", create_time=1_900_000_000)],
        )
    )
    assert listing is not None
    assert [(one.owned, one.created_us) for one in listing.items] == [(True, 1_800_000_000_000_000)]


def test_missing_and_null_categories_are_told_as_unchecked():
    document = page(skill_detail_list=None)
    del document["data"]["event_detail_list"]
    listing = listed(document)
    assert listing is not None
    assert listing.unchecked == ("skill", "event")


@pytest.mark.parametrize("view", CATEGORIES)
def test_of_a_list_of_one_category_the_others_are_not_missed(view):
    document = {"data": {CATEGORIES[view]: [item("a")]}}
    listing = listed(document, views=(view,))
    assert listing is not None
    assert (listing.memory_ids, listing.unchecked) == (("a",), ())
    empty = listed({"data": {"current": 1}}, views=(view,))
    assert empty is not None
    assert empty.unchecked == (view,)


@pytest.mark.parametrize(
    "document", [{"data": {"current": 1}}, {"data": {"total": 0}}, {"data": dict.fromkeys(MEMBERS)}]
)
def test_a_page_without_any_category_shows_nothing_of_any(document):
    listing = listed(document)
    assert listing == Listing(items=(), ids=frozenset(), unchecked=tuple(CATEGORIES))


MALFORMED_PAGES = [
    None,
    {"data": {}},
    {"data": {"success": True}},  # it is no list at all
    {},
    {"data": None},
    {"data": []},
    page(memory_detail_list={}),
    page(memory_detail_list="none"),
    page(memory_detail_list=[None]),
    page(memory_detail_list=["a"]),
    page(memory_detail_list=[{}]),
    page(memory_detail_list=[{"id": None}]),
    page(memory_detail_list=[{"id": 5}]),
    page(memory_detail_list=[{"id": ""}]),
    page(memory_detail_list=[{"id": "a\ud800"}]),  # no call could name it
    page(memory_detail_list=[item("a"), {"status": "deleted"}]),
    page(current=2),
]


@pytest.mark.fault("F71")
@pytest.mark.parametrize("document", MALFORMED_PAGES, ids=range(len(MALFORMED_PAGES)))
def test_a_page_not_as_documented_is_no_listing(document):
    assert listed(document) is None


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*MEMBERS, "id", "status", "current", "pages"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(JSON_VALUES)
def test_a_listing_that_shows_nothing_comes_only_from_empty_lists(data):
    listing = listed({"code": 0, "data": data})
    if listing is None:
        return
    shown = {view: data.get(name) for view, name in CATEGORIES.items()}
    assert listing.unchecked == tuple(view for view, held in shown.items() if held is None)
    entries = [entry for held in shown.values() if held is not None for entry in held]
    assert listing.ids == {entry["id"] for entry in entries}
    assert set(listing.memory_ids) == {
        entry["id"] for entry in entries if entry.get("status") != "deleted"
    }


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
    seen = Item(id="canary", owned=True, created_us=1)
    listing = Listing(items=(seen,), ids=frozenset({"canary"}))
    assert "canary" not in repr(seen)
    assert "canary" not in repr(listing)
