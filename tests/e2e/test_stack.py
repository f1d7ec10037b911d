"""The embedded stack stands, carries out, and leaves nothing, however it ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from expunge.stack import Stack, memos_settings
from ledger.settings import Settings
from ledger.states import Kind, RequestState
from memos_api.simulator.process import SimulatorProcess
from producer import Producer
from tests.support.children import all_gone, descendants

SECONDS = 30.0


def template(**changed):
    return Settings(
        **{
            "rate_per_second": 200,
            "call_deadline_seconds": 5,
            "settle_seconds": 0.2,
            "memos_base_url": "http://127.0.0.1:1/v1",
            "memos_api_key": "key",
            **changed,
        }
    )


def wait_until(true, within=SECONDS):
    until = time.monotonic() + within
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_request_handed_in_to_the_stack_is_carried_out():
    with SimulatorProcess() as simulator:
        ids = simulator.control.seed(users=2, memories=30, seed=1).by_user
        one, other = ids
        settings = memos_settings(
            template(), base_url=simulator.base_url, api_key=simulator.api_key
        )
        with Stack(settings) as stack:
            stack.start_worker()
            with Producer.from_settings(stack.settings) as producer:
                batch = producer.delete_memories(ids[one][:10])
                purge = producer.purge_user(other)
                views = [producer.wait(each.id, SECONDS) for each in (batch, purge)]
            stack.check_parts()
        assert [view.state for view in views] == [RequestState.COMPLETE] * 2
        assert views[1].kind is Kind.USER
        assert simulator.control.remaining().users == {one: 20}


def test_nothing_is_left_when_the_stack_ends():
    others = descendants(os.getpid())
    with Stack(template()) as stack:
        stack.start_worker()
        wait_until(lambda: len(descendants(os.getpid(), but=others)) > 4)
        started = descendants(os.getpid(), but=others)
        folder = stack.folder
        assert (folder / "expunge.db").exists()
    assert all_gone(started, within_s=1)
    assert not folder.exists()


def test_nothing_is_left_when_the_block_raises():
    def breaks():
        with Stack(template()) as stack:
            stack.start_worker()
            folders.append(stack.folder)
            started.extend(descendants(os.getpid(), but=others))
            raise ZeroDivisionError

    others = descendants(os.getpid())
    folders: list[Path] = []
    started: list[int] = []
    with pytest.raises(ZeroDivisionError):
        breaks()
    [folder] = folders
    assert started
    assert all_gone(started, within_s=1)
    assert not folder.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_nothing_is_left_when_a_signal_ends_it(number):
    """SIGKILL too: then the guard ends what the stack could not."""
    code = (
        "import time\n"
        "from expunge.stack import Stack\n"
        "from ledger.settings import load_settings\n"
        "with Stack(load_settings()) as stack:\n"
        "    stack.start_worker()\n"
        "    print(stack.folder, flush=True)\n"
        "    time.sleep(60)\n"
    )
    environ = {
        **os.environ,
        "MEMOS_API_KEY": "key",
        "MEMOS_BASE_URL": "http://127.0.0.1:1/v1",
        "EXPUNGE_CALL_DEADLINE_SECONDS": "5",
    }
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environ,
        text=True,
    ) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        started = descendants(process.pid)
        assert len(started) >= 3
        process.send_signal(number)
        process.wait(SECONDS)
    assert all_gone(started, within_s=SECONDS)
    wait_until(lambda: not folder.exists())


def test_a_worker_that_cannot_start_is_told_and_not_waited_for(capfd):
    from ledger.errors import SettingsError  # noqa: PLC0415

    with Stack(template(memos_api_key=None)) as stack:
        stack.start_worker()

        def ended():
            try:
                stack.check_parts()
            except SettingsError:
                return True
            return False

        wait_until(ended)
    assert "MEMOS_API_KEY" in capfd.readouterr().err
