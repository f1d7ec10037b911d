"""Watching requests, and completing commands in a shell."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from expunge.cli.watching import ProgressLines
from ledger.states import RequestState
from producer import Producer


@pytest.fixture
def request_id(expunge):
    return expunge("submit", "--memory-id", "a", "--memory-id", "b", "-o", "id").stdout.strip()


@pytest.fixture
def goes_on(monkeypatch):
    """Each look at a request shows it a step further."""

    def script(*steps):
        real = Producer.status
        left = list(steps)

        def status(self, each):
            state, pending = left.pop(0) if len(left) > 1 else left[0]
            view = real(self, each)
            counts = replace(view.counts, pending=pending, acknowledged=2 - pending)
            return replace(view, state=RequestState(state), counts=counts)

        monkeypatch.setattr(Producer, "status", status)

    return script


@pytest.mark.parametrize(
    ("state", "code"), [("complete", 0), ("partial", 3), ("failed", 3), ("cancelled", 3)]
)
def test_watching_ends_with_the_requests_outcome(expunge, request_id, goes_on, state, code):
    goes_on(("open", 2), (state, 0))
    shown = expunge("watch", request_id, "-o", "json")
    assert shown.exit_code == code
    assert json.loads(shown.stdout)["state"] == state


def test_jsonl_has_a_line_for_each_change(expunge, request_id, goes_on):
    goes_on(("open", 2), ("open", 2), ("open", 1), ("verifying", 0), ("complete", 0))
    lines = expunge("watch", request_id, "-o", "jsonl").stdout.splitlines()
    seen = [(view["state"], view["counts"]["pending"]) for view in map(json.loads, lines)]
    assert seen == [("open", 2), ("open", 1), ("verifying", 0), ("complete", 0)]


def test_the_time_that_runs_out_is_7_and_says_that_it_goes_on(expunge, request_id):
    shown = expunge("watch", request_id, "--timeout", "0")
    assert shown.exit_code == 7
    assert "goes on by itself" in shown.stderr
    assert expunge("watch", "nobody").exit_code == 5


def test_several_are_watched_until_the_last_has_ended(expunge, request_id, goes_on):
    other = expunge("submit", "--user-id", "u", "-o", "id").stdout.strip()
    goes_on(("open", 1), ("complete", 0), ("open", 2), ("complete", 0))
    shown = expunge("watch", "-", "-o", "json", stdin=f"{request_id}\n{other}\n")
    assert shown.exit_code == 0
    assert [view["id"] for view in json.loads(shown.stdout)] == [request_id, other]


def test_in_a_pipe_progress_is_a_line_now_and_then_and_none_when_quiet(
    expunge, request_id, goes_on
):
    goes_on(("open", 2), ("open", 1), ("complete", 0))
    shown = expunge("watch", request_id, "-o", "id")
    assert shown.stderr == f"{request_id} open: 0 of 2\n"
    assert shown.stdout.split() == [request_id]
    goes_on(("open", 2), ("complete", 0))
    assert expunge("watch", request_id, "-q").stderr == ""


def test_lines_come_every_ten_seconds_and_only_when_something_changed(expunge, request_id):
    with Producer.from_settings() as producer:
        view = producer.status(request_id)
    lines: list[str] = []
    now = [0.0]
    progress = ProgressLines(lines.append, monotonic=lambda: now[0])
    for second, pending in ((0, 2), (5, 1), (10, 1), (30, 1), (31, 0)):
        now[0] = second
        progress.show(replace(view, counts=replace(view.counts, pending=pending)))
    assert [line.rpartition(": ")[2] for line in lines] == ["0 of 2", "1 of 2", "2 of 2"]
    progress.show(replace(view, held=True, hold_reason="wait-1"))
    now[0] = 60
    progress.show(replace(view, held=True, hold_reason="wait-1"))
    assert "held (wait-1)" in lines[-1]


def test_ctrl_c_is_130_and_says_how_to_look_again(settings, request_id):
    watching = subprocess.Popen(
        [sys.executable, "-m", "expunge", "watch", request_id],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"EXPUNGE_HOME": str(settings.home)},
    )
    assert watching.stderr is not None
    assert request_id in watching.stderr.readline()
    watching.send_signal(signal.SIGINT)
    _, told = watching.communicate(timeout=30)
    assert watching.returncode == 130
    assert f"expunge watch {request_id}" in told


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script(expunge, shell):
    shown = expunge("completion", shell)
    assert shown.exit_code == 0
    assert f"complete_{shell}" in shown.stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes_a_command_after_sourcing_the_script(tmp_path):
    program = tmp_path / "expunge"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m expunge "$@"\n')
    program.chmod(0o755)
    script = (
        "source <(expunge completion bash); COMP_WORDS=(expunge stat); COMP_CWORD=1; "
        '_expunge_completion expunge; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", script],  # noqa: S607 - wherever it is
        capture_output=True,
        check=True,
        text=True,
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )
    assert (done.stdout.split(), done.stderr) == (["status"], "")
