"""What the simulator says of deletions that is not so, and what it leaves undone."""

from itertools import pairwise

import pytest

from memos_api.simulator import SimulatorProcess
from tests.contract.simulator_wire import Wire

SUCCESS, FAILURE = {"status": "success"}, {"status": "failure"}
IDS = ["a", "b", "c"]
DIALECTS = pytest.mark.parametrize("dialect", ["cloud", "own"])


@pytest.fixture(scope="module")
def running():
    with SimulatorProcess() as simulator:
        yield simulator


@pytest.fixture
def wire(running):
    wire = Wire(running)
    wire.control.seed_ids(IDS, user_id="u", category="fact")
    yield wire
    wire.close()


@pytest.mark.parametrize(
    ("lie", "code", "data", "left"),
    [
        ("not_found_though_there", 40307, None, 3),
        ("refused_though_gone", 40306, None, 0),
        ("success_false", 0, {"success": False}, 3),
        ("success_false_though_gone", 0, {"success": False}, 0),
        ("success_as_text", 0, {"success": "true"}, 0),
        ("code_fails_success_true", 50002, {"success": True}, 3),
        ("keeps_archived", 0, {"success": True}, 3),
        ("soft_delete_listed", 0, {"success": True}, 0),
        ("vectors_left", 0, {"success": True}, 0),
        ("keeps_one", 0, {"success": True}, 1),
        ("comes_back", 0, {"success": True}, 0),
        ("first_page_only", 0, {"success": True}, 0),
    ],
)
def test_the_cloud_lies_of_a_batch(wire, lie, code, data, left):
    wire.control.set_lies(lie)
    answer = wire.delete("cloud", memory_ids=IDS)
    assert (answer["code"], answer["data"]) == (code, data)
    assert wire.control.remaining().total == left
    record = wire.control.journal()[-1]
    assert (record.applied, record.code) == (0 if lie == "keeps_archived" else 3 - left, code)


@pytest.mark.parametrize(
    ("lie", "code", "data", "left"),
    [
        ("not_found_though_there", 40308, None, 3),
        ("refused_though_gone", 40306, None, 0),
        ("success_false", 0, {"success": False}, 3),
        ("keeps_archived", 0, {"success": True}, 3),
        ("keeps_one", 0, {"success": True}, 1),
    ],
)
def test_the_cloud_lies_of_a_purge(wire, lie, code, data, left):
    wire.control.set_lies(lie)
    answer = wire.delete("cloud", user_id="u")
    assert (answer["code"], answer["data"]) == (code, data)
    assert wire.control.remaining().total == left


@pytest.mark.parametrize(
    ("lie", "said", "left"),
    [
        ("not_found_though_there", (200, FAILURE), 3),
        ("refused_though_gone", (200, FAILURE), 0),
        ("success_false", (200, FAILURE), 3),
        ("success_false_though_gone", (200, FAILURE), 0),
        ("success_as_text", (200, SUCCESS), 0),
        ("code_fails_success_true", (500, SUCCESS), 3),
        ("keeps_archived", (200, SUCCESS), 3),
        ("keeps_one", (200, SUCCESS), 1),
    ],
)
@pytest.mark.parametrize("named", [{"memory_ids": IDS}, {"user_id": "u"}], ids=["ids", "user"])
def test_a_self_hosted_server_lies_too(wire, named, lie, said, left):
    wire.control.set_settings(backend="honest", lies=[lie])
    answer = wire.delete("own", **named)
    assert (answer["code"], answer["data"]) == said
    assert wire.control.remaining().total == left


@DIALECTS
def test_a_purge_of_the_first_page_leaves_the_older_ones_of_each_category(wire, dialect):
    wire.control.set_settings(backend="honest", lies=["first_page_only"])
    wire.control.seed_ids([f"f{n}" for n in range(12)], user_id="v", category="fact")
    wire.control.seed_ids([f"s{n}" for n in range(11)], user_id="v", category="skill")
    wire.delete(dialect, user_id="v")
    assert set(wire.listed(dialect, "v")) == {"f0", "f1", "s0"}


@DIALECTS
def test_a_first_page_bounds_no_batch(wire, dialect):
    wire.control.set_lies("first_page_only")
    ids = [f"f{n}" for n in range(12)]
    wire.control.seed_ids(ids, user_id="v", category="fact")
    wire.delete(dialect, memory_ids=ids)
    assert wire.control.remaining(ids=ids).ids == []


@DIALECTS
def test_the_newest_are_those_created_last(wire, dialect):
    wire.control.set_settings(backend="honest", lies=["first_page_only"])
    for number in range(11):  # the first one kept is the newest
        wire.control.seed_ids(
            [f"f{number}"], user_id="v", category="fact", created_ms=10_000 - number
        )
    wire.delete(dialect, user_id="v")
    assert wire.listed(dialect, "v") == ["f10"]


@DIALECTS
def test_the_one_that_survives_survives_again(wire, dialect):
    wire.control.set_settings(lies=["keeps_one"])
    for named in (IDS, ["a"], ["a"]):
        wire.delete(dialect, memory_ids=named)
        assert wire.control.remaining(ids=IDS).ids == ["a"]


