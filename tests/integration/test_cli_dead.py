"""Dead letters from the command line: listed, shown, sent again, given up."""

import json
from itertools import pairwise

import pytest
from sqlalchemy import select

from ledger import Keys, Ledger, ReadbackPolicy
from ledger.schema import chunk, event_body, request
from ledger.tasks import Dead, Delivered, Settlement

WHY = ("--reason", "mended-1")


def one(result):
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture
def ledger(settings):
    with Ledger.open(settings.ledger_url, keys=Keys.load(settings.keys_dir)) as opened:
        yield opened


@pytest.fixture
def answer(ledger):
    """Carry out all that is due with one answer, until nothing more can be claimed."""

    def run(move=Dead(bucket="unknown"), reason="http_503"):  # noqa: B008 - frozen
        while tasks := ledger.claim(worker="w", capacity=10, lead_s=0, lease_s=60).tasks:
            ready = ledger.record(
                [
                    Settlement(task=task, move=move, outcome="unknown", reason=reason)
                    for task in tasks
                ]
            )
            for request_id in ready:
                ledger.advance(request_id, policy=ReadbackPolicy(settle_s=0))

    return run


@pytest.fixture
def dead(expunge, ledger, answer):
    """Make a request that failed, of so many chunks of two ids."""
    ledger.register(projects={"default": "default"}, rates={"default": 10_000.0}, decides=True)

    def run(*what, reason="http_503"):
        what = what or ("--memory-id", "id-1", "--memory-id", "id-2")
        request_id = expunge("submit", *what, "--verify", "none", "-o", "id").stdout.strip()
        answer(reason=reason)
        return request_id

    return run


def events(ledger, kind):
    bodies = ledger._database.read(
        lambda conn: conn.execute(select(event_body.c.payload)).scalars().all()
    )
    return [each for each in map(json.loads, bodies) if each["type"] == kind]


def state(expunge, request_id):
    view = one(expunge("status", request_id, "-o", "json"))
    return view["state"], view["generation"]


# -- looking --------------------------------------------------------------------------------------


def test_the_list_has_a_line_for_each_request_and_reason(expunge, dead):
    first = dead()
    second = dead("--user-id", "u-1", reason="code_40305")
    rows = one(expunge("dead", "list", "-o", "json"))
    assert [(row["id"], row["reason"], row["chunks"], row["ids"]) for row in rows] == [
        (second, "code_40305", 1, 1),
        (first, "http_503", 1, 2),
    ]
    assert {"project", "kind", "lane", "state", "finished_at", "redrive_until"} <= set(rows[0])
    assert rows[0]["redrive_until"][:10] > rows[0]["finished_at"][:10]
    [row] = one(expunge("dead", "list", "kind:memories", "dead_reason:http_503", "-o", "json"))
    assert row["id"] == first
    table = expunge("dead", "list").stdout
    assert "redrive until" in table
    assert "code_40305" in table
    lines = expunge("dead", "list", "-o", "jsonl").stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines] == [second, first]
    assert expunge("dead", "list", "dead:maybe").exit_code == 2


def test_the_status_of_what_was_given_up_says_why_and_what_to_do(expunge, dead):
    request_id = dead()
    told = expunge("status", request_id).stderr
    assert "1 http_503" in told
    assert f"`expunge dead show {request_id}`" in told
    assert f"`expunge dead redrive {request_id}`" in told
    expunge("dead", "discard", request_id, *WHY, "--yes")
    assert expunge("status", request_id).stderr == ""


def test_no_list_and_no_chunk_shows_an_id(expunge, dead):
    request_id = dead()
    dead("--user-id", "u-1")
    for args in (("list",), ("list", "-o", "json"), ("show", request_id), ("list", "-o", "id")):
        shown = expunge("dead", *args)
        assert shown.exit_code == 0
        assert "id-1" not in shown.output
        assert "u-1" not in shown.output


def test_the_list_says_what_it_leaves_out_and_a_pipe_gets_all(expunge, dead, monkeypatch):
    monkeypatch.setattr("expunge.cli.dead._MOST_SHOWN", 1)
    ids = [dead(), dead(), dead()]
    assert expunge("dead", "list", "-o", "id").stdout.split() == ids[::-1]
    shown = expunge("dead", "list")
    assert "the newest 1 of 3 requests" in shown.stderr
    assert expunge("dead", "list", "--limit", "2", "-o", "id").stdout.split() == ids[:0:-1]
    assert expunge("dead", "list", "--limit", "3").stderr == ""


