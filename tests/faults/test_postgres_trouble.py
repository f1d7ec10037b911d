"""PostgreSQL: crashes, ended connections, deadlocks. Transactions are run again, none half."""

import threading
import time
from contextlib import closing, contextmanager
from itertools import count

import psycopg
import pytest
from sqlalchemy import text

from ledger import Keys, Kind, Ledger, Order, ReadbackPolicy
from ledger.engine import Database
from ledger.errors import LedgerError
from ledger.migrate import upgrade
from ledger.model import Receipt
from ledger.tasks import Delivered, Settlement
from tests.support.postgres import PostgresServer
from tests.support.stack import Stack

# SQLAlchemy leaves a cursor open when the connection breaks as it is opened; the server is gone.
pytestmark = pytest.mark.filterwarnings("ignore:.*was deleted while still open:ResourceWarning")

KEYS = Keys(order=b"o" * 32, pseudonym=b"p" * 32)
POLICY = ReadbackPolicy(settle_s=0.0)
ORDER = Order(project="default", kind=Kind.MEMORIES, verify="none")


_END_ALL = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


def settled(task):
    return Settlement(task=task, move=Delivered(), outcome="acknowledged", reason="ok")


class Load:
    """Threads that hand in and carry out, each with an engine of its own, until told to stop.

    Attributes:
        accepted: What the ledger confirmed, by request id: its ids.
        refused: Hand-ins that ended in an error; of these, nothing may be there.
        errors: What is no LedgerError.
    """

    def __init__(self, url):
        self.url = url
        self.accepted: dict[str, int] = {}
        self.refused = 0
        self.errors: list[BaseException] = []
        self.claimed: list[tuple[str, int]] = []
        self._enough = threading.Event()
        self._numbers = count()

    @contextmanager
    def running(self, *, senders=2, workers=2):
        threads = [threading.Thread(target=self._keep, args=(self._send,)) for _ in range(senders)]
        threads += [threading.Thread(target=self._keep, args=(self._work,)) for _ in range(workers)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._enough.set()
            for thread in threads:
                thread.join()
        assert self.errors == []

    def _keep(self, turn):
        try:
            with Ledger.open(self.url, keys=KEYS) as ledger:
                while not self._enough.is_set():
                    turn(ledger)
        except BaseException as error:  # noqa: BLE001 - shown by the test
            self.errors.append(error)

    def _send(self, ledger):
        number = next(self._numbers)
        ids = [f"{number}/{n}" for n in range(5)]
        try:
            if number % 2:
                (receipt,) = ledger.take_many([(ORDER, ids)], chunk_size=2)
                assert isinstance(receipt, Receipt)
            else:
                intake = ledger.begin(ORDER, chunk_size=2)
                intake.add(ids)
                receipt = intake.finish()
        except LedgerError:
            self.refused += 1
            time.sleep(0.05)
        else:
            assert not receipt.duplicate
            self.accepted[receipt.id] = receipt.unique

    def _work(self, ledger):
        try:
            tasks = ledger.claim(worker="w", capacity=50, lead_s=0, lease_s=2).tasks
        except LedgerError:
            time.sleep(0.05)
            return
        self.claimed += [(task.claim, task.place) for task in tasks]
        while tasks:
            try:
                ready = ledger.record([settled(task) for task in tasks])
                for request_id in ready:
                    ledger.advance(request_id, policy=POLICY)
            except LedgerError:
                time.sleep(0.05)  # recording the same again is safe
            else:
                return


def check(load, url):
    """Everything confirmed is there, once and whole; nothing else is."""
    with Ledger.open(url, keys=KEYS) as ledger, closing(Database(url)) as database:

        def rows(statement):
            return database.read(lambda conn: [tuple(row) for row in conn.execute(text(statement))])

        # As many as were handed in a minute have to be carried out, on whatever machine this is.
        end = time.monotonic() + 180
        while rows("SELECT id FROM request WHERE finished_at IS NULL LIMIT 1"):
            assert time.monotonic() < end
            load._work(ledger)
            ledger.sweep(max_attempts=100, policy=POLICY)

        there = dict(rows("SELECT id, unique_ids FROM request"))
        assert there == load.accepted  # lost 0, doubled 0
        assert set(load.claimed) <= set(rows("SELECT claim, place FROM attempt"))
        assert rows("SELECT id FROM request WHERE acknowledged <> unique_ids") == []
        # One event each of acceptance; as many intents as claims.
        accepted = "SELECT count(*), count(DISTINCT request) FROM event WHERE type = '{}'"
        assert rows(accepted.format("request.accepted")) == [(len(there), len(there))]
        assert rows(accepted.format("request.finished")) == [(len(there), len(there))]
        ((claims,),) = rows("SELECT count(DISTINCT claim) FROM attempt")
        assert rows("SELECT count(*) FROM event WHERE type = 'calls.intent'") == [(claims,)]
        assert rows("SELECT id FROM event WHERE id NOT IN (SELECT event FROM event_body)") == []
        # An outcome is there once: what was recorded was never taken for a late one.
        assert rows("SELECT claim FROM attempt WHERE stale = 1 AND reason <> 'lease_lapsed'") == []


def open_transactions(url):
    statement = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid() AND xact_start < now() - interval '1 second'"
    )
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        ((found,),) = connection.execute(statement)
        return found


@pytest.fixture
def server():
    """A cluster of this test's own, which it may crash."""
    made = PostgresServer()
    try:
        yield made.start()
    finally:
        made.close()


