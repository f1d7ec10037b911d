"""Cancelling, holding and releasing from the command line: one request, many, and asking first."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from ledger import Keys, Ledger


def one(result):
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture
def submit(expunge):
    def run(*what):
        return expunge("submit", *(what or ("--memory-id", "a")), "-o", "id").stdout.strip()

    return run


@pytest.fixture
def terminal(monkeypatch):
    """Stdin passes for a terminal, so that questions are asked."""
    monkeypatch.setattr("expunge.cli.bulk.sys", _Terminal())


class _Terminal:
    class stdin:  # noqa: N801 - as sys has it
        @staticmethod
        def isatty():
            return True


def state(expunge, request_id):
    return one(expunge("status", request_id, "-o", "json"))["state"]


# -- one request ----------------------------------------------------------------------------------


def test_one_request_is_held_released_and_cancelled_without_a_question(expunge, submit):
    request_id = submit()
    [row] = one(expunge("hold", request_id, "--reason", "wait-1", "-o", "json"))
    assert row == {"id": request_id, "outcome": "done", "state": "open"}
    view = one(expunge("status", request_id, "-o", "json"))
    assert (view["held"], view["hold_reason"]) == (True, "wait-1")
    assert "held" in expunge("list").stdout
    [row] = one(expunge("hold", request_id, "--reason", "other", "-o", "json"))
    assert row["outcome"] == "unchanged"
    [row] = one(expunge("release", request_id, "-o", "json"))
    assert row["outcome"] == "done"
    [row] = one(expunge("cancel", request_id, "--reason", "x", "-o", "json"))
    assert (row["outcome"], row["state"]) == ("done", "cancelled")
    [row] = one(expunge("cancel", request_id, "--reason", "x", "-o", "json"))
    assert row["outcome"] == "unchanged"


def test_alone_an_unknown_request_is_5_and_an_ended_one_is_6(expunge, submit):
    assert expunge("cancel", "nobody", "--reason", "x").exit_code == 5
    request_id = submit()
    expunge("cancel", request_id, "--reason", "x")
    shown = expunge("hold", request_id, "--reason", "x")
    assert shown.exit_code == 6
    assert f"expunge status {request_id}" in shown.stderr


@pytest.mark.parametrize("verb", ["cancel", "hold"])
def test_a_reason_is_required_and_is_a_code(expunge, submit, verb):
    request_id = submit()
    assert expunge(verb, request_id).exit_code == 2
    shown = expunge(verb, request_id, "--reason", "Ms Smith called")
    assert (shown.exit_code, "short code" in shown.stderr) == (2, True)
    assert state(expunge, request_id) == "open"


@pytest.mark.parametrize(
    "args", [[], ["--filter", "final:false", "some-id"], ["--filter", ""], ["--filter", " "]]
)
def test_neither_nothing_nor_both_nor_an_empty_filter_is_taken(expunge, submit, args):
    request_id = submit()
    shown = expunge("cancel", *args, "--reason", "x", "--yes")
    assert shown.exit_code == 2
    assert state(expunge, request_id) == "open"


# -- many -----------------------------------------------------------------------------------------


def test_more_than_one_is_refused_in_a_script_unless_it_says_yes(expunge, submit):
    ids = [submit(), submit()]
    shown = expunge("cancel", *ids, "--reason", "x")
    assert shown.exit_code == 10
    assert "cancel 2 requests" in shown.stderr
    assert {state(expunge, each) for each in ids} == {"open"}
    rows = one(expunge("cancel", *ids, "--reason", "x", "--yes", "-o", "json"))
    assert [(row["id"], row["outcome"]) for row in rows] == [(each, "done") for each in ids]


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize(("answer", "code", "after"), [("y", 0, "cancelled"), ("n", 10, "open")])
def test_on_a_terminal_it_asks_with_the_number(expunge, submit, answer, code, after):
    ids = [submit(), submit()]
    shown = expunge("cancel", *ids, "--reason", "x", stdin=f"{answer}\n")
    assert shown.exit_code == code
    assert "cancel 2 requests" in shown.stderr
    assert {state(expunge, each) for each in ids} == {after}


def test_more_than_a_thousand_need_their_number(expunge, submit, monkeypatch):
    monkeypatch.setattr("expunge.cli.bulk.MOST_BY_YES", 2)
    ids = [submit() for _ in range(3)]
    what = ("hold", "--filter", "final:false", "--reason", "x")
    assert expunge(*what, "--yes").exit_code == 10
    assert expunge(*what, "--confirm", 2).exit_code == 10
    assert "not 2" in expunge(*what, "--confirm", 2).stderr
    assert {state(expunge, each) for each in ids} == {"open"}
    assert expunge(*what, "--confirm", 3).exit_code == 0


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize(("typed", "code"), [("3", 0), ("4", 10), ("yes", 10), ("", 10)])
def test_on_a_terminal_the_number_of_many_is_typed(expunge, submit, monkeypatch, typed, code):
    monkeypatch.setattr("expunge.cli.bulk.MOST_BY_YES", 2)
    for _ in range(3):
        submit()
    shown = expunge("hold", "--filter", "final:false", "--reason", "x", stdin=f"{typed}\n")
    assert shown.exit_code == code


def test_a_filter_takes_only_those_that_it_can_still_be_done_to(expunge, submit):
    ended, first, second = submit(), submit(), submit("--user-id", "u")
    expunge("cancel", ended, "--reason", "x")
    rows = one(expunge("hold", "--filter", "kind:memories", "--reason", "x", "--yes", "-o", "json"))
    assert [row["id"] for row in rows] == [first]
    shown = expunge("release", "--filter", "held:true", "--yes", "-o", "id")
    assert shown.stdout.split() == [first]
    again = expunge("release", "--filter", "held:true", "--yes", "-o", "json")
    assert (one(again), "0 of 0" in again.stderr) == ([], True)
    assert state(expunge, second) == "open"


def test_a_dry_run_lists_and_touches_nothing(expunge, submit):
    ids = [submit(), submit()]
    shown = expunge("cancel", "--filter", "state:open", "--reason", "x", "--dry-run", "-o", "id")
    assert shown.stdout.split() == ids[::-1]
    assert "Would cancel 2 requests" in shown.stderr
    views = one(expunge("cancel", ids[0], "--reason", "x", "--dry-run", "-o", "json"))
    assert [view["id"] for view in views] == [ids[0]]
    assert expunge("cancel", ids[0], "nobody", "--reason", "x", "--dry-run").exit_code == 3
    assert expunge("cancel", "nobody", "--reason", "x", "--dry-run").exit_code == 5


def test_a_dry_run_counts_only_what_it_would_be_done_to(expunge, submit):
    ended, going = submit(), submit()
    assert expunge("cancel", ended, "--reason", "x").exit_code == 0
    shown = expunge("hold", ended, going, "--reason", "x", "--dry-run")
    assert shown.exit_code == 3
    assert "Would hold 1 request;" in shown.stderr
    assert "1 have ended or are so already" in shown.stderr


def test_ids_in_a_pipe_are_all_that_match_and_a_table_says_what_it_leaves_out(
    expunge, submit, monkeypatch
):
    monkeypatch.setattr("expunge.cli.looking._MOST_SHOWN", 2)
    ids = {submit() for _ in range(3)}
    assert set(expunge("list", "-o", "id").stdout.split()) == ids
    shown = expunge("list")
    assert len(shown.stdout.splitlines()) == 3  # with its heading
    assert "the newest 2 of 3" in shown.stderr
    assert expunge("list", "--limit", "3").stderr == ""
    assert len(expunge("list", "--limit", "1", "-o", "id").stdout.split()) == 1
    assert {state(expunge, each) for each in ids} == {"open"}


def test_what_cannot_be_done_to_some_is_done_to_the_others(expunge, submit):
    ended, first, second = submit(), submit(), submit()
    expunge("cancel", ended, "--reason", "x")
    what = ("hold", first, "nobody", ended, second, "--reason", "x", "--yes")
    shown = expunge(*what, "-o", "jsonl")
    assert shown.exit_code == 3
    rows = [json.loads(line) for line in shown.stdout.splitlines()]
    assert [row["outcome"] for row in rows] == ["done", "not_found", "conflict", "done"]
    assert [row["state"] for row in rows] == ["open", None, "cancelled", "open"]
    assert expunge(*what, "-o", "id").stdout.split() == [first, second]
    table = expunge(*what).stdout
    assert "unchanged" in table
    assert "not_found" in table


def test_ids_come_through_pipes_and_files(expunge, submit, tmp_path):
    ids = [submit() for _ in range(3)]
    listed = expunge("list", "state:open", "-o", "id").stdout
    rows = one(expunge("hold", "-", "--reason", "x", "--yes", "-o", "json", stdin=listed))
    assert [row["id"] for row in rows] == ids[::-1]
    (tmp_path / "ids").write_text(f"{ids[0]}\r\n\n  {ids[1]}  \n{ids[0]}\n")
    rows = one(expunge("cancel", f"@{tmp_path / 'ids'}", "--reason", "x", "--yes", "-o", "json"))
    assert [row["id"] for row in rows] == ids[:2]
    assert expunge("release", "-", "--yes", stdin="\n\n").exit_code == 2
    assert expunge("release", "-", "-", "--yes", stdin="x\n").exit_code == 2
    assert expunge("release", f"@{tmp_path / 'none'}").exit_code == 2


def test_a_ledger_that_goes_away_in_between_leaves_a_list_of_what_was_done(
    expunge, submit, monkeypatch
):
    from ledger.errors import LedgerError  # noqa: PLC0415

    ids = [submit(), submit()]
    real = Ledger.hold

    def hold(self, request_id, **rest):
        if request_id == ids[1]:
            msg = "The ledger did not confirm."
            raise LedgerError(msg)
        return real(self, request_id, **rest)

    monkeypatch.setattr(Ledger, "hold", hold)
    shown = expunge("hold", *ids, "--reason", "x", "--yes")
    assert shown.exit_code == 8
    assert ids[0] in shown.stdout
    assert ids[1] not in shown.stdout


def test_whoever_did_it_is_on_record(expunge, submit, settings, monkeypatch):
    monkeypatch.setattr("getpass.getuser", lambda: "olga")
    request_id = submit()
    expunge("cancel", request_id, "--reason", "dup-3")
    from sqlalchemy import select  # noqa: PLC0415

    from ledger.schema import event_body  # noqa: PLC0415

    with Ledger.open(settings.ledger_url, keys=Keys.load(settings.keys_dir)) as ledger:
        bodies = ledger._database.read(
            lambda conn: conn.execute(select(event_body.c.payload)).scalars().all()
        )
    [body] = [each for each in map(json.loads, bodies) if each["type"] == "request.cancelled"]
    assert (body["principal"], body["reason"]) == ("olga", "dup-3")


# -- looking --------------------------------------------------------------------------------------


def test_status_shows_several_and_tells_which_are_missing(expunge, submit, tmp_path):
    ids = [submit(), submit()]
    views = one(expunge("status", *ids, "-o", "json"))
    assert [view["id"] for view in views] == ids
    (tmp_path / "ids").write_text(ids[0])
    [view] = one(expunge("status", f"@{tmp_path / 'ids'}", "-o", "json"))
    assert view["id"] == ids[0]
    assert expunge("status", "-", "-o", "id", stdin="\n".join(ids)).stdout.split() == ids
    shown = expunge("status", ids[0], "nobody", "-o", "id")
    assert (shown.exit_code, shown.stdout.split()) == (3, [ids[0]])
    assert "1 of 2" in shown.stderr
    assert expunge("status", "nobody").exit_code == 5


def test_the_list_takes_a_filter_as_one_text_or_several_words(expunge, submit):
    first, second = submit(), submit("--user-id", "u")
    assert expunge("list", "kind:user state:open", "-o", "id").stdout.split() == [second]
    assert expunge("list", "kind:memories", "state:open", "-o", "id").stdout.split() == [first]
    assert expunge("list", "-o", "id", "--", "-kind:user").stdout.split() == [first]
    assert expunge("list", "kind:user", "--count").stdout.strip() == "1"
    assert one(expunge("list", "--count", "-o", "json")) == {"count": 2}
    shown = expunge("list", "kind:user", "stat:open")
    assert shown.exit_code == 2
    assert "Word 2" in shown.stderr
    assert "`state`" in shown.stderr


def test_the_list_marks_what_is_held_or_overdue(expunge, submit):
    late = submit("--memory-id", "a", "--due", "2020-01-01T00:00:00Z")
    assert "overdue" in expunge("list").stdout
    expunge("hold", late, "--reason", "x")
    assert "held overdue" in expunge("list").stdout
    assert one(expunge("list", "overdue:true", "-o", "json"))[0]["overdue"] is True


def test_a_due_date_that_is_over_is_told_at_once(expunge):
    over = expunge("submit", "--memory-id", "a", "--due", "2020-01-01T00:00:00Z")
    ahead = expunge("submit", "--memory-id", "b", "--due", "2999-01-01T00:00:00Z")
    assert (over.exit_code, "counts as overdue" in over.stderr) == (0, True)
    assert (ahead.exit_code, "overdue" in ahead.stderr) == (0, False)


def test_the_list_marks_what_is_at_risk(expunge, submit):
    now = datetime.now(UTC)
    soon = submit(
        *("--memory-id", "a", "--submitted-at", (now - timedelta(days=9)).isoformat()),
        *("--due", (now + timedelta(days=1)).isoformat()),
    )
    submit("--user-id", "u")
    assert "at risk" in expunge("list", "at_risk:true").stdout
    assert expunge("list", "at_risk:true", "-o", "id").stdout.split() == [soon]
    view = one(expunge("status", soon, "-o", "json"))
    assert (view["at_risk"], view["overdue"]) == (True, False)
    assert "at risk" in expunge("status", soon).stdout
