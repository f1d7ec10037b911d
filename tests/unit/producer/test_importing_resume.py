"""An import that breaks off goes on and repeats nothing, on a real SQLite ledger."""

import io
import itertools
import json
import os
import sqlite3
from collections import Counter
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import select

from ledger import Keys
from ledger.engine import Database
from ledger.errors import ConflictError, LedgerError, RequestError
from ledger.intake import Intake
from ledger.macs import Macs
from ledger.schema import request
from ledger.states import Kind
from producer import Producer
from producer.files import (
    Columns,
    Format,
    Journal,
    Layout,
    RejectLog,
    Source,
    Terms,
    import_digest,
    import_file,
)
from producer.submit import Producer as Submitting
from tests.support.homes import make_home

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
MACS = Macs(Keys(order=b"o" * 32, pseudonym=b"p" * 32))
GONE = LedgerError("The ledger does not answer.")


class Clock:
    """Both clocks; a look at the monotonic one takes two seconds."""

    def __init__(self):
        self.now = NOON
        self.ticks = itertools.count(0, 2)

    def monotonic(self):
        return next(self.ticks)


@pytest.fixture
def settings(tmp_path):
    return make_home(tmp_path, chunk_size=3)


@pytest.fixture
def producer(settings, monkeypatch):
    monkeypatch.setattr("producer.files.handing._REQUESTS_AT_ONCE", 3)
    monkeypatch.setattr("producer.files.handing._MOST_SMALL", 2)
    monkeypatch.setattr("ledger.intake.CHUNKS_PER_TRANSACTION", 2)
    with Producer(settings) as opened:
        yield opened


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def journal(settings, clock):
    return Journal(settings.home, now=lambda: clock.now, monotonic=clock.monotonic)


def rows(settings, query):
    with closing(sqlite3.connect(settings.home / "expunge.db")) as database:
        return database.execute(query).fetchall()


def ordered(settings):
    """Every id and every purge that workers would carry out, and how often."""
    found = rows(
        settings,
        "SELECT r.kind, r.subject, c.ids FROM request r JOIN chunk c ON c.request_id = r.id "
        "WHERE r.state NOT IN ('cancelled', 'receiving')",
    )
    return Counter(
        what
        for kind, subject, ids in found
        for what in (json.loads(ids) if kind == "memories" else [(kind, subject)])
    )


@contextmanager
def breaking_off(error, *, after):
    """Every way into the ledger works so many times, then raises."""
    left = itertools.count(after, -1)

    def breaking(real):
        def call(self, *args, **kwargs):
            if next(left) <= 0:
                raise error
            return real(self, *args, **kwargs)

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Submitting, "hand_in_many", breaking(Submitting.hand_in_many))
        patch.setattr(Intake, "_flush", breaking(Intake._flush))
        yield


class Import:
    """One file with its options."""

    def __init__(self, text, layout, **terms):
        self.raw = text.encode()
        self.layout = layout
        self.terms = Terms(**terms)

    def source(self):
        return Source(io.BytesIO(self.raw), name="orders")

    def digest(self):
        return import_digest(self.source(), layout=self.layout, terms=self.terms, macs=MACS)

    def hand_in(self, producer, run, rejects=None):
        return import_file(
            producer,
            self.source(),
            layout=self.layout,
            terms=self.terms,
            rejects=rejects or RejectLog(),
            run=run,
        )


IDS = [f"m-{number}" for number in range(40)]
USERS = [f"u-{number}" for number in range(25)]
FILES: dict[str, tuple[Import, list[Any]]] = {
    "plain": (Import("\n".join([*IDS, *IDS]), Layout(format=Format.PLAIN)), IDS),
    "csv": (
        Import("memory_id,x\n" + "".join(f"{each},\n" for each in IDS), Layout(format=Format.CSV)),
        IDS,
    ),
    "csv by user": (
        Import(
            "memory_id,user\n" + "".join(f"{each},{each[-1]}\n" for each in IDS),
            Layout(format=Format.CSV, columns=Columns(user_id="user")),
        ),
        IDS,
    ),
    "users": (
        Import("\n".join([*USERS, *USERS]), Layout(format=Format.PLAIN, kind=Kind.USER)),
        [("user", each) for each in USERS],
    ),
    "jsonl": (
        Import(
            "\n".join(json.dumps({"user_id": each}) for each in USERS)
            + "\n"
            + json.dumps({"memory_ids": IDS})
            + '\n{"agent_id": "a"}\n',
            Layout(format=Format.JSONL),
        ),
        [*(("user", each) for each in USERS), *IDS, ("agent", "a")],
    ),
}