def prepared(url):
    upgrade(url)
    with Ledger.open(url, keys=KEYS) as ledger:
        ledger.register(projects={"default": "default"}, rates={"default": 1_000})
    return url


def crash(server):
    server.kill()
    server.start()


@pytest.mark.fault("F39")
@pytest.mark.parametrize(
    "crashes",
    [2, pytest.param(15, marks=[pytest.mark.slow, pytest.mark.timeout(400)])],
)
def test_a_server_that_crashes_under_load_leaves_nothing_lost_doubled_or_half_done(server, crashes):
    with server.database() as url:
        load = Load(prepared(url))
        with load.running():
            for _ in range(crashes):
                had = len(load.accepted)
                _wait_for(lambda: len(load.accepted) > had + 5)  # noqa: B023 - run at once
                crash(server)
            had = len(load.accepted)
            _wait_for(lambda: len(load.accepted) > had + 5)
        check(load, url)


@pytest.mark.fault("F40")
@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(4, marks=pytest.mark.slow),
        pytest.param(60, marks=[pytest.mark.slow, pytest.mark.timeout(300)]),
    ],
)
def test_connections_that_are_ended_once_a_second_cost_nothing_but_time(postgres, seconds):
    with postgres.database() as url:
        load = Load(prepared(url))
        with load.running(), psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as own:
            ended = 0
            for _ in range(seconds):
                time.sleep(1)
                ended += own.execute(_END_ALL).rowcount
            assert ended >= seconds
        # A broken connection is replaced at once: nobody was told of it.
        assert load.refused == 0
        check(load, url)
        assert open_transactions(url) == 0


@pytest.mark.slow
@pytest.mark.fault("F39", "F40")
@pytest.mark.timeout(240)
def test_workers_outlive_crashes_and_ended_connections(server, tmp_path):
    with server.database() as url, Stack(tmp_path, url, rate=50) as stack:
        seeded = stack.control.seed(users=10, memories=60, seed=39)
        stack.submit(seeded.memory_ids, chunk_size=2, verify="none")
        for _ in range(2):
            stack.start_worker()
        stack.wait_for_calls(20, seconds=60)
        crash(server)
        for turn in range(3):
            stack.wait_for_calls(60 + 30 * turn, seconds=60)
            with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as own:
                own.execute(_END_ALL)
        stack.wait_for_calls(180, seconds=60)
        crash(server)
        stack.wait_for_end(seconds=90)
        stack.assert_truth(seeded, ordered=seeded.memory_ids)
        stack.assert_within_rate()


# -- two sessions in each other's way -------------------------------------------------------------


@pytest.fixture
def url(postgres):
    with postgres.database() as made:
        yield prepared(made)


@pytest.mark.fault("F42")
def test_of_two_transactions_that_lock_each_other_out_both_are_done(url):
    with closing(Database(url)) as database:
        database.write(
            lambda conn: conn.execute(
                text("INSERT INTO lease VALUES ('a', 'x', 0, 0), ('b', 'x', 0, 0)")
            )
        )
        meeting = threading.Barrier(2)
        tries = count()

        def lock(first, second):
            def work(conn):
                turn = next(tries)
                add = text("UPDATE lease SET token = token + 1 WHERE name = :name")
                conn.execute(add, {"name": first})
                if turn < 2:  # both first tries meet half-way
                    meeting.wait(10)
                conn.execute(add, {"name": second})

            database.write(work)

        threads = [threading.Thread(target=lock, args=names) for names in ("ab", "ba")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert next(tries) in (3, 4)  # one of them ran again, or both did
        rows = database.read(lambda conn: conn.execute(text("SELECT token FROM lease")).all())
        assert [row.token for row in rows] == [2, 2]


# Fails the first times, whatever is rolled back: a sequence never goes back.
_FAIL = """
CREATE SEQUENCE failures;
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF nextval('failures') <= {times} THEN
    RAISE EXCEPTION 'as if two transactions were in each other''s way' USING ERRCODE = '{code}';
  END IF;
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER fail AFTER INSERT ON event {when}
FOR EACH ROW EXECUTE FUNCTION fail()
"""
_WHEN = {"at once": "NOT DEFERRABLE", "at the commit": "DEFERRABLE INITIALLY DEFERRED"}


def make_fail(url, *, code, when, times):
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        connection.execute(_FAIL.format(code=code, when=_WHEN[when], times=times))


@pytest.mark.fault("F42")
@pytest.mark.parametrize("when", _WHEN)
@pytest.mark.parametrize("code", ["40001", "40P01"])
def test_a_transaction_that_the_server_gives_up_is_run_again_as_a_whole(url, code, when):
    make_fail(url, code=code, when=when, times=3)
    load = Load(url)
    with Ledger.open(url, keys=KEYS) as ledger:
        for _ in range(4):
            load._send(ledger)
        load._work(ledger)
    assert (load.refused, len(load.accepted)) == (0, 4)
    check(load, url)


@pytest.mark.fault("F42")
@pytest.mark.parametrize("when", _WHEN)
def test_trying_again_has_an_end(url, when):
    make_fail(url, code="40001", when=when, times=1_000_000)
    with Ledger.open(url, keys=KEYS) as ledger, closing(Database(url)) as database:
        with pytest.raises(LedgerError) as caught:
            ledger.take_many([(ORDER, ["m"])], chunk_size=2)
        assert caught.value.cause == "40001"
        tried = text("SELECT last_value FROM failures")
        assert database.read(lambda conn: conn.execute(tried).scalar()) == 6
        assert ledger.count_requests() == 0


def _wait_for(what):
    end = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)
