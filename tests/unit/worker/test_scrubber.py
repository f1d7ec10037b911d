"""The steward's duty to forget: when it is done, and that old pages go after it."""

from types import SimpleNamespace
from typing import Any

import pytest

from ledger.errors import LedgerError, SchemaError
from ledger.scrubbing import Scrubbed
from ledger.settings import Settings
from worker.scrubber import EVERY_S, Scrubber


class Ledger:
    def __init__(self):
        self.rounds = [Scrubbed()]
        self.holds = True
        self.busy = 0
        self.asked = []

    def hold_lease(self, name, *, owner, seconds):
        return self.holds

    def scrub(self, *, redrive_days, row_days):
        self.asked.append((redrive_days, row_days))
        found = self.rounds.pop(0) if self.rounds else Scrubbed()
        if isinstance(found, Exception):
            raise found
        return found

    def truncate_wal(self):
        self.asked.append("wal")
        self.busy -= 1
        return self.busy < 0


@pytest.fixture
def ledger():
    return Ledger()


@pytest.fixture
def scrubber(ledger, tmp_path):
    settings = Settings(home=tmp_path, redrive_days=3, second_look_seconds=0, row_days=9)
    process: Any = SimpleNamespace(ledger=ledger, name="steward-1-00000000")
    return Scrubber(settings, process)


def test_it_scrubs_at_its_start_and_once_a_minute_by_the_settings(scrubber, ledger):
    scrubber.turn(0.0)
    scrubber.turn(EVERY_S / 2)
    scrubber.turn(EVERY_S)
    assert ledger.asked == [(3, 9), "wal", (3, 9)]


def test_it_comes_again_at_once_while_there_is_more(scrubber, ledger):
    ledger.rounds = [Scrubbed(scrubbed=("r",), more=True), Scrubbed(scrubbed=("s",))]
    scrubber.turn(0.0)
    scrubber.turn(1.0)
    assert ledger.asked == [(3, 9), (3, 9), "wal"]


def test_the_log_of_old_pages_is_emptied_when_nobody_is_at_it(scrubber, ledger):
    ledger.busy = 2
    for number in range(4):
        scrubber.turn(number * EVERY_S)
    assert ledger.asked.count("wal") == 3


def test_without_the_lease_it_does_nothing_and_tries_again_when_that_may_have_lapsed(
    scrubber, ledger
):
    ledger.holds = False
    scrubber.turn(0.0)
    ledger.holds = True
    scrubber.turn(1.0)
    assert ledger.asked == []
    scrubber.turn(11.0)
    assert ledger.asked


def test_a_ledger_that_is_away_is_waited_for_and_one_of_another_release_is_told(scrubber, ledger):
    ledger.rounds = [LedgerError("away"), SchemaError("newer")]
    scrubber.turn(0.0)
    with pytest.raises(SchemaError):
        scrubber.turn(EVERY_S)
