"""The simulator as a self-hosted MemOS: what version 2.0.33 was seen to do on Postgres."""

import pytest

from memos_api.simulator import SimulatorProcess
from tests.contract.simulator_wire import KINDS, Wire

SUCCESS, FAILURE = {"status": "success"}, {"status": "failure"}


@pytest.fixture(scope="module")
def running():
    with SimulatorProcess() as simulator:
        yield simulator


@pytest.fixture
def wire(running):
    wire = Wire(running)
    yield wire
    wire.close()


def test_ids_are_deleted_without_a_key(wire):
    wire.control.seed_ids(["a", "b", "c"], user_id="u")
    answer = wire.own("/product/delete_memory", {"memory_ids": ["a", "c"]})
    assert answer.status_code == 200
    assert answer.json() == {
        "code": 200,
        "message": "Memories deleted successfully",
        "data": SUCCESS,
    }
    assert wire.control.remaining(ids=["a", "b", "c"]).ids == ["b"]


@pytest.mark.parametrize("ids", [[], ["never"], ["never", "a"]])
def test_unknown_ids_are_a_success(wire, ids):
    wire.control.seed_ids(["a"], user_id="u")
    assert wire.delete("own", memory_ids=ids)["data"] == SUCCESS
    assert wire.control.remaining().total == (0 if "a" in ids else 1)


def test_cubes_do_not_scope_a_deletion_by_id(wire):
    wire.control.seed_ids(["a"], user_id="u", cube="one")
    assert wire.delete("own", memory_ids=["a"], writable_cube_ids=["two"])["data"] == SUCCESS
    assert wire.control.remaining().total == 0


@pytest.mark.parametrize(("backend", "left"), [("postgres", 1), ("honest", 0)])
def test_an_id_with_a_nul_loses_the_batch_on_postgres_and_is_called_a_success(wire, backend, left):
    wire.control.set_settings(backend=backend)
    wire.control.seed_ids(["a"], user_id="u")
    assert wire.delete("own", memory_ids=["a", "b\0"])["data"] == SUCCESS
    assert wire.control.remaining().total == left


@pytest.mark.parametrize(("backend", "said"), [("postgres", FAILURE), ("honest", SUCCESS)])
def test_a_purge_deletes_all_of_the_user_and_postgres_calls_it_a_failure(wire, backend, said):
    wire.control.set_settings(backend=backend)
    users = wire.control.seed(users=2, memories=30).users
    wire.control.seed_ids(["elsewhere"], user_id=users[0], cube="other")
    answer = wire.delete("own", user_id=users[0])
    assert (answer["code"], answer["data"]) == (200, said)
    assert wire.control.remaining(users=users).users == {users[0]: 0, users[1]: 30}
    record = wire.control.journal()[-1]
    assert (record.kind, record.ids, record.applied) == ("user", (users[0],), 31)


def test_cubes_do_scope_a_purge(wire):
    wire.control.seed_ids(["a"], user_id="u", cube="one")
    wire.control.seed_ids(["b"], user_id="u", cube="two")
    wire.delete("own", user_id="u", writable_cube_ids=["one"])
    assert wire.control.remaining(ids=["a", "b"]).ids == ["b"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"filter": {}},
        {"memory_ids": ["a"], "user_id": "u"},
        {"memory_ids": ["a"], "file_ids": ["f"]},
        {"memory_ids": [], "filter": {"user_id": "u"}},
        {"agent_id": "u"},
        {"user_id": None, "memory_ids": None},
    ],
)
def test_anything_but_one_mode_is_a_failure_and_deletes_nothing(wire, body):
    wire.control.seed_ids(["a"], user_id="u")
    answer = wire.own("/product/delete_memory", body)
    assert (answer.status_code, answer.json()["code"]) == (200, 200)
    assert answer.json()["data"] == FAILURE
    assert wire.control.remaining().total == 1


@pytest.mark.parametrize(
    "body", [{"session_id": "s"}, {"user_id": "u", "session_id": "s"}, {"filter": {"id": "a"}}]
)
def test_sessions_and_filters_match_nothing(wire, body):
    wire.control.seed_ids(["a"], user_id="u")
    assert wire.delete("own", **body)["data"] == FAILURE
    assert wire.control.remaining().total == 1


