"""Each switch of the simulator, seen through the real client: what it answers and what it did."""

import asyncio
import time

import pytest

from memos_api.client import MemosClient, delete_call, list_call, read_call
from memos_api.orders import MemoryBatch
from memos_api.outcomes import Outcome
from memos_api.readback import Sight
from memos_api.simulator import SimulatorProcess


@pytest.fixture(scope="module")
def running():
    with SimulatorProcess() as simulator:
        yield simulator


@pytest.fixture
def simulator(running):
    running.control.reset()
    return running


def send(simulator, *calls, **options):
    async def run():
        async with MemosClient(
            base_url=simulator.base_url, api_key=simulator.api_key, **options
        ) as memos:
            return [await memos.send(call) for call in calls]

    return asyncio.run(run())


DELETED, KEPT = 0, 3


@pytest.mark.fault("F52", "F53", "F67", "F68", "F69", "F70")
@pytest.mark.parametrize(
    ("fault", "outcome", "reason", "left"),
    [
        ({"kind": "http_429"}, Outcome.BACK_OFF, "http_429", KEPT),
        ({"kind": "http_5xx"}, Outcome.UNKNOWN, "http_503", KEPT),
        ({"kind": "http_5xx", "status": 500}, Outcome.UNKNOWN, "http_500", KEPT),
        ({"kind": "code", "code": 40132}, Outcome.PAUSE_PROJECT, "code_40132", KEPT),
        ({"kind": "code", "code": 40100, "status": 401}, Outcome.PAUSE_PROJECT, "code_40100", KEPT),
        ({"kind": "quota"}, Outcome.PAUSE_ACCOUNT, "code_40304", KEPT),
        ({"kind": "success_without_effect"}, Outcome.ACKNOWLEDGED, "ok", KEPT),
        ({"kind": "failure_after_effect"}, Outcome.UNKNOWN, "code_50000", DELETED),
        (
            {"kind": "failure_after_effect", "status": 500, "code": 50002},
            Outcome.UNKNOWN,
            "code_50002",
            DELETED,
        ),
        ({"kind": "delayed_effect", "seconds": 60}, Outcome.ACKNOWLEDGED, "ok", KEPT),
        ({"kind": "slow_answer", "seconds": 0.1}, Outcome.ACKNOWLEDGED, "ok", DELETED),
        ({"kind": "slow_body", "seconds": 0.1}, Outcome.ACKNOWLEDGED, "ok", DELETED),
        ({"kind": "slow_body", "seconds": 60}, Outcome.UNKNOWN, "deadline", DELETED),
        ({"kind": "stall", "seconds": 60}, Outcome.UNKNOWN, "deadline", DELETED),
        ({"kind": "reset_after_applying"}, Outcome.UNKNOWN, "no_answer", DELETED),
        ({"kind": "reset_before_applying"}, Outcome.UNKNOWN, "no_answer", KEPT),
        ({"kind": "html"}, Outcome.UNKNOWN, "html", KEPT),
        ({"kind": "html", "status": 200}, Outcome.UNKNOWN, "html", KEPT),
        ({"kind": "empty"}, Outcome.UNKNOWN, "not_json", DELETED),
        ({"kind": "truncated"}, Outcome.UNKNOWN, "no_answer", DELETED),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else None,
)
def test_a_fault_answers_and_acts_as_its_name_says(simulator, fault, outcome, reason, left):
    ids = simulator.control.seed(memories=3).memory_ids
    simulator.control.set_faults({**fault, "count": 1})
    call = delete_call(MemoryBatch(memory_ids=tuple(ids)))
    deadline_s = 0.5 if reason == "deadline" else 10.0
    (reply,) = send(simulator, call, deadline_s=deadline_s)
    assert (reply.answer.outcome, reply.answer.reason) == (outcome, reason)
    assert simulator.control.remaining().total == left
    (record,) = simulator.control.journal()
    assert (record.fault, record.applied) == (
        fault["kind"],
        3 if left == DELETED or fault["kind"] == "delayed_effect" else 0,
    )


@pytest.mark.parametrize(
    ("kind", "applied", "left"), [("half_effect", 2, 3), ("wider_effect", 5, 0)]
)
def test_a_success_may_have_deleted_fewer_or_more_than_was_asked(simulator, kind, applied, left):
    ids = simulator.control.seed(memories=5).memory_ids
    simulator.control.set_faults({"kind": kind})
    (reply,) = send(simulator, delete_call(MemoryBatch(memory_ids=tuple(ids[:3]))))
    assert reply.answer.outcome is Outcome.ACKNOWLEDGED
    assert simulator.control.remaining().total == left
    assert simulator.control.journal()[0].applied == applied


def test_a_call_that_was_reset_may_be_applied_later(simulator):
    (memory_id,) = simulator.control.seed(memories=1).memory_ids
    simulator.control.set_faults(
        {"kind": "reset_then_applying", "seconds": 0.4, "endpoint": "delete"}
    )
    delete, read = delete_call(MemoryBatch(memory_ids=(memory_id,))), read_call(memory_id)
    lost, early = send(simulator, delete, read)
    assert lost.answer.outcome is Outcome.UNKNOWN
    assert early.sight is Sight.PRESENT
    end = time.monotonic() + 10
    while send(simulator, read)[0].sight is not Sight.ABSENT:
        assert time.monotonic() < end, "the deletion never showed"


@pytest.mark.parametrize("kind", ["http_429", "http_5xx"])
def test_retry_after_is_sent_when_given(simulator, kind):
    simulator.control.set_faults({"kind": kind, "retry_after": 3})
    (reply,) = send(simulator, delete_call(MemoryBatch(memory_ids=("a",))))
    assert reply.answer.retry_after_s == 3.0


def test_a_delayed_effect_shows_in_the_end(simulator):
    (memory_id,) = simulator.control.seed(memories=1).memory_ids
    simulator.control.set_faults({"kind": "delayed_effect", "seconds": 0.4})
    delete, read = delete_call(MemoryBatch(memory_ids=(memory_id,))), read_call(memory_id)
    _, early = send(simulator, delete, read)
    assert early.sight is Sight.PRESENT
    end = time.monotonic() + 10
    while send(simulator, read)[0].sight is not Sight.ABSENT:
        assert time.monotonic() < end, "the deletion never showed"


@pytest.mark.fault("F71")
def test_reads_fail_too_and_then_show_nothing(simulator):
    ids = simulator.control.seed(memories=2).memory_ids
    calls = (read_call(ids[0]), list_call(("user", "user-0-000000")))
    for kind in ("html", "empty", "truncated", "reset_after_applying", "http_5xx", "quota"):
        simulator.control.set_faults({"kind": kind, "endpoint": "any"})
        read, listed = send(simulator, *calls)
        assert read.sight is Sight.UNKNOWN
        assert listed.listing is None
    simulator.control.clear_faults()
    read, listed = send(simulator, *calls)
    assert read.sight is Sight.PRESENT
    assert set(listed.listing.memory_ids) == set(ids)


def test_a_reset_connection_leaves_the_server_and_the_client_usable(simulator):
    ids = simulator.control.seed(memories=30).memory_ids
    simulator.control.set_faults({"kind": "reset_after_applying", "probability": 0.4})
    calls = [delete_call(MemoryBatch(memory_ids=(memory_id,))) for memory_id in ids]
    replies = send(simulator, *calls)
    outcomes = {reply.answer.outcome for reply in replies}
    assert outcomes == {Outcome.ACKNOWLEDGED, Outcome.UNKNOWN}
    assert simulator.control.remaining().total == 0
    assert len(simulator.control.journal()) == 30
