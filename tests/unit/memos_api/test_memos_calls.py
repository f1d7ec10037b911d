"""What leaves is what was ordered, to the byte."""

import json
from urllib.parse import unquote_to_bytes

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from memos_api.client import Call, delete_call, list_call, read_call
from memos_api.orders import AgentPurge, MemoryBatch, UserPurge

IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
BATCHES = st.lists(IDS, min_size=1).map(lambda ids: MemoryBatch(memory_ids=tuple(ids)))
ORDERS = st.one_of(
    BATCHES,
    IDS.map(lambda name: UserPurge(user_id=name)),
    IDS.map(lambda name: AgentPurge(agent_id=name)),
)
MEMBERS = {MemoryBatch: "memory_ids", UserPurge: "user_id", AgentPurge: "agent_id"}


@given(ORDERS)
def test_a_body_has_exactly_the_one_member_of_its_order(order):
    call = delete_call(order)
    body = json.loads(call.body)
    assert (call.kind, call.method, call.path) == ("delete", "POST", "/delete/memory")
    assert list(body) == [MEMBERS[type(order)]]
    assert all(body.values())


@given(BATCHES)
def test_a_batch_always_leaves_with_its_ids_and_never_as_a_purge(order):
    body = json.loads(delete_call(order).body)
    assert body == {"memory_ids": list(order.memory_ids)}


@given(BATCHES)
def test_ids_stand_on_the_wire_in_their_own_utf_8(order):
    body = delete_call(order).body
    for memory_id in order.memory_ids:
        plain = memory_id.replace("\\", "").replace('"', "")
        if plain == memory_id and memory_id.isprintable():
            assert b'"' + memory_id.encode() + b'"' in body


def test_a_batch_emptied_behind_its_back_is_not_sent():
    batch = MemoryBatch(memory_ids=("a",))
    object.__setattr__(batch, "memory_ids", ())
    with pytest.raises(TypeError, match="nothing was sent"):
        delete_call(batch)


@pytest.mark.parametrize("order", [None, {"user_id": "u"}, "u", ("a",)])
def test_only_the_three_kinds_of_order_are_encoded(order):
    with pytest.raises(TypeError, match="nothing was sent"):
        delete_call(order)


def test_a_subclass_cannot_bring_its_own_idea_of_a_batch():
    class Sly(MemoryBatch):
        def __post_init__(self):
            pass

    with pytest.raises(TypeError, match="nothing was sent"):
        delete_call(Sly(memory_ids=()))


@given(IDS)
def test_an_id_stays_one_path_segment_whatever_is_in_it(memory_id):
    call = read_call(memory_id)
    if memory_id in {".", ".."}:
        assert call.path == ""
        return
    assert call.path.count("/") == 3
    # The way to the socket: httpx parses the address, then yarl does.
    on_the_wire = URL(str(httpx.URL("http://host/api" + call.path))).raw_path_qs
    assert on_the_wire.startswith("/api/get/memory/")
    segment = on_the_wire.removeprefix("/api/get/memory/")
    assert not set(segment) & set("/?#")
    assert unquote_to_bytes(segment) == memory_id.encode()


def test_a_list_call_asks_for_one_page_of_one_owner():
    assert json.loads(list_call(("user", "u")).body) == {"user_id": "u", "page": 1, "size": 50}
    call = list_call(("agent", "a"), page=3, size=7)
    assert json.loads(call.body) == {"agent_id": "a", "page": 3, "size": 7}
    assert (call.kind, call.method, call.path, call.page) == ("list", "POST", "/get/memory", 3)


@pytest.mark.parametrize(
    "arguments",
    [
        {"owner": ("user", "")},
        {"owner": ("user", "u"), "page": 0},
        {"owner": ("user", "u"), "size": 0},
        {"owner": ("user", "u"), "size": 51},
    ],
)
def test_a_list_call_out_of_bounds_is_not_made(arguments):
    with pytest.raises(ValueError, match=r"(Pages count|must be a non-empty)"):
        list_call(**arguments)


@pytest.mark.parametrize("memory_id", ["", "\udc00"])
def test_a_read_of_no_id_is_not_made(memory_id):
    with pytest.raises(ValueError, match="memory id"):
        read_call(memory_id)


def test_reprs_of_calls_show_no_ids():
    calls: list[Call] = [
        delete_call(MemoryBatch(memory_ids=("canary",))),
        delete_call(UserPurge(user_id="canary")),
        list_call(("user", "canary")),
        read_call("canary"),
    ]
    for call in calls:
        assert "canary" not in repr(call)
        assert call.kind in repr(call)
