"""Everything one simulator knows, in one place for the API and the control side."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from memos_api.simulator.faults import Faults
from memos_api.simulator.limit import RateLimit
from memos_api.simulator.rules import Rules, Settings

if TYPE_CHECKING:
    from memos_api.simulator.journal import Journal
    from memos_api.simulator.state import Project

__all__ = ["BASE_PATH", "DEFAULT_API_KEY", "World"]

BASE_PATH = "/api/openmem/v1"
DEFAULT_API_KEY = "simulator-key"


@dataclass(slots=True, kw_only=True)
class World:
    """The state of one simulator process.

    Attributes:
        projects: By API key; projects of one account name share a rate limit.
        journal: What arrived.
        settings: What the documentation leaves open.
        seed: Of everything left to chance.
    """

    projects: dict[str, Project]
    journal: Journal
    settings: Settings = field(default_factory=Settings)
    seed: int = 0
    limits: dict[str, RateLimit] = field(default_factory=dict)
    faults: Faults = field(init=False)
    rules: Rules = field(init=False)
    chance: random.Random = field(init=False)

    def __post_init__(self) -> None:
        """Build the parts that refer to others."""
        self.faults = Faults(seed=self.seed)
        self.rules = Rules(self.settings, self.projects)
        self.chance = random.Random(f"latency {self.seed}")  # noqa: S311  # has to be repeatable
        for project in self.projects.values():
            self.limits.setdefault(project.account, RateLimit())

    def limit(self, rate: RateLimit) -> None:
        """Give every account a limit like *rate*, with an empty window."""
        for account in self.limits:
            self.limits[account] = RateLimit(
                per_second=rate.per_second,
                count_refused=rate.count_refused,
                style=rate.style,
                retry_after=rate.retry_after,
            )

    def reset(self) -> None:
        """Forget memories, journal and faults; limits and settings stay."""
        for project in self.projects.values():
            project.clear()
        self.journal.clear()
        self.faults.replace([])
