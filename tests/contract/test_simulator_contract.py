"""The real client against the simulator in its own process: the documented contract."""

import asyncio
import json
import os
import subprocess
import sys

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memos_api.client import MemosClient, delete_call, list_call, read_call
from memos_api.orders import AgentPurge, MemoryBatch, UserPurge
from memos_api.outcomes import Outcome
from memos_api.readback import Sight
from memos_api.simulator import SimulatorProcess

UNKNOWN_ID = "00000000-0000-4000-8000-000000000000"
IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


@pytest.fixture(scope="module")
def running():
    with SimulatorProcess(api_keys=("key-1", "key-2", "key-3=other")) as simulator:
        yield simulator


@pytest.fixture
def simulator(running):
    running.control.reset()
    running.control.set_limit(None)
    running.control.set_settings(
        unknown_id_policy="all_or_nothing",
        soft_delete=False,
        errors_as_http=False,
        max_ids=None,
        unknown_user=True,
        latency_s=0,
    )
    return running


def send(simulator, *calls, api_key="key-1"):
    async def run():
        async with MemosClient(base_url=simulator.base_url, api_key=api_key) as memos:
            return [await memos.send(call) for call in calls]

    replies = asyncio.run(run())
    return replies[0] if len(replies) == 1 else replies


def batch(*ids):
    return delete_call(MemoryBatch(memory_ids=ids))


def raw(simulator, members, path="/delete/memory", **headers):
    """Send what the client refuses to send; give the body code."""
    answer = httpx.post(
        simulator.base_url + path,
        headers={"Authorization": "Token key-1", **headers},
        content=members if isinstance(members, bytes) else json.dumps(members),
        trust_env=False,
    )
    return answer.json()["code"]


def test_a_batch_of_known_ids_is_deleted_and_nothing_else(simulator):
    ids = simulator.control.seed(users=2, memories=20).memory_ids
    reply = send(simulator, batch(*ids[5:15]))
    assert (reply.answer.outcome, reply.answer.code) == (Outcome.ACKNOWLEDGED, 0)
    left = simulator.control.remaining(ids=ids)
    assert left.ids == ids[:5] + ids[15:]
    assert left.total == 30


@pytest.mark.parametrize(
    ("policy", "outcome", "left"),
    [
        ("all_or_nothing", Outcome.NOT_FOUND, 3),
        ("partial", Outcome.NOT_FOUND, 0),
        ("accept", Outcome.ACKNOWLEDGED, 0),
    ],
)
@pytest.mark.parametrize("as_http", [False, True])
def test_one_unknown_id_is_answered_by_the_policy_in_force(
    simulator, policy, outcome, left, as_http
):
    simulator.control.set_settings(unknown_id_policy=policy, errors_as_http=as_http)
    ids = simulator.control.seed(memories=3).memory_ids
    reply = send(simulator, batch(*ids, UNKNOWN_ID))
    assert reply.answer.outcome is outcome
    if outcome is Outcome.NOT_FOUND:
        assert (reply.answer.code, reply.answer.http_status) == (40307, 404 if as_http else 200)
    assert simulator.control.remaining().total == left


def test_a_purge_takes_all_categories_of_one_user_only(simulator):
    made = simulator.control.seed(users=2, memories=60)
    reply = send(simulator, delete_call(UserPurge(user_id=made.users[0])))
    assert reply.answer.outcome is Outcome.ACKNOWLEDGED
    assert simulator.control.remaining(users=made.users).users == {
        made.users[0]: 0,
        made.users[1]: 60,
    }
    again = send(simulator, delete_call(UserPurge(user_id=made.users[0])))
    assert again.answer.outcome is Outcome.ACKNOWLEDGED


def test_agents_and_users_of_one_name_are_two_owners(simulator):
    simulator.control.seed_ids(["a1"], agent_id="twin")
    simulator.control.seed_ids(["u1"], user_id="twin")
    assert send(simulator, delete_call(AgentPurge(agent_id="twin"))).answer.code == 0
    assert simulator.control.remaining(ids=["a1", "u1"]).ids == ["u1"]


