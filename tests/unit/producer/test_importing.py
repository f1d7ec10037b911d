"""Whole files into requests, on a real SQLite ledger."""

import io
import json
import sqlite3
import tracemalloc
from contextlib import closing
from typing import Any

import pytest

from ledger.errors import ConflictError, LedgerError, RequestError
from ledger.states import Kind
from producer import Producer, Receipt
from producer.files import Columns, Format, Layout, RejectLog, Source, Terms, import_file
from producer.submit import Producer as Submitting
from tests.support.homes import make_home


@pytest.fixture
def settings(tmp_path):
    return make_home(tmp_path, chunk_size=3)


@pytest.fixture
def producer(settings):
    with Producer(settings) as opened:
        yield opened


def take(
    producer,
    text,
    found=Format.PLAIN,
    *,
    columns=None,
    kind=None,
    rejects=None,
    terms=None,
    run=None,
):
    log = rejects or RejectLog()
    receipts: list[Receipt] = []
    report = import_file(
        producer,
        Source(io.BytesIO(text.encode()), name="orders"),
        layout=Layout(format=found, columns=columns or Columns(), kind=kind),
        terms=Terms(**(terms or {})),
        rejects=log,
        on_receipt=receipts.append,
        run=run,
    )
    return report, receipts


def in_ledger(settings, query="SELECT kind, subject, unique_ids FROM request ORDER BY created_at"):
    with closing(sqlite3.connect(settings.home / "expunge.db")) as database:
        return database.execute(query).fetchall()


def ids_in_ledger(settings):
    rows = in_ledger(settings, "SELECT ids FROM chunk WHERE state = 'due' ORDER BY no")
    return [each for (ids,) in rows for each in json.loads(ids)]


def test_a_plain_file_is_one_request_without_its_bad_lines(producer, settings):
    report, [receipt] = take(producer, "a\nb\n\na\n \nc\x01\nd")
    assert (report.requests, report.requested, report.unique, report.rejected) == (1, 4, 3, 2)
    assert ids_in_ledger(settings) == ["a", "b", "d"]
    assert receipt.unique == 3


def test_a_csv_is_one_request(producer, settings):
    report, _ = take(producer, "user,memory_id\nu,a\nv,b\nw\n", Format.CSV)
    assert (report.requests, report.unique, report.rejected) == (1, 2, 1)
    assert in_ledger(settings) == [("memories", None, 2)]


def test_a_tsv_is_read_by_its_tabs(producer, settings):
    take(producer, "user\tmemory_id\nu,x\ta\n", Format.TSV)
    assert ids_in_ledger(settings) == ["a"]


def test_with_a_user_column_there_is_one_request_a_user(producer, settings):
    text = "user,memory_id\nu,a\nv,b\nu,c\nv,d\nu,a\n,e\n"
    report, _ = take(producer, text, Format.CSV, columns=Columns(user_id="user"))
    assert (report.requests, report.requested, report.unique, report.rejected) == (2, 5, 4, 1)
    assert in_ledger(settings) == [("memories", "u", 2), ("memories", "v", 2)]


def test_under_a_key_the_lines_of_a_user_file_may_come_in_another_order(producer, settings):
    columns = Columns(user_id="user")
    terms = {"idempotency_key": "k" * 160}
    _, first = take(
        producer, "user,memory_id\nu,a\nv,b\n", Format.CSV, columns=columns, terms=terms
    )
    report, again = take(
        producer, "user,memory_id\nv,b\nu,a\n", Format.CSV, columns=columns, terms=terms
    )
    assert (report.known, {each.id for each in first}) == (2, {each.id for each in again})
    assert len(in_ledger(settings)) == 2


def test_jsonl_is_one_request_a_line(producer, settings):
    lines = [
        {"user_id": "u", "reason": "gdpr-17"},
        {"memory_ids": ["a", "b"], "user": "v"},
        {"agent_id": "w"},
        {"user_id": "x", "memory_ids": ["c"]},
    ]
    report, _ = take(producer, "\n".join(map(json.dumps, lines)), Format.JSONL)
    assert (report.requests, report.requested, report.rejected) == (3, 4, 1)
    assert in_ledger(settings) == [("user", "u", 1), ("memories", "v", 2), ("agent", "w", 1)]


