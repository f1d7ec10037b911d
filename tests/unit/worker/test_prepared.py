"""From a task to a body: a batch never becomes a purge, whatever the task holds."""

import json
import pickle
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.projects import Dialect, Project
from ledger.states import Kind
from ledger.tasks import Claim
from ledger.walks import Walk
from memos_api import CLOUD, SEARCH, Cloud, SelfHosted
from tests.support.worker_fakes import make_task as task
from worker.clients import dialect_of
from worker.prepared import prepare, prepared

SERVER = SelfHosted(cubes=("one", "two"))
DIALECTS = st.sampled_from([CLOUD, SERVER])
KINDS = st.sampled_from(Kind)
IDS = st.lists(st.text(max_size=20), max_size=5).map(tuple)
SUBJECTS = st.none() | st.text(max_size=20)


@given(ids=IDS, subject=SUBJECTS)
def test_a_batch_leaves_with_exactly_its_ids_or_not_at_all(ids, subject):
    try:
        call = prepare(task(ids=ids, subject=subject), CLOUD)
    except ValueError:
        assert not ids or "" in ids or any("\ud800" <= mark <= "\udfff" for mark in "".join(ids))
        return

    body = json.loads(call.body)
    assert body == {"memory_ids": list(ids)}
    assert body["memory_ids"]
    assert call.path == "/delete/memory"


@given(ids=IDS, subject=SUBJECTS, kind=st.sampled_from([Kind.USER, Kind.AGENT]))
def test_a_purge_names_its_one_subject_or_does_not_leave(ids, subject, kind):
    try:
        call = prepare(task(kind=kind, ids=ids, subject=subject), CLOUD)
    except ValueError:
        return

    assert subject
    member = "user_id" if kind is Kind.USER else "agent_id"
    assert json.loads(call.body) == {member: subject}


@given(
    ids=IDS, subject=SUBJECTS, kind=st.sampled_from(Kind), call=st.sampled_from(["list", "read"])
)
def test_a_look_never_becomes_a_deletion(ids, subject, kind, call):
    try:
        made = prepare(task(kind=kind, ids=ids, subject=subject, call=call), CLOUD)
    except (ValueError, IndexError):
        return

    assert made.kind == call
    assert "delete" not in made.path.split("/")[1]


@pytest.mark.parametrize("kind", [Kind.USER, Kind.AGENT])
@pytest.mark.parametrize("subject", [None, ""])
def test_a_purge_of_nobody_is_refused(kind, subject):
    with pytest.raises(ValueError, match="non-empty"):
        prepare(task(kind=kind, subject=subject, ids=()), CLOUD)


def test_an_agents_list_is_asked_for_as_an_agents():
    walk = Walk(legs=("all",), page=3)
    call = prepare(task(kind=Kind.AGENT, call="list", subject="g", walk=walk), CLOUD)
    body = json.loads(call.body)

    assert (body["agent_id"], body["page"]) == ("g", 3)
    assert "user_id" not in body


# -- leftovers ------------------------------------------------------------------------------------


@given(ids=IDS, subject=SUBJECTS, kind=KINDS, dialect=DIALECTS)
def test_a_leftover_leaves_with_exactly_its_ids_or_not_at_all(ids, subject, kind, dialect):
    """Whatever the purge is of: what it left behind is never deleted by naming the subject."""
    try:
        call = prepare(task(kind=kind, ids=ids, subject=subject, leftover=True), dialect)
    except ValueError:
        assert not ids or "" in ids or any("\ud800" <= mark <= "\udfff" for mark in "".join(ids))
        return

    body = json.loads(call.body)
    assert body["memory_ids"] == list(ids)
    assert body["memory_ids"]
    assert set(body) <= {"memory_ids", "writable_cube_ids"}


@given(subject=SUBJECTS, kind=KINDS, dialect=DIALECTS)
def test_a_leftover_without_ids_never_becomes_a_purge(subject, kind, dialect):
    with pytest.raises(ValueError, match="memory id"):
        prepare(task(kind=kind, ids=(), subject=subject, leftover=True), dialect)


# -- a self-hosted MemOS --------------------------------------------------------------------------


@given(ids=IDS, subject=SUBJECTS, kind=KINDS)
def test_a_self_hosted_deletion_has_one_mode_and_the_cubes(ids, subject, kind):
    try:
        call = prepare(task(kind=kind, ids=ids, subject=subject), SERVER)
    except ValueError:
        return

    body = json.loads(call.body)
    assert body.pop("writable_cube_ids") == ["one", "two"]
    if kind is Kind.MEMORIES:
        assert ids
        assert body == {"memory_ids": list(ids)}
    elif kind is Kind.USER:
        assert subject
        assert body == {"user_id": subject}
    else:
        assert (body, call.path) == ({}, "")


