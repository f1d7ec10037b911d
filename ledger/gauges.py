"""How the ledger is, in numbers for monitoring. Only what few rows tell; no walk over chunks.

What is counted over all that ever was (requests by their result, events) is not here: it would take
longer every day. The workers count these as they come.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, case, func, select

from ledger.clock import wall_us
from ledger.dead import is_dead_letter
from ledger.engine import Database
from ledger.identity import made_us
from ledger.risk import at_risk_rows, overdue_rows
from ledger.schema import account, chunk, heartbeat, parked_message, project, request, unsealed
from ledger.states import FINAL_REQUEST_STATES, Kind, RequestState

__all__ = ["GaugeReader", "Gauges", "read_gauges"]

_US: Final = 1_000_000
# Reading takes at most this share of the time, however many requests are open.
_SHARE: Final = 0.05
_MOST_MESSAGES: Final = 100_000
# Each is a row to read; and a label has to be one of few.
_MOST_DEAD: Final = 10_000
_MOST_REASONS: Final = 20


@dataclass(frozen=True, kw_only=True)
class Gauges:
    """One look at the ledger.

    Attributes:
        requests: Number of requests that have not ended, by state.
        oldest_s: Age in seconds of the oldest of them by kind; 0 without one.
        overdue: Of these, how many should have ended by now.
        at_risk: Of these, how many come close to their due date (`ledger.risk`).
        held: Of these, how many somebody holds.
        tampered: Requests, ended ones too, of which something was not what was ordered, until they
            are scrubbed; counted up to 10,000.
        unsealed_s: Age in seconds of the oldest event that is not in the signed log yet; 0 without
            one.
        parked: Queue messages that are no order, counted up to 100,000.
        dead: Dead letters that nobody discarded, by reason; counted up to 10,000 in all. Beyond 20
            reasons the rarer ones are `other`.
        paused: By scope (`project`, `account`) and name: nothing of it is sent.
        circuits: By project: it rests because MemOS could not be reached.
        heartbeats: Process, role, and when it last said that it is alive (seconds since 1970).
    """

    requests: Mapping[str, int]
    oldest_s: Mapping[str, float]
    overdue: int
    at_risk: int
    held: int
    tampered: int
    unsealed_s: float
    parked: int
    dead: Mapping[str, int]
    paused: Mapping[tuple[str, str], bool]
    circuits: Mapping[str, bool]
    heartbeats: tuple[tuple[str, str, float], ...]


def read_gauges(database: Database) -> Gauges:
    """Look once.

    Raises:
        LedgerError: The database did not answer.
    """
    return database.read(lambda conn: _read(conn, database))


class GaugeReader:
    """Looks again only after a while that grows with what a look costs.

    A million open requests take a second to go through; then it is done every twenty seconds.

    Args:
        database: Where the ledger is.
    """

    def __init__(self, database: Database) -> None:
        """Start without a look."""
        self._database = database
        self._lock = threading.Lock()
        self._last: Gauges | None = None
        self._again_at = 0.0

    def __call__(self) -> Gauges:
        """Give the last look, or a new one.

        Raises:
            LedgerError: The database did not answer.
        """
        with self._lock:
            began = time.monotonic()
            if self._last is None or began >= self._again_at:
                self._last = read_gauges(self._database)
                ended = time.monotonic()
                self._again_at = ended + (ended - began) / _SHARE
            return self._last


def _read(conn: Connection, database: Database) -> Gauges:
    now = wall_us()
    requests = {str(state): 0 for state in RequestState if state not in FINAL_REQUEST_STATES}
    oldest = dict.fromkeys(map(str, Kind), 0.0)
    overdue = at_risk = held = 0
    # One walk along the index of what has not ended.
    for row in conn.execute(
        select(
            request.c.state,
            request.c.kind,
            func.count().label("number"),
            func.min(request.c.created_at).label("first"),
            func.sum(request.c.held).label("held"),
            func.sum(case((overdue_rows(now), 1), else_=0)).label("overdue"),
            func.sum(case((at_risk_rows(now), 1), else_=0)).label("at_risk"),
        )
        .where(request.c.finished_at.is_(None))
        .group_by(request.c.state, request.c.kind)
    ):
        requests[row.state] = requests.get(row.state, 0) + row.number
        oldest[row.kind] = max(oldest.get(row.kind, 0.0), (now - row.first) / _US)
        overdue += int(row.overdue)
        at_risk += int(row.at_risk)
        held += int(row.held)
    # Bounded: somebody may flood a queue.
    some = select(parked_message.c.id).limit(_MOST_MESSAGES).subquery()
    paused, circuits = _standing(conn, database.clock.now_ns(conn))
    return Gauges(
        requests=requests,
        oldest_s=oldest,
        overdue=overdue,
        at_risk=at_risk,
        held=held,
        tampered=_tampered(conn),
        unsealed_s=_unsealed_s(conn, now),
        parked=conn.execute(select(func.count()).select_from(some)).scalar_one(),
        dead=_dead(conn),
        paused=paused,
        circuits=circuits,
        heartbeats=tuple(
            (row.process, row.role, row.beat_at / _US)
            for row in conn.execute(select(heartbeat).order_by(heartbeat.c.process))
        ),
    )


def _tampered(conn: Connection) -> int:
    some = select(request.c.id).where(request.c.tampered == 1, request.c.scrubbed_at.is_(None))
    counted = some.limit(_MOST_DEAD).subquery()
    return conn.execute(select(func.count()).select_from(counted)).scalar_one()


def _unsealed_s(conn: Connection, now: int) -> float:
    first = conn.execute(select(unsealed.c.event).order_by(unsealed.c.seq).limit(1)).scalar()
    if first is None:
        return 0.0
    try:
        return max(0.0, (now - made_us(first)) / _US)
    except ValueError:  # put there by somebody else; `expunge audit verify` tells of it
        return 0.0


def _dead(conn: Connection) -> dict[str, int]:
    some = select(chunk.c.last_reason).where(is_dead_letter()).limit(_MOST_DEAD).subquery()
    counted = conn.execute(
        select(some.c.last_reason, func.count())
        .group_by(some.c.last_reason)
        .order_by(func.count().desc(), some.c.last_reason)
    )
    found: dict[str, int] = {}
    for reason, number in counted:
        named = reason or "unknown"
        label = named if len(found) < _MOST_REASONS else "other"
        found[label] = found.get(label, 0) + number
    return found


def _standing(conn: Connection, now_ns: int) -> tuple[dict[tuple[str, str], bool], dict[str, bool]]:
    paused: dict[tuple[str, str], bool] = {}
    circuits: dict[str, bool] = {}
    for row in conn.execute(select(project).order_by(project.c.name)):
        paused["project", row.name] = bool(row.paused)
        circuits[row.name] = row.broken_at is not None or row.open_until_ns > now_ns
    for row in conn.execute(select(account).order_by(account.c.name)):
        paused["account", row.name] = bool(row.paused) or row.paused_until_ns > now_ns
    return paused, circuits
