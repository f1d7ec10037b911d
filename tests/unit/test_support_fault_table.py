"""The table of faults: its rows, its text, and what a run of pytest makes of the marks."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support.fault_table import fault_rows, lines_of

ROOT = Path(__file__).parents[2]
SOURCE = """
import pytest
from tests.support.oracle import Verdict

@pytest.mark.fault("F13", "F2")
@pytest.mark.parametrize("n", [1, 2])
def test_a(n, fault_report):
    found = Verdict(calls=9, lost=0, unordered=0, doubled=n, most_doubled=9, excess=0, findings=())
    fault_report(found, heals_s=n / 2)

@pytest.mark.fault("F2")
def test_b():
    assert False

def test_c():
    pass
"""


def run(folder, source):
    (folder / "test_it.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider"]
    command += ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(folder), str(folder)]
    command += ["--fault-table", str(folder / "build" / "faults.json"), "-m", "fault"]
    return subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        check=False,
        text=True,
    )


def test_a_run_prints_the_table_and_writes_it_down(tmp_path):
    done = run(tmp_path, SOURCE)

    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout
    rows = json.loads((tmp_path / "build" / "faults.json").read_text())
    assert [(row["fault"], row["test"], row["runs"], row["result"]) for row in rows] == [
        ("F2", "test_a", 2, "passed"),
        ("F2", "test_b", 1, "failed"),
        ("F13", "test_a", 2, "passed"),
    ]
    assert (rows[0]["doubled"], rows[0]["heals_s"], rows[1]["lost"]) == (3, 1.0, None)
    table = done.stdout.partition("faults shown")[2]
    assert "F13    test_a  2     0     0          3        0       1.0 s  passed" in table
    assert "F2     test_b  1     –     –          –        –       –      failed" in table  # noqa: RUF001
    assert "2 faults shown by 3 tests, 1 of them failed." in table


def test_a_mark_that_is_no_number_of_the_catalogue_stops_the_run(tmp_path):
    source = "import pytest\n@pytest.mark.fault('redis')\ndef test_a(): pass\n"
    done = run(tmp_path, source)

    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "redis" in done.stderr + done.stdout


def test_a_test_whose_clearing_up_fails_has_failed():
    phases = [
        SimpleNamespace(outcome=outcome, user_properties=[])
        for outcome in ("passed", "passed", "failed")
    ]
    (row,) = fault_rows({"test_a": ["F1"]}, {"test_a": phases})

    assert row.result == "failed"
    assert lines_of([row])[-1] == "1 faults shown by 1 tests, 1 of them failed."
