"""The journals of imports: what names them, what they hold, and which one is gone on with."""

import io
import itertools
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ledger import Keys
from ledger.errors import RequestError
from ledger.macs import Macs
from ledger.states import Kind
from producer.files import Format, Journal, Layout, Source, Terms, import_digest
from producer.files.journal import Progress

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
MACS = Macs(Keys(order=b"o" * 32, pseudonym=b"p" * 32))
RECORDED = Progress(done=3, requests=3)


class Clock:
    """Both clocks; a look at the monotonic one takes two seconds."""

    def __init__(self):
        self.now = NOON
        self.ticks = itertools.count(0, 2)

    def monotonic(self):
        return next(self.ticks)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def journal(tmp_path, clock):
    return Journal(tmp_path, now=lambda: clock.now, monotonic=clock.monotonic)


def test_the_digest_is_that_of_content_and_options_and_tells_neither():
    layout, terms = Layout(format=Format.PLAIN), Terms(user_id="u-17")

    def digest(raw=b"m-1\n", layout=layout, terms=terms, macs=MACS):
        source = Source(io.BytesIO(raw), name="orders")
        return import_digest(source, layout=layout, terms=terms, macs=macs)

    others = [
        digest(raw=b"m-2\n"),
        digest(layout=Layout(format=Format.CSV)),
        digest(layout=Layout(format=Format.PLAIN, kind=Kind.USER)),
        digest(terms=Terms(user_id="u-18")),
        digest(terms=Terms(user_id="u-17", project="crm")),
        digest(terms=Terms(user_id="u-17", due_at=NOON)),
        digest(macs=Macs(Keys(order=b"o" * 32, pseudonym=b"q" * 32))),
    ]
    assert len({digest(), *others}) == 8
    assert digest() == digest(layout=Layout(format=Format.PLAIN, kind=Kind.MEMORIES))
    assert digest() == digest(terms=Terms(user_id="u-17", idempotency_key="k"))


def test_the_journal_is_written_at_most_once_a_second(journal, clock):
    run = journal.begin("d")
    clock.ticks = itertools.chain([10, 10.5, 10.9], itertools.count(11, 2))
    seen = []
    for done in range(1, 6):
        run.advance(Progress(done=done))
        seen.append(journal.find("d").progress.done)
    assert seen == [1, 1, 1, 4, 5]
    run.pause()
    assert journal.find("d").progress.done == 5


def begun(journal, clock, progress=None):
    """Give a run begun a minute later, with its progress on disk."""
    clock.now += timedelta(minutes=1)
    run = journal.begin("d")
    if progress is not None:
        run.advance(progress)
        run.pause()
    return run


def ended(run, clock):
    clock.now += timedelta(minutes=1)
    run.finish(RECORDED)
    return run


def test_the_newest_run_that_recorded_something_is_gone_on_with(journal, clock):
    begun(journal, clock, RECORDED)
    newer = begun(journal, clock, RECORDED)
    begun(journal, clock)
    assert journal.find("d").token == newer.token


def test_where_none_recorded_anything_the_first_is_gone_on_with(journal, clock):
    first = begun(journal, clock)
    begun(journal, clock)
    assert journal.find("d").token == first.token


def test_what_was_begun_before_all_was_handed_in_is_settled_by_that(journal, clock):
    older = begun(journal, clock)
    begun(journal, clock, RECORDED)
    ended(older, clock)
    assert journal.find("d").token == older.token
    assert journal.find("d").progress.complete


@pytest.mark.parametrize("progress", [None, RECORDED], ids=["nothing", "something"])
def test_what_was_begun_after_all_was_handed_in_is_gone_on_with(journal, clock, progress):
    ended(begun(journal, clock, RECORDED), clock)
    newer = begun(journal, clock, progress)
    assert journal.find("d").token == newer.token


def test_a_run_forgets_only_itself_and_only_where_it_was_begun(journal, clock):
    older = begun(journal, clock, RECORDED)
    begun(journal, clock).forget()
    found = journal.find("d")
    assert found.token == older.token
    found.forget()
    assert journal.find("d").token == older.token


def test_a_run_whose_journal_vanished_while_it_works_writes_it_again(journal):
    run = journal.begin("d")
    run.path.unlink()
    run.advance(RECORDED)
    run.pause()
    assert journal.find("d").token == run.token
    assert journal.find("d").progress == RECORDED


def test_what_is_handed_in_again_still_counts_as_recorded(journal, clock):
    older = begun(journal, clock)
    newer = begun(journal, clock, replace(RECORDED, last="r-1"))
    newer.start_over()
    newer.pause()
    assert older.began_at < newer.began_at
    assert journal.find("d").token == newer.token
    assert journal.find("d").progress.done == 0


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"version": 1}', '{"version": 2, "token": "x"}', "\udc80"]
)
def test_a_journal_that_is_none_is_an_error_and_no_guess(journal, text):
    run = journal.begin("d")
    run.path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(RequestError, match="imports/d"):
        journal.find("d")


def test_journals_older_than_thirty_days_are_removed(journal, clock):
    paths = [journal.begin(name).path for name in ("old", "young")]
    for path, days in zip(paths, (31, 29), strict=True):
        then = (NOON - timedelta(days=days)).timestamp()
        os.utime(path, (then, then))
    journal.clear()
    assert [path.exists() for path in paths] == [False, True]
