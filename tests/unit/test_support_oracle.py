"""The oracle: a clean run is clean, and each thing that must not be is found by its invariant."""

from dataclasses import replace
from typing import Any

import pytest

from ledger import Kind
from memos_api.simulator.journal import CallRecord
from tests.support.audit_replay import _digest
from tests.support.ledger_facts import Attempt, Chunk, Event, LedgerFacts, Request
from tests.support.oracle import Evidence, judge
from tests.support.producer_journal import Ordered, ProducerJournal

R = "request-1"
IDS = ("a", "b")


def attempt(place=0, **changed):
    plain: dict[str, Any] = {
        "claim": "c",
        "place": place,
        "request_id": R,
        "generation": 1,
        "chunk_id": 1,
    }
    plain |= {"readback_id": None, "fence": 1, "call": "delete", "slot_ns": place * 10**9}
    plain |= {"claimed_us": 0, "outcome": "acknowledged", "reason": "ok", "stale": False}
    return Attempt(**plain | changed)


def call(seq=0, at_s=1.0, ids=IDS, **changed):
    plain: dict[str, Any] = {
        "endpoint": "delete",
        "kind": "memories",
        "n_ids": len(ids),
        "applied": len(ids),
    }
    return CallRecord(seq=seq, at_s=at_s, ids=ids, **plain | {"status": 200, "code": 0} | changed)


def events(attempts, *more):
    intent = {"claim": "c", "account": "acme", "calls": len(attempts), "digest": _digest(attempts)}
    counts = {"calls": len(attempts), "stale": 0}
    return [
        Event(request_id=R, type="request.accepted", payload={}),
        Event(request_id=None, type="calls.intent", payload=intent),
        Event(request_id=None, type="calls.outcome", payload=counts),
        Event(
            request_id=R, type="request.finished", payload={"generation": 1, "result": "complete"}
        ),
        *more,
    ]


def facts(attempts=None, events_=None, chunk=None, **request):
    attempts = [attempt()] if attempts is None else attempts
    plain: dict[str, Any] = {
        "id": R,
        "account": "acme",
        "kind": "memories",
        "state": "complete",
        "generation": 1,
    }
    plain |= {"verify": "full", "result": "complete", "certainty": "verified", "subject": None}
    plain |= {"unique": 2, "pending": 0, "ended": True, "attempts": 1}
    part: dict[str, Any] = {"id": 1, "request_id": R, "generation": 1, "state": "done", "ids": IDS}
    part |= {"places": (0, 1), "sightings": 0}
    return LedgerFacts(
        requests={R: Request(**plain | request)},
        chunks={1: Chunk(**part | (chunk or {}))},
        attempts=attempts,
        events=events(attempts) if events_ is None else events_,
    )


def clean(**changed):
    plain = Evidence(
        orders=[Ordered(kind=Kind.MEMORIES, ids=IDS, request_id=R)],
        calls=[call()],
        seeded={"u": ["a", "b"], "bystander": ["x"]},
        left=frozenset({"x"}),
        facts=facts(),
        rates={"acme": 1.0},
    )
    return replace(plain, **changed)


def test_a_clean_run_is_clean():
    verdict = judge(clean())

    verdict.assert_clean()
    assert (verdict.calls, verdict.lost, verdict.doubled, verdict.excess) == (1, 0, 0, 0)


def found(evidence):
    verdict = judge(evidence)
    assert verdict.findings
    with pytest.raises(AssertionError):
        verdict.assert_clean()
    return verdict


def test_what_was_acknowledged_and_is_still_there_is_lost():
    verdict = found(clean(left=frozenset({"a", "x"}), facts=facts(certainty="acknowledged")))
    assert verdict.lost == 1
    assert verdict.findings == ("1 lost: a.",)


def test_what_the_ledger_reports_as_given_up_is_not_lost():
    given_up = facts(chunk={"state": "dead"}, certainty="unverifiable")
    assert judge(clean(left=frozenset({"a", "x"}), facts=given_up)).lost == 0


def test_what_was_not_acknowledged_may_be_done_or_not():
    orders = [Ordered(kind=Kind.MEMORIES, ids=IDS)]
    judge(clean(orders=orders)).assert_clean()


def test_an_acknowledged_request_that_the_ledger_does_not_know_is_lost():
    orders = [Ordered(kind=Kind.MEMORIES, ids=("y",), request_id="other")]
    assert found(clean(orders=[*clean().orders, *orders])).lost == 1


def test_a_purge_that_left_something_is_lost_unless_it_says_so():
    orders = [Ordered(kind=Kind.USER, subject="u", request_id=R)]
    purge = {"kind": "user", "subject": "u", "unique": 1, "chunk": {"ids": (), "places": (0,)}}
    calls = [call(kind="user", ids=("u",))]
    evidence = clean(orders=orders, calls=calls, facts=facts(**purge))
    judge(evidence).assert_clean()

    assert found(replace(evidence, left=frozenset({"x", "b"}))).lost == 1
    failed = facts(**purge, state="failed", result="failed", certainty="unverifiable")
    assert judge(replace(evidence, left=frozenset({"x", "b"}), facts=failed)).lost == 0


def test_what_a_purge_left_goes_by_id_and_has_no_place_in_the_order():
    attempts = [attempt(), attempt(place=1, chunk_id=2)]
    purge = {"kind": "user", "subject": "u", "unique": 1, "chunk": {"ids": (), "places": (0,)}}
    known = facts(attempts, **purge)
    left = replace(known.chunks[1], id=2, ids=("b",), places=(1,))
    known = replace(known, chunks={1: known.chunks[1], 2: left})
    evidence = clean(
        orders=[Ordered(kind=Kind.USER, subject="u", request_id=R)],
        calls=[call(kind="user", ids=("u",)), call(seq=1, at_s=3.0, ids=("b",))],
        facts=known,
    )
    judge(evidence).assert_clean()

    other = [evidence.calls[0], call(seq=1, at_s=3.0, ids=("a",))]
    assert (
        "1 calls (one set of ids) arrived, and 0 were claimed."
        in found(replace(evidence, calls=other)).findings
    )


