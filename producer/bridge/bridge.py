"""A bridge: one ledger, and a thread with a Redis connection of its own for each stream."""

import re
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

import structlog

from ledger import Keys, Ledger
from ledger.errors import RequestError
from ledger.model import Receipt
from ledger.parked import UnusableMessage
from ledger.settings import Settings
from ledger.streams import Stream
from producer.bridge.progress import BridgeProgress, StreamProgress
from producer.bridge.pump import Pump, Stop
from producer.bridge.redis_stream import RedisStream
from producer.many import SmallRequest
from producer.submit import Producer

__all__ = ["principal_of", "run_bridge"]

_CODE: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_LOOK_S: Final = 0.2
# A thread that is in the middle of a transaction gets so long to end after a stop.
_END_S: Final = 3.0
_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Desk:
    producer: Producer
    ledger: Ledger

    def hand_in_many(self, requests: Sequence[SmallRequest]) -> list[Receipt | RequestError]:
        return self.producer.hand_in_many(requests)

    def park_messages(self, messages: Sequence[UnusableMessage]) -> list[str]:
        return self.ledger.park_messages(messages)


def run_bridge(
    settings: Settings,
    streams: Sequence[Stream],
    *,
    stop: Stop,
    on_turn: Callable[[StreamProgress], object] | None = None,
    on_start: Callable[[BridgeProgress], object] | None = None,
) -> None:
    """Take in the messages of streams until told to stop.

    A queue or ledger that goes away is waited for. After `stop` the batch at hand is ended, and
    what is not confirmed by then comes again.

    Args:
        settings: Where ledger, keys and Redis are, and which projects there are.
        streams: At least one.
        stop: Says when to end; looked at every 0.5 s at least.
        on_turn: Called by each stream's thread after each turn, with how it is doing.
        on_start: Called once, with how all of them are doing from now on.

    Raises:
        KeysError: A key is missing, or that of the epoch in force. That of an epoch that begins
            later is waited for.
        LedgerError: The ledger cannot be reached at the start.
        DiskError: The ledger's disk failed; what is not confirmed comes again after a new start.
        SchemaError: It has to be migrated first.
    """
    progress = BridgeProgress([StreamProgress(stream.name) for stream in streams])
    with ExitStack() as stack:
        keys = Keys.load(settings.keys_dir)
        ledger = stack.enter_context(Ledger.open(settings.ledger_url, keys=keys))
        ledger.require_in_force()
        producer = stack.enter_context(Producer(settings, store=ledger))
        if on_start is not None:
            on_start(progress)
        desk = _Desk(producer, ledger)
        threads = []
        pumps = []
        for stream, state in zip(streams, progress.streams, strict=True):
            source = RedisStream(
                url=stream.url or settings.redis_url, stream=stream.name, group=stream.group
            )
            pump = Pump(
                stream,
                source,
                desk,
                stop=stop,
                principal=principal_of(stream),
                progress=state,
                on_turn=on_turn,
            )
            pumps.append(pump)
            # A daemon: a server that is frozen in mid-answer must not keep the process from ending.
            threads.append(threading.Thread(target=pump.run, name=stream.name, daemon=True))
        _log.info("bridge_started", streams=len(streams))
        for thread in threads:
            thread.start()
        try:
            while not (stop.wait(_LOOK_S) or any(pump.failed for pump in pumps)):
                pass
            for pump, thread in zip(pumps, threads, strict=True):
                if pump.failed is not None:
                    raise pump.failed
                thread.join(_END_S)
        finally:
            late = sum(thread.is_alive() for thread in threads)
            if late or any(pump.failed for pump in pumps):
                # Open until the process ends: a closed ledger is no answer to an order, and closing
                # one would write to a disk that failed once more.
                stack.pop_all()
        _log.info("bridge_ended", streams=len(streams), pending=late)


def principal_of(stream: Stream) -> str:
    """Give who hands in, for the record: as the settings say, else the stream's name."""
    if stream.principal is not None:
        return stream.principal
    return stream.name if _CODE.fullmatch(stream.name) else "queue"
