"""The self-hosted dialect: what leaves, and how little of what comes back is believed."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_api import (
    SEARCH,
    AgentPurge,
    Answer,
    MemoryBatch,
    Outcome,
    Owner,
    SelfHosted,
    Sight,
    UserPurge,
)

SERVER = SelfHosted(cubes=("one", "two"))
USER: Owner = ("user", "u")
AGENT: Owner = ("agent", "g")
KINDS = ("text_mem", "pref_mem", "tool_mem", "skill_mem")
IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


def body_of(call):
    return json.loads(call.body)


def heard(call, body, *, status=200):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return SERVER.understand(call, http_status=status, headers={}, body=raw)


# -- what leaves ----------------------------------------------------------------------------------


def test_a_server_without_cubes_is_refused():
    with pytest.raises(ValueError, match="cubes"):
        SelfHosted(cubes=())


@given(st.lists(IDS, min_size=1, max_size=5).map(tuple))
def test_a_batch_leaves_with_exactly_its_ids(ids):
    call = SERVER.delete(MemoryBatch(memory_ids=ids))
    assert (call.kind, call.method, call.path) == ("delete", "POST", "/product/delete_memory")
    assert body_of(call) == {"writable_cube_ids": ["one", "two"], "memory_ids": list(ids)}


def test_a_purge_leaves_with_its_user_and_no_ids():
    call = SERVER.delete(UserPurge(user_id="u"))
    assert call.path == "/product/delete_memory"
    assert body_of(call) == {"writable_cube_ids": ["one", "two"], "user_id": "u"}


def test_the_purge_of_an_agent_has_no_path_and_names_nobody():
    """The server drops a member `agent_id` silently: what is left would be somebody else's."""
    call = SERVER.delete(AgentPurge(agent_id="g"))
    assert call.path == ""
    assert set(body_of(call)) == {"writable_cube_ids"}


@pytest.mark.parametrize("order", [None, "u", {"user_id": "u"}, ("a",)])
def test_only_the_three_kinds_of_order_are_encoded(order):
    with pytest.raises(TypeError, match="nothing was sent"):
        SERVER.delete(order)


def test_a_batch_emptied_behind_its_back_is_not_sent():
    batch = MemoryBatch(memory_ids=("a",))
    object.__setattr__(batch, "memory_ids", ())
    with pytest.raises(TypeError, match="nothing was sent"):
        SERVER.delete(batch)


def test_every_cube_is_walked_and_a_user_is_searched_for():
    assert SERVER.legs(USER) == ("one", "two", SEARCH)
    assert SERVER.legs(None) == ("one", "two")
    assert SelfHosted(cubes=("one",), searches=False).legs(USER) == ("one",)
    assert [SERVER.alone(kind) for kind in KINDS] == [None] * 4


def test_a_look_asks_one_cube_for_all_kinds():
    call = SERVER.look(USER, leg="two", page=3)
    assert (call.kind, call.method, call.path) == ("list", "POST", "/product/get_memory")
    assert (call.page, call.owner, call.views) == (3, USER, KINDS)
    assert body_of(call) == {
        "mem_cube_id": "two",
        "user_id": "u",
        "page": 3,
        "page_size": 50,
        "include_preference": True,
        "include_tool_memory": True,
        "include_skill_memory": True,
    }
    assert "user_id" not in body_of(SERVER.look(None, leg="two", page=1))


def test_a_search_asks_all_cubes_and_takes_any_hit():
    call = SERVER.look(USER, leg=SEARCH, page=1)
    assert (call.kind, call.path, call.owner) == ("search", "/product/search", USER)
    asked = body_of(call)
    assert (asked["user_id"], asked["readable_cube_ids"], asked["relativity"]) == (
        "u",
        ["one", "two"],
        0,
    )
    with pytest.raises(ValueError, match="user"):
        SERVER.look(None, leg=SEARCH, page=1)


def test_an_agent_is_never_asked_for_as_the_user_of_that_name():
    assert "user_id" not in body_of(SERVER.look(AGENT, leg="one", page=1))
    assert SEARCH not in SERVER.legs(AGENT)
    with pytest.raises(ValueError, match="user"):
        SERVER.look(AGENT, leg=SEARCH, page=1)


@pytest.mark.parametrize(
    ("memory_id", "path"),
    [
        ("a", "/product/get_memory/a"),
        ("a/b c?d#e", "/product/get_memory/a%2Fb%20c%3Fd%23e"),
        ("é", "/product/get_memory/%C3%A9"),
        (".", ""),
        ("..", ""),
    ],
)
def test_a_read_names_its_id_to_the_byte_or_does_not_leave(memory_id, path):
    call = SERVER.read(memory_id)
    assert (call.kind, call.method, call.path) == ("read", "GET", path)


# -- deletions ------------------------------------------------------------------------------------

DELETION = SERVER.delete(MemoryBatch(memory_ids=("a",)))


