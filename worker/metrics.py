"""What workers count. Only counters and histograms: several processes' are added up (ADR 8).

Labels are words of closed lists, never an id. With `PROMETHEUS_MULTIPROC_DIR` in its environment
a process writes into a file there; prometheus_client looks for that when it is first imported.
"""

from collections import defaultdict
from typing import Final

import structlog
from prometheus_client import Counter, Histogram

from ledger.finish import Ended
from ledger.tasks import Dead, Retry, Seen, Settlement, Split, Unsent
from memos_api.codes import CODES, Outcome
from worker.quarantine import RejectReason

__all__ = ["count_calls", "count_ended", "count_rejected", "count_waits"]

_CALL_S: Final = (0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0, 12.0, 30.0, 60.0)
_WAIT_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_LIFE_S: Final = (1, 5, 15, 60, 300, 900, 3_600, 14_400, 86_400, 259_200, 864_000, 2_592_000)
_TIMEOUTS: Final = frozenset({"deadline", "connect_deadline"})
# What `memos_api.outcomes` says of an answer that MemOS gave in so many words.
_ANSWERED: Final = frozenset({Outcome.ACKNOWLEDGED.value, Outcome.NOT_FOUND.value})
_ENDPOINTS: Final = {"delete": "delete_memory", "list": "get_memory", "read": "get_memory_by_id"}
_SIGHTS: Final = {"absent": "absent", "present": "still_present"}
_SUCCESSES: Final = range(200, 300)
_OTHER: Final = "other"
_log = structlog.get_logger()

_attempts = Counter("expunge_attempts", "Calls by what became of them", ["kind", "outcome"])
_attempt_s = Histogram(
    "expunge_attempt_duration_seconds",
    "Time of a call, from its departure to the end of the answer",
    ["kind", "outcome"],
    buckets=_CALL_S,
)
_verifications = Counter("expunge_verifications", "Read-backs by what they saw", ["outcome"])
_upstream = Counter(
    "expunge_upstream_requests", "Calls to MemOS by their answer", ["endpoint", "code", "result"]
)
_upstream_s = Histogram(
    "expunge_upstream_request_duration_seconds",
    "Time until MemOS had answered, or was given up",
    ["endpoint"],
    buckets=_CALL_S,
)
_waits = Histogram(
    "expunge_upstream_throttle_wait_seconds",
    "How long a claimed call waits for its slot",
    buckets=_WAIT_S,
)
_dead = Counter("expunge_dead_lettered", "Chunks that were given up", ["reason"])
_rejected = Counter(
    "expunge_doorbell_rejected",
    "Messages in the doorbell's list that are no ring",
    ["reason"],
)
_lives = Histogram(
    "expunge_request_duration_seconds",
    "From a request's acceptance to its end",
    ["kind", "outcome"],
    buckets=_LIFE_S,
)


def count_calls(settlements: list[Settlement]) -> None:
    """Count calls that ended; those that never departed are none."""
    alike: dict[tuple[str, str, str, str], list[float]] = defaultdict(list)
    for settled in settlements:
        if isinstance(settled.move, Unsent) or settled.reason == "no_api_key":
            continue
        labels = settled.task.call, _outcome(settled), _code(settled), _result(settled)
        alike[labels].append(settled.took_us / 1_000_000)
        if isinstance(settled.move, Seen):
            sight = settled.move.sight.value
            _verifications.labels(_SIGHTS.get(sight, "unverifiable")).inc()
        elif isinstance(settled.move, Dead):
            _dead.labels(settled.move.bucket).inc()
    # Nearly all of some hundred are alike, and finding a metric takes as long as counting in it.
    for (kind, outcome, code, result), times in alike.items():
        endpoint = _ENDPOINTS[kind]
        _attempts.labels(kind, outcome).inc(len(times))
        _upstream.labels(endpoint, code, result).inc(len(times))
        call_s, upstream_s = _attempt_s.labels(kind, outcome), _upstream_s.labels(endpoint)
        for seconds in times:
            call_s.observe(seconds)
            upstream_s.observe(seconds)


def count_waits(seconds: list[float]) -> None:
    """Count how long claimed calls wait for their slots."""
    for wait in seconds:
        _waits.observe(wait)


def count_ended(ended: Ended) -> None:
    """Count a request's end."""
    _lives.labels(ended.kind.value, ended.result.value).observe(ended.seconds)


def count_rejected(reason: RejectReason) -> None:
    """Count a message that was refused at the door; never raises."""
    try:
        _rejected.labels(reason.value).inc()
    except Exception as error:  # noqa: BLE001 - counting must never stop the work
        _log.warning("metrics_failed", error=error)


def _outcome(settled: Settlement) -> str:
    """One of `success`, `retry`, `permanent` and `timeout`."""
    if settled.reason in _TIMEOUTS:
        return "timeout"
    if isinstance(settled.move, Retry | Split):
        return "retry"
    return "permanent" if isinstance(settled.move, Dead) else "success"


def _code(settled: Settlement) -> str:
    """Give the answer's code when MemOS documents it: others may be anything."""
    if settled.code is None:
        return "none"
    return str(settled.code) if settled.code in CODES else _OTHER


def _result(settled: Settlement) -> str:
    """One of `ok`, `soft_failure` (HTTP 2xx that does not say yes) and `error`."""
    if settled.outcome in _ANSWERED:
        return "ok"
    soft = settled.outcome == Outcome.UNKNOWN.value and settled.http_status in _SUCCESSES
    return "soft_failure" if soft else "error"
