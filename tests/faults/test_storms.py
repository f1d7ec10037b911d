"""Outages and refusals of ten minutes and more, with eight workers: on a clock that is moved.

The ledger and the judgement are real, the time is not (`tests.support.virtual_drains`).
"""

import itertools

import pytest

from ledger.schema import account, chunk, project
from memos_api import Outcome
from memos_api.simulator.limit import RateLimit
from tests.support.ledger_world import world, worlds
from tests.support.virtual_drains import Memos, VirtualDrains, answered

__all__ = ["world", "worlds"]

# Both kinds of ledger keep the breaker alike (tests/contract/test_ledger_stops.py).
pytestmark = [
    pytest.mark.parametrize("worlds", ["sqlite"], indirect=True),
    pytest.mark.timeout(600),
]

RATE = 20.0
WORKERS = 8
STORM_S = 600.0
CALLS = 85  # 80 chunks and a sample of 5
BEGIN_S = 1.0  # seconds of good weather before
# Claimed before the first answer came: 150 ms ahead, and what one claim carries.
BURST = int(0.5 * RATE)


@pytest.fixture
def ids(world):
    """400 ids, ordered in 80 chunks: four seconds of the rate."""
    world.ledger.register(
        projects={"shop": "acme", "blog": "acme"}, rates={"acme": RATE, "beta": RATE}, decides=True
    )
    ordered = {f"memory-{number}" for number in range(400)}
    world.submit(sorted(ordered), chunk_size=5, verify="sample:5")
    return ordered


@pytest.fixture
def memos(ids):
    return Memos(set(ids))


@pytest.fixture
def drains(world, memos):
    return VirtualDrains(world, memos, workers=WORKERS, lease_s=7.0)


def storm(memos, drains, answer, *, seconds=STORM_S, applies=False):
    """Let a second pass in peace and then the storm; gives its start and end."""
    drains.run(BEGIN_S)
    start = drains.now
    end = start + seconds
    memos.weather = lambda _task, now: answer if now < end else None
    memos.applies = lambda _task, _now: applies
    drains.run(seconds)
    return start, end


def trials(calls):
    """Leave out the burst that was under way when it began: those closer than half a second."""
    gaps = list(itertools.pairwise(calls))
    first = next((late for early, late in gaps if late - early > 0.5), None)
    return [] if first is None else calls[calls.index(first) :]


def assert_spaced(moments, *, first_s=1.0, most_s=60.0):
    """Each pause is at least twice as long as the one before, up to the longest."""
    for number, (early, late) in enumerate(itertools.pairwise(moments), start=1):
        assert late - early >= min(most_s, first_s * 2**number) * 0.999


def assert_all_well(world, memos, *, doubled=0):
    (view,) = world.ledger.list_requests(limit=2)
    assert view.result in {"complete", "complete_with_already_absent"}, view
    assert memos.held == set()
    assert view.counts.unknown == view.counts.still_present == view.counts.pending == 0
    assert memos.worst_window(1.0) <= RATE
    assert memos.carried_out.total() - view.counts.unique <= doubled
    world.check_books()


REFUSALS = {
    "429 without Retry-After": answered(Outcome.BACK_OFF, "http_429", http_status=429),
    "code 40300": answered(Outcome.BACK_OFF, "code_40300", code=40300, http_status=200),
    "429 with Retry-After 0": answered(
        Outcome.BACK_OFF, "http_429", http_status=429, retry_after_s=0.0
    ),
}


@pytest.mark.slow
@pytest.mark.fault("F59", "F60")
@pytest.mark.parametrize("answer", REFUSALS.values(), ids=REFUSALS)
def test_ten_minutes_of_refusals_get_a_handful_of_calls_and_burn_nothing(
    world, memos, drains, answer
):
    start, end = storm(memos, drains, answer)

    calls = memos.between(start, end)
    alone = trials(calls)
    assert len(calls) - len(alone) <= BURST
    assert_spaced(alone)
    # 1 + 2 + 4 + ... + 32, then 60 s each: no more can fit.
    assert 5 <= len(alone) <= 16
    assert max(row.burnt for row in world.rows(chunk)) == 0
    (pause,) = world.ledger.pauses()
    assert (pause.scope, pause.name, pause.reason) == ("account", "acme", answer.reason)

    drains.run(400, until_done=True)

    first = memos.between(end, end + 200)[0]
    assert first <= end + 120 + 1  # the longest rest
    assert_all_well(world, memos)


@pytest.mark.slow
@pytest.mark.fault("F60")
def test_a_limiter_that_counts_refused_calls_is_not_kept_shut_by_knocking(world, memos, drains):
    """The server lets 5 calls a second pass, we are told 20, and it never says how long."""
    limit = RateLimit(per_second=5.0, count_refused=True)
    refusal = REFUSALS["429 without Retry-After"]
    memos.weather = lambda _task, now: refusal if limit.admit(now) else None

    took_s = drains.run(STORM_S, until_done=True)

    assert_all_well(world, memos)
    refused = len(memos.calls) - CALLS
    assert refused <= len(memos.calls) / 2
    assert took_s < 300
    assert max(row.burnt for row in world.rows(chunk)) == 0


OUTAGES = {
    "503": answered(Outcome.UNKNOWN, "http_503", http_status=503),
    "a code of a server in trouble": answered(
        Outcome.UNKNOWN, "code_50004", code=50004, http_status=200
    ),
    "no connection": answered(Outcome.NOT_APPLIED, "tls"),
}


