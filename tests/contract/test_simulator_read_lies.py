"""What the simulator hides or gets wrong when it is asked what is left."""

from datetime import datetime

import pytest

from memos_api.simulator import SimulatorProcess
from tests.contract.simulator_wire import KINDS, LISTS, Wire

DIALECTS = pytest.mark.parametrize("dialect", ["cloud", "own"])
SKILLS = "skill_detail_list"


@pytest.fixture(scope="module")
def running():
    with SimulatorProcess() as simulator:
        yield simulator


@pytest.fixture
def wire(running):
    wire = Wire(running)
    wire.control.set_settings(backend="honest")
    yield wire
    wire.close()


def facts(wire, count, user="u"):
    ids = [f"{user}{number:03d}" for number in range(count)]
    wire.control.seed_ids(ids, user_id=user, category="fact")
    return ids


def paging(dialect, page, size):
    return {"page": page, "size" if dialect == "cloud" else "page_size": size}


def listing(wire, **members):
    return wire.cloud("/get/memory", {"user_id": "u", **members}).json()["data"]


def cube(wire, **members):
    return wire.own("/product/get_memory", {"mem_cube_id": "default", **members}).json()["data"]


def items(wire, dialect):
    if dialect == "cloud":
        data = listing(wire)
        return [item for name in LISTS for item in data[name]]
    data = cube(wire, user_id="u")
    return [item for kind in KINDS for item in data[kind][0]["memories"]]


@DIALECTS
@pytest.mark.parametrize(
    ("lie", "counts", "first"),
    [
        (None, [20, 5, 0], "u024"),
        ("ignores_paging", [25, 25, 25], "u024"),
        ("repeats_page", [20, 20, 20], "u024"),
        ("page_capped", [10, 10, 5], "u024"),
    ],
)
def test_pages_hold_what_the_lie_makes_of_them(wire, dialect, lie, counts, first):
    facts(wire, 25)
    wire.control.set_lies(*[lie] if lie else [])
    pages = [wire.listed(dialect, "u", **paging(dialect, page, 20)) for page in (1, 2, 3)]
    assert [len(page) for page in pages] == counts
    assert pages[0][0] == first


def test_a_capped_page_counts_its_pages_by_the_size_asked(wire):
    facts(wire, 25)
    wire.control.set_lies("page_capped")
    data = listing(wire, size=50)
    assert (len(data["memory_detail_list"]), data["total"], data["pages"]) == (10, 25, 1)


@DIALECTS
def test_ignoring_the_user_lists_everybodys_memories(wire, dialect):
    ids = [*facts(wire, 2), *facts(wire, 2, "v")]
    wire.control.set_lies("ignores_user")
    assert sorted(wire.listed(dialect, "u")) == ids
    assert wire.delete(dialect, user_id="u")
    assert sorted(wire.listed(dialect, "u")) == ids[2:]


@DIALECTS
def test_items_may_not_name_their_owner(wire, dialect):
    facts(wire, 1)
    wire.control.set_lies("omits_owner")
    (item,) = items(wire, dialect)
    assert not {"user_id", "agent_id"} & (item.keys() | item.get("metadata", {}).keys())
    read = wire.read(dialect, "u000")
    assert read is not None
    assert "user_id" not in read.get("metadata", read)


def test_totals_may_say_that_nothing_is_there(wire):
    facts(wire, 25)
    wire.control.set_lies("wrong_totals")
    data = listing(wire)
    assert (data["total"], data["pages"], len(data["memory_detail_list"])) == (0, 1, 10)
    (bucket,) = cube(wire)["text_mem"]
    assert (bucket["total_nodes"], len(bucket["memories"])) == (0, 25)


def test_categories_without_items_may_be_null(wire):
    facts(wire, 1)
    wire.control.set_lies("null_categories")
    data = listing(wire)
    assert [name for name in LISTS if data[name] is None] == list(LISTS[1:])
    assert [kind for kind in KINDS if cube(wire)[kind] is None] == list(KINDS[1:])


@pytest.mark.parametrize("views", [{}, {"include_memory_view": ["skill"]}])
def test_a_hidden_category_is_left_out_also_when_asked_for_alone(wire, views):
    wire.control.seed_ids(["s"], user_id="u", category="skill")
    wire.control.set_lies("hides_category")
    data = listing(wire, **views)
    assert SKILLS not in data
    assert (data["total"], data["pages"]) == (0, 0)
    assert wire.control.remaining(ids=["s"]).ids == ["s"]


@pytest.mark.parametrize("backend", ["postgres", "honest"])
def test_a_self_hosted_server_hides_it_too(wire, backend):
    wire.control.seed_ids(["s"], user_id="u", category="skill")
    wire.control.set_settings(backend=backend, lies=["hides_category"])
    data = cube(wire)
    assert set(data) == set(KINDS) - {"skill_mem"}
    assert not any(bucket["memories"] for buckets in data.values() for bucket in buckets)


