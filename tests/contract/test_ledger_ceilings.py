"""Orders beyond a project's ceilings: taken in whole, on hold, and sent only after a release."""

import json
import threading
from typing import Any

import pytest

from ledger import Keys, Ledger, upgrade
from ledger.behind import Behind
from ledger.ceilings import Ceilings
from ledger.errors import LedgerError
from ledger.schema import attempt, event_body, request
from ledger.states import Kind, Lane, RequestState
from ledger.tasks import Delivered
from tests.support.ledger_world import KEYS, RATE, make_order

HOUR = 3_600
FEW_IDS = Ceilings(max_ids_per_request=5)


def purges(most):
    return Ceilings(max_purges_per_hour=most)


def purge(subject, most=2, **fields):
    return make_order(Kind.USER, subject=subject, ceilings=purges(most), **fields)


def take(world, *orders, chunk_size=10):
    return world.ledger.take_many(orders, chunk_size=chunk_size)


def alone(world, order):
    return world.ledger.begin(order, chunk_size=10).finish()


def accepted(world, request_id):
    bodies = [json.loads(bytes(row.payload)) for row in world.rows(event_body)]
    [found] = [
        one for one in bodies if one["type"] == "request.accepted" and one["request"] == request_id
    ]
    return found


def carried_out(world):
    """Carry out what may be; gives the requests that a deletion was sent for."""
    sent = set()

    def answer(task):
        sent.add(task.request_id)
        return Delivered()

    world.run(answer)
    return sent


def in_many(world, n, **fields):
    [receipt] = take(world, (make_order(ceilings=FEW_IDS, **fields), [f"m{i}" for i in range(n)]))
    return receipt


def in_one(world, n, **fields):
    return world.submit([f"m{i}" for i in range(n)], ceilings=FEW_IDS, **fields)


def flush(intake):
    """Record what came in so far, as if it filled a transaction."""
    with Behind() as behind:
        intake._flush(behind)


def as_a_stream(world, n, **fields):
    """Chunks are committed while the ids come in; what it is held for shows when it closes."""
    intake = world.ledger.begin(make_order(ceilings=FEW_IDS, **fields), chunk_size=1)
    for i in range(n):
        intake.add([f"m{i}"])
        flush(intake)
    return intake.finish()


WAYS = [in_many, in_one, as_a_stream]


@pytest.mark.parametrize("way", WAYS)
def test_more_ids_than_the_ceiling_are_taken_in_and_wait_for_a_release(world, way):
    below, beyond = way(world, 5, verify="none"), way(world, 6, verify="none")
    assert (below.hold_reason, beyond.hold_reason) == (None, "ceiling_ids")
    view = world.view(beyond.id)
    assert (view.state, view.held, view.hold_reason) == ("open", True, "ceiling_ids")
    assert accepted(world, below.id)["held_for"] is None
    assert accepted(world, beyond.id)["held_for"] == "ceiling_ids"

    assert carried_out(world) == {below.id}
    world.sweep()
    assert carried_out(world) == set()
    assert not world.rows(attempt, attempt.c.request_id == beyond.id)

    assert world.ledger.release(beyond.id, principal="olga")
    assert carried_out(world) == {beyond.id}
    assert world.view(beyond.id).counts.acknowledged == 6
    world.check_books()


@pytest.mark.parametrize("way", WAYS)
def test_repeats_are_folded_before_they_are_counted(world, way):
    intake = world.ledger.begin(make_order(ceilings=FEW_IDS), chunk_size=2)
    intake.add(["a", "b", "c", "d", "e"] * 3)
    assert intake.finish().hold_reason is None
    [receipt] = take(world, (make_order(ceilings=FEW_IDS), ["a", "b", "c", "d", "e"] * 3))
    assert receipt.hold_reason is None
    assert way(world, 5).hold_reason is None


