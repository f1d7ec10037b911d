"""How a worker is: what the steward's process can tell of all of it."""

import time
from typing import Final

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy import text

from expunge.health.bounded import Bounded, Probe
from expunge.health.exposition import of_worker
from expunge.health.server import Health
from ledger.engine import Database
from ledger.gauges import GaugeReader
from ledger.keys import Keys
from ledger.migrate import check_schema
from ledger.settings import Settings
from worker.folder import Folder
from worker.progress import Progress
from worker.pulse import Pulse

__all__ = ["Broker", "CeleryLoop", "ledger_probes", "worker_health"]

# How long the steward's loop may take for a turn, besides the calls it makes itself.
TURN_S: Final = 30.0
# How long work that somebody could claim may stand unclaimed.
UNCLAIMED_S: Final = 120.0
# How long Celery's main process may keep still, and how long it has to come back to its broker.
CELERY_S: Final = 60.0
_PING_S: Final = 1.0


def worker_health(settings: Settings, progress: Progress, folder: Folder) -> Health:
    """Put together what a worker answers with."""
    database = Database(settings.ledger_url)
    broker = Broker(settings.redis_url)
    celery = CeleryLoop(folder.celery_pulse(), broker)
    turn_s = TURN_S + settings.call_deadline_seconds
    gauges = Bounded(GaugeReader(database)).get
    has_key = any(one.api_key is not None for one in settings.projects.values())
    return Health(
        process="worker",
        live=[
            Probe("steward_loop", lambda: progress.idle_s() <= turn_s),
            Probe("work_claimed", lambda: progress.unclaimed_s <= UNCLAIMED_S),
            Probe("celery_loop", celery.turns),
        ],
        ready=[
            *ledger_probes(settings, database),
            Probe("api_key", lambda: has_key),
            Probe("broker", broker.answers, soft=True),
        ],
        metrics=lambda: of_worker(folder.metrics, gauges),
    )


def ledger_probes(settings: Settings, database: Database) -> list[Probe]:
    """Look at what nothing goes without: the ledger, its tables and the keys."""
    return [
        Probe("ledger", lambda: database.read(lambda conn: conn.scalar(text("SELECT 1")) == 1)),
        Probe("schema", lambda: check_schema(database) is None),  # type: ignore[func-returns-value]
        Probe("keys", lambda: bool(Keys.load(settings.keys_dir))),
    ]


class Broker:
    """Redis, asked for nothing but an answer.

    Args:
        url: Its address.
    """

    def __init__(self, url: str) -> None:
        """Prepare; the first question opens the connection."""
        self._redis = Redis.from_url(
            url,
            socket_timeout=_PING_S,
            socket_connect_timeout=_PING_S,
            retry=Retry(NoBackoff(), 0),
        )

    def answers(self) -> bool:
        """Say whether it answers; raises redis' own error when it does not."""
        return bool(self._redis.ping())


class CeleryLoop:
    """Whether Celery's main process goes round, as far as its broker lets it.

    Without a broker it waits for one and beats no pulse; that is nobody's fault, and the steward
    drains meanwhile. It has a minute to come back once the broker answers.

    Args:
        pulse: Beaten by its loop.
        broker: Where it gets its messages.
    """

    def __init__(self, pulse: Pulse, broker: Broker) -> None:
        """Start with nothing seen."""
        self._pulse = pulse
        self._broker = broker
        self._answering_since: float | None = None

    def turns(self) -> bool:
        """Say whether it goes round."""
        if self._pulse.age_s() <= CELERY_S:
            self._answering_since = None
            return True
        try:
            answers = self._broker.answers()
        except Exception:  # noqa: BLE001 - whatever it has, there is no broker
            answers = False
        if not answers:
            self._answering_since = None
            return True
        now = time.monotonic()
        if self._answering_since is None:
            self._answering_since = now
        return now - self._answering_since <= CELERY_S
