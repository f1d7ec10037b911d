"""The demo, small, and against files of a person's own."""

import io
import json
import os

import pytest

from expunge.demo import run_demo
from expunge.demo.orders import FULL_SIZE, Size
from memos_api.simulator.process import SimulatorProcess
from tests.support.children import descendants

SMALL = Size(users=20, memories_per_user=50, purged=5, ids=600, rate_per_second=150)
FAULTS = (
    {"kind": "http_429", "from_call": 3, "to_call": 5, "retry_after": "1"},
    {"kind": "http_5xx", "from_call": 8, "to_call": 11},
)


@pytest.fixture
def temporary_files(tmp_path, monkeypatch):
    """Where the demo makes its temporary directory, to see what it leaves."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    return tmp_path / "tmp"


def test_the_demo_proves_what_it_did_and_leaves_nothing(temporary_files):
    out = io.StringIO()
    others = descendants(os.getpid())
    assert run_demo(size=SMALL, faults=FAULTS, out=out) == 0
    text = out.getvalue()
    assert "PROVEN" in text
    assert "truly still there" in text
    assert list(temporary_files.iterdir()) == []
    assert descendants(os.getpid(), but=others) == []


def test_the_demo_is_as_large_as_promised():
    assert FULL_SIZE.users >= 100
    assert FULL_SIZE.users * FULL_SIZE.memories_per_user >= 20_000
    assert FULL_SIZE.ids >= 10_000
    assert FULL_SIZE.purged >= 20


def test_the_demo_says_so_when_nothing_was_deleted(monkeypatch, temporary_files):
    from expunge.demo import run  # noqa: PLC0415

    monkeypatch.setattr(run, "_carry_out", lambda *_args, **_named: ([], []))
    out = io.StringIO()
    assert run_demo(size=SMALL, out=out) == 9
    assert "NOT PROVEN" in out.getvalue()
    assert list(temporary_files.iterdir()) == []


@pytest.mark.parametrize(("bad_line", "code"), [("", 0), ("{}\n", 3)])
def test_own_files_are_carried_out_at_the_memos_of_the_settings(
    monkeypatch, tmp_path, temporary_files, bad_line, code
):
    with SimulatorProcess() as memos:
        seeded = memos.control.seed(users=3, memories=20, seed=3).by_user
        one, two, three = seeded
        (tmp_path / "ids.csv").write_text("memory_id\n" + "\n".join(seeded[one][:5]) + "\n")
        (tmp_path / "erase.jsonl").write_text(json.dumps({"user_id": two}) + "\n" + bad_line)
        monkeypatch.setenv("MEMOS_BASE_URL", memos.base_url)
        monkeypatch.setenv("MEMOS_API_KEY", memos.api_key)
        monkeypatch.setenv("EXPUNGE_RATE_PER_SECOND", "100")
        monkeypatch.setenv("EXPUNGE_SETTLE_SECONDS", "0.2")
        out = io.StringIO()
        files = [tmp_path / "ids.csv", tmp_path / "erase.jsonl"]
        assert run_demo(memos="env", files=files, yes=True, out=out) == code
        assert memos.control.remaining().users == {one: 15, three: 20}
    assert list(temporary_files.iterdir()) == []


def test_nothing_is_deleted_before_somebody_says_yes(monkeypatch, tmp_path, temporary_files):
    with SimulatorProcess() as memos:
        [ids] = memos.control.seed(users=1, memories=5, seed=3).by_user.values()
        (tmp_path / "ids.txt").write_text("\n".join(ids))
        monkeypatch.setenv("MEMOS_BASE_URL", memos.base_url)
        monkeypatch.setenv("MEMOS_API_KEY", memos.api_key)
        monkeypatch.setattr("sys.stdin", _Terminal("no\n"))
        assert run_demo(memos="env", files=[tmp_path / "ids.txt"], out=io.StringIO()) == 10
        assert memos.control.remaining().total == 5
        assert memos.control.journal() == []


class _Terminal(io.StringIO):
    def isatty(self):
        return True
