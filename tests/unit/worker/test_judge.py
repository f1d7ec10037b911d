"""The whole policy of the way out, as a table: every outcome, every call, every state of doubt."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.states import Kind
from ledger.states import Sight as Seeing
from ledger.tasks import Dead, Delivered, Page, Probe, Retry, Seen, Split, Unsent
from ledger.walks import Walk
from memos_api import Item, Listing, Outcome, Sight
from tests.support.worker_fakes import make_task, reply
from worker.backoff import MOST_PAUSE_S, pause_s, retry_s
from worker.judge import QUOTA_PAUSE_S, judge

MOST = 4
RETRY = Retry(delay_s=0.0, burn=False)
BURN = "burn"  # again later, counted
DOUBT = "doubt"  # again later, counted, and it may have been applied
STOPPING = {Outcome.BACK_OFF, Outcome.PAUSE_PROJECT, Outcome.PAUSE_ACCOUNT, Outcome.NOT_APPLIED}

SHAPES: dict[str, dict[str, object]] = {
    "single": {"ids": ("a",)},
    "batch": {"ids": ("a", "b")},
    "purge": {"kind": Kind.USER, "subject": "u"},
    "agent": {"kind": Kind.AGENT, "subject": "g"},
    "leftover": {"kind": Kind.USER, "subject": "u", "ids": ("a",), "leftover": True},
    "leftovers": {"kind": Kind.USER, "subject": "u", "ids": ("a", "b"), "leftover": True},
    "list": {"call": "list", "subject": "u"},
    "purge list": {"call": "list", "kind": Kind.USER, "subject": "u"},
    "agent list": {"call": "list", "kind": Kind.AGENT, "subject": "g"},
    "control": {"call": "list", "control": True},
    "read": {"call": "read", "ids": ("a",)},
}
LISTS = {"list", "purge list", "agent list"}
LOOKS = {*LISTS, "control", "read"}


def task(shape, **changed):
    values = {"ids": (), "readback_id": 2 if shape in LOOKS else None}
    return make_task(**{**values, **SHAPES[shape], **changed})


def judged(one, answered, *, strikes=0, most=MOST, chance=0.5):
    one = replace(one, strikes=strikes)
    return judge(one, answered, max_attempts=most, chance=lambda: chance)


def expected(shape, outcome, *, doubtful, last):  # noqa: C901, PLR0911 - the table
    """What becomes of the work; written down anew, without looking at the code."""
    if outcome in STOPPING:
        return RETRY
    if shape == "control" and outcome is Outcome.NOT_FOUND:
        return Seen(sight=Seeing.ABSENT)  # nobody is not known: the store answers
    if shape in LOOKS:
        blind = Seen(sight=Seeing.UNKNOWN, walk=Walk() if shape in LISTS else None)
        return blind if last else BURN
    batch = shape in {"batch", "leftovers"}
    kept = shape == "leftovers"  # the list of the purge is read again, so nothing is hunted
    match outcome:
        case Outcome.ACKNOWLEDGED:
            return Delivered()
        case Outcome.NOT_FOUND if not batch:
            return Delivered(was_absent=True)
        case Outcome.NOT_FOUND if kept:
            return Delivered()
        case Outcome.NOT_FOUND:
            return Probe() if doubtful else Split()
        case Outcome.REFUSED if batch:
            return Split(hunt=not kept)
        case Outcome.TOO_LARGE if batch:
            return Split(hunt=False)
        case Outcome.TOO_LARGE | Outcome.PERMANENT:
            return Dead(bucket="refused")
        case Outcome.REFUSED:
            return Dead(bucket="refused") if last else BURN  # one more try, whatever is left
        case Outcome.UNKNOWN:
            return Dead(bucket="unknown") if last else DOUBT
    raise AssertionError(outcome)


CASES = list(itertools.product(SHAPES, Outcome, [False, True], [False, True]))


@pytest.mark.parametrize(
    ("shape", "outcome", "doubtful", "last"),
    CASES,
    ids=[
        f"{s}-{o}-{'doubtful' if d else 'sure'}-{'last' if n else 'first'}" for s, o, d, n in CASES
    ],
)
def test_the_table(shape, outcome, doubtful, last):
    one = task(shape, doubtful=doubtful, burnt=MOST - 1 if last else 0)

    move = judged(one, reply(outcome, sight=Sight.UNKNOWN if shape == "read" else None)).move

    wanted = expected(shape, outcome, doubtful=doubtful, last=last)
    if wanted in (BURN, DOUBT):
        assert isinstance(move, Retry)
        assert move.burn
        assert move.doubtful is (wanted == DOUBT)
        assert 0 <= move.delay_s <= 1
    else:
        assert move == wanted


@pytest.mark.parametrize("outcome", sorted(STOPPING))
@pytest.mark.parametrize("shape", SHAPES)
def test_an_answer_that_stops_traffic_never_uses_up_attempts(shape, outcome):
    settled = judged(task(shape, burnt=MOST - 1), reply(outcome))

    assert settled.move == RETRY
    stopped = [settled.pause_account_s, settled.pause_project, settled.outage or None]
    assert sum(one is not None for one in stopped) == 1


@pytest.mark.parametrize(
    ("outcome", "stops"),
    [
        (Outcome.BACK_OFF, "pause_account_s"),
        (Outcome.PAUSE_ACCOUNT, "pause_account_s"),
        (Outcome.PAUSE_PROJECT, "pause_project"),
        (Outcome.NOT_APPLIED, "outage"),
    ],
)
def test_what_is_stopped(outcome, stops):
    settled = judged(task("batch"), reply(outcome))

    assert getattr(settled, stops)


@pytest.mark.parametrize("outcome", sorted(set(Outcome) - {Outcome.PAUSE_ACCOUNT}))
def test_a_retry_after_wins_over_our_own_pause(outcome):
    settled = judged(task("batch"), reply(outcome, retry_after_s=17.0), strikes=5)

    assert settled.pause_account_s == 17.0


def test_a_retry_after_lengthens_the_rest_of_a_used_up_quota_but_never_shortens_it():
    def pause(retry_after_s):
        return judged(
            task("batch"), reply(Outcome.PAUSE_ACCOUNT, retry_after_s=retry_after_s)
        ).pause_account_s

    assert (pause(None), pause(1.0), pause(900.0)) == (QUOTA_PAUSE_S, QUOTA_PAUSE_S, 900.0)


def test_a_retry_after_of_nothing_is_no_leave_to_go_on_knocking():
    settled = judged(task("batch"), reply(Outcome.BACK_OFF, retry_after_s=0.0))

    assert settled.pause_account_s is not None
    assert settled.pause_account_s >= 1


def test_a_single_id_that_is_refused_gets_one_more_try():
    assert isinstance(judged(task("single"), reply(Outcome.REFUSED)).move, Retry)
    assert judged(task("single", burnt=1), reply(Outcome.REFUSED)).move == Dead(bucket="refused")


def test_what_is_recorded_of_the_call():
    settled = judged(task("batch"), reply(Outcome.UNKNOWN))

    assert (settled.outcome, settled.reason, settled.took_us) == ("unknown", "why", 250_000)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("reason", ["deadline", "no_answer", "html"])
def test_a_trial_that_meets_the_outage_again_uses_up_no_attempt(shape, reason):
    silence = reply(Outcome.UNKNOWN, reason=reason)

    plain = judged(task(shape, burnt=MOST - 1), silence)
    trial = judged(task(shape, burnt=MOST - 1, trial=True), silence)

    assert plain.outage
    assert trial.outage
    assert not isinstance(plain.move, Retry)  # its last attempt
    assert isinstance(trial.move, Retry)
    assert not trial.move.burn
    assert trial.move.doubtful is (shape not in LOOKS)


def test_an_answer_that_is_odd_in_itself_is_no_outage():
    assert not judged(task("batch"), reply(Outcome.UNKNOWN, reason="success_false")).outage
    assert not judged(task("batch"), reply(Outcome.NOT_FOUND)).outage


@pytest.mark.parametrize("shape", sorted(set(SHAPES) - LOOKS))
def test_a_failure_that_is_said_whatever_happened_is_looked_into_at_once(shape):
    """Asking again would bring the same answer each time."""
    settled = judged(task(shape), reply(Outcome.UNKNOWN, reason="status_failure"))

    assert settled.move == Dead(bucket="unknown")
    assert not settled.outage


# -- looks ----------------------------------------------------------------------------------------


def listing(*ids, unchecked=(), owned=True):
    items = tuple(Item(id=one, owned=owned, created_us=None) for one in ids)
    return Listing(items=items, ids=frozenset(ids), unchecked=unchecked)


def looked(shape, *pages, **changed):
    """Answer with one page after the other; gives the last move."""
    walk, move = None, None
    for page in pages:
        answered = reply(Outcome.ACKNOWLEDGED, listing=page)
        move = judged(task(shape, walk=walk, **changed), answered).move
        walk = getattr(move, "walk", None)
    return move


@pytest.mark.parametrize(
    ("pages", "wanted"),
    [
        ([listing()], Seeing.ABSENT),
        ([listing("x"), listing()], Seeing.PRESENT),
        ([listing("x", owned=None), listing()], Seeing.PRESENT),
        # Left out of the list of all, and then of the one that was asked for it alone.
        ([listing(unchecked=("skill",))], None),
        ([listing(unchecked=("skill",))] * 2, Seeing.UNKNOWN),
        ([listing(unchecked=("skill",)), listing()], Seeing.ABSENT),
        ([listing("x", unchecked=("skill",))], None),
        # What is on the other pages is not known yet.
        ([listing("x")], None),
    ],
)
def test_a_purge_is_gone_only_when_a_whole_list_is_empty(pages, wanted):
    move = looked("purge list", *pages)

    if wanted is None:
        assert isinstance(move, Page)
    else:
        assert isinstance(move, Seen)
        assert move.sight is wanted


@pytest.mark.parametrize("shape", sorted(LISTS))
def test_a_list_that_cannot_be_read_is_asked_for_again_and_given_up_at_last(shape):
    assert isinstance(looked(shape, None), Retry)
    assert looked(shape, None, burnt=MOST - 1) == Seen(sight=Seeing.UNKNOWN, walk=Walk())


@pytest.mark.parametrize(
    ("pages", "wanted"),
    [
        ([listing("x")], None),
        ([listing("x"), listing("y")], None),
        ([listing("x"), listing("y"), listing()], (Seeing.PRESENT, "xy")),
        ([listing("x"), listing()], (Seeing.PRESENT, "x")),
        ([listing()], (Seeing.ABSENT, "")),
        # One server gives the same page for ever.
        ([listing("x"), listing("x")], (Seeing.PRESENT, "x")),
    ],
)
def test_a_list_is_walked_to_its_end(pages, wanted):
    move = looked("list", *pages)

    if wanted is None:
        assert isinstance(move, Page)
        assert move.walk.page == len(pages) + 1
    else:
        assert isinstance(move, Seen)
        assert move.walk is not None
        assert (move.sight, move.walk.present) == (wanted[0], frozenset(wanted[1]))


def test_a_list_without_an_end_is_given_up():
    walk = Walk(legs=("all",), page=100, pages=("seen before",), present=frozenset("x"))
    answered = reply(Outcome.ACKNOWLEDGED, listing=listing("y"))

    move = judged(task("list", walk=walk), answered).move

    assert isinstance(move, Seen)
    assert move.sight is Seeing.UNKNOWN


@pytest.mark.parametrize("shown", [(), ("x",)])
def test_a_control_that_is_answered_shows_that_the_store_is_there(shown):
    assert looked("control", listing(*shown)) == Seen(sight=Seeing.ABSENT)
    assert isinstance(looked("control", None), Retry)
    assert looked("control", None, burnt=MOST - 1) == Seen(sight=Seeing.UNKNOWN)


@pytest.mark.parametrize(
    ("sight", "wanted"), [(Sight.ABSENT, Seeing.ABSENT), (Sight.PRESENT, Seeing.PRESENT)]
)
def test_a_read_that_saw_something_is_over(sight, wanted):
    move = judged(task("read"), reply(Outcome.ACKNOWLEDGED, sight=sight)).move

    assert move == Seen(sight=wanted)


@pytest.mark.parametrize("outcome", [Outcome.BACK_OFF, Outcome.PAUSE_PROJECT])
def test_a_look_that_was_turned_away_saw_nothing(outcome):
    move = judged(task("purge list"), reply(outcome, listing=listing())).move

    assert move == RETRY


# -- pauses ---------------------------------------------------------------------------------------

CHANCES = st.floats(min_value=0, max_value=1, exclude_max=True)


@given(tries=st.integers(0, 10_000), chance=CHANCES)
def test_a_retry_waits_anything_up_to_its_bound(tries, chance):
    bound = min(300.0, 2.0 ** min(tries, 30))

    assert 0 <= retry_s(tries, chance=lambda: chance) <= bound
    assert retry_s(tries, chance=lambda: 0.5) == bound / 2


@given(strikes=st.integers(0, 10_000), chance=CHANCES)
def test_a_pause_never_falls_below_its_floor(strikes, chance):
    floor = min(MOST_PAUSE_S, 2.0 ** min(strikes, 30))

    assert max(1.0, floor) <= pause_s(strikes, chance=lambda: chance) < 2 * floor + 1e-9


@given(
    outcome=st.sampled_from(Outcome),
    shape=st.sampled_from(sorted(SHAPES)),
    burnt=st.integers(0, 20),
    doubtful=st.booleans(),
    strikes=st.integers(0, 100),
    retry_after_s=st.none() | st.floats(0, 3600),
    most=st.integers(1, 20),
    chance=CHANCES,
)
def test_whatever_comes_back_there_is_a_move_that_fits_the_work(  # noqa: PLR0917
    outcome, shape, burnt, doubtful, strikes, retry_after_s, most, chance
):
    settled = judged(
        task(shape, burnt=burnt, doubtful=doubtful),
        reply(outcome, retry_after_s=retry_after_s),
        strikes=strikes,
        most=most,
        chance=chance,
    )

    if shape in LOOKS:
        assert isinstance(settled.move, Retry | Seen | Page)
        if isinstance(settled.move, Seen) and shape != "control":
            assert settled.move.sight is Seeing.UNKNOWN  # nothing was listed, nothing read
    else:
        assert isinstance(settled.move, Retry | Delivered | Dead | Split | Probe)
    if isinstance(settled.move, Split | Probe):
        assert shape in {"batch", "leftovers"}
    if isinstance(settled.move, Probe):
        assert shape == "batch"
    assert not isinstance(settled.move, Unsent)