@given(ids=IDS, subject=SUBJECTS, kind=KINDS, call=st.sampled_from(["list", "read"]))
def test_a_self_hosted_look_never_becomes_a_deletion(ids, subject, kind, call):
    try:
        made = prepare(task(kind=kind, ids=ids, subject=subject, call=call), SERVER)
    except (ValueError, IndexError):
        return

    assert made.kind == call
    assert "delete" not in made.path.split("?")[0].split("/")[2:3]


@pytest.mark.parametrize(
    ("walk", "path", "where"),
    [
        (None, "/product/get_memory", ("mem_cube_id", "one")),
        (Walk(legs=("two", SEARCH), page=4), "/product/get_memory", ("mem_cube_id", "two")),
        (Walk(legs=(SEARCH,)), "/product/search", ("readable_cube_ids", ["one", "two"])),
    ],
)
def test_a_walk_goes_on_at_its_leg_and_page(walk, path, where):
    call = prepare(task(kind=Kind.USER, call="list", subject="u", walk=walk), SERVER)
    body = json.loads(call.body)
    member, value = where
    assert (call.path, body[member], body["user_id"]) == (path, value, "u")
    assert call.page == (walk.page if walk is not None else 1)


def test_ids_of_nobody_are_looked_for_in_the_whole_cube():
    call = prepare(task(call="list", subject=None, ids=()), SERVER)
    assert "user_id" not in json.loads(call.body)
    with pytest.raises(ValueError, match="one user or agent"):
        prepare(task(call="list", subject=None, ids=()), CLOUD)


def test_a_leg_of_one_category_is_asked_for_alone():
    walk = Walk(legs=("skill",), page=2)
    body = json.loads(prepare(task(call="list", subject="u", walk=walk), CLOUD).body)
    assert (body["include_memory_view"], body["page"]) == (["skill"], 2)


@given(subject=SUBJECTS, kind=KINDS, dialect=DIALECTS)
def test_a_control_asks_for_nobody_who_could_be_there(subject, kind, dialect):
    one = task(kind=kind, call="list", control=True, subject=subject, ids=())
    calls = [prepare(one, dialect) for _ in range(2)]
    assert [call.kind for call in calls] == ["list", "list"]
    asked = [json.loads(call.body)["user_id"] for call in calls]
    assert asked[0] != asked[1]
    assert all(name.startswith("expunge-control-") for name in asked)


# -- which dialect --------------------------------------------------------------------------------


def project(**said):
    return Project(name="p", account="a", base_url="http://h", api_key=None, **said)


@pytest.mark.parametrize(
    ("said", "dialect"),
    [
        ({}, Cloud()),
        ({"search": False}, Cloud()),
        ({"search": True}, Cloud(searches=True)),
        ({"missing_is_empty": True}, Cloud(missing_is_empty=True)),
        ({"cubes": ("one",)}, SelfHosted(cubes=("one",))),
        ({"cubes": ("one",), "search": True}, SelfHosted(cubes=("one",))),
        ({"cubes": ("one",), "search": False}, SelfHosted(cubes=("one",), searches=False)),
        (
            {"cubes": ("one", "two"), "missing_is_empty": True},
            SelfHosted(cubes=("one", "two"), missing_is_empty=True),
        ),
    ],
)
def test_the_dialect_is_the_one_that_the_settings_say(said, dialect):
    kind = Dialect.SELF_HOSTED if "cubes" in said else Dialect.CLOUD
    assert dialect_of(project(dialect=kind, **said)) == dialect


def test_a_self_hosted_project_without_cubes_has_no_dialect():
    with pytest.raises(ValueError, match="cubes"):
        dialect_of(project(dialect=Dialect.SELF_HOSTED))


def test_a_prepared_claim_has_the_calls_and_the_ids_only_in_them():
    tasks = (task(ids=("a", "b")), task(kind=Kind.USER, ids=(), subject="u"))
    made = prepared(a_claim(*tasks), {tasks[0].project: CLOUD})

    assert made.calls == tuple(prepare(one, CLOUD) for one in tasks)
    assert [(one.ids, one.n) for one in made.tasks] == [((), 2), ((), 0)]
    assert [replace(one, ids=two.ids) for one, two in zip(made.tasks, tasks, strict=True)] == [
        *tasks
    ]
    assert (made.now_ns, made.mono_ns, made.wake_ns) == (1, 2, 3)
    assert pickle.loads(pickle.dumps(made)) == made  # noqa: S301 - ours


def test_what_cannot_be_prepared_is_left_to_whoever_makes_the_calls():
    """A task without a project's key, or one that names nothing, holds up no other."""
    whole, nothing = task(ids=("a",)), task(ids=())
    other = replace(whole, project="elsewhere")
    made = prepared(a_claim(nothing, other, whole), {whole.project: CLOUD})

    assert [call is None for call in made.calls] == [True, True, False]
    assert made.tasks[:2] == (nothing, other)


def a_claim(*tasks):
    return Claim(tasks=tasks, now_ns=1, mono_ns=2, wake_ns=3)