@pytest.mark.fault("F104")
def test_a_thousand_purges_in_a_minute_wait_beyond_the_ceiling_and_none_of_them_is_called(world):
    orders = [(purge(f"u{i}", most=20, verify="none"), ()) for i in range(1_000)]
    receipts = take(world, *orders[:500])
    receipts += [alone(world, order) for order, _ in orders[500:520]]
    receipts += take(world, *orders[520:])
    held = [one.id for one in receipts if one.hold_reason == "ceiling_purges"]
    assert [one.hold_reason for one in receipts] == [None] * 20 + ["ceiling_purges"] * 980
    assert {row.id for row in world.rows(request, request.c.held == 1)} == set(held)

    assert carried_out(world) == {one.id for one in receipts[:20]}
    assert len(world.rows(attempt)) == 20

    # Nothing of them is lost: whoever looked at them lets them go on.
    world.ledger.release(held[-1], principal="olga")
    assert carried_out(world) == {held[-1]}


@pytest.mark.parametrize("together", [True, False])
def test_the_hour_slides_and_purges_on_hold_count_too(world, together):
    def some(n):
        orders = [purge(f"u{n}") for n in range(n)]
        if together:
            receipts = take(world, *((one, ()) for one in orders))
        else:
            receipts = [alone(world, one) for one in orders]
        return [one.hold_reason is not None for one in receipts]

    assert some(1) == [False]
    world.clock.tick(HOUR / 2)
    assert some(2) == [False, True]
    world.clock.tick(HOUR / 2 - 1)
    assert some(1) == [True]
    world.clock.tick(HOUR / 2 + 2)  # those of the half hour are over, the one since then is not
    assert some(2) == [False, True]
    world.clock.tick(HOUR + 1)
    assert some(3) == [False, False, True]


def test_each_project_has_its_own_hour_and_ids_and_other_lanes_are_no_way_around_it(world):
    receipts = take(
        world,
        (purge("a"), ()),
        (purge("b", lane=Lane.BULK), ()),
        (make_order(ceilings=purges(2)), ["m"]),
        (purge("c", project="far"), ()),
        (make_order(Kind.AGENT, subject="d", ceilings=purges(2)), ()),
        (purge("e", project="far"), ()),
    )
    assert [one.hold_reason for one in receipts] == [None] * 4 + ["ceiling_purges", None]


def test_a_ceiling_of_none_at_all_holds_each_purge_for_approval(world):
    assert take(world, (purge("a", most=0), ()))[0].hold_reason == "ceiling_purges"
    assert alone(world, purge("b", most=0)).hold_reason == "ceiling_purges"
    assert carried_out(world) == set()


@pytest.mark.parametrize("first", ["alone", "together"])
@pytest.mark.parametrize("again", ["alone", "together"])
def test_a_replay_counts_nothing_and_tells_that_it_is_on_hold(world, first, again):
    def one(how, name):
        order = purge(name, most=1, idempotency_key=f"key-{name}")
        return alone(world, order) if how == "alone" else take(world, (order, ()))[0]

    free, held = one(first, "a"), one(first, "b")
    assert (free.hold_reason, held.hold_reason) == (None, "ceiling_purges")
    for _ in range(3):
        repeated = one(again, "a")
        assert (repeated.id, repeated.duplicate, repeated.hold_reason) == (free.id, True, None)
        repeated = one(again, "b")
        assert (repeated.id, repeated.duplicate) == (held.id, True)
        assert repeated.hold_reason == "ceiling_purges"
    assert len(world.rows(request)) == 2
    world.ledger.release(held.id, principal="olga")
    assert one(again, "b").hold_reason is None


def test_other_ceilings_make_no_other_order_of_it(world):
    first = alone(world, purge("a", most=1, idempotency_key="k"))
    later = make_order(Kind.USER, subject="a", idempotency_key="k")
    assert alone(world, later).id == first.id
    stream = make_order(idempotency_key="s", ceilings=FEW_IDS)
    intake = world.ledger.begin(stream, chunk_size=2)
    intake.add(["a", "b", "c", "d"])
    flush(intake)
    # The sender went away; whoever comes next under the key brings today's ceilings.
    intake = world.ledger.begin(
        make_order(idempotency_key="s", ceilings=Ceilings(max_ids_per_request=3)), chunk_size=2
    )
    intake.add(["a", "b", "c", "d"])
    assert intake.finish().hold_reason == "ceiling_ids"