def test_what_nobody_ordered_must_neither_be_named_nor_vanish():
    assert found(clean(left=frozenset())).unordered == 1
    other = clean(calls=[call(), call(seq=1, ids=("x",), applied=0)])
    assert found(other).unordered == 1


def test_a_second_deletion_is_doubled_unless_the_faults_explain_it():
    two = [attempt(0), attempt(1)]
    twice = clean(calls=[call(), call(seq=1, at_s=2.5, applied=0)], facts=facts(two))
    assert found(twice).doubled == 1

    judge(replace(twice, kills=1)).assert_clean()
    unknown = [attempt(0, outcome="unknown"), attempt(1)]
    judge(replace(twice, facts=facts(unknown))).assert_clean()
    judge(replace(twice, facts=facts(two, chunk={"sightings": 1}))).assert_clean()


def test_a_fault_explains_a_second_deletion_of_its_own_ids_only():
    lost = attempt(0, chunk_id=2, outcome="unknown")
    book = facts([lost, attempt(1), attempt(2)])
    other = replace(book.chunks[1], id=2, ids=("c", "d"), state="split")
    twice = clean(
        calls=[call(), call(seq=1, at_s=2.5, applied=0)],
        facts=replace(book, chunks={**book.chunks, 2: other}),
    )

    assert "no fault of their own" in found(twice).findings[0]


def test_a_deletion_after_a_refused_one_is_not_doubled():
    two = [attempt(0), attempt(1)]
    calls = [call(applied=0, code=40307), call(seq=1, at_s=2.5)]
    judge(clean(calls=calls, facts=facts(two))).assert_clean()


def test_calls_above_the_rate_are_counted_by_slots_and_by_arrivals():
    three = [attempt(place, slot_ns=place * 10**8) for place in range(3)]
    assert found(clean(facts=facts(three))).excess == 2
    spread = [attempt(place) for place in range(3)]
    calls = [call(seq, at_s=1 + seq / 10, applied=0) for seq in range(3)]
    verdict = found(clean(calls=calls, facts=facts(spread)))
    assert verdict.excess == 2
    assert "arrived" in verdict.findings[0]


def test_a_call_without_an_intent_or_before_it_is_found():
    calls = [call(), call(seq=1, at_s=5, applied=0)]
    assert "were claimed" in found(clean(calls=calls, kills=1)).findings[0]
    late = facts([attempt(claimed_us=3_000_000)])
    assert "before it was claimed" in found(clean(facts=late)).findings[0]


def test_a_call_with_other_ids_than_were_claimed_is_found():
    assert "one set of ids" in found(clean(calls=[call(ids=("a",))])).findings[0]


@pytest.mark.parametrize("outcome", [None, "acknowledged"])
def test_each_call_is_settled_once(outcome):
    attempts = [attempt(outcome=outcome)]
    more = [Event(request_id=None, type="calls.outcome", payload={"calls": 1, "stale": 0})]
    book = events(attempts, *(more if outcome else ()))
    assert found(clean(facts=facts(attempts, book)))


def test_an_intent_that_names_other_calls_is_found():
    book = events([attempt(fence=7)])
    assert "intent" in found(clean(facts=facts(events_=book))).findings[0]


def test_a_second_end_is_found():
    payload = {"generation": 1, "result": "partial"}
    again = Event(request_id=R, type="request.finished", payload=payload)
    assert (
        "ended 2 times" in found(clean(facts=facts(events_=events([attempt()], again)))).findings[0]
    )


def test_an_end_without_its_event_and_an_event_without_its_end_are_found():
    book = [event for event in events([attempt()]) if event.type != "request.finished"]
    assert found(clean(facts=facts(events_=book)))
    assert found(clean(facts=facts(state="open", result=None, ended=False)))


def test_an_end_with_work_under_way_is_found():
    assert "under way" in found(clean(facts=facts(chunk={"state": "leased"}))).findings[0]


@pytest.mark.parametrize("places", [(0,), (0, 0), (0, 2)])
def test_an_id_in_no_chunk_or_in_two_is_found(places):
    assert (
        "places are in no chunk" in found(clean(facts=facts(chunk={"places": places}))).findings[0]
    )


def test_verified_while_it_is_there_is_untrue():
    # Nobody was told that it is taken, so it is not lost; but nobody may say that it is gone.
    orders = [Ordered(kind=Kind.MEMORIES, ids=IDS)]
    verdict = found(clean(orders=orders, left=frozenset({"a", "x"})))
    assert (verdict.lost, len(verdict.findings)) == (0, 1)
    assert "called verified" in verdict.findings[0]


def test_memory_above_the_budget_is_found():
    assert "300 MB" in found(clean(peaks_mb={"drain": 300.0})).findings[0]


def test_the_producers_journal_survives_its_process_and_tells_what_was_acknowledged(tmp_path):
    journal = ProducerJournal(tmp_path / "orders")
    first = journal.attempt(Kind.MEMORIES, ids=["a", "b"])
    journal.attempt(Kind.USER, subject="u")
    journal.acknowledge(first, R)
    journal.close()

    again = ProducerJournal(tmp_path / "orders")
    assert again.orders() == [
        Ordered(kind=Kind.MEMORIES, ids=("a", "b"), request_id=R),
        Ordered(kind=Kind.USER, subject="u"),
    ]
    again.close()
