"""How a bridge is: its streams' threads turn, and the ledger takes what they bring."""

import socket
import time
from collections.abc import Sequence
from typing import Final

from expunge.health.bounded import Probe
from expunge.health.exposition import of_one_process
from expunge.health.server import Health, serve
from expunge.health.worker import Broker, ledger_probes
from ledger.engine import Database
from ledger.settings import Settings
from ledger.streams import Stream
from producer.bridge import BridgeProgress

__all__ = ["BridgeHealth"]

# One batch and one look at the queue, and what either may take before it is given up.
TURN_S: Final = 60.0


class BridgeHealth:
    """Answers for a bridge, from before it has opened its ledger.

    Args:
        settings: All settings.
        streams: What it reads.
    """

    def __init__(self, settings: Settings, streams: Sequence[Stream]) -> None:
        """Start with no stream that turns; the bridge has a turn's time to begin."""
        self._began = time.monotonic()
        self._progress: BridgeProgress | None = None
        brokers = [Broker(url) for url in sorted({s.url or settings.redis_url for s in streams})]
        self.health = Health(
            process="bridge",
            live=[Probe("streams", self._turns)],
            ready=[
                *ledger_probes(settings, Database(settings.ledger_url)),
                Probe("broker", lambda: all(one.answers() for one in brokers), soft=True),
            ],
            metrics=of_one_process,
        )

    def watch(self, progress: BridgeProgress) -> None:
        """Judge by this from now on."""
        self._progress = progress

    def serve(self, listener: socket.socket | None) -> None:
        """Answer on a listening socket until the process ends; without one nobody can ask."""
        if listener is not None:
            serve(self.health, listener)

    def _turns(self) -> bool:
        last = self._began if self._progress is None else self._progress.last_turn
        return time.monotonic() - last <= TURN_S