def test_the_ids_are_shown_on_demand_and_who_saw_them_is_on_record(
    expunge, dead, ledger, monkeypatch
):
    monkeypatch.setattr("getpass.getuser", lambda: "olga")
    request_id = dead()
    [row] = one(expunge("dead", "show", request_id, "-o", "json"))
    assert row == {
        "id": f"{request_id}/0",
        "no": 0,
        "generation": 1,
        "n": 2,
        "reason": "http_503",
        "burnt": 1,
        "doubtful": True,
    }
    assert not events(ledger, "dead.revealed")
    [row] = one(expunge("dead", "show", request_id, "--reveal", "-o", "json"))
    assert row["ids"] == ["id-1", "id-2"]
    [event] = events(ledger, "dead.revealed")
    assert (event["principal"], event["request"], event["ids"]) == ("olga", request_id, 2)
    assert "id-1" not in json.dumps(event)
    shown = expunge("dead", "show", request_id, "--reveal", "-o", "id")
    assert shown.stdout.split() == ["id-1", "id-2"]
    assert "id-2" in expunge("dead", "show", request_id, "--reveal").stdout
    assert expunge("dead", "show", request_id, "-o", "id").stdout.split() == [f"{request_id}/0"]
    assert expunge("dead", "show", "nobody").exit_code == 5


def test_only_so_many_chunks_are_shown_and_revealed(expunge, dead, ledger, monkeypatch):
    monkeypatch.setenv("EXPUNGE_CHUNK_SIZE", "1")
    request_id = dead()
    shown = expunge("dead", "show", request_id, "--limit", "1", "--reveal", "-o", "id")
    assert shown.stdout.split() == ["id-1"]
    assert "the first 1" in shown.stderr
    assert [event["chunks"] for event in events(ledger, "dead.revealed")] == [1]
    assert expunge("dead", "show", request_id, "--limit", "2").stderr == ""


# -- redriving ------------------------------------------------------------------------------------


def test_one_is_redriven_and_ends_again_and_whoever_did_it_is_on_record(
    expunge, dead, answer, ledger, monkeypatch
):
    monkeypatch.setattr("getpass.getuser", lambda: "olga")
    request_id = dead()
    [row] = one(expunge("dead", "redrive", request_id, *WHY, "-o", "json"))
    assert row == {"id": request_id, "outcome": "done", "state": "open"}
    assert state(expunge, request_id) == ("open", 2)
    [event] = events(ledger, "request.redriven")
    assert (event["principal"], event["reason"], event["chunks"]) == ("olga", "mended-1", 1)
    answer(Delivered())
    assert state(expunge, request_id) == ("complete", 2)
    assert one(expunge("dead", "list", "-o", "json")) == []
    assert expunge("dead", "redrive", request_id, *WHY).exit_code == 6


@pytest.mark.parametrize("verb", ["redrive", "discard"])
def test_a_reason_is_required_and_is_a_code(expunge, dead, verb):
    request_id = dead()
    assert expunge("dead", verb, request_id).exit_code == 2
    shown = expunge("dead", verb, request_id, "--reason", "Ms Smith called")
    assert (shown.exit_code, "short code" in shown.stderr) == (2, True)
    assert state(expunge, request_id) == ("failed", 1)
    assert len(one(expunge("dead", "list", "-o", "json"))) == 1


@pytest.mark.parametrize("verb", ["redrive", "discard"])
def test_many_are_counted_and_done_only_when_somebody_says_so(expunge, dead, verb):
    ids = [dead(), dead(), dead("--user-id", "u-1")]
    what = ("dead", verb, "--filter", "kind:memories", *WHY)
    shown = expunge(*what)
    assert shown.exit_code == 10
    assert "2 requests" in shown.stderr
    shown = expunge(*what, "--dry-run")
    assert shown.exit_code == 0
    assert "2 dead letters with 4 ids." in shown.stderr
    assert "Would" in shown.stderr
    assert "http_503" in shown.stdout
    assert expunge(*what, "--confirm", "3").exit_code == 10
    assert {state(expunge, each) for each in ids} == {("failed", 1)}
    assert len(one(expunge("dead", "list", "-o", "json"))) == 3
    rows = one(expunge(*what, "--yes", "-o", "json"))
    assert {(row["id"], row["outcome"]) for row in rows} == {(each, "done") for each in ids[:2]}
    assert [row["id"] for row in one(expunge("dead", "list", "-o", "json"))] == [ids[2]]
    assert state(expunge, ids[2]) == ("failed", 1)


