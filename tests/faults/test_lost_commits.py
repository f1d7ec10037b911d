"""The answer to a COMMIT is lost on its way: it is settled before anything else is done."""

import json
import threading
import time
from contextlib import ExitStack, contextmanager

import pytest
from sqlalchemy import make_url, text

from ledger import Keys, Kind, Ledger, Order
from ledger import engine as ledger_engine
from ledger.commits import STEP, Fate, Step, settle
from ledger.engine import Database
from ledger.errors import CommitUnknownError
from ledger.events import EventType, append
from ledger.migrate import upgrade
from ledger.schema import chunk, request
from ledger.tasks import Dead, Delivered, Settlement
from tests.support.fault_proxy import FaultProxy, Mode

pytestmark = pytest.mark.fault("F41")

KEYS = Keys(order=b"o" * 32, pseudonym=b"p" * 32)
ORDER = Order(project="default", kind=Kind.MEMORIES)
# What happens to a COMMIT, by what the sender sees of it.
LOST = {
    "the answer is swallowed and the connection breaks": {"mode": Mode.SWALLOW, "direction": "up"},
    "the answer is swallowed and all is still": {"mode": Mode.BLACK_HOLE, "direction": "down"},
    "the command itself is lost": {"mode": Mode.RESET, "direction": "up"},
}


class Path:
    """A ledger behind a proxy, and a look at it that does not pass there."""

    def __init__(self, ledger, database, proxy):
        self.ledger = ledger
        self.database = database
        self.proxy = proxy

    def lose(self, how, **members):
        return self.proxy.arm(**how, pattern=b"COMMIT", **({"count": 1} | members))

    def rows(self, statement):
        return self.database.read(lambda conn: conn.execute(text(statement)).all())

    def scalar(self, statement):
        ((value,),) = self.rows(statement)
        return value

    def events(self, kind):
        return self.scalar(f"SELECT count(*) FROM event WHERE type = '{kind}'")  # noqa: S608


@contextmanager
def a_path(url):
    with ExitStack() as stack:
        upgrade(url)
        proxy = stack.enter_context(FaultProxy(make_url(url).port or 0))
        around = make_url(url).set(port=proxy.port).render_as_string(hide_password=False)
        ledger = stack.enter_context(Ledger.open(around, keys=KEYS))
        ledger.register(projects={"default": "default"}, rates={"default": 1_000})
        database = Database(url)
        stack.callback(database.close)
        yield Path(ledger, database, proxy)


@pytest.fixture
def path(postgres_url, monkeypatch):
    monkeypatch.setattr(ledger_engine, "PATIENCE_S", 1.0)
    with a_path(postgres_url) as made:
        yield made


@pytest.fixture(params=list(LOST.values()), ids=list(LOST))
def lost(request):
    return request.param


def submit(path, ids, *, lost=None, chunk_size=10, **order):
    """Hand in a request, whose last COMMIT is lost."""
    intake = path.ledger.begin(Order(**(vars_of(ORDER) | order)), chunk_size=chunk_size)
    intake.add(ids)
    if lost is None:
        return intake.finish()
    struck = path.lose(lost)
    receipt = intake.finish()
    assert struck.struck == 1
    return receipt


def vars_of(order):
    return {"project": order.project, "kind": order.kind}


def ids(count):
    return [f"m{number}" for number in range(count)]


def claim(path, capacity=100):
    return path.ledger.claim(worker="w", capacity=capacity, lead_s=0, lease_s=60)


def settlements(tasks):
    return [
        Settlement(task=task, move=Delivered(), outcome="acknowledged", reason="ok")
        for task in tasks
    ]


def test_a_request_without_a_key_is_there_once(path, lost):
    receipt = submit(path, ids(25), lost=lost)
    assert path.rows("SELECT id, unique_ids FROM request") == [(receipt.id, 25)]
    assert path.scalar("SELECT count(*) FROM chunk") == 3
    assert path.events("request.accepted") == 1