def test_a_jsonl_line_goes_before_what_holds_for_the_file(producer):
    lines = '{"user_id": "u", "lane": "bulk"}\n{"user_id": "v"}\n'
    _, receipts = take(
        producer, lines, Format.JSONL, terms={"lane": "erasure", "reason": "gdpr-17"}
    )
    views = [producer.status(each.id) for each in receipts]
    assert [view.lane.value for view in views] == ["bulk", "erasure"]
    assert [view.reason for view in views] == ["gdpr-17", "gdpr-17"]


def test_a_jsonl_file_under_a_key_can_be_handed_in_twice(producer, settings):
    text = '{"user_id": "u"}\n{"user_id": "v", "idempotency_key": "own"}\n'
    take(producer, text, Format.JSONL, terms={"idempotency_key": "k"})
    report, _ = take(producer, text, Format.JSONL, terms={"idempotency_key": "k"})
    assert (report.requests, report.known, len(in_ledger(settings))) == (2, 2, 2)


def test_without_a_key_none_is_invented(producer, settings):
    for _ in range(2):
        take(producer, '{"user_id": "u"}\n', Format.JSONL)
    assert len(in_ledger(settings)) == 2


def test_what_the_ledger_refuses_of_a_jsonl_line_is_that_lines_reject(producer):
    lines = (
        '{"user_id": "u", "idempotency_key": "k"}\n'
        '{"user_id": "v", "idempotency_key": "k"}\n'
        '{"user_id": "w", "project": "nobody"}\n'
        '{"user_id": "x", "reason": "because I say so"}\n'
        '{"user_id": "y"}\n'
    )
    log = RejectLog()
    report, _ = take(producer, lines, Format.JSONL, rejects=log)
    assert (report.requests, report.rejected) == (2, 3)
    assert [each.line for each in log.first] == [2, 3, 4]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", Format.PLAIN),
        ("\n\r\n", Format.PLAIN),
        ("\x01\n \n", Format.PLAIN),
        ("memory_id\n", Format.CSV),
        ('memory_id\n""\n', Format.CSV),
        ("", Format.JSONL),
        ("{}\n", Format.JSONL),
    ],
)
def test_a_file_that_orders_nothing_is_refused_and_nothing_is_written(
    producer, settings, text, found
):
    with pytest.raises(RequestError, match="orders"):
        take(producer, text, found)
    assert in_ledger(settings) == []


def test_a_fault_found_late_leaves_no_work_behind(producer, settings):
    text = "memory_id,note\n" + "".join(f"m-{n},\n" for n in range(2_000)) + 'm,"open\n\n'
    with pytest.raises(RequestError, match="line 2002"):
        take(producer, text, Format.CSV)
    assert in_ledger(settings, "SELECT * FROM request WHERE state <> 'cancelled'") == []


def test_another_file_under_the_same_key_is_a_conflict(producer):
    take(producer, "a\nb\n", terms={"idempotency_key": "k"})
    with pytest.raises(ConflictError):
        take(producer, "a\nc\n", terms={"idempotency_key": "k"})


@pytest.mark.parametrize(
    ("found", "columns"), [(Format.JSONL, None), (Format.CSV, Columns(user_id="user"))]
)
def test_a_user_for_the_whole_file_contradicts_users_in_it(producer, found, columns):
    text = '{"user_id": "u"}\n' if found is Format.JSONL else "memory_id,user\na,u\n"
    with pytest.raises(RequestError, match="user"):
        take(producer, text, found, columns=columns, terms={"user_id": "u"})