@pytest.mark.slow
@pytest.mark.fault("F49", "F50", "F51", "F61")
@pytest.mark.parametrize("answer", OUTAGES.values(), ids=OUTAGES)
def test_an_outage_of_ten_minutes_opens_the_breaker_and_heals_without_a_herd(
    world, memos, drains, answer
):
    start, end = storm(memos, drains, answer)

    calls = memos.between(start, end)
    alone = trials(calls)
    assert len(calls) - len(alone) <= 5 + BURST
    assert_spaced(alone)
    assert 5 <= len(alone) <= 16
    # What failed before the breaker opened has used one of its attempts, trials none.
    assert max(row.burnt for row in world.rows(chunk)) <= 1
    if answer.outcome is Outcome.NOT_APPLIED:
        assert max(row.burnt + row.doubtful for row in world.rows(chunk)) == 0
    shop = world.row(project, project.c.name == "shop")
    assert (shop.break_reason, shop.paused) == (answer.reason, 0)

    drains.run(400, until_done=True)

    healed = memos.between(end, end + 400)
    assert healed[0] <= end + 120 + 1
    assert healed[1] - healed[0] >= 0.03  # the second waits for the answer to the first
    assert memos.worst_window(10.0) <= 10 * RATE
    assert_all_well(world, memos)
    assert world.row(project, project.c.name == "shop").failures == 0


@pytest.fixture
def backlog(world, memos):
    """More than can be done in half a minute."""
    ordered = {f"more-{number}" for number in range(1_600)}
    memos.held |= ordered
    world.submit(sorted(ordered), chunk_size=2, verify="none")


@pytest.mark.slow
@pytest.mark.fault("F62")
def test_a_server_that_fails_every_second_call_is_still_made_full_use_of(world, memos, backlog):
    turn = itertools.count()
    memos.weather = lambda _task, _now: OUTAGES["503"] if next(turn) % 2 else None
    VirtualDrains(world, memos, workers=2).run(15.0)

    well = len(memos.calls) / 2
    assert well >= 0.3 * RATE * 15
    assert memos.worst_window(1.0) <= RATE


@pytest.mark.slow
@pytest.mark.fault("F62")
@pytest.mark.parametrize("period_s", [0.4, 3.0])
def test_a_server_that_comes_and_goes_is_not_given_up(memos, drains, backlog, period_s):
    """Five failures in a row open the breaker each time, and it closes again each time."""
    well = []

    def flapping(_task, now):
        if int(now / period_s) % 2:
            return OUTAGES["503"]
        well.append(now)
        return None

    start = drains.now
    memos.weather = flapping
    drains.run(60.0)

    for first in range(0, 60, 20):
        assert [at for at in well if first <= at - start < first + 20], f"nothing after {first} s"
    assert memos.worst_window(1.0) <= RATE


@pytest.mark.slow
@pytest.mark.fault("F64")
def test_a_used_up_quota_stops_the_account_and_is_asked_after_at_growing_intervals(
    world, memos, drains
):
    answer = answered(Outcome.PAUSE_ACCOUNT, "code_40304", code=40304, http_status=200)
    start, end = storm(memos, drains, answer)

    alone = trials(memos.between(start, end))
    assert len(memos.between(start, end)) - len(alone) <= BURST
    assert_spaced(alone, first_s=60.0, most_s=3_600.0)
    assert 1 <= len(alone) <= 4
    (pause,) = world.ledger.pauses()
    assert (pause.scope, pause.name, pause.reason) == ("account", "acme", "code_40304")
    assert world.row(account, account.c.name == "acme").paused == 0  # nobody has to resume it
    assert max(row.burnt for row in world.rows(chunk)) == 0

    drains.run(1_000, until_done=True)

    assert_all_well(world, memos)


@pytest.mark.slow
@pytest.mark.fault("F76")
def test_a_minute_without_a_way_to_memos_uses_up_no_attempt(world, memos, drains):
    answer = answered(Outcome.NOT_APPLIED, "connect_deadline")
    start, end = storm(memos, drains, answer, seconds=60.0)

    assert len(memos.between(start, end)) <= RATE * 1.5 + 6  # until the first deadline is over
    assert max(row.burnt + row.doubtful for row in world.rows(chunk)) == 0

    healed_s = drains.run(200, until_done=True)

    assert healed_s < 64 + 30  # the longest rest so far, and the work
    assert_all_well(world, memos)


@pytest.mark.slow
@pytest.mark.fault("F79")
def test_a_minute_in_which_answers_get_lost_doubles_only_what_was_in_doubt(world, memos, drains):
    answer = answered(Outcome.UNKNOWN, "deadline")
    start, end = storm(memos, drains, answer, seconds=60.0, applies=True)

    lost = memos.between(start, end)
    assert len(lost) <= RATE * 1.5 + 6
    (view,) = world.ledger.list_requests(limit=2)
    assert view.counts.acknowledged <= 5 * len(memos.between(0, start))  # none is taken for gone

    drains.run(300, until_done=True)

    assert_all_well(world, memos, doubled=5 * len(lost))
    (view,) = world.ledger.list_requests(limit=2)
    # Deleted, or already gone: MemOS knew them no more when it was asked again.
    assert 0 < view.counts.already_absent <= 5 * len(lost)


@pytest.mark.slow
@pytest.mark.fault("F80")
def test_resets_of_one_call_in_twenty_cost_no_more_than_their_repetition(world, memos, backlog):
    answer = answered(Outcome.UNKNOWN, "no_answer")
    turn = itertools.count()
    memos.weather = lambda _task, _now: answer if next(turn) * 7 % 20 == 0 else None
    drains = VirtualDrains(world, memos, workers=2, lease_s=7.0)

    drains.run(30.0)

    assert len(memos.calls) * 0.95 >= 0.8 * RATE * 30
    assert memos.worst_window(1.0) <= RATE
    assert memos.worst_window(10.0) <= 10 * RATE