@pytest.mark.parametrize("order", [UserPurge(user_id="nobody"), AgentPurge(agent_id="nobody")])
def test_a_purge_of_nobody_known_is_40308(simulator, order):
    reply = send(simulator, delete_call(order))
    assert (reply.answer.outcome, reply.answer.code) == (Outcome.NOT_FOUND, 40308)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, 40002),
        ({"memory_ids": []}, 40002),
        ({"memory_ids": [""]}, 40002),
        ({"memory_ids": "m"}, 40000),
        ({"memory_ids": [1]}, 40000),
        ({"memory_ids": None}, 40000),
        ({"user_id": ""}, 40002),
        ({"user_id": 5}, 40000),
        ({"user_id": "x" * 101}, 40010),
        ({"memory_ids": ["m"], "user_id": "u"}, 40000),
        ({"user_id": "u", "agent_id": "a"}, 40000),
        ({"memory_ids": ["m"], "conversation_id": "c"}, 40000),
        ({"user_ids": ["u"]}, 40002),
        ({"memory_ids": ["m"], "user_ids": ["u"], "source": "cli"}, 0),
        ([], 40000),
        (b"not json", 40000),
        (b"\xff", 40000),
        (b"", 40000),
    ],
)
def test_the_rule_of_exactly_one_is_kept(simulator, body, code):
    simulator.control.seed_ids(["m"], user_id="u")
    assert raw(simulator, body) == code
    assert simulator.control.remaining().total == (0 if code == 0 else 1)


@pytest.mark.parametrize(
    ("header", "code"),
    [("", 40100), ("Token", 40100), ("Bearer key-1", 40100), ("Token wrong", 40103)],
)
def test_a_call_without_a_valid_key_is_refused(simulator, header, code):
    assert raw(simulator, {"user_id": "u"}, Authorization=header) == code
    assert raw(simulator, {"user_id": "u"}, "/get/memory", Authorization="Token x") == 40132


def test_an_unknown_path_is_answered_50000(simulator):
    assert raw(simulator, {}, "/delete/memories") == 50000
    record = simulator.control.journal()[-1]
    assert (record.endpoint, record.code) == ("other", 50000)


def test_projects_do_not_see_each_other(simulator):
    simulator.control.seed_ids(["theirs"], user_id="u", api_key="key-2")
    deleted, listed, read = send(
        simulator, batch("theirs"), list_call(("user", "u")), read_call("theirs")
    )
    assert (deleted.answer.outcome, deleted.answer.code) == (Outcome.REFUSED, 40306)
    assert listed.listing.memory_ids == ()
    assert read.sight is Sight.ABSENT
    assert send(simulator, read_call("theirs"), api_key="key-2").sight is Sight.PRESENT


def test_a_list_is_paged_by_category_newest_first(simulator):
    facts = [f"fact-{number}" for number in range(120)]
    simulator.control.seed_ids(facts, user_id="u", category="fact")
    simulator.control.seed_ids(["event-1"], user_id="u", category="event")
    pages = send(simulator, *(list_call(("user", "u"), page=page) for page in (1, 2, 3, 4)))
    listings = [reply.listing for reply in pages]
    assert [len(listing.memory_ids) for listing in listings] == [51, 50, 20, 0]
    assert listings[0].memory_ids[0] == "fact-119"
    assert {i for listing in listings for i in listing.memory_ids} == {*facts, "event-1"}
    assert all(listing.unchecked == () for listing in listings)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"user_id": "u", "size": 51}, 40000),
        ({"user_id": "u", "size": 0}, 40000),
        ({"user_id": "u", "page": 0}, 40000),
        ({"user_id": "u", "page": True}, 40000),
        ({"user_id": "u", "include_memory_view": ["typo"]}, 40000),
        ({"user_id": "u", "include_memory_view": ["event"]}, 0),
        ({"user_id": "u", "agent_id": "a"}, 40000),
        ({}, 40002),
    ],
)
def test_a_list_out_of_bounds_is_refused(simulator, body, code):
    assert raw(simulator, body, "/get/memory") == code