@pytest.mark.parametrize(
    ("terms", "told"),
    [({}, "200 requests are recorded, and perhaps some"), ({"idempotency_key": "k"}, "same key")],
)
def test_a_ledger_that_goes_away_says_how_far_the_import_got(producer, monkeypatch, terms, told):
    def gone(self, requests):
        if requests[0].subject != "u-0":
            msg = "The ledger does not answer."
            raise LedgerError(msg)
        return real(self, requests)

    real = Submitting.hand_in_many
    monkeypatch.setattr(Submitting, "hand_in_many", gone)
    text = "".join(json.dumps({"user_id": f"u-{number}"}) + "\n" for number in range(300))
    with pytest.raises(LedgerError, match=told):
        take(producer, text, Format.JSONL, terms=terms)


def test_small_requests_are_handed_in_together_and_in_the_order_of_the_file(
    producer, settings, monkeypatch
):
    sizes = []

    def counted(self, requests):
        sizes.append(len(requests))
        return real(self, requests)

    real = Submitting.hand_in_many
    monkeypatch.setattr(Submitting, "hand_in_many", counted)
    big = [f"m-{number}" for number in range(1_500)]
    lines: list[dict[str, Any]] = [{"user_id": f"u-{number}"} for number in range(250)]
    lines[220:220] = [{"memory_ids": big}]
    report, receipts = take(producer, "\n".join(map(json.dumps, lines)), Format.JSONL)
    # The long one goes as a stream, after those that stood before it.
    assert sizes == [200, 20, 30]
    assert (report.requests, report.unique) == (251, 1_750)
    order = in_ledger(settings, "SELECT id, subject FROM request ORDER BY rowid")
    assert [each.id for each in receipts] == [request_id for request_id, _ in order]
    assert [subject for _, subject in order] == [line.get("user_id") for line in lines]


@pytest.mark.parametrize(
    ("text", "found", "columns"),
    [
        ("u\nv\nu\n \n", Format.PLAIN, None),
        ("memory_id,user_id\na,u\nb,v\nc,u\nd,\n", Format.CSV, None),
        ("who\tx\nu\t1\nv\t2\nu\t3\n\t4\n", Format.TSV, Columns(user_id="who")),
    ],
)
def test_with_kind_user_each_user_is_purged_once(producer, settings, text, found, columns):
    report, receipts = take(producer, text, found, columns=columns, kind=Kind.USER)
    assert (report.requests, report.requested, report.unique, report.rejected) == (2, 3, 2, 1)
    assert in_ledger(settings) == [("user", "u", 1), ("user", "v", 1)]
    assert len(receipts) == 2


_LATER = "SELECT subject, include_later FROM request ORDER BY created_at, subject"


def test_what_comes_later_goes_too_where_the_file_or_its_line_says_so(producer, settings):
    take(producer, "u\nv\n", kind=Kind.USER, terms={"include_later": True})
    lines = '{"user_id": "w", "include_later": true}\n{"user_id": "x", "include_later": false}\n'
    take(producer, lines, Format.JSONL)
    assert in_ledger(settings, _LATER) == [("u", 1), ("v", 1), ("w", 1), ("x", 0)]


@pytest.mark.parametrize(
    ("text", "found"), [("a\n", Format.PLAIN), ('{"user_id": "u"}', Format.JSONL)]
)
def test_a_file_that_orders_no_purges_itself_cannot_include_what_comes_later(
    producer, settings, text, found
):
    with pytest.raises(RequestError, match="include_later"):
        take(producer, text, found, terms={"include_later": True})
    assert in_ledger(settings) == []


def test_with_kind_agent_each_agent_is_purged_and_no_user(producer, settings):
    text = "user_id,agent_id\nu,a\nv,b\n"
    take(producer, text, Format.CSV, kind=Kind.AGENT)
    assert in_ledger(settings) == [("agent", "a", 1), ("agent", "b", 1)]


def test_a_file_of_users_is_never_taken_for_purges_by_itself(producer, settings):
    with pytest.raises(RequestError, match="memory_id"):
        take(producer, "user_id\nu\n", Format.CSV)
    take(producer, "u\n")
    assert [kind for kind, _, _ in in_ledger(settings)] == ["memories"]