@pytest.mark.parametrize("error", [GONE, KeyboardInterrupt()], ids=["ledger gone", "ctrl-c"])
@pytest.mark.parametrize("name", FILES)
def test_broken_off_anywhere_again_and_again_everything_is_ordered_once(
    producer, settings, journal, name, error
):
    task, expected = FILES[name]
    journal.begin(task.digest())
    for after in (0, 1, 2, 3, 5):
        with suppress(LedgerError, KeyboardInterrupt), breaking_off(error, after=after):
            task.hand_in(producer, journal.find(task.digest()))
        assert max(ordered(settings).values(), default=0) <= 1
    report = task.hand_in(producer, journal.find(task.digest()))
    assert ordered(settings) == Counter(expected)
    assert report.unique == len(expected)
    assert report.requests == len(rows(settings, "SELECT id FROM request"))
    assert journal.find(task.digest()).progress.complete


@pytest.mark.parametrize("name", ["plain", "jsonl"])
def test_on_either_ledger_what_broke_off_goes_on(tmp_path, ledger_url, journal, monkeypatch, name):
    monkeypatch.setattr("producer.files.handing._MOST_SMALL", 2)
    monkeypatch.setattr("producer.files.handing._REQUESTS_AT_ONCE", 3)
    monkeypatch.setattr("ledger.intake.CHUNKS_PER_TRANSACTION", 2)
    task, expected = FILES[name]
    settings = make_home(tmp_path / "home", chunk_size=3, ledger_url=ledger_url)
    journal.begin(task.digest())
    with Producer(settings) as producer:
        for after in (3, 2):
            with pytest.raises(LedgerError), breaking_off(GONE, after=after):
                task.hand_in(producer, journal.find(task.digest()))
        report = task.hand_in(producer, journal.find(task.digest()))
    assert report.unique == len(expected)
    with closing(Database(ledger_url)) as database:
        found = database.read(
            lambda conn: conn.execute(select(request.c.unique_ids, request.c.state)).all()
        )
    assert sum(count for count, _ in found) == len(expected)
    assert {state for _, state in found} == {"open"}


def test_what_was_taken_of_a_stream_stays_for_the_next_try(producer, settings, journal):
    task, _ = FILES["plain"]
    run = journal.begin(task.digest())
    with pytest.raises(LedgerError, match="--resume"), breaking_off(GONE, after=3):
        task.hand_in(producer, run)
    [(state, request_id)] = rows(settings, "SELECT state, id FROM request")
    assert state == "receiving"
    task.hand_in(producer, journal.find(task.digest()))
    assert rows(settings, "SELECT state, id FROM request") == [("open", request_id)]


def test_requests_that_are_done_are_not_handed_in_again(producer, journal, monkeypatch):
    task, _ = FILES["users"]
    with pytest.raises(LedgerError, match="12 requests are recorded"), breaking_off(GONE, after=4):
        task.hand_in(producer, journal.begin(task.digest()))
    handed: list[str] = []
    real = Submitting.hand_in_many

    def noted(self, some):
        handed.extend(each.subject for each in some)
        return real(self, some)

    monkeypatch.setattr(Submitting, "hand_in_many", noted)
    report = task.hand_in(producer, journal.find(task.digest()))
    assert handed == USERS[12:]
    assert (report.requests, report.known, report.requested) == (25, 12, 50)


def test_what_the_journal_did_not_get_to_know_is_found_by_its_key(producer, settings, journal):
    """As after a kill: the token is on disk, and no count."""
    task, expected = FILES["jsonl"]
    run = journal.begin(task.digest())
    before = run.path.read_text()
    task.hand_in(producer, run)
    run.path.write_text(before)
    report = task.hand_in(producer, journal.find(task.digest()))
    assert (report.requests, report.known) == (27, 27)
    assert ordered(settings) == Counter(expected)


def test_lines_that_the_ledger_refused_are_refused_again_and_told_again(producer, journal):
    lines = [{"user_id": each} for each in USERS[:9]]
    lines[1] |= {"idempotency_key": "k"}
    lines[3] |= {"idempotency_key": "k"}
    task = Import("\n".join(map(json.dumps, lines)), Layout(format=Format.JSONL))
    with pytest.raises(LedgerError), breaking_off(GONE, after=2):
        task.hand_in(producer, journal.begin(task.digest()))
    log = RejectLog()
    report = task.hand_in(producer, journal.find(task.digest()), log)
    assert [each.line for each in log.first] == [4]
    assert (report.requests, report.rejected) == (8, 1)


def test_a_run_that_gained_nothing_leaves_no_journal(producer, settings, journal):
    task = Import("\x01\n", Layout(format=Format.PLAIN))
    run = journal.begin(task.digest())
    with pytest.raises(RequestError):
        task.hand_in(producer, run)
    assert journal.find(task.digest()) is None


def test_other_settings_in_between_change_nothing_of_what_goes_on(producer, settings, journal):
    task, expected = FILES["plain"]
    with pytest.raises(LedgerError), breaking_off(GONE, after=3):
        task.hand_in(producer, journal.begin(task.digest()))
    before = rows(settings, "SELECT id, verify FROM request")
    with Producer(settings.model_copy(update={"verify": "none"})) as other:
        task.hand_in(other, journal.find(task.digest()))
    assert rows(settings, "SELECT id, verify FROM request") == before
    assert ordered(settings) == Counter(expected)