def test_a_read_tells_present_from_absent(simulator):
    simulator.control.seed_ids(["here", "gone"], user_id="u")
    send(simulator, batch("gone"))
    here, gone, never = send(simulator, *(read_call(name) for name in ("here", "gone", "never")))
    assert (here.sight, gone.sight, never.sight) == (Sight.PRESENT, Sight.ABSENT, Sight.ABSENT)
    assert gone.answer.code == 40001


def test_a_softly_deleted_memory_is_read_as_absent(simulator):
    simulator.control.set_settings(soft_delete=True)
    simulator.control.seed_ids(["gone"], user_id="u")
    reply = send(simulator, batch("gone"), read_call("gone"))[1]
    assert (reply.answer.outcome, reply.sight) == (Outcome.ACKNOWLEDGED, Sight.ABSENT)


def test_too_many_ids_for_one_call_are_40305(simulator):
    simulator.control.set_settings(max_ids=2)
    ids = simulator.control.seed(memories=3).memory_ids
    large, small = send(simulator, batch(*ids), batch(*ids[:2]))
    assert (large.answer.outcome, small.answer.outcome) == (
        Outcome.TOO_LARGE,
        Outcome.ACKNOWLEDGED,
    )


def test_a_search_gives_at_most_25_items(simulator):
    simulator.control.seed(users=1, memories=100, seed=9)
    members = {"user_id": "user-9-000000", "query": "made-up"}
    answer = httpx.post(
        simulator.base_url + "/search/memory",
        headers={"Authorization": "Token key-1"},
        json=members,
        trust_env=False,
    ).json()
    assert sum(len(items) for items in answer["data"].values()) == 25
    assert raw(simulator, {"user_id": "u"}, "/search/memory") == 40002


@settings(max_examples=25)
@given(st.lists(IDS, min_size=1, max_size=8, unique=True))
def test_any_id_can_be_read_and_deleted_by_its_own_name(running, ids):
    running.control.reset()
    running.control.seed_ids(ids, user_id="u")
    named = [memory_id for memory_id in ids if memory_id not in {".", ".."}]
    seen = send(running, *(read_call(memory_id) for memory_id in named), list_call(("user", "u")))
    seen = seen if isinstance(seen, list) else [seen]
    assert {reply.sight for reply in seen[:-1]} <= {Sight.PRESENT}
    assert set(seen[-1].listing.memory_ids) == set(ids)
    assert send(running, batch(*ids)).answer.outcome is Outcome.ACKNOWLEDGED
    assert running.control.remaining().total == 0
    assert running.control.journal()[-1].ids == tuple(ids)


@pytest.mark.parametrize(
    "memory_id", ["a/b", "../x", "a/../b", "a?b=c", "a#b", "%2F", "a b", "…/…"]
)
def test_an_id_that_looks_like_a_path_reaches_the_server_as_that_id(simulator, memory_id):
    simulator.control.seed_ids([memory_id], user_id="u")
    assert send(simulator, read_call(memory_id)).sight is Sight.PRESENT
    record = simulator.control.journal()[-1]
    assert (record.endpoint, record.ids) == ("read", (memory_id,))


def test_the_journal_has_every_call_in_order(simulator):
    ids = simulator.control.seed(memories=3).memory_ids
    send(simulator, batch(*ids[:2]), list_call(("user", "user-0-000000")), batch(UNKNOWN_ID))
    calls = simulator.control.journal()
    assert [call.seq for call in calls] == [0, 1, 2]
    assert [call.endpoint for call in calls] == ["delete", "list", "delete"]
    assert [(call.n_ids, call.applied, call.code) for call in calls] == [
        (2, 2, 0),
        (1, 0, 0),
        (1, 0, 40307),
    ]
    assert calls[0].ids == tuple(ids[:2])
    assert calls[0].at_s < calls[1].at_s < calls[2].at_s
    assert simulator.control.journal(after=2) == calls[2:]


