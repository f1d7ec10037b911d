"""A person's pause of a project or account: what stands still, what is told, what goes on again."""

import json
import threading

import pytest

from ledger import Ledger, upgrade
from ledger.errors import RequestError
from ledger.gauges import read_gauges
from ledger.probes import Probe, ProbeRefused
from ledger.schema import account, event_body, project
from ledger.slots import HORIZON_NS, interval_ns
from ledger.tasks import Retry
from tests.support.ledger_world import KEYS, RATE, settled

WHO = {"principal": "olga"}
WHY = {"principal": "olga", "reason": "freeze-3"}


def events(world, *kinds):
    bodies = [json.loads(bytes(row.payload)) for row in world.rows(event_body)]
    return [body for body in bodies if body["type"] in kinds]


def the_project(world, name="shop"):
    return world.row(project, project.c.name == name)


def the_account(world, name="acme"):
    return world.row(account, account.c.name == name)


def test_nothing_of_a_paused_project_is_claimed_until_it_is_resumed(world):
    own = world.submit(["a"])
    other = world.submit(["b"], project="blog")
    world.clock.tick(1.5)
    assert world.ledger.pause_project("shop", **WHY)
    assert [task.request_id for task in world.claim().tasks] == [other.id]
    world.clock.tick(1.5)
    assert not world.claim().tasks
    assert world.ledger.resume_project("shop", **WHO)
    assert [task.request_id for task in world.claim().tasks] == [own.id]


def test_a_pause_writes_the_moment_after_which_nothing_claimed_before_may_depart(world):
    world.clock.tick(7)
    world.ledger.pause_project("shop", **WHY)
    assert the_project(world).halted_ns == world.clock.ns
    assert the_project(world, "blog").halted_ns == 0
    world.clock.tick(3)
    world.ledger.pause_account("acme", **WHY)
    assert the_account(world).halted_ns == world.clock.ns
    halted = world.clock.ns
    world.clock.tick(3)
    world.ledger.resume_account("acme", **WHO)
    # What was claimed before it stays kept back: the moment is not taken away.
    assert the_account(world).halted_ns == halted


def test_the_moment_is_read_only_once_the_accounts_row_is_locked(ledger_url):
    """A claim that holds the lock is over before the pause, whose moment is later than it."""
    upgrade(ledger_url)
    with Ledger.open(ledger_url, keys=KEYS) as ledger:
        ledger.register(projects={"shop": "acme"}, rates={"acme": RATE}, decides=True)
        database = ledger._database
        locked = threading.Event()
        ended: list[int] = []

        def hold_the_lock(conn):
            conn.execute(account.select().with_for_update(key_share=True)).all()
            locked.set()
            pausing.join(0.3)  # it waits for us: the time out is the normal case
            assert pausing.is_alive()
            ended.append(database.clock.now_ns(conn))

        def pause():
            locked.wait()
            ledger.pause_project("shop", **WHY)

        pausing = threading.Thread(target=pause)
        pausing.start()
        database.write(hold_the_lock)
        pausing.join()
        row = database.read(lambda conn: conn.execute(project.select()).one())
    assert row.halted_ns >= ended[0]


def test_the_first_pause_stays_with_its_reason_and_is_told_once(world):
    assert world.ledger.pause_project("shop", **WHY)
    assert not world.ledger.pause_project("shop", principal="otto", reason="other")
    assert the_project(world).pause_reason == "freeze-3"
    assert world.ledger.pause_account("acme", **WHY)
    assert not world.ledger.pause_account("acme", principal="otto", reason="other")
    assert the_account(world).stop_reason == "freeze-3"
    assert len(events(world, "project.paused", "account.paused")) == 2


def test_resuming_what_does_not_stand_still_changes_nothing(world):
    assert not world.ledger.resume_project("shop", **WHO)
    assert not world.ledger.resume_account("acme", **WHO)
    assert events(world, "project.resumed", "account.resumed") == []


@pytest.mark.parametrize("name", ["nobody", "", "a\x00b", "default; DROP TABLE project"])
@pytest.mark.parametrize("verb", ["pause", "resume"])
@pytest.mark.parametrize("scope", ["project", "account"])
def test_what_the_ledger_does_not_know_is_refused(world, scope, verb, name):
    act = getattr(world.ledger, f"{verb}_{scope}")
    with pytest.raises(RequestError, match=f"There is no {scope}"):
        act(name, **WHY)


@pytest.mark.parametrize("scope", ["project", "account"])
def test_a_reason_is_a_code_and_an_operator_has_a_name(world, scope):
    name = {"project": "shop", "account": "acme"}[scope]
    for verb in ("pause", "resume"):
        act = getattr(world.ledger, f"{verb}_{scope}")
        with pytest.raises(RequestError, match="short code"):
            act(name, principal="olga", reason="Ms Smith called")
        with pytest.raises(RequestError, match="principal"):
            act(name, principal="", reason="x")
    assert world.ledger.pauses() == []