def test_one_that_is_scheduled_and_beyond_a_ceiling_needs_its_time_and_a_release(world):
    from ledger.clock import from_wall, wall_us  # noqa: PLC0415

    later = from_wall(wall_us() + 600 * 1_000_000)
    receipts = [
        in_many(world, 6, verify="none", not_before=later),
        in_one(world, 6, verify="none", not_before=later),
        alone(world, purge("u", most=0, verify="none", not_before=later)),
    ]
    assert {one.state for one in receipts} == {RequestState.SCHEDULED}
    world.ledger.release(receipts[0].id, principal="olga")
    world.sweep()
    assert carried_out(world) == set()
    world.clock.tick(700)
    world.sweep()
    assert carried_out(world) == {receipts[0].id}
    for one in receipts[1:]:
        world.ledger.release(one.id, principal="olga")
        world.sweep()
    assert carried_out(world) == {one.id for one in receipts[1:]}


def test_a_persons_hold_on_an_incoming_stream_keeps_its_reason(world):
    intake = world.ledger.begin(make_order(ceilings=FEW_IDS), chunk_size=2)
    intake.add([f"m{i}" for i in range(6)])
    flush(intake)
    world.ledger.hold(intake.request_id, principal="olga", reason="wait-1")
    assert intake.finish().hold_reason == "wait-1"
    assert world.view(intake.request_id).hold_reason == "wait-1"


def test_a_transaction_that_is_tried_again_counts_anew(world, monkeypatch):
    """What another process committed in between shows in the second try."""
    orders = [(purge(f"u{i}", idempotency_key=f"k{i}"), ()) for i in range(2)]
    others = [(purge(f"v{i}"), ()) for i in range(2)]
    real = world.database.write_bulk
    calls: list[int] = []

    def write_bulk(work):
        if not calls:
            calls.append(1)
            # Rolled back after all was written, then somebody else is quicker.
            with pytest.raises(ZeroDivisionError):
                world.database.write(lambda conn: (work(conn), 1 / 0))
            monkeypatch.setattr(world.database, "write_bulk", real)
            take(world, *others)
            return real(work)
        return real(work)

    monkeypatch.setattr(world.database, "write_bulk", write_bulk)
    receipts = take(world, *orders)
    assert [one.hold_reason for one in receipts] == ["ceiling_purges"] * 2
    for one in receipts:
        assert world.view(one.id).held
        assert accepted(world, one.id)["held_for"] == "ceiling_purges"
    assert {row.hold_reason for row in world.rows(request)} == {None, "ceiling_purges"}


def test_many_at_the_same_moment_never_pass_the_ceiling_together(ledger_url):
    upgrade(ledger_url)
    most, free, lock = 7, [], threading.Lock()

    def order(keys: Keys, number: int) -> None:
        with Ledger.open(ledger_url, keys=keys) as ledger:
            for i in range(4):
                one = purge(f"u{number}-{i}", most=most)
                try:
                    if i % 2:
                        answer: Any = ledger.begin(one, chunk_size=10).finish()
                    else:
                        [answer] = ledger.take_many([(one, ())], chunk_size=10)
                except LedgerError:
                    continue  # a busy SQLite; nothing was taken in
                with lock:
                    free.append(answer.hold_reason is None)

    with Ledger.open(ledger_url, keys=KEYS) as ledger:
        ledger.register(projects={"shop": "acme"}, rates={"acme": RATE}, decides=True)
        threads = [threading.Thread(target=order, args=(KEYS, n)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(free) > 2 * most
    assert sum(free) == most
