"""When a request is read back, how, and what the record is told of the memory store with it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ledger.projects import Dialect

if TYPE_CHECKING:
    from ledger.settings import Settings

__all__ = ["ReadbackPolicy"]


@dataclass(frozen=True, kw_only=True)
class ReadbackPolicy:
    """When to read back, and how often to delete again.

    Attributes:
        settle_s: Seconds between the last answer of a request and its read-back.
        most_sightings: How often something may be seen still there before it is given up.
        second_look_s: Seconds after a purge's end until the second look.
        by_cube: Projects of which nothing but the list of a whole cube proves anything.
        issuer: Who answers for certificates; None when nobody said.
        backup_days: For how long the memory store's backups are kept; None when nobody said.
    """

    settle_s: float = 2.0
    most_sightings: int = 3
    second_look_s: float = 86_400.0
    by_cube: frozenset[str] = frozenset()
    issuer: str | None = None
    backup_days: int | None = None

    @classmethod
    def of(cls, settings: "Settings") -> "ReadbackPolicy":
        """Give what the settings say."""
        return cls(
            settle_s=settings.settle_seconds,
            second_look_s=settings.second_look_seconds,
            issuer=settings.issuer,
            backup_days=settings.backup_days,
            by_cube=frozenset(
                name
                for name, one in settings.projects.items()
                if one.dialect is Dialect.SELF_HOSTED
            ),
        )
