"""Bad input gets an error that says what, which and what to do, its exit code, and no trace."""

import sqlite3
from contextlib import closing

import pytest

CANARY = "canary-91c4"


def work(settings):
    """Whatever could ever be carried out."""
    with closing(sqlite3.connect(settings.home / "expunge.db")) as database:
        return database.execute("SELECT id FROM request WHERE state <> 'cancelled'").fetchall()


def refused(result, code=2):
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert CANARY not in result.stderr
    return result.stderr


@pytest.mark.parametrize(
    ("args", "stdin", "told"),
    [
        (["submit"], None, "exactly one"),
        (["submit", "--memory-id", "-"], "", "no memory id"),
        (["submit", "--memory-id", "-"], "\n\n", "no memory id"),
        (["submit", "--memory-id", ""], None, "empty or blank"),
        (["submit", "--memory-id", "a", "--memory-id", "  "], None, "number 2"),
        (["submit", "--memory-id", CANARY, "--user-id", CANARY], None, "exactly one"),
        (["submit", "--user-id", CANARY, "--agent-id", CANARY], None, "exactly one"),
        (["submit", "--user-id", CANARY, "--memory-id", "-"], "", "exactly one"),
        (["submit", "--memory-id", CANARY + "x" * 256], None, "256"),
        (["submit", "--memory-id", CANARY + "\x07"], None, "control character"),
        (["submit", "--memory-id", "-"], f"ok\n{CANARY}\x07\n", "Line 2"),
        (["submit", "--memory-id", "-", "--memory-id", "-"], "a\n", "once"),
        (["submit", "--memory-id", "@/gone/ids"], None, "ids"),
        (["submit", "--user-id", ""], None, "empty or blank"),
        (["submit", "--user-id", CANARY + "x" * 100], None, "100"),
        (["submit", "--user-id", CANARY + "\n"], None, "control character"),
        (["submit", "--user-id", "-"], "a\nb\n", "2 lines"),
        (["submit", "--user-id", "-"], "", "0 lines"),
        (["submit", "--user-id", "u", "--user", "v"], None, "--user"),
        (["submit", "--user-id", "u", "--project", CANARY], None, "default"),
        (["submit", "--user-id", "u", "--lane", "fast"], None, "erasure"),
        (["submit", "--user-id", "u", "--verify", "some"], None, "sample:N"),
        (["submit", "--user-id", "u", "--reason", f"{CANARY} asked"], None, "short code"),
        (["submit", "--user-id", "u", "--submitted-at", "yesterday"], None, "--submitted-at"),
        (["submit", "--user-id", "u", "--due", "2026-12-01"], None, "--due"),
        (["submit", "--user-id", "u", "--wait=soon"], None, "--wait"),
        (["submit", "--user-id", "u", "--wait=-1"], None, "--wait"),
        (["submit", "--user-id", "u", "-o", "xml"], None, "xml"),
        (["submit", "--user"], None, "--user"),
        (["import", "/gone/ids.csv"], None, "ids.csv"),
        (["import", "-"], "", "nothing to delete"),
        (["import", "-"], f'{{"user_id": "{CANARY}"}}\n', "--format"),
        (["import", "-", "--format", "csv"], f"{CANARY},x\n1,2\n", "memory_id"),
        (["import", "-", "--format", "xml"], "a\n", "jsonl"),
        (["import", "-", "--format", "csv", "--map", "id"], "memory_id\na\n", "mapping"),
        (["import", "-", "--format", "csv", "--delimiter", ";;"], "memory_id\na\n", "delimiter"),
        (["import", "-", "--format", "jsonl"], "{}\n", "exactly one"),
        (["import", "-", "--format", "jsonl", "--user", "u"], '{"user_id": "u"}\n', "each line"),
        (["import", "-", "--project", CANARY], "a\n", "default"),
        (["import", "-", "--idempotency-key", ""], "a\n", "idempotency key"),
        (["list", "state:ready"], None, "`state`"),
        (["list", "kind:ready"], None, "`kind`"),
        (["list", "--limit", "0"], None, "--limit"),
        (["demo", "--memos", "cloud"], None, "simulator or env"),
        (["demo", "ids.csv"], None, "--memos env"),
        (["demo", "--memos", "env"], None, "MEMOS_API_KEY"),
        (["nonsense"], None, "nonsense"),
    ],
)
def test_bad_input_is_exit_code_2_and_nothing_half_written(expunge, settings, args, stdin, told):
    assert told in refused(expunge(*args, stdin=stdin))
    assert work(settings) == []


def test_a_file_that_is_not_utf8_is_refused_as_a_whole(expunge, settings, tmp_path):
    path = tmp_path / "orders.jsonl"
    path.write_bytes(b'{"user_id": "u"}\n' * 5_000 + b'{"user_id": "\xe4"}\n')
    assert "line 5001" in refused(expunge("import", path))
    assert work(settings) == []


