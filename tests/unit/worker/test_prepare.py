"""From a task to a body: a batch never becomes a purge, whatever the task holds."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.states import Kind
from tests.support.worker_fakes import make_task as task
from worker.clients import prepare

IDS = st.lists(st.text(max_size=20), max_size=5).map(tuple)
SUBJECTS = st.none() | st.text(max_size=20)


@given(ids=IDS, subject=SUBJECTS)
def test_a_batch_leaves_with_exactly_its_ids_or_not_at_all(ids, subject):
    try:
        call = prepare(task(ids=ids, subject=subject))
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
        call = prepare(task(kind=kind, ids=ids, subject=subject))
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
        made = prepare(task(kind=kind, ids=ids, subject=subject, call=call))
    except (ValueError, IndexError):
        return

    assert made.kind == call
    assert "delete" not in made.path.split("/")[1]


@pytest.mark.parametrize("kind", [Kind.USER, Kind.AGENT])
@pytest.mark.parametrize("subject", [None, ""])
def test_a_purge_of_nobody_is_refused(kind, subject):
    with pytest.raises(ValueError, match="non-empty"):
        prepare(task(kind=kind, subject=subject, ids=()))


def test_an_agents_list_is_asked_for_as_an_agents():
    body = json.loads(prepare(task(kind=Kind.AGENT, call="list", subject="g", page=3)).body)

    assert (body["agent_id"], body["page"]) == ("g", 3)
    assert "user_id" not in body
