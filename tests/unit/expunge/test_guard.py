"""The guard ends what it was told, and only when the stack did not end in order."""

import subprocess
import sys
import threading

import pytest

from expunge.guard import guard


@pytest.fixture
def sleeper():
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True
    )
    yield process
    process.kill()
    process.wait()


def test_a_stack_that_was_killed_is_cleaned_up(tmp_path, sleeper):
    folder = tmp_path / "stack"
    (folder / "keys").mkdir(parents=True)
    # Outside of a test its new parent reaps it.
    reaper = threading.Thread(target=sleeper.wait)
    reaper.start()
    guard([f"folder {folder}\n", f"group {sleeper.pid}\n"])
    reaper.join(10)
    assert sleeper.returncode == -9
    assert not folder.exists()


def test_a_stack_that_ended_in_order_is_left_alone(tmp_path, sleeper):
    guard([f"folder {tmp_path}\n", f"group {sleeper.pid}\n", "done\n"])
    assert sleeper.poll() is None
    assert tmp_path.exists()


def test_a_process_that_is_gone_already_is_no_fault(tmp_path, sleeper):
    sleeper.kill()
    sleeper.wait()
    guard([f"group {sleeper.pid}\n"])
