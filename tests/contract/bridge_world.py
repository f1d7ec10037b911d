"""A bridge's pump between a real Valkey and a real ledger, one turn at a time."""

import json
import time
from contextlib import contextmanager
from dataclasses import dataclass, field

from ledger import Ledger
from ledger.errors import LedgerError
from ledger.schema import event_body, metadata, parked_message, request
from ledger.settings import Settings
from ledger.streams import Stream
from producer import Producer
from producer.bell import Bell
from producer.bridge.message import EVENT_TYPE
from producer.bridge.pump import Pump
from producer.bridge.redis_stream import RedisStream, dead_name
from tests.support.homes import CLOSED_REDIS

__all__ = [
    "CANARY",
    "LONGEST_S",
    "STREAM",
    "Bridges",
    "Desk",
    "KilledError",
    "SilentBell",
    "Stop",
    "an_event",
    "until",
]

LONGEST_S = 20.0

STREAM = "crm-deletions"
CANARY = "canary-7d1f"


class KilledError(BaseException):
    """The process dies at this point."""


class SilentBell(Bell):
    def __init__(self):
        super().__init__(lambda: lambda: None)

    def start(self):
        pass

    def ring(self):
        pass

    def close(self):
        pass


@dataclass
class Stop:
    """Never waits for real, and notes for how long it was asked to."""

    after: int = 1_000
    waits: list[float] = field(default_factory=list)

    def is_set(self):
        return len(self.waits) >= self.after

    def wait(self, timeout):
        self.waits.append(timeout)
        return self.is_set()


@dataclass
class Desk:
    """The ledger, which may be away for some times."""

    producer: Producer
    ledger: Ledger
    away: int = 0
    dies_after_commit: bool = False
    calls: int = 0

    def hand_in_many(self, requests):
        self._call()
        answers = self.producer.hand_in_many(requests)
        if self.dies_after_commit:
            raise KilledError
        return answers

    def park_messages(self, messages):
        self._call()
        return self.ledger.park_messages(messages)

    def _call(self):
        self.calls += 1
        if self.away > 0:
            self.away -= 1
            message = "The ledger did not confirm."
            raise LedgerError(message)


def until(condition):
    """Wait for it, up to the longest time."""
    end = time.monotonic() + LONGEST_S
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.01)


def an_event(name, data=None, **changed):
    """Give a message's text; by default everything of one user."""
    return json.dumps(
        {
            "specversion": "1.0",
            "type": EVENT_TYPE,
            "source": "/crm",
            "id": str(name),
            "data": {"user_id": f"{CANARY}-{name}"} if data is None else data,
        }
        | changed
    )


class Bridges:
    """A stream, a ledger, and as many pumps between them as a test asks for."""

    def __init__(self, world, server, folder):
        self.world = world
        self.server = server
        self.redis = server.client()
        self.settings = Settings(home=folder, redis_url=CLOSED_REDIS)
        self.producer = Producer(self.settings, store=world.ledger, bell=SilentBell())

    def send(self, *events, field="event"):
        """Put messages in as another program does; gives their places."""
        return [self.redis.xadd(STREAM, {field: each}) for each in events]

    def source(self, *, claim_idle_s=60.0, claim_every_s=0.0):
        return RedisStream(
            url=self.server.url,
            stream=STREAM,
            group="expunge",
            claim_idle_s=claim_idle_s,
            claim_every_s=claim_every_s,
        )

    @contextmanager
    def pump(self, *, source=None, stop=None, stream=None, desk=None, **desk_options):
        """Give an open pump; leaving is a clean end."""
        source = source or self.source()
        with source.open():
            yield Pump(
                stream or Stream(name=STREAM),
                source,
                desk or Desk(self.producer, self.world.ledger, **desk_options),
                stop=stop or Stop(),
                principal="crm",
            )

    def drain(self, **options):
        """Take in whatever the stream has."""
        with self.pump(**options) as pump:
            while self.redis.xlen(STREAM):
                pump.turn()

    # -- what is to be seen -----------------------------------------------------------------------

    def requests(self):
        return self.world.rows(request)

    def users(self):
        return sorted(row.subject for row in self.requests())

    def parked(self):
        return [row.reason for row in self.world.rows(parked_message)]

    def dead(self):
        return [fields for _, fields in self.redis.xrange(dead_name(STREAM))]

    def pending(self):
        return self.redis.xpending(STREAM, "expunge")["pending"]

    def hidden(self):
        """All that is kept outside of requests and chunks, as one text."""
        kept = [self.redis.xrange(key) for key in self.redis.scan_iter("*.dead")]
        kept += [
            [bytes(row.payload) for row in self.world.rows(event_body)],
            *(
                self.world.rows(table)
                for table in metadata.sorted_tables
                if table.name not in ("request", "chunk", "readback")
            ),
        ]
        return repr(kept)
