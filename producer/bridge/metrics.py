"""What a bridge counts, for Prometheus. Labels are names of the settings and closed lists."""

from typing import Final

from prometheus_client import Counter, Gauge

__all__ = ["ACCEPTED", "DEDUPLICATED", "LAG", "MESSAGES", "REJECTED"]

MESSAGES: Final = Counter(
    "expunge_intake_messages_total",
    "Messages taken out of a queue: accepted, duplicate, or invalid and parked; or failed, left in",
    ["broker", "stream", "outcome"],
)
LAG: Final = Gauge(
    "expunge_intake_lag_messages",
    "Messages of a queue that are still to be taken in; NaN when the broker cannot say",
    ["broker", "stream"],
)
ACCEPTED: Final = Counter(
    "expunge_requests_accepted_total", "Requests recorded", ["source", "kind"]
)
REJECTED: Final = Counter(
    "expunge_requests_rejected_total", "Requests refused, by reason", ["source", "reason"]
)
DEDUPLICATED: Final = Counter(
    "expunge_requests_deduplicated_total", "Requests that were known already", ["source"]
)