def test_a_deletion_by_files_matches_nothing_and_is_a_success(wire):
    wire.control.seed_ids(["a"], user_id="u")
    assert wire.delete("own", file_ids=["a"])["data"] == SUCCESS
    assert wire.control.remaining().total == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("delete_memory", []),
        ("delete_memory", {"memory_ids": "a"}),
        ("delete_memory", {"memory_ids": [1]}),
        ("delete_memory", {"user_id": 5}),
        ("delete_memory", {"filter": []}),
        ("delete_memory", {"session_id": "a", "conversation_id": "b"}),
        ("get_memory", {"user_id": "u"}),
        ("get_memory", {"mem_cube_id": "default", "page": "x"}),
        ("get_memory_by_ids", {"memory_ids": ["a"]}),
        ("search", {"query": "x"}),
    ],
)
def test_a_body_of_the_wrong_type_is_422(wire, path, body):
    wire.control.seed_ids(["a"], user_id="u")
    answer = wire.own(f"/product/{path}", body)
    assert (answer.status_code, answer.json()["code"]) == (422, 422)
    assert wire.control.remaining().total == 1


def test_by_id_reads_look_only_into_the_default_cube(wire):
    wire.control.seed_ids(["here"], user_id="u", category="fact")
    wire.control.seed_ids(["there"], user_id="u", cube="other")
    found = wire.read("own", "here")
    assert found is not None
    assert found["id"] == "here"
    assert found["metadata"] == {
        "memory_type": "LongTermMemory",
        "status": "activated",
        "user_id": "u",
        "created_at": "2026-01-01T00:00:00+00:00",
        "updated_at": "2026-01-01T00:00:00+00:00",
    }
    missing = wire.own("/product/get_memory/there")
    assert (missing.status_code, missing.json()["code"], missing.json()["data"]) == (200, 200, None)
    many = wire.own("/product/get_memory_by_ids", ["there", "here", "never"]).json()["data"]
    assert [item["id"] for item in many["memories"]] == ["here"]


def test_an_id_with_a_slash_is_an_unknown_path(wire):
    wire.control.seed_ids(["a/b"], user_id="u")
    answer = wire.own("/product/get_memory/a%2Fb")
    assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found"})


def test_postgres_lists_the_whole_cube_on_each_page_under_all_kinds(wire):
    wire.control.seed_ids(["a", "b"], user_id="u")
    wire.control.seed_ids(["c"], user_id="v")
    wire.control.seed_ids(["d"], user_id="u", cube="other")
    for page in (1, 2):
        body = {"mem_cube_id": "default", "user_id": "u", "page": page, "page_size": 1}
        data = wire.own("/product/get_memory", body).json()["data"]
        assert set(data) == set(KINDS)
        for kind in KINDS:
            (bucket,) = data[kind]
            assert (bucket["cube_id"], bucket["total_nodes"]) == ("default", 3)
            assert [item["id"] for item in bucket["memories"]] == ["c", "b", "a"]


def test_a_kind_that_was_not_asked_for_is_an_empty_list(wire):
    wire.control.seed_ids(["a"], user_id="u")
    body = {"mem_cube_id": "default", "include_preference": False, "include_tool_memory": False}
    data = wire.own("/product/get_memory", body).json()["data"]
    assert [bool(data[kind]) for kind in KINDS] == [True, False, False, True]


def test_an_honest_backend_keeps_to_pages_user_and_kinds(wire):
    wire.control.set_settings(backend="honest")
    for category in ("fact", "preference", "tool", "skill", "profile", "event"):
        wire.control.seed_ids([category], user_id="u", category=category)
    wire.control.seed_ids(["theirs"], user_id="v", category="fact")

    def page(number):
        body = {"mem_cube_id": "default", "user_id": "u", "page": number, "page_size": 2}
        data = wire.own("/product/get_memory", body).json()["data"]
        return {kind: [item["id"] for item in data[kind][0]["memories"]] for kind in KINDS}

    assert page(1) == {
        "text_mem": ["event", "profile"],
        "pref_mem": ["preference"],
        "tool_mem": ["tool"],
        "skill_mem": ["skill"],
    }
    assert page(2) == {"text_mem": ["fact"], "pref_mem": [], "tool_mem": [], "skill_mem": []}