def test_resuming_an_account_ends_its_rest_and_what_waited_comes_within_the_horizon(world):
    world.submit(["a"])
    task = world.claim_one()
    world.record(
        settled(task, Retry(delay_s=0, burn=False), pause_account_s=3_600.0, reason="code_40304")
    )
    assert not world.claim().tasks
    assert world.ledger.resume_account("acme", **WHO)
    row = the_account(world)
    assert (row.paused_until_ns, row.strikes, row.pause_reason) == (0, 0, None)
    assert row.next_slot_ns <= world.clock.ns + HORIZON_NS + interval_ns(RATE)
    [told] = events(world, "account.resumed")
    assert (told["principal"], told["paused_for"]) == ("olga", "code_40304")
    world.clock.tick(1)
    [again] = world.claim().tasks
    # However early it is resumed, no slot comes nearer to those given out before.
    assert again.slot_ns - task.slot_ns >= interval_ns(RATE)


def test_a_rest_goes_on_beside_a_pause_and_both_are_listed(world):
    world.submit(["a"])
    world.record(
        settled(
            world.claim_one(),
            Retry(delay_s=0, burn=False),
            pause_account_s=60.0,
            reason="http_429",
        )
    )
    world.ledger.pause_account("acme", **WHY)
    world.ledger.pause_project("far", **WHY)
    world.sql(
        "UPDATE project SET broken_at = 1, break_reason = 'connect', open_until_ns = :until"
        " WHERE name = 'blog'",
        until=world.clock.ns + 5_000_000_000,
    )
    listed = [(one.scope, one.name, one.kind, one.reason) for one in world.ledger.pauses()]
    assert listed == [
        ("project", "far", "paused", "freeze-3"),
        ("account", "acme", "paused", "freeze-3"),
        ("project", "blog", "broken", "connect"),
        ("account", "acme", "rests", "http_429"),
    ]
    assert [one.seconds_left for one in world.ledger.pauses()[2:]] == pytest.approx([5.0, 60.0])
    paused = {name for name, stands in read_gauges(world.database).paused.items() if stands}
    assert paused == {("project", "far"), ("account", "acme")}
    assert read_gauges(world.database).circuits == {"blog": True, "far": False, "shop": False}


def test_resuming_a_project_closes_its_breaker(world):
    world.sql(
        "UPDATE project SET broken_at = 1, break_reason = 'connect', open_until_ns = :until,"
        " failures = 7 WHERE name = 'shop'",
        until=world.clock.ns + 10**12,
    )
    assert world.ledger.resume_project("shop", **WHO)
    row = the_project(world)
    assert (row.broken_at, row.break_reason, row.open_until_ns, row.failures) == (None, None, 0, 0)
    world.submit(["a"])
    assert world.claim_one().project == "shop"


def test_work_of_a_paused_account_or_project_is_not_waiting_for_a_worker(world):
    world.submit(["a"])
    world.submit(["b"], project="blog")
    assert world.sweep().due
    world.ledger.pause_account("acme", **WHY)
    assert not world.sweep().due
    world.submit(["c"], project="far")
    assert world.sweep().due
    world.ledger.pause_project("far", **WHY)
    assert not world.sweep().due
    world.ledger.resume_account("acme", **WHO)
    assert world.sweep().due


def test_no_probe_goes_to_a_paused_account_and_its_reason_is_told(world):
    world.ledger.pause_account("acme", **WHY)
    refused = world.ledger.book_probe("shop", principal="ops", lead_s=0)
    assert refused == ProbeRefused(reason="account_paused", why="freeze-3")
    world.ledger.resume_account("acme", **WHO)
    assert isinstance(world.ledger.book_probe("shop", principal="ops", lead_s=0), Probe)


def test_requests_are_taken_in_while_all_stands_still(world):
    world.ledger.pause_account("acme", **WHY)
    world.ledger.pause_project("shop", **WHY)
    assert world.submit(["a"]).state.value == "open"


def test_after_a_reboot_no_pause_keeps_the_new_clocks_claims_back(world):
    world.ledger.pause_project("shop", **WHY)
    world.ledger.pause_account("acme", **WHY)
    world.ledger.resume_project("shop", **WHO)
    world.ledger.resume_account("acme", **WHO)
    world.sql("UPDATE clock SET source = 'another boot'")
    world.sweep()
    assert the_project(world).halted_ns == the_account(world).halted_ns == 0


# -- the record -----------------------------------------------------------------------------------

ACTS = {
    "request.held": lambda ledger, request_id: ledger.hold(request_id, **WHY),
    "request.released": lambda ledger, request_id: ledger.release(request_id, **WHY),
    "request.cancelled": lambda ledger, request_id: ledger.cancel(request_id, **WHY),
    "project.paused": lambda ledger, _: ledger.pause_project("shop", **WHY),
    "project.resumed": lambda ledger, _: ledger.resume_project("shop", **WHY),
    "account.paused": lambda ledger, _: ledger.pause_account("acme", **WHY),
    "account.resumed": lambda ledger, _: ledger.resume_account("acme", **WHY),
}


@pytest.mark.parametrize("kind", ACTS)
def test_whatever_an_operator_does_is_one_event_with_name_and_reason(world, kind):
    receipt = world.submit(["a"])
    before = {
        "request.released": "request.held",
        "project.resumed": "project.paused",
        "account.resumed": "account.paused",
    }.get(kind)
    if before is not None:
        ACTS[before](world.ledger, receipt.id)
    assert ACTS[kind](world.ledger, receipt.id)
    ACTS[kind](world.ledger, receipt.id)  # a second time it changes nothing, and is no event
    [told] = events(world, kind)
    assert (told["principal"], told["reason"]) == ("olga", "freeze-3")
    about = {"request": receipt.id, "project": "shop", "account": "acme"}
    scope = kind.partition(".")[0]
    assert told[scope] == about[scope]