def test_an_empty_filter_takes_nothing(expunge, dead):
    dead()
    shown = expunge("dead", "redrive", "--filter", "", *WHY, "--yes")
    assert (shown.exit_code, "dead:true" in shown.stderr) == (2, True)


def test_a_filter_takes_only_what_can_be_redriven(expunge, dead, answer):
    complete = expunge("submit", "--memory-id", "x", "--verify", "none", "-o", "id").stdout.strip()
    answer(Delivered())
    request_id = dead()
    rows = one(expunge("dead", "redrive", "--filter", "final:true", *WHY, "--yes", "-o", "json"))
    assert [row["id"] for row in rows] == [request_id]
    shown = expunge("dead", "redrive", complete, request_id, *WHY, "--yes", "-o", "jsonl")
    assert shown.exit_code == 3
    assert [json.loads(line)["outcome"] for line in shown.stdout.splitlines()] == ["conflict"] * 2


def test_the_rate_holds_over_all_of_them(expunge, dead, ledger):
    ids = [dead(), dead(), dead()]
    what = ("dead", "redrive", *ids, *WHY, "--yes")
    assert expunge(*what, "--rate", "0").exit_code == 2
    one(expunge(*what, "--rate", "0.5", "-o", "json"))
    due = ledger._database.read(
        lambda conn: conn.execute(select(chunk.c.due_ns).order_by(chunk.c.due_ns)).scalars().all()
    )
    steps = [(later - sooner) / 1e9 for sooner, later in pairwise(due)]
    # Never sooner; where the machine was slow, the next one counts from its own time.
    assert all(step >= 2 for step in steps)
    assert due[0] > 0


def test_after_the_window_nothing_is_redriven_but_still_discarded(expunge, dead, monkeypatch):
    request_id = dead()
    monkeypatch.setenv("EXPUNGE_REDRIVE_DAYS", "0")
    monkeypatch.setenv("EXPUNGE_SECOND_LOOK_SECONDS", "0")
    shown = expunge("dead", "redrive", request_id, *WHY)
    assert shown.exit_code == 6
    assert "EXPUNGE_REDRIVE_DAYS" in shown.stderr
    [row] = one(expunge("dead", "discard", request_id, *WHY, "-o", "json"))
    assert (row["outcome"], row["state"]) == ("done", "failed")


def test_a_changed_order_is_told_and_not_sent(expunge, dead, ledger):
    ids = [dead(), dead()]
    ledger._database.write(
        lambda conn: conn.execute(
            request.update().where(request.c.id == ids[0]).values(principal="other")
        )
    )
    shown = expunge("dead", "redrive", ids[0], *WHY)
    assert shown.exit_code == 9
    assert "An order was changed" in shown.stderr
    shown = expunge("dead", "redrive", *ids, *WHY, "--yes", "-o", "jsonl")
    assert shown.exit_code == 3
    outcomes = [json.loads(line)["outcome"] for line in shown.stdout.splitlines()]
    assert outcomes == ["tampered", "done"]


# -- discarding -----------------------------------------------------------------------------------


def test_what_is_discarded_is_gone_from_the_list_and_counted_as_before(
    expunge, dead, ledger, monkeypatch
):
    monkeypatch.setattr("getpass.getuser", lambda: "olga")
    request_id = dead()
    before = one(expunge("status", request_id, "-o", "json"))
    piped = expunge("dead", "list", "-o", "id").stdout
    [row] = one(expunge("dead", "discard", "-", *WHY, "-o", "json", stdin=piped))
    assert row == {"id": request_id, "outcome": "done", "state": "failed"}
    assert one(expunge("status", request_id, "-o", "json")) == before
    assert one(expunge("dead", "list", "-o", "json")) == []
    [row] = one(expunge("dead", "discard", request_id, *WHY, "-o", "json"))
    assert row["outcome"] == "unchanged"
    assert expunge("dead", "redrive", request_id, *WHY).exit_code == 6
    [event] = events(ledger, "dead.discarded")
    assert (event["principal"], event["reason"], event["ids"]) == ("olga", "mended-1", 2)
    assert expunge("dead", "discard", "nobody", *WHY).exit_code == 5