@pytest.mark.parametrize(("backend", "found"), [("postgres", set()), ("honest", {"a", "b"})])
def test_search_finds_nothing_on_postgres(wire, backend, found):
    wire.control.set_settings(backend=backend)
    wire.control.seed_ids(["a", "b"], user_id="u")
    wire.control.seed_ids(["c"], user_id="v")
    assert wire.found("own", "u") == found


def test_with_its_database_down_a_deletion_by_ids_is_called_a_success(wire):
    wire.control.seed_ids(["a"], user_id="u")
    wire.control.set_settings(database_down=True)
    assert wire.delete("own", memory_ids=["a"])["data"] == SUCCESS
    assert wire.delete("own", user_id="u")["data"] == FAILURE
    listed = wire.own("/product/get_memory", {"mem_cube_id": "default"})
    assert (listed.status_code, listed.json()["code"]) == (500, 500)
    assert wire.read("own", "a") is None
    many = wire.own("/product/get_memory_by_ids", ["a"])
    assert (many.status_code, many.json()["data"]) == (200, {"memories": []})
    assert wire.own("/health").json()["status"] == "healthy"
    assert wire.control.remaining().total == 1


def test_the_cloud_too_calls_it_a_success_with_its_database_down(wire):
    wire.control.seed_ids(["a"], user_id="u")
    wire.control.set_settings(database_down=True)
    for members in ({"memory_ids": ["a"]}, {"user_id": "u"}):
        answer = wire.delete("cloud", **members)
        assert (answer["code"], answer["data"]) == (0, {"success": True})
    listed = wire.cloud("/get/memory", {"user_id": "u"})
    assert (listed.status_code, listed.json()["code"]) == (500, 50004)
    assert wire.cloud("/get/memory/a").json()["code"] == 40001
    assert wire.control.remaining().total == 1


def test_both_dialects_hold_the_same_memories(wire):
    wire.control.seed_ids(["a", "b"], user_id="u")
    wire.delete("own", memory_ids=["a"])
    assert wire.listed("cloud", "u") == ["b"]
    wire.delete("cloud", memory_ids=["b"])
    assert wire.listed("own", "u") == []


def test_the_journal_calls_its_endpoints_as_those_of_the_cloud(wire):
    wire.control.seed_ids(["a", "b"], user_id="u")
    wire.delete("own", memory_ids=["a", "never"])
    wire.own("/product/get_memory", {"mem_cube_id": "default"})
    wire.own("/product/get_memory", {"mem_cube_id": "default", "user_id": "u"})
    wire.own("/product/get_memory/b")
    wire.own("/product/get_memory_by_ids", ["a", "b"])
    wire.own("/product/search", {"query": "x", "user_id": "u"})
    wire.own("/health")
    wire.own("/product/nothing", {})
    calls = wire.control.journal()
    assert [(call.endpoint, call.kind, call.ids, call.applied, call.code) for call in calls] == [
        ("delete", "memories", ("a", "never"), 1, 200),
        ("list", "cube", ("default",), 0, 200),
        ("list", "user", ("u",), 0, 200),
        ("read", "memories", ("b",), 0, 200),
        ("read", "memories", ("a", "b"), 0, 200),
        ("search", "user", ("u",), 0, 200),
        ("health", "", (), 0, None),
        ("other", "", (), 0, None),
    ]
    assert calls[-1].status == 404


def test_faults_strike_it_too(wire):
    wire.control.seed_ids(["a", "b"], user_id="u")
    wire.control.set_faults({"kind": "failure_after_effect", "count": 1})
    answer = wire.delete("own", memory_ids=["a"])
    assert (answer["code"], answer["data"]) == (200, FAILURE)
    assert wire.control.remaining(ids=["a", "b"]).ids == ["b"]
    wire.control.set_faults({"kind": "html", "endpoint": "any"})
    assert wire.own("/product/get_memory/b").status_code == 502
    assert wire.own("/health").status_code == 200


def test_the_rate_limit_counts_both_dialects_together_and_not_the_health_check(wire):
    wire.control.set_limit(2)
    assert wire.own("/health").status_code == 200
    assert wire.cloud("/get/memory", {"user_id": "u"}).status_code == 200
    assert wire.own("/product/get_memory/a").status_code == 200
    assert wire.own("/product/get_memory/a").status_code == 429
    assert wire.own("/health").status_code == 200