def test_a_rejects_file_that_is_there_already_is_not_overwritten(expunge, settings, tmp_path):
    (tmp_path / "ids").write_text("a\n")
    (tmp_path / "rejects").write_text("earlier")
    assert "exists" in refused(
        expunge("import", tmp_path / "ids", "--rejects", tmp_path / "rejects")
    )
    assert work(settings) == []


def test_another_payload_under_a_used_key_is_exit_code_6(expunge, settings):
    expunge("submit", "--memory-id", "a", "--idempotency-key", "k")
    before = work(settings)
    refused(expunge("submit", "--memory-id", "b", "--idempotency-key", "k"), 6)
    refused(expunge("submit", "--user-id", "b", "--idempotency-key", "k"), 6)
    refused(expunge("import", "-", "--idempotency-key", "k", stdin="a\nb\n"), 6)
    assert work(settings) == before


def test_an_unknown_request_is_exit_code_5(expunge):
    assert "expunge list" in refused(expunge("status", CANARY), 5)


@pytest.mark.parametrize("command", [["list"], ["status", "x"], ["submit", "--user-id", "u"]])
def test_an_unreachable_ledger_is_exit_code_8(expunge, monkeypatch, command):
    monkeypatch.setenv("EXPUNGE_LEDGER_URL", f"postgresql://u:{CANARY}@127.0.0.1:1/expunge")
    refused(expunge(*command), 8)


def test_a_ledger_without_tables_is_exit_code_8_and_names_the_command(expunge, settings):
    (settings.home / "expunge.db").unlink()
    assert "expunge db upgrade" in refused(expunge("submit", "--user-id", "u"), 8)


def test_missing_keys_are_exit_code_2_and_name_the_command(expunge, settings):
    for name in ("order.key", "pseudonym.key"):
        (settings.keys_dir / name).unlink()
    assert "expunge keys init" in refused(expunge("submit", "--user-id", "u"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EXPUNGE_RATE_PER_SECONDS", CANARY),
        ("EXPUNGE_CHUNK_SIZE", "0"),
        ("EXPUNGE_VERIFY", CANARY),
        ("MEMOS_API_KEY", f"{CANARY} with blanks"),
        ("EXPUNGE_CONFIG", f"/{CANARY}"),
    ],
)
def test_a_wrong_or_misspelt_setting_is_exit_code_2_by_its_name(
    expunge, settings, monkeypatch, name, value
):
    monkeypatch.setenv(name, value)
    for command in (["submit", "--user-id", "u"], ["worker"], ["config", "show"], ["list"]):
        assert name in refused(expunge(*command))
    assert work(settings) == []


def test_a_worker_without_any_api_key_says_where_to_put_one(expunge):
    assert "MEMOS_API_KEY" in refused(expunge("worker"))


def test_a_real_demo_that_nobody_confirms_is_exit_code_10(expunge, monkeypatch, tmp_path):
    monkeypatch.setenv("MEMOS_API_KEY", CANARY)
    monkeypatch.setenv("MEMOS_BASE_URL", "http://127.0.0.1:1/v1")
    (tmp_path / "ids.txt").write_text("a\nb\n")
    told = refused(expunge("demo", "--memos", "env", tmp_path / "ids.txt"), 10)
    assert "2 memories by id" in told
    assert "127.0.0.1:1" in told


def test_an_unexpected_error_tells_its_class_only_and_its_traceback_when_asked(
    expunge, monkeypatch
):
    def breaks(*_args, **_named):
        raise ZeroDivisionError(CANARY)

    monkeypatch.setattr("ledger.settings.load_settings", breaks)
    assert "ZeroDivisionError" in refused(expunge("list"), 1)
    debugged = expunge("--debug", "list")
    assert debugged.exit_code == 1
    assert "Traceback" in debugged.stderr


def test_an_interrupt_is_exit_code_130_and_says_how_to_go_on(expunge, monkeypatch):
    def interrupted(*_args, **_named):
        raise KeyboardInterrupt

    monkeypatch.setattr("ledger.settings.load_settings", interrupted)
    assert "expunge list" in refused(expunge("list"), 130)


def test_a_worker_whose_key_file_cannot_be_read_says_which(expunge, settings, monkeypatch):
    config = settings.home / "e.toml"
    config.write_text("[projects.crm]\napi_key_file = 'gone.key'\n")
    monkeypatch.setenv("EXPUNGE_CONFIG", str(config))
    monkeypatch.setenv("MEMOS_API_KEY", CANARY)
    assert "projects.crm.api_key_file" in refused(expunge("worker"))
    assert expunge("list", "--count").exit_code == 0