def test_small_requests_without_keys_are_there_once_each(path, lost):
    struck = path.lose(lost, skip=2)  # of the two looks before
    answers = path.ledger.take_many([(ORDER, [f"m{n}"]) for n in range(20)], chunk_size=10)
    assert struck.struck == 1
    assert not any(answer.duplicate for answer in answers)
    assert sorted(answer.id for answer in answers) == sorted(
        found for (found,) in path.rows("SELECT id FROM request")
    )
    assert path.events("request.accepted") == 20


def test_a_stream_of_which_every_commit_is_lost_comes_in_whole(path):
    struck = path.lose(LOST["the answer is swallowed and the connection breaks"], count=None)
    receipt = submit(path, ids(1_010), chunk_size=2, idempotency_key="once")
    assert struck.struck >= 4
    path.proxy.clear()
    assert path.rows("SELECT unique_ids, chunks FROM request") == [(1_010, 505)]
    assert path.scalar("SELECT count(*) FROM chunk") == 505
    assert path.events("request.accepted") == 1
    assert path.ledger.status(receipt.id).counts.pending == 1_010


def test_a_claim_gives_out_each_slot_and_each_chunk_once(path, lost):
    submit(path, ids(300))
    struck = path.lose(lost)
    claimed = claim(path)
    assert struck.struck == 1
    assert len(claimed.tasks) == 30
    assert sorted((task.claim, task.place) for task in claimed.tasks) == sorted(
        (row.claim, row.place) for row in path.rows("SELECT claim, place FROM attempt")
    )
    assert path.scalar("SELECT booked FROM account") == 30
    assert path.events("calls.intent") == 1


def test_outcomes_are_recorded_once_and_none_of_them_as_stale(path, lost):
    receipt = submit(path, ids(50))
    claimed = claim(path)
    struck = path.lose(lost)
    ready = path.ledger.record(settlements(claimed.tasks))
    assert struck.struck == 1
    assert ready == [receipt.id]
    assert path.events("calls.outcome") == 1
    assert path.scalar("SELECT sum(stale) FROM attempt") == 0
    view = path.ledger.status(receipt.id)
    assert (view.counts.acknowledged, view.attempts) == (50, 5)


def test_a_commit_that_is_still_under_way_is_waited_for(path):
    path.database.write(lambda conn: conn.execute(text(_SLOW_COMMIT)))
    before = path.proxy.accepted
    breaking = threading.Timer(0.3, path.proxy.reset_all)
    breaking.start()
    receipt = submit(path, ids(10))
    breaking.join()
    assert path.proxy.accepted > before, "the connection did not break"
    assert path.rows("SELECT id FROM request") == [(receipt.id,)]
    assert path.events("request.accepted") == 1


_SLOW_COMMIT = """
CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS
'BEGIN PERFORM pg_sleep(1.5); RETURN NULL; END';
CREATE CONSTRAINT TRIGGER slowly AFTER INSERT ON request DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION slowly()
"""


@pytest.fixture
def away(path, monkeypatch):
    """The database is gone as soon as an answer was lost, and for longer than anybody asks."""
    monkeypatch.setattr(ledger_engine, "SETTLE_S", 0.2)

    def gone(*given, **options):
        path.proxy.set(Mode.REFUSE)
        return settle(*given, **options)

    monkeypatch.setattr(ledger_engine, "settle", gone)


@pytest.mark.usefixtures("away")
def test_a_database_that_stays_away_leaves_an_error_that_says_that_nobody_knows(path):
    lost = LOST["the answer is swallowed and the connection breaks"]
    with pytest.raises(CommitUnknownError, match="not known") as caught:
        submit(path, ids(3), lost=lost)
    assert caught.value.cause == "commit_unknown"
    path.proxy.clear()
    assert path.scalar("SELECT count(*) FROM request") == 1


