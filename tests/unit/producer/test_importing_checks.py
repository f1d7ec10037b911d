"""Looking before leaping: `--dry-run`, `--max-errors` and the rejects file of a second try."""

import io
import json

import pytest

from ledger.errors import RequestError
from ledger.settings import Settings
from ledger.states import Kind
from producer.files import (
    Columns,
    Format,
    Layout,
    MostErrors,
    Reject,
    RejectLog,
    Source,
    Terms,
    check_file,
    count_lines,
)


@pytest.fixture
def settings(tmp_path):
    """Without keys and without a ledger."""
    return Settings(home=tmp_path / "nothing", chunk_size=3)


def check(settings, text, found=Format.PLAIN, *, look=check_file, rejects=None, **options):
    layout = {name: options.pop(name) for name in ("kind", "columns") if name in options}
    return look(
        Source(io.BytesIO(text.encode()), name="orders"),
        layout=Layout(format=found, **layout),
        terms=Terms(**options),
        settings=settings,
        rejects=rejects or RejectLog(),
    )


def counted(report):
    calls = report.totals.deletes
    return (report.requests, report.requested, report.unique, report.rejected, calls)


def test_a_check_tells_what_each_format_would_become(settings):
    plain = check(settings, "a\nb\na\nc\nd\n \n")
    assert counted(plain) == (1, 5, 4, 1, 2)
    table = "memory_id,user\na,u\nb,v\na,u\nc,u\nd,u\n,u\ne,u\n"
    assert counted(check(settings, table, Format.CSV)) == (1, 6, 5, 1, 2)
    by_user = check(settings, table, Format.CSV, columns=Columns(user_id="user"))
    assert counted(by_user) == (2, 6, 5, 1, 3)
    users = check(settings, "u\nv\nu\n", kind=Kind.USER)
    assert counted(users) == (2, 3, 2, 0, 2)
    lines = '{"user_id": "u"}\n{"memory_ids": ["a", "b", "a", "c", "d"]}\n{}\n'
    assert counted(check(settings, lines, Format.JSONL)) == (2, 6, 5, 1, 3)


def test_a_check_refuses_what_a_ledger_would_refuse(settings):
    lines = [
        {"user_id": "u", "project": "nobody"},
        {"user_id": "u", "reason": "because I say so"},
        {"user_id": "u", "verify": "some"},
        {"user_id": "u", "idempotency_key": "k" * 201},
        {"user_id": "u", "submitted_at": "1066-10-14T09:00:00Z"},
        {"user_id": "u"},
    ]
    log = RejectLog()
    report = check(settings, "\n".join(map(json.dumps, lines)), Format.JSONL, rejects=log)
    assert (report.requests, [each.line for each in log.first]) == (1, [1, 2, 3, 4, 5])
    for terms in ({"project": "nobody"}, {"reason": "because I say so"}, {"verify": "some"}):
        with pytest.raises(RequestError):
            check(settings, "a\n", **terms)


@pytest.mark.parametrize("text", ["", "\n", " \n"])
def test_a_check_of_a_file_that_orders_nothing_says_so(settings, text):
    with pytest.raises(RequestError, match="orders"):
        check(settings, text)


def test_counting_lines_finds_what_a_check_finds(settings):
    log = RejectLog()
    text = "memory_id,user\na,u\nb\nc,\nd,v\n"
    options = {"columns": Columns(user_id="user"), "rejects": log}
    assert check(settings, text, Format.CSV, look=count_lines, **options) == 2
    assert log.count == 2


@pytest.mark.parametrize(
    ("text", "rejected", "taken", "exceeded"),
    [
        ("0", 0, 10, False),
        ("0", 1, 10, True),
        ("5", 5, 0, False),
        ("5", 6, 1_000, True),
        ("10%", 1, 9, False),
        ("10%", 2, 9, True),
        ("0%", 0, 0, False),
        ("0%", 1, 10**9, True),
        ("0.5%", 1, 199, False),
        ("0.5%", 1, 198, True),
        ("100%", 7, 0, False),
    ],
)
def test_errors_are_counted_against_a_number_or_a_share_of_all_lines(
    text, rejected, taken, exceeded
):
    assert MostErrors.parse(text).exceeded(rejected=rejected, taken=taken) is exceeded


@pytest.mark.parametrize("text", ["", "-1", "1.5", "%", "101%", "1e3", "5 %", "five", "\u0665"])
def test_what_is_no_number_of_errors_is_refused(text):
    with pytest.raises(RequestError, match="--max-errors"):
        MostErrors.parse(text)


def test_rejects_of_a_second_pass_take_the_place_of_the_first(tmp_path):
    path = tmp_path / "rejects"
    with RejectLog(path) as log:
        log.add(Reject(line=1, reason="long " * 99))
        log.start_over()
        log.add(Reject(line=2, reason="x"))
        assert (log.count, len(log.first)) == (1, 1)
    assert [json.loads(line)["line"] for line in path.read_text().splitlines()] == [2]


def test_only_a_file_of_rejects_is_written_anew_when_an_import_goes_on(tmp_path):
    path = tmp_path / "rejects"
    path.write_text('{"line": 7, "reason": "x"}\n')
    with pytest.raises(RequestError, match="exists"):
        RejectLog(path)
    with RejectLog(path, replace=True) as log:
        assert path.exists()  # an import that is complete leaves it alone
        log.add(Reject(line=1, reason="y"))
    assert json.loads(path.read_text())["line"] == 1
    for other in ("earlier", '{"line": 1}', "[]", "7"):
        path.write_text(other)
        with pytest.raises(RequestError, match="exists"):
            RejectLog(path, replace=True)
        assert path.read_text() == other
