"""The commands that hand in and look, as scripts and people use them."""

import json
import subprocess
import sys

import pytest

from ledger import Keys, Ledger

VIEW_KEYS = {
    *("id", "project", "kind", "lane", "state", "generation", "verify", "result", "certainty"),
    *("counts", "attempts", "created_at", "submitted_at", "due_at", "finished_at"),
}
COUNT_KEYS = {
    *("requested", "unique", "pending", "acknowledged", "verified_absent", "already_absent"),
    *("still_present", "refused", "unknown", "cancelled"),
}


def one(result):
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_ids_from_the_line_a_file_and_stdin_become_one_request(expunge, tmp_path):
    (tmp_path / "ids").write_text("b\nc\n")
    result = expunge(
        *("submit", "--memory-id", "a", "--memory-id", f"@{tmp_path / 'ids'}"),
        *("--memory-id", "-", "--user", "u", "-o", "json"),
        stdin="c\nd\n",
    )
    receipt = one(result)
    assert (receipt["requested"], receipt["unique"], receipt["duplicate"]) == (5, 4, False)
    assert result.stderr == ""


@pytest.mark.parametrize("kind", ["user", "agent"])
def test_a_purge_takes_its_id_from_stdin_so_that_no_history_keeps_it(expunge, kind):
    receipt = one(expunge("submit", f"--{kind}-id", "-", "-o", "json", stdin="somebody\n"))
    view = one(expunge("status", receipt["id"], "-o", "json"))
    assert (view["kind"], view["lane"], view["verify"]) == (kind, "erasure", "full")
    assert "somebody" not in json.dumps(view)


def test_status_gives_the_keys_that_other_programs_rely_on(expunge):
    request_id = expunge("submit", "--memory-id", "a", "-o", "id").stdout.strip()
    view = one(expunge("status", request_id, "-o", "json"))
    assert set(view) >= VIEW_KEYS
    assert set(view["counts"]) == COUNT_KEYS
    [line] = expunge("status", request_id, "-o", "jsonl").stdout.splitlines()
    assert json.loads(line) == view
    assert expunge("status", request_id, "-o", "id").stdout.strip() == request_id


def test_the_list_is_newest_first_and_can_be_filtered(expunge):
    ids = [
        expunge("submit", *what, "-o", "id").stdout.strip()
        for what in (["--memory-id", "a"], ["--user-id", "u"], ["--memory-id", "b"])
    ]
    assert expunge("list", "-o", "id").stdout.split() == ids[::-1]
    assert expunge("list", "kind:memories", "-o", "id").stdout.split() == [ids[2], ids[0]]
    assert expunge("list", "state:complete", "-o", "id").stdout == ""
    assert expunge("list", "project:other", "-o", "json").stdout.strip() == "[]"
    assert len(one(expunge("list", "--limit", "2", "-o", "json"))) == 2
    lines = expunge("list", "-o", "jsonl").stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines] == ids[::-1]


def test_tables_name_the_request_and_say_what_comes_next_on_stderr(expunge):
    result = expunge("submit", "--memory-id", "a")
    request_id = result.stdout.split()[1]
    assert f"expunge status {request_id}" in result.stderr
    assert "pending" in expunge("status", request_id).stdout
    assert request_id in expunge("list").stdout


def test_under_one_key_the_second_receipt_is_the_first(expunge):
    args = ("submit", "--memory-id", "a", "--idempotency-key", "k", "-o", "json")
    first, second = one(expunge(*args)), one(expunge(*args))
    assert (second["id"], second["duplicate"]) == (first["id"], True)


def test_a_dry_run_checks_and_writes_nothing(expunge, settings):
    assert one(expunge("submit", "--user-id", "u", "--dry-run", "-o", "json"))["dry_run"] is True
    assert expunge("submit", "--memory-id", "", "--dry-run").exit_code == 2
    assert expunge("submit", "--user-id", "u" * 101, "--dry-run").exit_code == 2
    with Ledger.open(settings.ledger_url, keys=Keys.load(settings.keys_dir)) as ledger:
        assert ledger.list_requests() == []


def test_waiting_that_runs_out_exits_with_7_and_still_gives_the_receipt(expunge):
    result = expunge("submit", "--user-id", "u", "--wait=0", "-o", "json")
    assert result.exit_code == 7
    assert json.loads(result.stdout)["id"] in result.stderr


@pytest.mark.parametrize(
    ("state", "code"), [("complete", 0), ("partial", 3), ("failed", 3), ("cancelled", 3)]
)
def test_waiting_ends_with_the_requests_outcome(expunge, monkeypatch, state, code):
    from dataclasses import replace  # noqa: PLC0415

    from ledger.states import RequestState  # noqa: PLC0415
    from producer import Producer  # noqa: PLC0415

    real = Producer.status
    monkeypatch.setattr(
        Producer, "status", lambda self, each: replace(real(self, each), state=RequestState(state))
    )
    result = expunge("submit", "--user-id", "u", "--wait", "-o", "json")
    assert result.exit_code == code
    assert json.loads(result.stdout)["state"] == state


def test_a_csv_import_gives_one_receipt_and_a_summary(expunge, tmp_path):
    path = tmp_path / "ids.csv"
    path.write_text("mem,who\na,u\nb,v\nc,u\n")
    report = one(expunge("import", path, "--map", "memory_id=mem", "-o", "json"))
    assert (report["requests"], report["requested"], report["rejected"]) == (1, 3, 0)
    report = one(
        expunge("import", path, "--map", "memory_id=mem", "--map", "user_id=who", "-o", "json")
    )
    assert report["requests"] == 2


def test_an_import_with_rejected_lines_exits_with_3_and_hands_in_the_others(expunge, tmp_path):
    (tmp_path / "orders.jsonl").write_text('{"user_id": "u"}\n{"user_id": ""}\n{"agent_id": "a"}\n')
    rejects = tmp_path / "rejects"
    result = expunge("import", tmp_path / "orders.jsonl", "--rejects", rejects, "-o", "jsonl")
    assert result.exit_code == 3
    assert len(result.stdout.splitlines()) == 2
    assert "Line 2" in result.stderr
    assert json.loads(rejects.read_text())["line"] == 2
    assert expunge("list", "-o", "id").stdout.split() == [
        json.loads(line)["id"] for line in result.stdout.splitlines()[::-1]
    ]


def test_a_file_comes_through_stdin_too(expunge):
    assert one(expunge("import", "-", "-o", "json", stdin="a\r\nb\r\n"))["unique"] == 2
    assert one(expunge("import", "-", "--format", "csv", "-o", "json", stdin="memory_id\na\n"))


def test_progress_is_silent_when_nobody_looks(settings, tmp_path):
    path = tmp_path / "ids.txt"
    path.write_text("".join(f"m-{number}\n" for number in range(50_000)))
    done = subprocess.run(
        [sys.executable, "-m", "expunge", "import", str(path), "-o", "id"],
        capture_output=True,
        check=True,
        text=True,
    )
    assert done.stderr == ""
    assert len(done.stdout.split()) == 1