def test_a_fault_late_in_a_file_of_purges_hands_none_of_them_in(producer, settings):
    text = "user_id,note\n" + "".join(f"u-{n},\n" for n in range(1_000)) + 'u,"open\n\n'
    with pytest.raises(RequestError, match="line 1002"):
        take(producer, text, Format.CSV, kind=Kind.USER)
    assert in_ledger(settings) == []


def test_purges_under_a_key_may_come_in_another_order(producer, settings):
    terms = {"idempotency_key": "k"}
    take(producer, "u\nv\n", terms=terms, kind=Kind.USER)
    report, _ = take(producer, "v\nw\nu\n", terms=terms, kind=Kind.USER)
    assert (report.requests, report.known, len(in_ledger(settings))) == (3, 2, 3)


def test_under_one_key_a_users_ids_and_the_users_purge_are_two_requests(producer, settings):
    terms = {"idempotency_key": "k"}
    text = "memory_id,user_id\na,u\n"
    take(producer, text, Format.CSV, columns=Columns(user_id="user_id"), terms=terms)
    take(producer, text, Format.CSV, kind=Kind.USER, terms=terms)
    assert in_ledger(settings) == [("memories", "u", 1), ("user", "u", 1)]


@pytest.mark.parametrize(
    ("layout", "told"),
    [
        (Layout(format=Format.JSONL, kind=Kind.USER), "--kind"),
        (Layout(format=Format.JSONL, kind=Kind.MEMORIES), "--kind"),
        (Layout(format=Format.PLAIN, columns=Columns(user_id="x")), "--map"),
        (Layout(format=Format.JSONL, delimiter=";"), "--delimiter"),
        (Layout(format=Format.CSV, kind=Kind.USER, columns=Columns(memory_id="x")), "memory_id"),
        (Layout(format=Format.CSV, kind=Kind.AGENT, columns=Columns(user_id="x")), "user_id"),
        (Layout(format=Format.CSV, columns=Columns(agent_id="x")), "agent_id"),
        (Layout(format=Format.CSV, columns=Columns(memory_id="x", user_id="x")), "one column"),
    ],
)
def test_a_layout_that_contradicts_itself_is_refused(layout, told):
    with pytest.raises(RequestError, match=told):
        layout.check()


def test_terms_that_no_ledger_takes_are_refused_before_anything_is_written(producer, settings):
    for terms in ({"reason": "because I say so"}, {"verify": "some"}, {"project": "nobody"}):
        with pytest.raises(RequestError):
            take(producer, '{"user_id": "u"}\n', Format.JSONL, terms=terms)
    assert in_ledger(settings) == []


def test_rejects_are_written_with_line_and_reason_only(producer, tmp_path):
    path = tmp_path / "rejects.jsonl"
    with RejectLog(path) as log:
        take(producer, "a\nsecret\x01\nb\n" + "y" * 300, rejects=log)
    written = [json.loads(line) for line in path.read_text().splitlines()]
    assert [each["line"] for each in written] == [2, 4]
    assert {frozenset(each) for each in written} == {frozenset({"line", "reason"})}
    assert "secret" not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_clean_import_leaves_no_rejects_file_and_an_old_one_is_never_overwritten(
    producer, tmp_path
):
    path = tmp_path / "rejects.jsonl"
    with RejectLog(path) as log:
        take(producer, "a\n", rejects=log)
    assert not path.exists()
    path.write_text("earlier")
    with pytest.raises(RequestError, match="exists"):
        RejectLog(path)
    assert path.read_text() == "earlier"


def test_memory_does_not_grow_with_the_file(producer, tmp_path):
    """Beyond the window in which repeats are folded; the ids are few but come again and again."""
    peaks = []
    for thousands in (20, 200):
        path = tmp_path / f"{thousands}.txt"
        with path.open("w") as file:
            for _ in range(thousands):
                file.writelines(f"memory-{number:030d}\n" for number in range(1_000))
        with path.open("rb") as file:
            tracemalloc.start()
            import_file(
                producer,
                Source(file, name="orders"),
                layout=Layout(format=Format.PLAIN),
                terms=Terms(),
                rejects=RejectLog(),
            )
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.5 + 1_000_000
