"""What a request would cost, said before it is handed in: calls, time, lane, date, and ceilings.

Calls that fail and are made again are not in it, nor is the work that stands in line before.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from ledger.clock import from_wall, wall_us
from ledger.due import default_due, default_lane
from ledger.policy import default_verify, parse_verify
from ledger.projects import Dialect
from ledger.settings import Settings
from ledger.slots import interval_ns
from ledger.states import Kind, Lane

__all__ = ["Plan", "Totals", "plan"]

_PAGE: Final = 50
_READS_A_CONTROL: Final = 200
_NS: Final = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one request would be.

    Attributes:
        project: Its project.
        account: The account whose rate it uses.
        kind: Its kind.
        lane: The lane it goes to.
        verify: How it is read back.
        due_at: When it has to be done, or None.
        unique: Its ids after folding; 1 for a purge.
        deletes: Deletion calls.
        reads_least: Read-back calls when all is gone.
        reads_most: Read-back calls when something is found; None when that depends on how many
            memories a user has.
        hold_reason: The ceiling that would keep it on hold, or None.
        interval_s: Seconds from one call of the account to the next.
    """

    project: str
    account: str
    kind: Kind
    lane: Lane
    verify: str
    due_at: datetime | None
    unique: int
    deletes: int
    reads_least: int
    reads_most: int | None
    hold_reason: str | None
    interval_s: float

    @property
    def seconds(self) -> float:
        """Seconds of the account's rate that deletions and the fewest read-backs take."""
        return (self.deletes + self.reads_least) * self.interval_s


def plan(
    settings: Settings,
    *,
    kind: Kind,
    subject_named: bool,
    unique: int,
    terms: Mapping[str, Any],
    recent_purges: int = 0,
    memories: int | None = None,
) -> Plan:
    """Say what a request would be.

    Args:
        settings: Projects, accounts, ids a call.
        kind: Its kind.
        subject_named: Whether a user or agent is named.
        unique: Its ids after folding; 1 for a purge.
        terms: `project`, `lane`, `verify`, `submitted_at` and `due_at`, checked.
        recent_purges: Purges of the project in the hour before.
        memories: How many memories the subject has, when known: then the longest list is known.
    """
    project = settings.projects[terms["project"]]
    lane = Lane(terms["lane"] or project.lane or default_lane(kind))
    verify = (
        terms["verify"]
        or project.verify
        or settings.verify
        or default_verify(kind, subject_named=subject_named)
    )
    deletes = 1 if kind is not Kind.MEMORIES else -(-unique // settings.chunk_size)
    pages = None if memories is None else max(1, -(-memories // _PAGE))
    least, most = _reads(
        verify,
        kind=kind,
        by_list=subject_named,
        by_cube=project.dialect is Dialect.SELF_HOSTED,
        unique=unique,
        pages=pages,
    )
    asked = terms["submitted_at"] or from_wall(wall_us())
    due_at = terms["due_at"] or default_due(lane, asked)
    ceilings = settings.ceilings_of(project)
    return Plan(
        project=project.name,
        account=project.account,
        kind=kind,
        lane=lane,
        verify=verify,
        due_at=due_at and due_at.astimezone(UTC),
        unique=unique,
        deletes=deletes,
        reads_least=least,
        reads_most=most,
        hold_reason=ceilings.hold_for(kind, unique=unique, recent=recent_purges),
        interval_s=interval_ns(settings.accounts[project.account].rate_per_second) / _NS,
    )


def _reads(
    verify: str, *, kind: Kind, by_list: bool, by_cube: bool, unique: int, pages: int | None
) -> tuple[int, int | None]:
    """Give the fewest and the most read-back calls; a sample that finds something turns full."""
    policy = parse_verify(verify)
    if policy.none:
        return 0, 0
    if kind is not Kind.MEMORIES:
        return 1, None if pages is None else pages + 1
    if by_cube:
        return 1, None
    # Before reads by id a list of nobody is read, once for two hundred.
    by_id = unique + -(-unique // _READS_A_CONTROL)
    if policy.full:
        # Beside the list of a named user a few ids are read as well.
        least, most = (1 + min(3, unique), by_id) if by_list else (by_id, by_id)
    else:
        least = min(policy.sample or 0, unique) + 1
        most = least + by_id
    if by_list:
        return least, None if pages is None else most + pages + 1
    return least, most


class Totals:
    """Adds plans up, for a file of many requests."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.deletes = 0
        self.reads_least = 0
        self.reads_most: int | None = 0
        self.held = 0
        self.lanes: dict[Lane, int] = dict.fromkeys(Lane, 0)
        self.first_due: datetime | None = None
        self._seconds: dict[str, float] = {}

    @property
    def seconds(self) -> float:
        """Seconds until the account with the most work has done it; accounts go side by side."""
        return max(self._seconds.values(), default=0.0)

    def add(self, one: Plan) -> None:
        """Add one request."""
        self.deletes += one.deletes
        self.reads_least += one.reads_least
        known = self.reads_most is not None and one.reads_most is not None
        self.reads_most = (self.reads_most or 0) + (one.reads_most or 0) if known else None
        self.held += one.hold_reason is not None
        self.lanes[one.lane] += 1
        if one.due_at is not None:
            self.first_due = min(self.first_due or one.due_at, one.due_at)
        self._seconds[one.account] = self._seconds.get(one.account, 0.0) + one.seconds
