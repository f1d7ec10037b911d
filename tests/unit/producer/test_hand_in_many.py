"""Handing in many small requests: one answer each, one ring."""

from dataclasses import replace

import pytest
from sqlalchemy import delete

from ledger.errors import ConflictError, LedgerError, RequestError, UnknownProjectError
from ledger.projects import Project
from ledger.schema import project
from ledger.states import Kind, Lane
from producer import Producer, Receipt, SmallRequest
from producer.bell import Bell
from tests.support.homes import make_home


class CountingBell(Bell):
    def __init__(self):
        super().__init__(lambda: lambda: None)
        self.rings = 0

    def start(self):
        pass

    def ring(self):
        self.rings += 1

    def close(self):
        pass


@pytest.fixture
def bell():
    return CountingBell()


@pytest.fixture
def producer(tmp_path, bell):
    crm = Project(
        name="crm",
        account="default",
        base_url="https://memos.example",
        api_key=None,
        lane=Lane.BULK,
        verify="sample:7",
    )
    with Producer(make_home(tmp_path, more_projects={"crm": crm}), bell=bell) as opened:
        yield opened


def purge(user="u", **fields):
    return SmallRequest(kind=Kind.USER, subject=user, **fields)


def batch(*ids, **fields):
    return SmallRequest(kind=Kind.MEMORIES, memory_ids=ids, **fields)


def test_each_has_its_answer_in_its_place_and_the_bell_rings_once(producer, bell):
    answers = producer.hand_in_many(
        [
            batch("a", "b", "a"),
            purge(project="unknown"),
            purge("v", idempotency_key="k"),
            purge("w", idempotency_key="k"),
            batch(),
            batch("c", lane="fast"),
            purge("v", idempotency_key="k"),
        ]
    )
    kinds = [
        *(Receipt, UnknownProjectError, Receipt, ConflictError),
        *(RequestError, RequestError, Receipt),
    ]
    assert [type(each) for each in answers] == kinds
    assert (answers[0].requested, answers[0].unique) == (3, 2)
    assert (answers[6].id, answers[6].duplicate) == (answers[2].id, True)
    assert bell.rings == 1


def test_the_projects_lane_and_read_back_hold_as_they_do_for_one(producer):
    (receipt,) = producer.hand_in_many([purge(project="crm")])
    view = producer.status(receipt.id)
    assert (view.project, view.lane, view.verify) == ("crm", Lane.BULK, "sample:7")


def test_what_comes_later_is_asked_for_of_a_purge_alone(producer):
    answers = producer.hand_in_many([purge(include_later=True), batch("m", include_later=True)])
    assert producer.status(answers[0].id).include_later is True
    assert "purge" in str(answers[1])


def test_nothing_new_rings_no_bell(producer, bell):
    producer.hand_in_many([purge(idempotency_key="k")])
    producer.hand_in_many([purge(idempotency_key="k"), batch("")])
    assert producer.hand_in_many([]) == []
    assert bell.rings == 1


def test_a_ledger_that_does_not_confirm_is_no_answer(producer, bell, monkeypatch):
    def away(*_args, **_options):
        message = "The ledger did not confirm."
        raise LedgerError(message)

    monkeypatch.setattr(producer._store, "take_many", away)
    with pytest.raises(LedgerError):
        producer.hand_in_many([purge()])
    assert bell.rings == 0


def forget_projects(producer):
    producer._store._database.write(lambda conn: conn.execute(delete(project)))


def test_a_ledger_that_lost_the_projects_is_told_them_again(producer, bell):
    forget_projects(producer)
    answers = producer.hand_in_many([purge("v"), purge(project="unknown"), purge("w"), batch()])
    kinds = [Receipt, UnknownProjectError, Receipt, RequestError]
    assert [type(each) for each in answers] == kinds
    assert bell.rings == 1


def test_a_ledger_that_lost_the_projects_takes_single_requests_too(producer):
    forget_projects(producer)
    assert producer.purge_user("v").unique == 1
    assert producer.delete_memories(["a", "b"]).unique == 2


@pytest.mark.parametrize(
    "hand_in",
    [
        lambda producer: producer.hand_in_many([purge("v", idempotency_key="k")]),
        lambda producer: producer.purge_user("v", idempotency_key="k"),
    ],
)
def test_a_ledger_that_loses_the_projects_again_and_again_is_no_answer(
    producer, monkeypatch, hand_in
):
    forget_projects(producer)
    monkeypatch.setattr(producer._store, "register", lambda **_options: None)
    with pytest.raises(LedgerError, match="project"):
        hand_in(producer)


def one_purge(producer, **fields):
    return producer.purge_user("v", idempotency_key="k", **fields)


def one_of_many(producer, **fields):
    (answer,) = producer.hand_in_many([purge("v", idempotency_key="k", **fields)])
    return answer


@pytest.mark.parametrize("hand_in", [one_purge, one_of_many])
def test_a_repeat_under_changed_settings_gives_the_first_receipt(tmp_path, bell, hand_in):
    settings = make_home(tmp_path)
    with Producer(settings, bell=bell) as producer:
        first = hand_in(producer)
    own = settings.projects["default"]
    for changed in (
        settings.model_copy(update={"verify": "none"}),
        settings.model_copy(
            update={
                "more_projects": {"default": replace(own, lane=Lane.BULK, verify="sample:7")},
            }
        ),
    ):
        with Producer(changed, bell=bell) as producer:
            again = hand_in(producer)
            assert (again.id, again.duplicate) == (first.id, True)
            view = producer.status(first.id)
            assert (view.lane, view.verify) == (Lane.ERASURE, "full")


@pytest.mark.parametrize("fields", [{"verify": "full"}, {"lane": Lane.ERASURE}])
def test_a_repeat_that_asks_for_what_was_left_open_is_another_order(producer, fields):
    one_of_many(producer)
    assert isinstance(one_of_many(producer, **fields), ConflictError)


def test_a_request_shows_nobody_in_its_text():
    assert "canary" not in repr(purge("canary", reason="canary")) + repr(batch("canary"))
