"""A few seeds of the campaign; `make campaign` runs hundreds, and some with real processes."""

import pytest

from tests.support.campaign.in_process import run_seed
from tests.support.ledger_world import worlds

__all__ = ["worlds"]

SEEDS = {"sqlite": range(6), "postgresql": range(6, 10)}
EVENTS = 70


@pytest.mark.fault("F36", "F41")
def test_random_days_end_well_whatever_happens_in_them(worlds, fault_report):
    for seed in SEEDS[worlds.kind]:
        score = run_seed(worlds, seed, events=EVENTS)
        fault_report(score.verdict)
        assert not score.error, f"seed {seed}, {EVENTS} events: {score.error}"


def test_a_seed_is_the_same_day_each_time(worlds):
    first, again = (run_seed(worlds, 3, events=40) for _ in range(2))

    assert first == again
    assert first.verdict is not None
