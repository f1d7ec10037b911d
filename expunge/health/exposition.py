"""The text of `/metrics`: counters of all processes, gauges of the ledger, and what runs here."""

import struct
import sys
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from ledger.gauges import Gauges

__all__ = ["of_one_process", "of_worker"]

_TRIES: Final = 3


def of_worker(folder: Path, gauges: Callable[[], Gauges]) -> tuple[str, bytes]:
    """Give what the processes of a worker counted, and how the ledger is.

    Args:
        folder: Where the processes write what they count.
        gauges: Reads the ledger; whatever it raises leaves the ledger's gauges out.
    """
    registry = CollectorRegistry()
    registry.register(_Build())
    registry.register(_Ledger(gauges))
    return CONTENT_TYPE_LATEST, generate_latest(registry) + _counted(folder)


def of_one_process() -> tuple[str, bytes]:
    """Give what this process counted."""
    registry = CollectorRegistry()
    registry.register(_Build())
    return CONTENT_TYPE_LATEST, generate_latest(registry) + generate_latest(REGISTRY)


def _counted(folder: Path) -> bytes:
    for left in range(_TRIES, 0, -1):
        registry = CollectorRegistry()
        try:
            MultiProcessCollector(registry, path=str(folder))  # type: ignore[no-untyped-call]
            return generate_latest(registry)
        except (OSError, RuntimeError, struct.error):
            # A process was just making its file.
            if left == 1:
                raise
    raise AssertionError  # the last try returns or raises


class _Build(Collector):
    def collect(self) -> Iterable[Metric]:
        build = GaugeMetricFamily(
            "expunge_build_info", "What runs here", labels=["version", "python", "celery"]
        )
        python = ".".join(map(str, sys.version_info[:3]))
        build.add_metric([metadata.version("expunge"), python, metadata.version("celery")], 1)
        return [build]


class _Ledger(Collector):
    def __init__(self, gauges: Callable[[], Gauges]) -> None:
        self._gauges = gauges

    def collect(self) -> Iterable[Metric]:
        answers = GaugeMetricFamily("expunge_ledger_up", "Whether the ledger answered this scrape")
        try:
            found = self._gauges()
        except Exception:  # noqa: BLE001 - whatever it was, the counters are still told
            answers.add_metric([], 0)
            return [answers]
        answers.add_metric([], 1)
        return [answers, *_families(found)]


def _families(found: Gauges) -> list[Metric]:
    requests = GaugeMetricFamily(
        "expunge_requests", "Requests that have not ended", labels=["state"]
    )
    for state, number in found.requests.items():
        requests.add_metric([state], number)
    oldest = GaugeMetricFamily(
        "expunge_oldest_pending_request_age_seconds",
        "Age of the oldest request that has not ended; 0 without one",
        labels=["kind"],
    )
    for kind, age in found.oldest_s.items():
        oldest.add_metric([kind], age)
    paused = GaugeMetricFamily(
        "expunge_paused", "Whether nothing of it is sent", labels=["scope", "name"]
    )
    for (scope, name), stands in found.paused.items():
        paused.add_metric([scope, name], int(stands))
    circuit = GaugeMetricFamily(
        "expunge_upstream_circuit_state",
        "Whether a project rests because MemOS could not be reached",
        labels=["project", "state"],
    )
    for name, is_open in found.circuits.items():
        circuit.add_metric([name, "open"], int(is_open))
        circuit.add_metric([name, "closed"], int(not is_open))
    dead = GaugeMetricFamily(
        "expunge_dead_letters", "Chunks given up that wait for a person", labels=["reason"]
    )
    for reason, number in found.dead.items():
        dead.add_metric([reason], number)
    beats = GaugeMetricFamily(
        "expunge_worker_last_heartbeat_timestamp_seconds",
        "When a process last wrote that it is alive; forgotten after an hour",
        labels=["worker", "role"],
    )
    for worker, role, moment in found.heartbeats:
        beats.add_metric([worker, role], moment)
    return [
        requests,
        oldest,
        _plain(
            "expunge_requests_overdue", "Requests not ended whose due date is over", found.overdue
        ),
        _plain(
            "expunge_requests_at_risk",
            "Requests not ended, not overdue, with three quarters of their time over",
            found.at_risk,
        ),
        _plain("expunge_requests_held", "Requests that somebody holds", found.held),
        _plain(
            "expunge_requests_tampered",
            "Requests of which something was not what was ordered",
            found.tampered,
        ),
        _plain(
            "expunge_audit_unsealed_age_seconds",
            "Age of the oldest event that is not in the signed log; 0 without one",
            found.unsealed_s,
        ),
        _plain("expunge_parked_messages", "Queue messages that are no order", found.parked),
        dead,
        paused,
        circuit,
        beats,
    ]


def _plain(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)