def test_a_category_hidden_among_all_is_given_when_asked_for_alone(wire):
    wire.control.seed_ids(["s"], user_id="u", category="skill")
    wire.control.set_lies("hides_category_together")
    assert SKILLS not in listing(wire)
    assert SKILLS not in listing(wire, include_memory_view=["skill", "event"])
    assert [item["id"] for item in listing(wire, include_memory_view=["skill"])[SKILLS]] == ["s"]


def test_the_categories_asked_for_are_those_that_are_given(wire):
    facts(wire, 30)
    wire.control.seed_ids(["s"], user_id="u", category="skill")
    data = listing(wire, include_memory_view=["skill", "event"])
    assert [name for name in LISTS if data[name]] == [SKILLS]
    assert (data["total"], data["pages"]) == (1, 1)


@DIALECTS
def test_one_item_may_have_no_id(wire, dialect):
    facts(wire, 3)
    wire.control.set_lies("malformed_item")
    assert ["id" in item for item in items(wire, dialect)] == [False, True, True]


@DIALECTS
@pytest.mark.parametrize("count", [1, 2])
def test_a_read_may_answer_with_another_memory(wire, dialect, count):
    facts(wire, count)
    wire.control.set_lies("other_id")
    item = wire.read(dialect, "u000")
    assert item is not None
    assert item["id"] != "u000"
    assert wire.read(dialect, "never") is None


@DIALECTS
def test_a_read_may_find_nothing_ever(wire, dialect):
    facts(wire, 1)
    wire.control.set_lies("by_id_blind")
    assert wire.read(dialect, "u000") is None
    assert wire.listed(dialect, "u") == ["u000"]
    many = wire.own("/product/get_memory_by_ids", ["u000"]).json()["data"]
    assert many == {"memories": []}


MS = 1_767_225_600_000


def test_an_item_carries_the_time_it_was_seeded_with(wire):
    wire.control.seed_ids(["a"], user_id="u", created_ms=MS + 1)
    assert items(wire, "cloud")[0]["create_time"] == MS + 1
    assert items(wire, "own")[0]["metadata"]["created_at"] == "2026-01-01T00:00:00.001000+00:00"
    read = wire.read("cloud", "a")
    assert read is not None
    assert read["created_at"] == "2026-01-01T00:00:00.001000Z"


def test_times_may_come_in_five_forms(wire):
    wire.control.seed_ids(list("abcdef"), user_id="u", category="fact", created_ms=MS)
    wire.control.set_lies("mixed_times")
    dates = ["2026-01-01T00:00:00Z", "2026-01-01T08:00:00+08:00"]
    forms = [MS, MS // 1000, *dates, str(MS), MS]
    by_id = {item["id"]: item["create_time"] for item in items(wire, "cloud")}
    assert [by_id[name] for name in "abcdef"] == forms
    by_id = {item["id"]: item["metadata"]["created_at"] for item in items(wire, "own")}
    assert [by_id[name] for name in "abcdef"] == forms
    assert {datetime.fromisoformat(form).timestamp() for form in dates} == {MS / 1000}


@DIALECTS
def test_items_may_have_no_times(wire, dialect):
    facts(wire, 1)
    wire.control.set_lies("no_times")
    (item,) = items(wire, dialect)
    assert not [name for name in item.keys() | item.get("metadata", {}).keys() if "creat" in name]


def test_a_list_may_be_202_without_a_body(wire):
    facts(wire, 1)
    wire.control.set_lies("empty_list_202")
    for answer in (
        wire.cloud("/get/memory", {"user_id": "u"}),
        wire.own("/product/get_memory", {"mem_cube_id": "default"}),
    ):
        assert (answer.status_code, answer.content) == (202, b"")
    assert [call.status for call in wire.control.journal()] == [202, 202]


def test_a_list_may_name_another_page_than_was_asked_for(wire):
    facts(wire, 25)
    wire.control.set_lies("list_other_page")
    data = listing(wire, page=2)
    assert data["current"] == 3
    assert data["memory_detail_list"][0]["id"] == "u014"


def test_a_list_is_sorted_by_creation_whatever_came_in_first(wire):
    for name, created_ms in (("new", 3000), ("old", 1000), ("middle", 2000)):
        wire.control.seed_ids([name], user_id="u", category="fact", created_ms=created_ms)
    assert wire.listed("cloud", "u") == ["new", "middle", "old"]


@pytest.mark.parametrize(("relativity", "found"), [({}, 0), ({"relativity": 0}, 25)])
def test_with_the_threshold_off_a_search_finds_whatever_there_is(wire, relativity, found):
    facts(wire, 30)
    facts(wire, 5, "v")
    body = {"user_id": "u", "query": "nothing like it", **relativity}
    data = wire.cloud("/search/memory", body).json()["data"]
    ids = [item["id"] for name in LISTS for item in data[name]]
    assert len(ids) == found
    assert all(name.startswith("u") for name in ids)


@pytest.mark.parametrize("relativity", ["0", True, None])
def test_a_threshold_that_is_no_number_is_refused(wire, relativity):
    body = {"user_id": "u", "query": "x", "relativity": relativity}
    assert wire.cloud("/search/memory", body).json()["code"] == 40000
