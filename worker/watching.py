"""What is seen of calls from outside, metrics and spans: noted at once, worked off afterwards.

Noting is one append. The work is done in the ledger's thread after the outcomes were recorded, for
the loop has slots to meet.
"""

import time
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

import structlog

from ledger.finish import Ended
from ledger.settings import Settings
from ledger.tasks import Claim, Settlement, Unsent
from ledger.tracing import Value, note_call
from memos_api import Outcome
from worker.metrics import count_calls, count_ended, count_waits

__all__ = ["Watch"]

_METHODS: Final = {
    "delete": ("POST", "/delete/memory"),
    "list": ("POST", "/get/memory"),
    "read": ("GET", "/get/memory/{memory_id}"),
}
_FINE: Final = frozenset({Outcome.ACKNOWLEDGED.value, Outcome.NOT_FOUND.value})
_log = structlog.get_logger()


class Watch:
    """One process's view of its calls.

    Args:
        servers: Host and port of MemOS by project, for spans.
    """

    def __init__(self, servers: Mapping[str, tuple[str, int]] | None = None) -> None:
        """Start with nothing seen."""
        self._servers = servers or {}
        self._calls: list[tuple[Settlement, int]] = []
        self._waits: list[float] = []

    @classmethod
    def of(cls, settings: Settings) -> "Watch":
        """Make one for the projects of these settings."""
        return cls({name: _server(one.base_url) for name, one in settings.projects.items()})

    def claimed(self, claim: Claim) -> None:
        """Note how long calls will wait for their slots, and call for a person where need be."""
        for request_id in claim.tampered:
            _log.error("order_tampered", request_id=request_id)
        self._waits += [(task.slot_ns - claim.now_ns) / 1e9 for task in claim.tasks]

    def called(self, settled: Settlement) -> None:
        """Note a call that is over."""
        self._calls.append((settled, time.time_ns()))

    def ended(self, ended: Ended) -> None:
        """Tell of a request's end; not while slots wait."""
        _log.info(
            "request_finished",
            request_id=ended.request_id,
            kind=ended.kind,
            result=ended.result,
            certainty=ended.certainty,
            unique=ended.unique,
            attempts=ended.attempts,
            seconds=round(ended.seconds, 3),
        )
        if ended.tampered:
            _log.error("order_tampered", request_id=ended.request_id)
        try:
            count_ended(ended)
        except Exception as error:  # noqa: BLE001 - counting must never stop the work
            _log.warning("metrics_failed", error=error)

    def work_off(self) -> None:
        """Turn what was noted into metrics and spans; never raises."""
        calls, self._calls = self._calls, []
        waits, self._waits = self._waits, []
        try:
            count_waits(waits)
            count_calls([settled for settled, _ in calls])
            for settled, ended_ns in calls:
                self._trace(settled, ended_ns)
        except Exception as error:  # noqa: BLE001 - as above
            _log.warning("metrics_failed", error=error)

    def _trace(self, settled: Settlement, ended_ns: int) -> None:
        if isinstance(settled.move, Unsent):
            return
        task = settled.task
        method, template = _METHODS[task.call]
        host, port = self._servers.get(task.project, ("", 0))
        attributes: dict[str, Value] = {
            "http.request.method": method,
            "url.template": template,
            "server.address": host,
            "server.port": port,
            "expunge.request.id": task.request_id,
            "expunge.outcome": settled.outcome,
        }
        if settled.http_status is not None:
            attributes["http.response.status_code"] = settled.http_status
        if task.burnt:
            attributes["http.request.resend_count"] = task.burnt
        note_call(
            f"{method} {template}",
            ended_ns=ended_ns,
            took_us=settled.took_us,
            attributes=attributes,
            error=None if settled.outcome in _FINE else settled.reason,
        )


def _server(base_url: str) -> tuple[str, int]:
    parts = urlsplit(base_url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