@pytest.mark.parametrize(
    ("body", "status", "outcome", "reason"),
    [
        ({"code": 200, "data": {"status": "success"}}, 200, Outcome.ACKNOWLEDGED, None),
        ({"code": 200, "data": {"status": "failure"}}, 200, Outcome.UNKNOWN, "status_failure"),
        ({"code": 200, "data": {"status": "Success"}}, 200, Outcome.UNKNOWN, "status_missing"),
        ({"code": 200, "data": {"status": True}}, 200, Outcome.UNKNOWN, "status_missing"),
        ({"code": 200, "data": {"status": None}}, 200, Outcome.UNKNOWN, "status_missing"),
        ({"code": 200, "data": {}}, 200, Outcome.UNKNOWN, "status_missing"),
        ({"code": 200, "data": "success"}, 200, Outcome.UNKNOWN, "status_missing"),
        ({"code": 200, "data": ["success"]}, 200, Outcome.UNKNOWN, "status_missing"),
        ({"code": 200, "data": None}, 200, Outcome.UNKNOWN, "status_missing"),
        ({"code": 200}, 200, Outcome.UNKNOWN, "status_missing"),
        ({"code": 500, "data": {"status": "success"}}, 500, Outcome.UNKNOWN, None),
        (b"", 200, Outcome.UNKNOWN, None),
        (b"<html>", 200, Outcome.UNKNOWN, None),
    ],
)
def test_a_deletion_is_judged_by_its_status(body, status, outcome, reason):
    answer = heard(DELETION, body, status=status).answer
    assert answer.outcome is outcome
    if reason is not None:
        assert answer.reason == reason


@given(st.integers(201, 299), st.sampled_from(["success", "failure"]))
def test_only_a_plain_ok_speaks_of_success(status, said):
    body = {"code": 200, "data": {"status": said}}
    understood = heard(DELETION, body, status=status)
    assert isinstance(understood.answer, Answer)
    assert understood.listing is understood.sight is None


# -- lists ----------------------------------------------------------------------------------------

LOOK = SERVER.look(USER, leg="one", page=1)
FIND = SERVER.look(USER, leg=SEARCH, page=1)


def memory(memory_id, **metadata):
    return {"id": memory_id, "memory": "...", "metadata": metadata}


def page(*memories, **kinds):
    shelf = {"cube_id": "one", "memories": list(memories), "total_nodes": 99}
    return {"code": 200, "data": {**{kind: [] for kind in KINDS}, "text_mem": [shelf], **kinds}}


def listed(body, call=LOOK):
    return heard(call, body).listing


@pytest.mark.parametrize("call", [LOOK, FIND])
def test_what_is_there_is_listed_once_with_its_owner_and_time(call):
    shelf = {
        "memories": [
            memory("a", user_id="u", created_at="2027-01-15T08:00:00Z"),
            memory("b", user_id="v"),
            memory("c"),
        ]
    }
    listing = listed({"code": 200, "data": {kind: [shelf] for kind in KINDS}}, call)
    assert listing is not None
    assert [(one.id, one.owned, one.created_us) for one in listing.items] == [
        ("a", True, 1_800_000_000_000_000),
        ("b", False, None),
        ("c", None, None),
    ]
    assert (listing.ids, listing.unchecked) == ({"a", "b", "c"}, ())


@pytest.mark.parametrize("user", [None, "", 5, ["u"], {}])
def test_an_item_that_names_no_user_may_be_anybodys(user):
    listing = listed(page(memory("a", user_id=user)))
    assert listing is not None
    assert [one.owned for one in listing.items] == [None]


@pytest.mark.parametrize("metadata", [None, [], "deleted", 5])
def test_an_item_whose_metadata_cannot_be_read_is_there(metadata):
    listing = listed(page({"id": "a", "metadata": metadata}, {"id": "b"}))
    assert listing is not None
    assert [(one.id, one.owned) for one in listing.items] == [("a", None), ("b", None)]


def test_deleted_items_are_gone_and_all_others_are_not():
    states = ["deleted", "archived", "activated", "resolving", "Deleted", "unheard of", None, 5]
    memories = [memory(str(state), status=state, user_id="u") for state in states]
    listing = listed(page(*memories))
    assert listing is not None
    assert set(listing.memory_ids) == {str(state) for state in states} - {"deleted"}
    assert listing.ids == {str(state) for state in states}


def test_nobody_is_said_to_own_what_nobody_was_asked_for():
    call = SERVER.look(None, leg="one", page=1)
    listing = listed(page(memory("a", user_id="u")), call)
    assert listing is not None
    assert [one.owned for one in listing.items] == [None]


def test_a_user_of_an_agents_name_does_not_own_for_it():
    """There are no agents here: what was ordered for one must not take a user's memories."""
    call = SERVER.look(("agent", "u"), leg="one", page=1)
    listing = listed(page(memory("a", user_id="u")), call)
    assert listing is not None
    assert [one.owned for one in listing.items] == [None]


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_that_is_left_out_or_null_is_told_as_unchecked(kind):
    body = page(memory("a"), **{kind: None})
    without = {"code": 200, "data": {k: v for k, v in body["data"].items() if k != kind}}
    for one in (body, without):
        listing = listed(one)
        assert listing is not None
        assert listing.unchecked == (kind,)


