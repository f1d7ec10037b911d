"""Crash points: off unless armed, once for all processes of a home, each action as it says."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ledger import crash_points
from ledger.crash_points import PLACES, armed, parse_rules, reached
from ledger.errors import LedgerError, SettingsError
from ledger.settings import load_settings

ROOT = Path(__file__).parents[3]


@pytest.fixture
def arm(monkeypatch, tmp_path):
    """Arm this process for one test."""
    monkeypatch.setattr(crash_points, "_hook", None)
    return lambda rules: crash_points.arm(rules, home=tmp_path)


def test_nothing_happens_unless_a_test_arms_it(arm):
    arm(None)

    reached("claim.after_commit")

    assert crash_points._hook is None


def test_an_armed_process_tells_of_each_place_and_is_as_before_afterwards():
    seen: list[str] = []
    with armed(seen.append):
        reached("claim.before_commit")
        reached("claim.after_commit")
    reached("record.after_commit")

    assert seen == ["claim.before_commit", "claim.after_commit"]


def test_what_the_hook_raises_comes_out_at_the_place():
    def fail(place):
        raise RuntimeError(place)

    with armed(fail), pytest.raises(RuntimeError, match=r"call\.before_send"):
        reached("call.before_send")


def test_a_rule_fires_at_its_passage_and_only_there(arm):
    arm("claim.after_commit@2=lost")

    reached("claim.after_commit")
    reached("record.after_commit")
    with pytest.raises(LedgerError, match="safe to try again"):
        reached("claim.after_commit")
    reached("claim.after_commit")


def test_a_rule_fires_once_for_all_processes_of_a_home(arm, tmp_path):
    (tmp_path / "crash-points").mkdir()
    (tmp_path / "crash-points" / "claim.after_commit@1").write_text("4711")
    arm("claim.after_commit@1=lost")

    reached("claim.after_commit")


def test_a_delay_takes_its_time(arm):
    arm("sweep.after_commit@1=delay:0.05")
    started = time.monotonic()

    reached("sweep.after_commit")

    assert time.monotonic() - started >= 0.05


def test_kill_ends_the_process_at_once_and_leaves_the_mark(tmp_path):
    code = "from pathlib import Path; from ledger import crash_points as c; import sys\n"
    code += "c.arm('submit.after_commit@1=kill', home=Path(sys.argv[1]))\n"
    code += "c.reached('submit.after_commit'); print('lives')"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, check=False
    )

    assert (done.returncode, done.stdout) == (-9, b"")
    assert (tmp_path / "crash-points" / "submit.after_commit@1").read_text().isdigit()


@pytest.mark.parametrize(
    "rules",
    ["claim.after_commit", "nowhere.at_all@1=kill", "claim.after_commit@0=kill", "a@1=burn", "x"],
)
def test_a_rule_that_is_none_is_refused(rules):
    with pytest.raises(ValueError, match="comma-separated"):
        parse_rules(rules)
    with pytest.raises(SettingsError, match="EXPUNGE_CRASH_POINTS"):
        load_settings({"EXPUNGE_CRASH_POINTS": rules})


def test_every_place_is_in_the_product_and_every_passage_is_a_place():
    found = set()
    for package in ("ledger", "producer", "worker"):
        for path in (ROOT / package).rglob("*.py"):
            found |= set(re.findall(r'\breached\("([a-z._]+)"\)', path.read_text()))

    assert found == PLACES
