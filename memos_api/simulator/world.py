"""Everything one simulator knows, in one place for the API and the control side."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from memos_api.simulator.clock import Clock
from memos_api.simulator.cloud import Cloud
from memos_api.simulator.faults import Faults
from memos_api.simulator.limit import RateLimit
from memos_api.simulator.routes import BASE_PATH
from memos_api.simulator.self_hosted import SelfHosted
from memos_api.simulator.settings import Settings

if TYPE_CHECKING:
    from memos_api.simulator.journal import Journal
    from memos_api.simulator.state import Project

__all__ = ["BASE_PATH", "DEFAULT_API_KEY", "World"]

DEFAULT_API_KEY = "simulator-key"


@dataclass(slots=True, kw_only=True)
class World:
    """The state of one simulator process.

    Attributes:
        projects: By API key; projects of one account name share a rate limit.
        journal: What arrived.
        settings: What the documentation leaves open, and lies.
        seed: Of everything left to chance.
        limits: By account.
        clock: Of delayed effects.
        faults: In force.
        cloud: One dialect.
        self_hosted: The other; it has no keys and holds the first project.
        chance: For latency.
    """

    projects: dict[str, Project]
    journal: Journal
    settings: Settings = field(default_factory=Settings)
    seed: int = 0
    limits: dict[str, RateLimit] = field(default_factory=dict)
    clock: Clock = field(default_factory=Clock)
    faults: Faults = field(init=False)
    cloud: Cloud = field(init=False)
    self_hosted: SelfHosted = field(init=False)
    chance: random.Random = field(init=False)

    def __post_init__(self) -> None:
        """Build the parts that refer to others."""
        self.faults = Faults(seed=self.seed)
        self.cloud = Cloud(self.settings, self.projects)
        self.self_hosted = SelfHosted(self.settings)
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
        """Forget memories, journal and faults; limits, settings and clock stay."""
        for project in self.projects.values():
            project.clear()
        self.journal.clear()
        self.faults.replace([])