MALFORMED = [
    [],
    {"code": 200},
    {"code": 200, "data": None},
    {"code": 200, "data": []},
    {"code": 200, "data": "none"},
    page(text_mem={}),
    page(text_mem="none"),
    page(text_mem=5),
    page(text_mem=[None]),
    page(text_mem=["a"]),
    page(text_mem=[[]]),
    page(text_mem=[{}]),
    page(text_mem=[{"memories": None}]),
    page(text_mem=[{"memories": {}}]),
    page(text_mem=[{"memories": "a"}]),
    page(skill_mem=[{"memories": [None]}]),
    page(skill_mem=[{"memories": ["a"]}]),
    page(skill_mem=[{"memories": [[]]}]),
    page({}),
    page({"id": None}),
    page({"id": 5}),
    page({"id": ""}),
    page({"id": ["a"]}),
    page({"id": "a\ud800"}),  # no call could name it
    page(memory("a"), {"metadata": {"status": "deleted"}}),
    {"code": 500, "data": page()["data"]},
    page(success=False),
    b"",
    b"none",
    b"<html></html>",
    b'{"code":200,"data":{"text_mem":[],"text_mem":[]}}',
]


@pytest.mark.fault("F71")
@pytest.mark.parametrize("call", [LOOK, FIND], ids=["list", "search"])
@pytest.mark.parametrize("body", MALFORMED, ids=range(len(MALFORMED)))
def test_a_page_of_any_other_shape_is_no_listing(body, call):
    understood = heard(call, body)
    assert understood.listing is None
    assert understood.answer.outcome is not Outcome.ACKNOWLEDGED


@pytest.mark.parametrize("status", [202, 204, 206, 404, 422, 500, 503])
def test_a_page_under_another_status_is_no_listing(status):
    understood = heard(LOOK, page(), status=status)
    assert understood.listing is None
    assert understood.answer.outcome is not Outcome.ACKNOWLEDGED


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*KINDS, "id", "metadata", "memories", "status", "user_id"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)


@given(JSON_VALUES)
def test_a_page_that_shows_nothing_comes_only_from_empty_shelves(data):
    listing = listed({"code": 200, "data": data})
    if listing is None:
        return
    shelves = [shelf for kind in KINDS for shelf in data.get(kind) or []]
    memories = [one for shelf in shelves for one in shelf["memories"]]
    assert listing.ids == {one["id"] for one in memories}
    assert listing.unchecked == tuple(kind for kind in KINDS if data.get(kind) is None)
    assert set(listing.memory_ids) <= listing.ids


# -- reads by id ----------------------------------------------------------------------------------

READ = SERVER.read("a")


@pytest.mark.parametrize(
    ("body", "status", "seen"),
    [
        ({"code": 200, "data": memory("a")}, 200, Sight.PRESENT),
        ({"code": 200, "data": memory("a", status="archived")}, 200, Sight.PRESENT),
        ({"code": 200, "data": memory("b")}, 200, Sight.UNKNOWN),
        ({"code": 200, "data": None, "message": "not found"}, 200, Sight.UNKNOWN),
        ({"code": 200, "data": []}, 200, Sight.UNKNOWN),
        ({"code": 200, "data": memory("a")}, 202, Sight.UNKNOWN),
        ({"code": 40001}, 200, Sight.UNKNOWN),
        ({"code": 40307}, 404, Sight.UNKNOWN),
        ({"detail": "not found"}, 404, Sight.UNKNOWN),
        ({"code": 500}, 500, Sight.UNKNOWN),
        (b"", 200, Sight.UNKNOWN),
    ],
)
def test_a_read_by_id_shows_what_is_there(body, status, seen):
    assert heard(READ, body, status=status).sight is seen


@given(
    st.fixed_dictionaries(
        {},
        optional={"code": st.sampled_from([0, 200, 40001, 40307, 404, 500]), "data": JSON_VALUES},
    ),
    st.sampled_from([200, 202, 404, 410, 422, 500]),
)
def test_no_answer_to_a_read_by_id_proves_absence(body, status):
    """It looks into one cube only, and says "not found" while the database is down."""
    assert heard(READ, body, status=status).sight in {Sight.PRESENT, Sight.UNKNOWN}


@pytest.mark.parametrize("status", [404, 410])
def test_an_id_that_is_not_found_does_not_stop_the_project(status):
    answer = heard(READ, {"detail": "Not Found"}, status=status).answer
    assert answer.outcome is Outcome.UNKNOWN


@given(st.binary(max_size=60), st.integers(100, 599), st.sampled_from([DELETION, LOOK, FIND, READ]))
def test_no_answer_raises(body, status, call):
    understood = heard(call, body, status=status)
    assert understood.answer.outcome is not Outcome.ACKNOWLEDGED
