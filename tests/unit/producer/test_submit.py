"""What the Producer takes, refuses and hands on, on a real SQLite ledger."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr

from ledger.errors import (
    ConflictError,
    KeysError,
    LedgerError,
    NotFoundError,
    RequestError,
    SchemaError,
)
from ledger.projects import Project
from ledger.states import Kind, Lane, RequestState
from producer import Producer, RequestView, WaitTimeoutError
from tests.support.homes import make_home

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


class CountingBell:
    """Counts instead of ringing."""

    def __init__(self):
        self.rings = 0
        self.closed = False

    def start(self):
        pass

    def ring(self):
        self.rings += 1

    def close(self):
        self.closed = True


@pytest.fixture
def settings(tmp_path):
    crm = Project(
        name="crm",
        account="default",
        base_url="https://memos.example",
        api_key=SecretStr("k"),
        lane=Lane.ERASURE,
        verify="sample:7",
    )
    return make_home(tmp_path, chunk_size=3, more_projects={"crm": crm})


@pytest.fixture
def bell():
    return CountingBell()


@pytest.fixture
def producer(settings, bell):
    with Producer(settings, bell=bell) as opened:
        yield opened


def rows(settings, query):
    with closing(sqlite3.connect(settings.home / "expunge.db")) as database:
        return database.execute(query).fetchall()


def work_in_line(settings):
    return rows(
        settings,
        "SELECT c.ids FROM chunk c JOIN request r ON r.id = c.request_id "
        "WHERE r.state NOT IN ('cancelled', 'receiving')",
    )


def test_a_batch_from_a_generator_is_recorded_with_repeats_folded(producer, bell):
    receipt = producer.delete_memories(each for each in ["a", "b", "a", "c", "d"])
    assert (receipt.requested, receipt.unique, receipt.duplicate) == (5, 4, False)
    view = producer.status(receipt.id)
    assert (view.kind, view.lane, view.state) == (Kind.MEMORIES, Lane.BULK, RequestState.OPEN)
    assert (view.chunks, view.verify) == (2, "sample:50")
    assert bell.rings == 1


def test_all_that_is_said_of_a_request_reaches_the_ledger(producer):
    receipt = producer.delete_memories(
        ["a"],
        user_id="u",
        lane="erasure",
        reason="gdpr-17",
        submitted_at=NOON,
        due_at=datetime(2026, 12, 1, tzinfo=UTC),
        not_before=datetime(2126, 11, 25, tzinfo=UTC),
    )
    view = producer.status(receipt.id)
    assert (view.lane, view.reason, view.verify) == (Lane.ERASURE, "gdpr-17", "full")
    assert (view.submitted_at, view.state) == (NOON, RequestState.SCHEDULED)
    assert view.due_at == datetime(2026, 12, 1, tzinfo=UTC)


@pytest.mark.parametrize(("purge", "kind"), [("purge_user", "user"), ("purge_agent", "agent")])
def test_a_purge_is_one_request_in_the_erasure_lane(producer, bell, purge, kind):
    receipt = getattr(producer, purge)("somebody")
    view = producer.status(receipt.id)
    assert (view.kind, view.lane, view.verify) == (Kind(kind), Lane.ERASURE, "full")
    assert (receipt.requested, receipt.unique, bell.rings) == (1, 1, 1)


def test_a_project_may_have_a_lane_and_a_read_back_of_its_own(producer):
    view = producer.status(producer.delete_memories(["a"], project="crm").id)
    assert (view.project, view.lane, view.verify) == ("crm", Lane.ERASURE, "sample:7")
    view = producer.status(
        producer.delete_memories(["a"], project="crm", lane=Lane.BULK, verify="none").id
    )
    assert (view.lane, view.verify) == (Lane.BULK, "none")


def test_the_read_back_of_the_settings_holds_for_requests_that_name_none(tmp_path, bell):
    with Producer(make_home(tmp_path / "x", verify="none"), bell=bell) as producer:
        assert producer.status(producer.delete_memories(["a"]).id).verify == "none"


@pytest.mark.parametrize("text", ["abc", b"abc", bytearray(b"abc")])
def test_one_piece_of_text_is_not_taken_for_a_list_of_letters(producer, settings, text):
    with pytest.raises(RequestError, match="list of ids"):
        producer.delete_memories(text)
    assert rows(settings, "SELECT * FROM request") == []


@pytest.mark.parametrize("ids", [[], (), iter(()), {}, (each for each in "")])
def test_an_empty_batch_is_refused_before_anything_is_written(producer, settings, bell, ids):
    with pytest.raises(RequestError, match="no memory id"):
        producer.delete_memories(ids, user_id="u", idempotency_key="k")
    assert rows(settings, "SELECT * FROM request") == []
    assert bell.rings == 0


@pytest.mark.parametrize(
    "bad", ["", "  ", "a\x00b", "a\nb", "\ud800", "x" * 257, 7, None, b"id", "\ufffe"]
)
def test_a_bad_id_refuses_the_whole_batch_by_its_place(producer, settings, bell, bad):
    ids = [*(f"good-{number}" for number in range(2_000)), bad]
    with pytest.raises(RequestError, match="2001") as caught:
        producer.delete_memories(ids)
    assert "good-" not in str(caught.value)
    assert work_in_line(settings) == []
    assert bell.rings == 0


def test_an_iterable_that_breaks_leaves_no_work_behind(producer, settings):
    def broken():
        yield from (f"good-{number}" for number in range(2_000))
        raise OSError("the other side went away")

    with pytest.raises(OSError, match="went away"):
        producer.delete_memories(broken())
    assert work_in_line(settings) == []
    assert rows(settings, "SELECT DISTINCT state FROM request") == [("cancelled",)]


@pytest.mark.parametrize("bad", ["", " ", "u" * 101, "u\x7f", None])
def test_a_bad_user_id_is_refused_and_nothing_is_written(producer, settings, bad):
    with pytest.raises(RequestError):
        producer.purge_user(bad)
    with pytest.raises(RequestError):
        producer.purge_agent(bad)
    assert rows(settings, "SELECT * FROM request") == []


@pytest.mark.parametrize(
    "terms",
    [
        {"project": "nobody's"},
        {"lane": "fast"},
        {"verify": "sample:0"},
        {"reason": "because she asked"},
        {"idempotency_key": ""},
        {"idempotency_key": "k" * 201},
        {"submitted_at": datetime(2026, 1, 1)},  # noqa: DTZ001 - that it is naive is the point
        {"user_id": ""},
    ],
)
def test_bad_terms_are_refused_and_nothing_is_written(producer, settings, terms):
    with pytest.raises(RequestError):
        producer.delete_memories(["a"], **terms)
    assert rows(settings, "SELECT * FROM request") == []


def test_the_same_key_gives_the_first_receipt_and_another_payload_is_a_conflict(producer):
    first = producer.delete_memories(["a", "b"], idempotency_key="k")
    again = producer.delete_memories(["a", "b"], idempotency_key="k")
    assert (again.id, again.duplicate) == (first.id, True)
    with pytest.raises(ConflictError):
        producer.delete_memories(["a", "c"], idempotency_key="k")
    with pytest.raises(ConflictError):
        producer.purge_user("u", idempotency_key="k")
    assert producer.status(first.id).counts.unique == 2


def test_without_keys_it_says_how_to_make_them(settings):
    (settings.keys_dir / "order.key").unlink()
    with pytest.raises(KeysError, match="keys init"), Producer(settings):
        pass


def test_a_ledger_without_tables_is_refused_with_the_command_that_makes_them(settings):
    (settings.home / "expunge.db").unlink()
    with pytest.raises(SchemaError, match="expunge db upgrade"), Producer(settings):
        pass


def test_a_ledger_out_of_reach_is_a_ledger_error(settings):
    away = settings.model_copy(update={"ledger_url": "sqlite:////nowhere/at/all/expunge.db"})
    with pytest.raises(LedgerError), Producer(away):
        pass


def test_a_closed_producer_says_so(settings, bell):
    producer = Producer(settings, bell=bell)
    with pytest.raises(RequestError, match="with"):
        producer.delete_memories(["a"])
    with producer:
        pass
    assert bell.closed
    with pytest.raises(RequestError, match="with"):
        producer.status("x")


class Watch:
    """A clock that only sleeping moves."""

    def __init__(self):
        self.now = 100.0
        self.pauses = []

    def sleep(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds


def test_waiting_looks_less_and_less_often_and_ends_in_time(settings, bell):
    watch = Watch()
    with Producer(settings, bell=bell, sleep=watch.sleep, monotonic=lambda: watch.now) as producer:
        receipt = producer.purge_user("u")
        with pytest.raises(WaitTimeoutError, match=receipt.id) as caught:
            producer.wait(receipt.id, 10)
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.exit_code == 7
    assert sum(watch.pauses) == pytest.approx(10)
    assert watch.pauses[0] == pytest.approx(0.05)
    assert watch.pauses[:-1] == sorted(watch.pauses[:-1])
    assert max(watch.pauses) == 1.0


def test_waiting_for_no_time_looks_once(settings, bell):
    watch = Watch()
    with Producer(settings, bell=bell, sleep=watch.sleep, monotonic=lambda: watch.now) as producer:
        receipt = producer.purge_user("u")
        with pytest.raises(WaitTimeoutError):
            producer.wait(receipt.id, 0)
        with pytest.raises(NotFoundError):
            producer.wait("nothing", 0)
    assert watch.pauses == []


def test_waiting_gives_the_request_at_its_end(settings, bell):
    """Another process finishes it meanwhile."""

    def finish(_seconds):
        with closing(sqlite3.connect(settings.home / "expunge.db")) as database, database:
            database.execute(
                "UPDATE request SET state='cancelled', result='cancelled', finished_at=1,"
                " pending=0, cancelled=1"
            )

    seen: list[RequestView] = []
    with Producer(settings, bell=bell, sleep=finish) as producer:
        view = producer.wait(producer.purge_user("u").id, on_view=seen.append)
    assert view.state is RequestState.CANCELLED
    assert [each.state.value for each in seen] == ["open", "cancelled"]
