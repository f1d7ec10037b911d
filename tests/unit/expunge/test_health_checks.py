"""What makes a worker dead, and what does not."""

from types import SimpleNamespace

import pytest

from expunge.health import worker as checks
from expunge.health.bounded import examine
from expunge.health.worker import CeleryLoop, worker_health
from tests.support.homes import make_home
from worker import progress as progress_module
from worker import pulse as pulse_module
from worker.folder import Folder
from worker.progress import Progress
from worker.pulse import Pulse


class Clock:
    """A monotonic clock to be set."""

    def __init__(self):
        self.now = 1_000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    one = Clock()
    for module in (checks, progress_module, pulse_module):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=one.monotonic))
    return one


class Broker(checks.Broker):
    def __init__(self):
        super().__init__("redis://127.0.0.1:1/0")
        self.there = True

    def answers(self):
        if not self.there:
            raise ConnectionError
        return True


# -- Celery ---------------------------------------------------------------------------------------


def test_celery_is_alive_while_its_pulse_beats(clock, tmp_path):
    pulse = Pulse(tmp_path / "pulse")
    celery = CeleryLoop(pulse, Broker())

    for _ in range(50):
        clock.now += 20
        pulse.beat()
        assert celery.turns()


def test_celery_that_hangs_for_a_minute_while_the_broker_answers_is_dead(clock, tmp_path):
    celery = CeleryLoop(Pulse(tmp_path / "pulse"), Broker())

    clock.now += 61
    assert celery.turns()  # the broker may have come back just now
    clock.now += 59
    assert celery.turns()
    clock.now += 2
    assert not celery.turns()


def test_celery_without_a_broker_is_not_dead_and_has_time_to_come_back(clock, tmp_path):
    pulse, broker = Pulse(tmp_path / "pulse"), Broker()
    celery = CeleryLoop(pulse, broker)
    broker.there = False
    for _ in range(20):
        clock.now += 30
        assert celery.turns()

    broker.there = True
    assert celery.turns()
    clock.now += 40
    assert celery.turns()
    broker.there = False
    clock.now += 40
    assert celery.turns()
    broker.there = True
    clock.now += 40
    assert celery.turns()
    clock.now += 61
    assert not celery.turns()

    pulse.beat()
    assert celery.turns()


def test_a_pulse_is_seen_by_whoever_opens_its_file(tmp_path):
    first, second = Pulse(tmp_path / "pulse"), Pulse(tmp_path / "pulse")

    first.beat()

    assert 0 <= second.age_s() < 5


# -- the steward ----------------------------------------------------------------------------------


def test_a_steward_is_idle_since_its_last_turn_or_its_ledgers_last_transaction(clock):
    progress = Progress()
    clock.now += 40
    assert progress.idle_s() == 40
    progress.watch(lambda: 1_030.0)
    assert progress.idle_s() == 10
    progress.turn()
    assert progress.idle_s() == 0


@pytest.fixture
def folder():
    one = Folder.make()
    yield one
    one.remove()


def failed(probes):
    return [one.name for one in examine(probes) if not one.ok]


def home(tmp_path, **changed):
    return make_home(tmp_path, memos_api_key="k", call_deadline_seconds=10, **changed)


def test_a_steward_that_does_not_turn_is_dead_after_what_a_turn_may_take(clock, tmp_path, folder):
    live = worker_health(home(tmp_path), Progress(), folder).live

    clock.now += 39
    assert failed(live) == []
    clock.now += 2
    assert failed(live) == ["steward_loop"]


def test_work_that_stands_unclaimed_for_two_minutes_is_no_progress(tmp_path, folder):
    progress = Progress()
    live = worker_health(home(tmp_path), progress, folder).live

    progress.unclaimed_s = 119.0
    assert failed(live) == []
    progress.unclaimed_s = 121.0
    assert failed(live) == ["work_claimed"]


def test_a_ledger_that_is_away_is_no_reason_to_start_anew_and_is_not_ready(tmp_path, folder):
    settings = home(tmp_path)
    health = worker_health(settings, Progress(), folder)
    assert failed(health.ready) == ["broker"]  # nothing listens there

    (tmp_path / "expunge.db").rename(tmp_path / "elsewhere")
    tmp_path.chmod(0o500)
    try:
        assert failed(health.live) == []
        assert "schema" in failed(worker_health(settings, Progress(), folder).ready)
    finally:
        tmp_path.chmod(0o700)


def test_without_keys_it_is_not_ready(tmp_path, folder):
    settings = home(tmp_path)
    (settings.keys_dir / "order.key").unlink()

    assert "keys" in failed(worker_health(settings, Progress(), folder).ready)


def test_the_workers_folder_is_its_owners_alone_and_goes(folder):
    assert folder.path.stat().st_mode & 0o077 == 0
    assert folder.metrics.is_dir()
    folder.remove()
    assert not folder.path.exists()
