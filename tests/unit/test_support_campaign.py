"""The campaign's own parts: a failing seed says how to replay it, and the totals are sums."""

import sys

import pytest

from tests.support.campaign import run
from tests.support.campaign.score import Score, table
from tests.support.oracle import Verdict

COUNTS = [2, 10, 20, 4, 0, 0, 3, 8, 0]


def score(name="3", *, doubled=1, error=""):
    verdict = Verdict(
        calls=10, lost=0, unordered=0, doubled=doubled, most_doubled=4, excess=0, findings=()
    )
    plain = {"name": name, "kind": "in process", "ledger": "sqlite", "events": 5, "kills": 2}
    return Score(**plain, verdict=verdict, error=error)


@pytest.fixture
def main(monkeypatch, tmp_path):
    """Run the command with arguments; its file goes into the test's folder."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["campaign", *arguments])
        return run.main()

    return call


def test_a_failing_seed_says_how_to_replay_it_alone(main, monkeypatch, capsys, tmp_path):
    asked = []

    def seeds(kind, names):
        asked.append((kind, names))
        return [score("17", error="AssertionError: 1 lost: a.")]

    monkeypatch.setattr(run, "_in_process", seeds)

    assert main("--seed", "17") == 1
    assert asked == [("postgresql", [17])]
    said = capsys.readouterr().out
    assert "make campaign SEED=17   # sqlite: AssertionError: 1 lost: a." in said
    assert said.endswith("1 failed.\n")
    assert (tmp_path / "build" / "campaign.json").exists()


def test_the_totals_are_sums_by_kind_and_ledger():
    head, line = table([score(), score(doubled=2)])

    assert head.split() == [*run_columns()]
    assert line.replace("in process", "").split() == ["sqlite", *map(str, COUNTS), "-", "0"]


def run_columns():
    yield from ("kind", "ledger", "seeds", "events", "calls", "kills", "lost", "unordered")
    yield from ("doubled", "explained", "excess", "heals", "failed")