@pytest.mark.usefixtures("away")
@pytest.mark.parametrize("split", [False, True], ids=["the same batch", "with another"])
def test_outcomes_that_nobody_knows_of_count_once_when_they_are_recorded_again(path, split):
    receipt = submit(path, ids(50))
    batch = settlements(claim(path).tasks)
    first, later = (batch[:3], batch) if split else (batch, batch)
    path.lose(LOST["the answer is swallowed and the connection breaks"])
    with pytest.raises(CommitUnknownError):
        path.ledger.record(first)
    path.proxy.clear()
    assert path.ledger.record(later) == [receipt.id]
    assert reported(path) == ([3, 2] if split else [5], 0)
    assert path.scalar("SELECT sum(stale) FROM attempt") == 0
    view = path.ledger.status(receipt.id)
    assert (view.counts.acknowledged, view.counts.pending, view.attempts) == (50, 0, 5)


def reported(path):
    """Give the calls of each event about outcomes, and how many were told to be late."""
    bodies = path.rows(
        "SELECT payload FROM event_body JOIN event ON event.id = event_body.event"
        " WHERE type = 'calls.outcome' ORDER BY event.id"
    )
    told = [json.loads(bytes(payload)) for (payload,) in bodies]
    return [one["calls"] for one in told], sum(one["stale"] for one in told)


@pytest.mark.usefixtures("away")
def test_a_pause_that_nobody_knows_of_is_counted_once(path):
    submit(path, ids(10))
    (task,) = claim(path).tasks
    batch = [
        Settlement(
            task=task,
            move=Dead(bucket="refused"),
            outcome="back_off",
            reason="http_429",
            pause_account_s=5.0,
        )
    ]
    path.lose(LOST["the answer is swallowed and the connection breaks"])
    with pytest.raises(CommitUnknownError):
        path.ledger.record(batch)
    path.proxy.clear()
    path.ledger.record(batch)
    assert path.scalar("SELECT strikes FROM account") == 1
    assert path.events("account.paused") == 1


# -- how the fate is found ------------------------------------------------------------------------


def fate_of(path, number, witness=None):
    step: Step[None] = Step()
    step.number, step.witness, step.committing = number, witness, True
    return settle(path.database.engine, step, patience_s=0)


def own_number(conn):
    return conn.execute(text("SELECT pg_current_xact_id()::text")).scalar_one()


def test_the_number_of_a_transaction_that_a_crash_took_and_another_got_fools_nobody(path):
    receipt = submit(path, ids(3))
    others = path.database.write(own_number)
    assert fate_of(path, others) is Fate.COMMITTED
    assert fate_of(path, others, {request.c.id: "gone with the crash"}) is Fate.ABORTED
    mine = {chunk.c.request_id: receipt.id, chunk.c.no: 0}
    assert fate_of(path, others, mine) is Fate.COMMITTED


def test_an_event_tells_the_number_of_its_transaction(path):
    def work(conn):
        append(conn, EventType.PROJECT_MENDED, {"project": "default"})
        return conn.get_execution_options()[STEP].number, own_number(conn)

    told, own = path.database.write(work)
    assert told == own


def test_a_number_that_was_never_given_out_is_of_a_transaction_that_is_lost(path):
    number = int(path.database.write(own_number)) + 1_000_000
    assert fate_of(path, str(number)) is Fate.ABORTED


def test_what_wrote_nothing_needs_no_question(path):
    path.proxy.set(Mode.REFUSE)
    assert fate_of(path, None) is Fate.COMMITTED


def test_a_server_that_keeps_still_in_mid_transaction_is_left_and_asked_again(path):
    submit(path, ids(3))
    silent = path.proxy.arm(Mode.BLACK_HOLE, direction="down", count=1)
    started = time.monotonic()
    assert path.ledger.count_requests() == 1
    assert silent.struck == 1
    assert time.monotonic() - started < 10