class Changing(Import):
    """Its file is another one after the check, from the given reading on."""

    def __init__(self, name, text, *, reading=1):
        task, _ = FILES[name]
        super().__init__(task.raw.decode(), task.layout)
        self.other = text.encode()
        self.reading = reading

    def source(self):
        source = super().source()
        real, left = source.blocks, itertools.count(self.reading, -1)

        def blocks(**options):
            if next(left) == 1:
                source.file = io.BytesIO(self.other)
            return real(**options)

        source.blocks = blocks
        return source


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("plain", "".join(f"x-{number}\n" for number in range(9))),
        ("csv by user", "memory_id,user\nx,1\ny,2\nx,1\n"),
        ("users", "u-0\nu-1\nx\ny\n"),
    ],
)
def test_of_a_file_that_changed_nothing_is_handed_in_where_it_is_read_first(
    producer, settings, journal, name, text
):
    task = Changing(name, text)
    with pytest.raises(RequestError, match="changed while it was read"):
        task.hand_in(producer, journal.begin(task.digest()))
    assert ordered(settings) == Counter()
    assert journal.find(task.digest()) is None


def test_a_list_that_changed_while_it_went_on_is_a_conflict_that_says_so(
    producer, settings, journal
):
    task, _ = FILES["plain"]
    with pytest.raises(LedgerError), breaking_off(GONE, after=1):
        task.hand_in(producer, journal.begin(task.digest()))
    changing = Changing("plain", "\n".join([*IDS[:10], *(f"{each}x" for each in IDS[10:])]))
    with pytest.raises(RequestError, match="changed while it was read"):
        changing.hand_in(producer, journal.find(task.digest()))
    with pytest.raises(ConflictError, match="a day"):
        task.hand_in(producer, journal.find(task.digest()))
    assert ordered(settings) == Counter()
    report = task.hand_in(producer, journal.begin(task.digest()))
    assert report.unique == len(IDS)


def test_of_lines_that_changed_nothing_counts_as_handed_in(producer, settings, journal):
    task, expected = FILES["jsonl"]
    lines = task.raw.decode().splitlines()
    lines[1] = json.dumps({"user_id": "x"})
    changing = Changing("jsonl", "\n".join(lines[:8]))
    with pytest.raises(RequestError, match=r"changed while .*6 requests .*recorded"):
        changing.hand_in(producer, journal.begin(task.digest()))
    assert not journal.find(task.digest()).progress.complete
    log = RejectLog()
    task.hand_in(producer, journal.find(task.digest()), log)
    # Under the key of the second line another order is recorded; it is told and not passed over.
    assert [each.line for each in log.first] == [2]
    assert ordered(settings) == Counter(expected) - Counter([("user", "u-1")]) + Counter(
        [("user", "x")]
    )


def test_purges_that_change_between_the_two_readings_are_all_handed_in_later(
    producer, settings, journal
):
    task, expected = FILES["users"]
    changing = Changing("users", "\n".join(["x", "y", *USERS[:7]]), reading=2)
    with pytest.raises(RequestError, match="changed while it was read"):
        changing.hand_in(producer, journal.begin(task.digest()))
    task.hand_in(producer, journal.find(task.digest()))
    assert set(ordered(settings)) == {*expected, ("user", "x"), ("user", "y")}
    assert max(ordered(settings).values()) == 1


def test_only_a_request_recorded_just_now_tells_how_far_the_ledger_is(producer, settings, journal):
    lines = [{"user_id": each} for each in USERS[:4]]
    lines[0] |= {"idempotency_key": "k"}
    lines[3] |= {"idempotency_key": "k", "user_id": USERS[0]}
    task = Import("\n".join(map(json.dumps, lines)), Layout(format=Format.JSONL))
    task.hand_in(producer, journal.begin(task.digest()))
    assert journal.find(task.digest()).progress.last is None
    shorter = Import("\n".join(map(json.dumps, lines[:3])), task.layout)
    shorter.hand_in(producer, journal.begin(shorter.digest()))
    last = journal.find(shorter.digest()).progress.last
    assert dict(rows(settings, "SELECT id, subject FROM request"))[last] == USERS[2]


# -- the journal's file ---------------------------------------------------------------------------


def test_the_journal_is_nobody_elses_to_read_and_holds_no_id(producer, settings, journal):
    task, _ = FILES["jsonl"]
    run = journal.begin(task.digest())
    task.hand_in(producer, run)
    text = run.path.read_text()
    assert run.path.stat().st_mode & 0o777 == 0o600
    assert run.path.parent.stat().st_mode & 0o777 == 0o700
    assert not any(each in text for each in [*IDS[5:], *USERS[5:]])
    assert list(run.path.parent.iterdir()) == [run.path]


def test_an_import_whose_journal_cannot_be_written_any_more_goes_on(
    producer, settings, journal, monkeypatch
):
    task, expected = FILES["users"]
    run = journal.begin(task.digest())

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    task.hand_in(producer, run)
    assert ordered(settings) == Counter(expected)