@pytest.mark.parametrize(
    ("options", "outcome", "status", "wait"),
    [
        ({}, Outcome.BACK_OFF, 429, 1.0),
        ({"retry_after": False}, Outcome.BACK_OFF, 429, None),
        ({"style": "40300"}, Outcome.BACK_OFF, 200, None),
    ],
)
def test_calls_over_the_limit_are_refused(simulator, options, outcome, status, wait):
    simulator.control.set_limit(5, **options)
    replies = send(simulator, *[list_call(("user", "u"))] * 8)
    assert [reply.answer.outcome for reply in replies[:5]] == [Outcome.ACKNOWLEDGED] * 5
    for reply in replies[5:]:
        assert (reply.answer.outcome, reply.answer.http_status) == (outcome, status)
        assert reply.answer.retry_after_s == wait
    assert simulator.control.worst_window(1.0) == 8
    assert [call.fault for call in simulator.control.journal()] == [""] * 5 + ["rate"] * 3


def test_projects_of_one_account_share_its_limit_and_others_do_not(simulator):
    simulator.control.set_limit(2)
    for key, outcome in [
        ("key-1", Outcome.ACKNOWLEDGED),
        ("key-2", Outcome.ACKNOWLEDGED),
        ("key-1", Outcome.BACK_OFF),
        ("key-3", Outcome.ACKNOWLEDGED),
    ]:
        assert send(simulator, list_call(("user", "u")), api_key=key).answer.outcome is outcome


def test_latency_is_waited_before_the_answer(simulator):
    simulator.control.set_settings(latency_s=0.1)
    assert send(simulator, list_call(("user", "u"))).seconds >= 0.1


@pytest.mark.parametrize(
    "request_",
    [("faults", {"faults": [{"kind": "typo"}]}), ("settings", {"typo": 1}), ("seed", {"ids": 5})],
)
def test_a_control_request_with_a_typo_is_refused_in_words(simulator, request_):
    action, members = request_
    with pytest.raises(ValueError, match=f"refused '{action}'"):
        simulator.control._post(action, **members)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_it_starts_with_what_it_was_told_and_ends_with_its_context(tmp_path):
    journal = tmp_path / "journal.jsonl"
    with SimulatorProcess(users=2, memories=5, seed=3, rate=1, journal=journal) as simulator:
        assert simulator.control.remaining().users == {"user-3-000000": 5, "user-3-000001": 5}
        first, second = send(
            simulator, *[list_call(("user", "user-3-000000"))] * 2, api_key=simulator.api_key
        )
        assert len(first.listing.memory_ids) == 5
        assert second.answer.outcome is Outcome.BACK_OFF
        pid = simulator.pid
    assert not alive(pid)
    assert len(journal.read_text().splitlines()) == 2


def test_it_ends_when_the_process_that_started_it_is_killed():
    """The parent says the simulator's pid and port, and dies by SIGKILL."""
    script = (
        "import sys, time\n"
        "from memos_api.simulator import SimulatorProcess\n"
        "with SimulatorProcess() as simulator:\n"
        "    print(simulator.pid, simulator.base_url, flush=True)\n"
        "    time.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL
    )
    assert parent.stdout is not None
    _, base_url = parent.stdout.readline().split()
    # A request that the simulator holds open ends with it: the signal that it is gone.
    with httpx.Client(trust_env=False, timeout=20) as http:
        http.post(
            httpx.URL(base_url).copy_with(raw_path=b"/_simulator/settings"), json={"latency_s": 60}
        )
        parent.kill()
        parent.wait()
        parent.stdout.close()
        with pytest.raises((httpx.NetworkError, httpx.RemoteProtocolError)):
            http.post(base_url + "/get/memory", headers={"Authorization": "Token simulator-key"})