@DIALECTS
def test_what_is_archived_is_still_listed_and_readable(wire, dialect):
    wire.control.set_settings(backend="honest", lies=["keeps_archived"])
    wire.delete(dialect, memory_ids=["a"])
    assert "a" in wire.listed(dialect, "u")
    item = wire.read(dialect, "a")
    assert item is not None
    assert item.get("metadata", item)["status"] == "archived"
    assert wire.control.remaining(ids=["a"]).ids == ["a"]


@DIALECTS
def test_what_is_softly_deleted_is_still_shown_as_deleted(wire, dialect):
    wire.control.set_settings(backend="honest", lies=["soft_delete_listed"])
    wire.delete(dialect, memory_ids=["a"])
    assert sorted(wire.listed(dialect, "u")) == IDS
    item = wire.read(dialect, "a")
    assert item is not None
    assert item.get("metadata", item)["status"] == "deleted"
    assert wire.control.remaining(ids=IDS).ids == ["b", "c"]


@pytest.mark.parametrize(
    ("dialect", "backend"), [("cloud", "postgres"), ("own", "postgres"), ("own", "honest")]
)
def test_a_vector_that_was_left_is_found_by_search_only(wire, dialect, backend):
    wire.control.set_settings(backend=backend, lies=["vectors_left"])
    wire.delete(dialect, memory_ids=["a"])
    assert "a" not in wire.listed(dialect, "u")
    assert wire.read(dialect, "a") is None
    assert "a" in wire.found(dialect, "u")
    left = wire.control.remaining()
    assert (left.total, left.vectors) == (2, ["a"])
    assert wire.control.remaining(ids=["b"]).vectors == []


@DIALECTS
def test_what_was_deleted_comes_back_when_its_time_is_over(wire, dialect):
    wire.control.set_settings(backend="honest", lies=["comes_back"], comes_back_s=3600)
    wire.delete(dialect, memory_ids=["a", "b"])
    assert wire.listed(dialect, "u") == ["c"]
    wire.control.pass_time(3500)
    assert wire.control.remaining().total == 1
    wire.control.pass_time(100)
    assert sorted(wire.listed(dialect, "u")) == IDS
    assert wire.control.remaining(ids=IDS).ids == IDS
    assert wire.delete(dialect, memory_ids=["a"])
    assert wire.control.remaining(ids=IDS).ids == ["b", "c"]


def test_a_delayed_deletion_waits_for_the_clock_that_a_test_moves(wire):
    wire.control.set_faults({"kind": "delayed_effect", "seconds": 86_400})
    wire.delete("cloud", memory_ids=["a"])
    assert wire.control.remaining().total == 3
    wire.control.pass_time(86_400)
    assert wire.control.remaining().total == 2


def test_the_clock_of_the_journal_and_the_rate_is_not_moved(wire):
    wire.control.set_limit(1)
    for _ in range(2):
        wire.cloud("/get/memory", {"user_id": "u"})
        wire.control.pass_time(3600)
    calls = wire.control.journal()
    assert [call.status for call in calls] == [200, 429]
    assert all(later.at_s - earlier.at_s < 60 for earlier, later in pairwise(calls))


def test_time_does_not_go_back(wire):
    with pytest.raises(ValueError, match="0 s or more"):
        wire.control.pass_time(-1)


def test_a_lie_does_not_outlive_its_setting_but_what_it_did_does(wire):
    wire.control.set_lies("soft_delete_listed", "vectors_left")
    wire.delete("cloud", memory_ids=["a"])
    wire.control.set_lies()
    wire.delete("cloud", memory_ids=["b"])
    assert sorted(wire.listed("cloud", "u")) == ["a", "c"]
    assert wire.found("cloud", "u") == {"a", "c"}


def test_a_refusal_that_is_due_anyway_stays_as_it_is(wire):
    wire.control.set_lies("success_as_text")
    assert wire.delete("cloud", memory_ids=["a", "never"])["code"] == 40307
    assert wire.control.remaining().total == 3


def test_an_unknown_lie_is_refused_and_the_known_ones_are_named(wire):
    wire.control.set_lies("keeps_one")
    with pytest.raises(ValueError, match=r"unknown lies \['typo'\].*'by_id_blind'"):
        wire.control.set_lies("typo")
    assert wire.control.set_settings()["lies"] == ["keeps_one"]


@pytest.mark.parametrize(
    "members",
    [
        {"backend": "typo"},
        {"lies": "keeps_one"},
        {"lies": None},
        {"database_down": 1},
        {"comes_back_s": "60"},
        {"latency_s": True},
        {"typo": 1, "soft_delete": True},
    ],
)
def test_a_wrong_setting_is_refused(wire, members):
    with pytest.raises(ValueError, match="refused 'settings'"):
        wire.control.set_settings(**members)
    assert wire.control.set_settings()["soft_delete"] is False


def test_seeding_anew_ends_all_that_a_deletion_left(wire):
    wire.control.set_settings(
        lies=["soft_delete_listed", "vectors_left", "comes_back"], comes_back_s=10
    )
    wire.delete("cloud", memory_ids=["a"])
    wire.control.seed_ids(["a"], user_id="v")
    assert wire.control.remaining().vectors == []
    assert sorted(wire.listed("cloud", "u")) == ["b", "c"]
    wire.control.pass_time(20)
    assert wire.control.remaining(users=["u", "v"]).users == {"u": 2, "v": 1}
