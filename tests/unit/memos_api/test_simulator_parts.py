"""The parts of the simulator that a test can hold in its hand."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_api.simulator.faults import Fault, FaultKind, Faults
from memos_api.simulator.journal import CallRecord, Journal
from memos_api.simulator.limit import RateLimit
from memos_api.simulator.remote import worst_window
from memos_api.simulator.state import Project, generate

ARRIVALS = st.lists(st.floats(0, 20, allow_nan=False).map(lambda s: round(s, 3)), max_size=80)


@given(ARRIVALS, st.sampled_from([1.0, 3.0, 10.0]))
def test_no_window_of_a_second_ever_holds_more_than_the_limit(arrivals, rate):
    limit = RateLimit(per_second=rate)
    admitted = [now for now in sorted(arrivals) if limit.admit(now) == 0]
    assert worst_window(admitted, 1.0) <= rate


@given(ARRIVALS)
def test_the_limiter_refuses_only_what_is_too_much(arrivals):
    limit = RateLimit(per_second=4)
    admitted: list[float] = []
    for now in sorted(arrivals):
        in_window = [then for then in admitted if then > now - 1]
        wait_s = limit.admit(now)
        assert (wait_s == 0) == (len(in_window) < 4)
        if wait_s == 0:
            admitted.append(now)


@given(ARRIVALS)
def test_who_waits_as_long_as_told_gets_in(arrivals):
    limit = RateLimit(per_second=3)
    for now in sorted(arrivals):
        wait_s = limit.admit(now)
        if wait_s > 0:
            assert limit.admit(now + wait_s + 1e-9) == 0
            return


def test_a_rate_below_one_a_second_widens_the_window():
    limit = RateLimit(per_second=0.5)
    assert limit.admit(10.0) == 0
    assert limit.admit(11.5) == pytest.approx(0.5)
    assert limit.admit(12.0) == 0


def test_who_keeps_knocking_stays_out_when_refused_calls_count():
    counting = RateLimit(per_second=2, count_refused=True)
    forgiving = RateLimit(per_second=2)
    times = [number * 0.25 for number in range(20)]
    assert sum(counting.admit(now) == 0 for now in times) == 2
    assert sum(forgiving.admit(now) == 0 for now in times) > 8
    assert counting.admit(times[-1] + 1.0) == 0


@given(ARRIVALS, st.sampled_from([0.1, 1.0, 5.0]))
def test_the_worst_window_is_what_counting_by_hand_gives(arrivals, seconds):
    by_hand = max(
        (sum(first <= now and now - first < seconds for now in arrivals) for first in arrivals),
        default=0,
    )
    assert worst_window(arrivals, seconds) == by_hand


def test_the_end_of_a_window_is_not_in_it():
    assert worst_window([0.0, 1.0], 1.0) == 1
    assert worst_window([0.0, 0.5, 1.0, 1.4], 1.0) == 3
    assert worst_window([], 1.0) == 0


def test_generated_ids_follow_from_the_seed():
    first = dict(generate(users=3, memories=4, seed=1))
    assert first == dict(generate(users=3, memories=4, seed=1))
    ids = {memory_id for held in first.values() for memory_id in held}
    others = {i for _, held in generate(users=3, memories=4, seed=2) for i in held}
    assert len(ids) == 12
    assert not ids & others


def a_project(count=10):
    project = Project(account="main")
    project.add([f"m{n}" for n in range(count)], ("user", "u"), category=None, created_ms=None)
    return project


def test_a_delayed_deletion_shows_when_its_time_has_come():
    project = a_project()
    assert project.delete(["m1", "m2"], now=100.0, delay_s=5.0) == 2
    project.settle(104.9)
    assert project.alive("m1") is not None
    project.settle(105.0)
    assert project.alive("m1") is None
    assert len(project.of(("user", "u"))) == 8


def test_a_deletion_counts_each_memory_once():
    project = a_project()
    assert project.delete(["m1", "m1", "none"], now=0.0) == 1
    assert project.delete(["m1"], now=0.0) == 0


def test_seeding_again_brings_a_memory_back_and_moves_it():
    project = a_project()
    project.delete(["m1"], now=0.0)
    project.add(["m1", "m2"], ("user", "v"), category=0, created_ms=5)
    assert set(project.of(("user", "v"))) == {"m1", "m2"}
    assert "m2" not in project.of(("user", "u"))


def hits(faults, calls):
    struck = [faults.strike(endpoint) for endpoint in calls]
    return [fault.kind.value if fault else "" for fault in struck]


def test_a_fault_hits_the_calls_it_is_meant_for():
    faults = Faults(seed=0)
    faults.replace([Fault(kind=FaultKind.QUOTA, from_call=1, to_call=4, count=2)])
    calls = ["delete", "list", "delete", "delete", "delete", "delete"]
    assert hits(faults, calls) == ["", "", "quota", "quota", "", ""]


def test_the_first_of_several_faults_counts_and_all_of_them_count_calls():
    faults = Faults(seed=0)
    faults.replace(
        [
            Fault(kind=FaultKind.HTML, count=1),
            Fault(kind=FaultKind.EMPTY, endpoint="any", from_call=2),
        ]
    )
    assert hits(faults, ["delete", "read", "delete"]) == ["html", "", "empty"]


def test_chance_repeats_with_the_seed():
    def run(seed):
        faults = Faults(seed=seed)
        faults.replace([Fault(kind=FaultKind.HTTP_5XX, probability=0.3)])
        return hits(faults, ["delete"] * 500)

    assert run(1) == run(1)
    assert run(1) != run(2)
    assert 100 < run(1).count("http_5xx") < 200


@pytest.mark.parametrize("members", [{}, {"kind": "typo"}, {"kind": "html", "cuont": 1}])
def test_a_fault_with_a_typo_is_refused(members):
    with pytest.raises(ValueError, match=r"(FaultKind|Unknown members)"):
        Fault.from_json(members)


def test_the_journal_file_holds_one_line_a_call(tmp_path):
    path = tmp_path / "journal.jsonl"
    journal = Journal(path, keep_ids=True)
    record = journal.arrived("delete", 1.5)
    record.status, record.ids = 200, ("é", "b")
    journal.answered(record)
    journal.clear()
    journal.close()
    (line,) = path.read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["ids"] == ["é", "b"]
    assert journal.records == []


def test_a_record_survives_its_way_over_the_wire():
    record = CallRecord(seq=3, at_s=0.5, endpoint="list", ids=("a",), n_ids=1, status=200, code=0)
    assert CallRecord.from_row(json.loads(json.dumps(record.to_row()))) == record
